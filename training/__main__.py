"""`python -m training`: the command line of one run, which is in `training.run`."""

import argparse
import io
import math
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, get_args

from training.data.variants import Permitted, parse_variants
from training.plan import DEFAULTS, GroupBy, Plan, make_plan

if TYPE_CHECKING:
    from app.detection.artifact import Artifact


def main(arguments: Sequence[str] | None = None, prog: str = "python -m training") -> int:
    """Runs the command line. Expected errors are printed as one line, without a traceback.

    Returns:
        The exit status: 0, 1 for what training refuses, 128 + signal when it is stopped. (2, for a wrong command
        line, is argparse's own.)
    """
    options = _parser(prog).parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name need not fit the terminal's encoding
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        # Not at the top of the file: PyTorch takes seconds to import, which --help and mistakes should not cost,
        # and Ctrl-C during them should end as tidily as later.
        from app.errors import ArtifactError
        from training.errors import TrainingError
        from training.run import train

        plan = make_plan(options)
        try:
            artifact = train(plan)
        except (TrainingError, ArtifactError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    except ModuleNotFoundError as error:
        if not error.name or error.name.split(".")[0] in ("app", "training"):
            raise
        print(
            f"error: there is no {error.name} here, which training needs: `pip install '.[training]'` "
            "(or `make train`, which makes an environment of its own).",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt as interrupt:
        print("\nStopped; no half-written artifact is left.", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    _print_result(artifact, plan)
    return 0


def _print_result(artifact: "Artifact", plan: Plan) -> None:
    from training.data.folder import CALIBRATION_SHARE, FEW_SCENES
    from training.fitting.other_thresholds import rate_words
    from training.report.facts import chance_words

    evaluation = artifact.manifest.evaluation
    interval, target = evaluation["false_positive_rate_interval"], plan.target_false_positive_rate
    print(f"{artifact.manifest.name} {artifact.version} is in {plan.output}")
    print(artifact.manifest.promise.words)
    print(
        f"Seen on {evaluation['test_images']} unseen normal images: {evaluation['false_positive_rate']:.2%} refused, "
        f"{chance_words(interval, target)}; drawn anomalies found: {evaluation['macro_detection_rate']:.1%}."
    )
    own = evaluation.get("own_anomalies")
    if own:
        print(f"Of your own {own['images']} anomalies {own['detection_rate']:.1%} are found.")
        for name, folder in own["subfolders"].items() if len(own["subfolders"]) > 1 else ():
            print(f"  {name or 'in no subfolder'}: {folder['detection_rate']:.1%} of {folder['images']}")
    if plan.data and artifact.manifest.data["calibration"] < CALIBRATION_SHARE * FEW_SCENES:
        print(*rate_words(evaluation["at_rates"]), sep="\n")
    print(evaluation["power"]["words"])
    if evaluation["other_decoders"]["words"]:
        print(evaluation["other_decoders"]["words"])
    print(f"Serve it: GATE_ARTIFACT={plan.output} make run")


def _parser(prog: str = "python -m training") -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Learns what normal images look like and leaves one artifact folder for the service.",
    )
    add = parser.add_argument
    add("--data", type=Path, metavar="FOLDER", help="normal images, nested folders too (default: drawn circles)")
    add(
        "--group-by",
        choices=get_args(GroupBy),
        default="likeness",
        help="which images show one scene, and so stay in one part and count once: those that look like near-copies "
        "(the default), those of one folder, those whose names differ in the last number alone, or none",
    )
    add("--anomalies", type=Path, metavar="FOLDER", help="bad examples of yours: the report says how many are found")
    add("--output", type=Path, metavar="FOLDER", help="the artifact (default: model_artifacts/NAME)")
    add("--name", type=_name, help="what clients see (default: the output folder's name, or the data's)")
    add("--model", choices=DEFAULTS, default="gate", help="the gate's own network, or one of the tutorial's")
    add("--count", type=_count, help="circles to train on (default: 4000; for the tutorial's models 1000)")
    add("--circles", choices=("tutorial", "smooth"), help="how circles come to 28x28 pixels (default: by model)")
    add("--seed", type=_seed, default=0, help="of data, weights and fitting (default: 0)")
    add(
        "--variants",
        type=_variants,
        metavar="KINDS",
        help="permitted kinds of sending: default, none, or kinds with commas, such as default,border or "
        "size,light=0.8..1.2 (default: by model)",
    )
    add("--score", choices=("views", "loss"), help="what is compared with the threshold (default: by model)")
    _add_fitting(parser)
    return parser


def _add_fitting(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--epochs", type=_count, help="passes over the training images (default: by model)")
    add("--latent-size", type=_count, help="width of the bottleneck (default: by model)")
    add("--loss", choices=("mse", "bce"), default="mse", help="what fitting minimises (default: mse)")
    add("--batch-size", type=_count, help="images a step (default: by model)")
    add("--learning-rate", type=_learning_rate, help="of Adam (default: by model)")
    add("--target-false-positive-rate", type=_rate, default=0.01, metavar="RATE", help="in (0, 1) (default: 0.01)")
    add(
        "--confidence",
        type=_rate,
        metavar="SHARE",
        help="such as 0.95: promise that the rate holds with this confidence for the images at hand "
        "(default: that it holds on average)",
    )
    add(
        "--least-detection",
        type=_share,
        default=0.0,
        metavar="RATE",
        help="fail if less is found of any kind of made-up pictures, such as noise (default: 0)",
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _variants(text: str) -> Permitted:
    try:
        return parse_variants(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2**63 - 1")
    return int(text)


def _rate(text: str) -> float:
    rate = _number(text)
    if not 0 < rate < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return rate


def _share(text: str) -> float:
    share = _number(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 0 to 1")
    return share


def _learning_rate(text: str) -> float:
    rate = _number(text)
    if not (0 < rate < math.inf):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error


def _name(text: str) -> str:
    # It travels in HTTP headers, in the paths of the Open Inference Protocol, and in metrics.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: use up to 64 letters, digits, '.', '_' and '-'")
    return text


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: another signal must not interrupt the tidying up.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    sys.exit(main())
