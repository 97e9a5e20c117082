"""python -m app serve | score"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from app.errors import ArtifactError
from app.score import ScoreOptions, ScoringError, score
from app.settings import Settings, SettingsError, read_settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: By default those of the process.

    Returns:
        The exit code.
    """
    parsed = _parser().parse_args(arguments)
    try:
        settings = read_settings()
        return _serve(settings, parsed) if parsed.command == "serve" else _score(settings, parsed)
    except (SettingsError, ArtifactError, ScoringError) as error:
        print(f"imagegate: {error}", file=sys.stderr)
    return 1


def _serve(settings: Settings, parsed: argparse.Namespace) -> int:
    from app.serve import serve  # not above: scoring has no use for a web framework, and half its start would be that

    try:
        return serve(settings, parsed.host, parsed.port)
    except OSError as error:
        print(f"imagegate: {parsed.host}:{parsed.port}: {error.strerror or error}.", file=sys.stderr)
        return 1


def _score(settings: Settings, parsed: argparse.Namespace) -> int:
    if parsed.artifact:
        settings = settings.model_copy(update={"artifact": parsed.artifact})
    output = None if parsed.output == "-" else Path(parsed.output)
    by_name: Literal["csv", "jsonl"] = "jsonl" if output and output.suffix == ".jsonl" else "csv"
    return score(
        settings,
        ScoreOptions(tuple(parsed.paths), output, parsed.format or by_name, parsed.workers, parsed.fail_on_anomaly),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m app", description="Judge images with one artifact.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    serve_parser = commands.add_parser("serve", help="answer HTTP requests; settings are GATE_* variables")
    serve_parser.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"), help="address to bind")
    serve_parser.add_argument("--port", type=int, default=os.environ.get("PORT", "8000"), help="port to bind")
    _add_score_arguments(commands.add_parser("score", help="score files and folders", description=_SCORE, epilog=_EXIT))
    return parser


def _add_score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, or a folder: all files below it but hidden ones"
    )
    parser.add_argument("--artifact", type=Path, metavar="FOLDER", help="judge with this one (default: GATE_ARTIFACT)")
    parser.add_argument("--output", default="-", metavar="FILE", help="where rows go (default: -, standard output)")
    parser.add_argument("--format", choices=["csv", "jsonl"], help="default: jsonl for a FILE of that name, else csv")
    parser.add_argument(
        "--workers", type=_positive, default=_usable_cores(), metavar="N", help="processes (default: one a core)"
    )
    parser.add_argument("--fail-on-anomaly", action="store_true", help="exit 3 unless every file is a normal image")


_SCORE = """Scores every file with the verdict that the service would give, with all cores. One row a file, in order:
path, is_anomaly, loss, score, p_value and model (the artifact's version), or, of a file that cannot be judged, error,
status (what the service would answer) and detail. GATE_MAX_UPLOAD_BYTES and GATE_MAX_IMAGE_PIXELS hold for each file.
"""
_EXIT = """Exit code: 0, files were scored; 1, none could be, or the artifact or the output is unusable; 2, the command
line is wrong; 3, see --fail-on-anomaly; 130, interrupted, with the rows so far written."""


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _usable_cores() -> int:
    if sys.platform == "darwin":  # which does not say which cores a process may use
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    sys.exit(main())
