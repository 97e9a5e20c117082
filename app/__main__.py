"""python -m app serve | reload | score | recalibrate | compare"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app import __version__
from app.errors import ArtifactError, ScoringError
from app.offline.commands import CommandParser, add_offline_commands, check_images
from app.offline.local import ScoreOptions, score
from app.settings import Settings, SettingsError, read_settings, usable_cores
from app.telemetry.logs import configure_logging

if TYPE_CHECKING:
    from app.server.listener import Address


def main(
    arguments: Sequence[str] | None = None, prog: str = "python -m app", elsewhere: Mapping[str, str] | None = None
) -> int:
    """Runs one command.

    Args:
        arguments: By default those of the process.
        prog: What the user called, for messages.
        elsewhere: Commands of the same name that the caller runs itself, and a phrase for each, for `--help`.

    Returns:
        The exit code.
    """
    parsed = _parse(arguments, _parser(prog, elsewhere or {}))
    try:
        settings = read_settings()
        code: int = parsed.run(settings, parsed)
        return code
    except (SettingsError, ArtifactError, ScoringError) as error:
        print(f"imagegate: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # before or after the long part of a command, which says how far it came
        return 130
    return 1


def _serve(settings: Settings, parsed: argparse.Namespace) -> int:
    from app.server.pid_file import pid_file  # not above: scoring writes none

    _stop_quietly_until_serving()
    if parsed.workers is not None:
        settings = settings.model_copy(update={"workers": parsed.workers})
    from app.server.listener import read_address  # not above: scoring starts none
    from app.telemetry.shared_metrics import use_named_folder

    address = read_address(parsed.host, parsed.port)
    use_named_folder()
    serve = _serve_with_workers if settings.workers > 1 else _serve_alone
    try:
        with pid_file(settings.pid_file, settings.workers):
            return serve(settings, address)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        print(f"imagegate: {address.host}:{address.port}: {reason}.", file=sys.stderr)
        return 1


def _serve_alone(settings: Settings, address: "Address") -> int:
    from app.server.serve import serve_alone  # not above: scoring has no use for a web framework

    return serve_alone(settings, address)


def _serve_with_workers(settings: Settings, address: "Address") -> int:
    from app.server.listener import listen
    from app.server.supervisor import Supervisor

    configure_logging(settings.log_level, settings.log_format)
    with listen(address) as listener:
        return asyncio.run(Supervisor(settings, listener).run())


def _reload(settings: Settings, parsed: argparse.Namespace) -> int:
    from app.server.pid_file import reload  # as above

    done = reload(parsed.pid_file or settings.pid_file)
    print(f"Process {done.pid} has loaded its artifact again and serves {done.version}.")
    return 0


def _stop_quietly_until_serving() -> None:
    """A stop during the start has nothing to drain, and the first process of a container has no default for it."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
    # What is loaded during the start is the newest anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _score(settings: Settings, parsed: argparse.Namespace) -> int:
    if parsed.artifact:
        settings = settings.model_copy(update={"artifact": parsed.artifact})
    if parsed.engine == "ray":
        return _score_with_ray(settings, parsed)
    output = None if parsed.output == "-" else Path(parsed.output)
    by_name: Literal["csv", "jsonl"] = "jsonl" if output and output.suffix == ".jsonl" else "csv"
    workers = parsed.workers or usable_cores()
    options = ScoreOptions(
        tuple(parsed.paths),
        output,
        parsed.format or by_name,
        workers,
        parsed.fail_on_anomaly,
        tuple(parsed.columns),
        parsed.resume,
    )
    return score(settings, options)


def _score_with_ray(settings: Settings, parsed: argparse.Namespace) -> int:
    try:
        from app.offline.cluster import score_with_ray  # not above: an extra, and a large one
    except ModuleNotFoundError as error:
        raise ScoringError(f"there is no {error.name}: --engine ray needs `pip install '.[ray]'`.") from error
    source, output = parsed.paths
    return score_with_ray(settings, source, output, parsed.workers, parsed.fail_on_anomaly)


def _parse(arguments: Sequence[str] | None, parser: argparse.ArgumentParser) -> argparse.Namespace:
    parsed = parser.parse_args(arguments)
    if parsed.command == "score" and parsed.engine == "ray":
        if len(parsed.paths) != 2:
            parser.error(f"--engine ray takes two paths, INPUT and OUTPUT, not {len(parsed.paths)}")
        if parsed.output != "-" or parsed.format:
            parser.error("--engine ray writes Parquet to OUTPUT, the second path: no --output, no --format")
        if parsed.columns or parsed.resume:
            parser.error("--engine ray has no --columns, and goes on by itself: no --resume")
    if parsed.command in ("recalibrate", "compare"):
        check_images(parser, parsed)
    if parsed.command == "score" and parsed.resume and parsed.output == "-":
        parser.error("--resume goes on with a file: name it with --output")
    return parsed


def _parser(prog: str, elsewhere: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description="Judge images with one artifact.")
    parser.add_argument("--version", action="version", version=f"imagegate {__version__}")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND", parser_class=CommandParser)
    serve_parser = commands.add_parser("serve", help="answer HTTP requests; settings are GATE_* variables")
    serve_parser.add_argument("--host", help="address to bind (default: HOST, or 127.0.0.1)")
    serve_parser.add_argument("--port", help="port to bind (default: PORT, or 8000)")
    serve_parser.add_argument(
        "--workers", type=_positive, metavar="N", help="serving processes (default: GATE_WORKERS, or 1)"
    )
    serve_parser.set_defaults(run=_serve)
    reload_parser = commands.add_parser("reload", help="have a running gate load its artifact again")
    reload_parser.add_argument("--pid-file", type=Path, metavar="FILE", help="of the gate (default: GATE_PID_FILE)")
    reload_parser.set_defaults(run=_reload)
    add_offline_commands(commands, _positive)
    _add_score_arguments(commands.add_parser("score", help="score files and folders", description=_SCORE, epilog=_EXIT))
    for name, phrase in elsewhere.items():
        commands.add_parser(name, help=phrase)
    return parser


def _add_score_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a file, or a folder: all files below it but hidden ones"
    )
    parser.add_argument("--artifact", type=Path, metavar="FOLDER", help="judge with this one (default: GATE_ARTIFACT)")
    parser.add_argument("--output", default="-", metavar="FILE", help="where rows go (default: -, standard output)")
    parser.add_argument("--format", choices=["csv", "jsonl"], help="default: jsonl for a FILE of that name, else csv")
    parser.add_argument("--workers", type=_positive, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--fail-on-anomaly", action="store_true", help="exit 3 unless every file is a normal image")
    parser.add_argument(
        "--columns",
        type=_columns,
        default=(),
        metavar="NAMES",
        help="more columns: threshold, reasons, or both with a comma",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with FILE: score what has no row there, and append"
    )
    parser.set_defaults(run=_score)
    parser.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: on many machines; the paths are INPUT, a folder or URL, and OUTPUT, one for Parquet files",
    )


_SCORE = """Scores every file with the verdict that the service would give, with all cores. One row a file, in order:
path, is_anomaly, loss, score, p_value and model (the artifact's version), or, of a file that cannot be judged, error,
status (what the service would answer) and detail. GATE_MAX_UPLOAD_BYTES and GATE_MAX_IMAGE_PIXELS hold for each file.
"""
_EXIT = """Exit code: 0, files were scored; 1, none could be, or the artifact or the output is unusable; 2, the command
line is wrong; 3, see --fail-on-anomaly; 130, interrupted, with the rows so far written."""


def _columns(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not set(names) <= {"threshold", "reasons"} or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r} names other columns than threshold and reasons")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
