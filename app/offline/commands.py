"""The command line of `recalibrate` and `compare`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.offline.compare import CompareOptions, compare
from app.offline.recalibrate import RecalibrateOptions, recalibrate
from app.settings import Settings, usable_cores

Number = Callable[[str], int]


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, which takes options in front of its paths, between and behind them."""

    _is_within = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # A parser of commands calls this, whatever it was called by; and it is what the other one builds on.
        # What follows `--` is no option, which the reader of mixed ones does not know.
        if self._is_within or "--" in (args or ()):
            return super().parse_known_args(args, namespace)
        self._is_within = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_within = False


def add_offline_commands(commands: Any, positive: Number) -> None:
    """Adds both to what `add_subparsers` gave; `run` of what they parse to is the command itself.

    Args:
        commands: To add them to.
        positive: Reads a number from 1 on.
    """
    parser = commands.add_parser(
        "recalibrate", help="set the threshold anew", description=_RECALIBRATE, epilog=_RECALIBRATE_EXIT
    )
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the folder whose network is used")
    _add_images(parser, "of it the random sample, less what is labelled an anomaly")
    parser.add_argument("--output", type=Path, required=True, metavar="NEW", help="the new artifact's folder")
    parser.add_argument(
        "--target-false-positive-rate", type=_rate, metavar="RATE", help="in (0, 1); default: the artifact's own"
    )
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one a core)")
    parser.set_defaults(run=_recalibrate)
    parser = commands.add_parser(
        "compare", help="two artifacts on the same images", description=_COMPARE, epilog=_COMPARE_EXIT
    )
    parser.add_argument("old", type=Path, metavar="OLD", help="the artifact that serves")
    parser.add_argument("new", type=Path, metavar="NEW", help="the one that may")
    _add_images(parser, "with counts by what is labelled, and for the random sample")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="gets index.html and rows.csv")
    parser.add_argument("--fail-on-change", action="store_true", help="exit 3 if any verdict changes")
    parser.add_argument("--workers", type=positive, metavar="N", help="processes (default: one a core)")
    parser.set_defaults(run=_compare)


def check_images(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> None:
    """Ends with exit code 2 unless there is one source of images: PATHs, or --kept."""
    if bool(parsed.paths) == bool(parsed.kept):
        parser.error(f"{parsed.command} takes images from PATHs, or from --kept FOLDER")


def _add_images(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, and folders of images")
    parser.add_argument(
        "--kept", type=Path, metavar="FOLDER", help=f"a folder of kept images in place of PATHs: {what}"
    )


def _recalibrate(settings: Settings, parsed: argparse.Namespace) -> int:
    options = RecalibrateOptions(
        parsed.artifact,
        tuple(parsed.paths),
        parsed.kept,
        parsed.output,
        parsed.target_false_positive_rate,
        parsed.workers or usable_cores(),
    )
    return recalibrate(settings, options)


def _compare(settings: Settings, parsed: argparse.Namespace) -> int:
    options = CompareOptions(
        parsed.old,
        parsed.new,
        tuple(parsed.paths),
        parsed.kept,
        parsed.output,
        parsed.workers or usable_cores(),
        parsed.fail_on_change,
    )
    return compare(settings, options)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a rate between 0 and 1")
    return rate


_RECALIBRATE = """Makes an artifact with the same network and a threshold of its own, from normal images as production
sends them: of new images like these at most the target rate are refused on average. Prints what both thresholds refuse,
and warns when the images call for another training rather than another threshold."""
_RECALIBRATE_EXIT = """Exit code: 0, NEW is written; 1, the images are too few for the rate (the message says how many
it takes) or cannot be used, and there is no NEW; 2, the command line is wrong; 130, interrupted."""
_COMPARE = """Judges every image with both artifacts, and counts what is normal for both, refused by both, newly refused
and newly admitted, with 95% intervals. FOLDER gets a page with the changed images, and a row for each image."""
_COMPARE_EXIT = """Exit code: 0, images were compared; 1, none could be judged, or an artifact or output is unusable;
2, the command line is wrong; 3, see --fail-on-change; 130, interrupted."""
