"""What other thresholds would do: those of other promised rates, and those without single files of the folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.artifact import Promise
from app.detection.promise import make_promise
from app.detection.shown import class_rows, class_thresholds
from app.errors import PromiseError
from training.fitting.calibrate import Calibration
from training.fitting.evaluate import share_refused, wilson_interval

# Beside the rate that is promised.
RATES = (0.01, 0.02, 0.05)
DECIDING_FILES = 5


@dataclass(frozen=True, slots=True)
class Trial:
    """Scores that thresholds are tried on.

    Attributes:
        normal: (N,) of test images sent as they are.
        files: (N,) the class of each of their files.
        anomalies: Of each group of anomalies, by family or kind, (M,) each, as files of the usual class: "made_up",
            "drawn", and "own" if there are any.
        usual_class: The class of most originals.
    """

    normal: NDArray[np.float32]
    files: Sequence[str]
    anomalies: Mapping[str, Mapping[str, NDArray[np.float32]]]
    usual_class: str

    def at(self, thresholds: Mapping[str, float]) -> dict[str, Any]:
        """The rates at other thresholds by class: false positives, and the mean of what is found of each group."""
        limits = np.array([thresholds[own] for own in self.files])
        usual = thresholds[self.usual_class]
        return {
            "threshold": round(usual, 4),
            "false_positive_rate": round(share_refused(self.normal, limits), 4),
            "found": {
                group: round(float(np.mean([share_refused(scores, usual) for scores in families.values()])), 4)
                for group, families in self.anomalies.items()
                if families
            },
        }


@dataclass(frozen=True, slots=True)
class DecidingFile:
    """A calibration file without which the threshold would be another.

    Attributes:
        name: Its path within the folder.
        image: (28, 28), grey levels in [0, 1].
        threshold: Of the usual class, without it.
        found: Of made-up pictures, without it.
    """

    name: str
    image: NDArray[np.float32]
    threshold: float
    found: float


@dataclass(frozen=True, slots=True)
class Deciding:
    """The files that decide the threshold, and what it would be without each of them, and without all.

    Attributes:
        files: That which changes the threshold most comes first.
        threshold: Of the usual class, as it is.
        found: Of made-up pictures, as it is.
        threshold_without_all: Of the usual class, without all of the files.
        found_without_all: Of made-up pictures, without all of them.
        enough: Whether the promise could be kept without one of them.
    """

    files: tuple[DecidingFile, ...]
    threshold: float
    found: float
    threshold_without_all: float
    found_without_all: float
    enough: bool


def at_rates(calibration: Calibration, promise: Promise, trial: Trial) -> list[dict[str, Any]]:
    """What the gate would find and refuse at `RATES` and at the promised one, where calibration can promise them."""
    rates = sorted({*RATES, promise.target_false_positive_rate})
    table = []
    for rate in rates:
        try:
            rank = make_promise(promise.calibration_size, rate, confidence=promise.confidence).rank
        except PromiseError:
            continue
        tried = trial.at(class_thresholds(calibration.scores, calibration.shown, rank))
        refused = round(tried["false_positive_rate"] * len(trial.normal))
        interval = [round(end, 4) for end in wilson_interval(refused, len(trial.normal))]
        table.append({"rate": rate, **tried, "false_positive_rate_interval": interval})
    return table


def deciding_files(
    calibration: Calibration, promise: Promise, trial: Trial, names: Sequence[str], images: NDArray[np.float32]
) -> Deciding:
    """The calibration files of the highest scores: one file that does not belong may set the threshold alone.

    Args:
        calibration: Of the n images.
        promise: Made for them.
        trial: What is tried with and without.
        names: n names.
        images: (n, 28, 28), grey levels in [0, 1].
    """
    rows = class_rows(calibration.shown)[trial.usual_class]
    reach = calibration.by_image[rows].max(axis=0)
    top = np.argsort(-reach, kind="stable")[:DECIDING_FILES].tolist()

    def without(left_out: Sequence[int]) -> tuple[float, float]:
        tried = trial.at(_thresholds_without(calibration, promise, left_out))
        return tried["threshold"], tried["found"]["made_up"]

    files = [DecidingFile(names[row], images[row], *without([row])) for row in top]
    return Deciding(
        tuple(sorted(files, key=lambda file: file.threshold)),
        *without([]),
        *without(top),
        enough=_rank(promise, promise.calibration_size - 1) <= promise.calibration_size - 1,
    )


def deciding_words(deciding: Deciding) -> list[str]:
    """Lines for people: the threshold with and without each file, and what is found of made-up pictures."""
    lines = [
        f"The threshold is {deciding.threshold:.4g} and finds {deciding.found:.1%} of made-up pictures. Without one of "
        "these calibration files it would be:"
    ]
    lines += [f"  {file.threshold:.4g} ({file.found:.1%} found) without {file.name}" for file in deciding.files]
    lines.append(
        f"  {deciding.threshold_without_all:.4g} ({deciding.found_without_all:.1%} found) without all of them. "
        "Take out only what does not belong, and train again" + ("." if deciding.enough else ", with others added.")
    )
    return lines


def rate_words(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lines for people: what each promised rate would refuse and find."""
    groups = {"made_up": "made-up pictures", "drawn": "drawn anomalies", "own": "your anomalies"}
    shown = [group for group in groups if table and group in table[0]["found"]]
    head = ["promised", "refused in the test", *(f"{groups[group]} found" for group in shown)]
    rows = [
        [
            f"{100 * row['rate']:.4g}%",
            f"{row['false_positive_rate']:.2%}",
            *(f"{row['found'][group]:.1%}" for group in shown),
        ]
        for row in table
    ]
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) for cells in (head, *rows)]


def _thresholds_without(calibration: Calibration, promise: Promise, left_out: Sequence[int]) -> Mapping[str, float]:
    scores = np.sort(np.delete(calibration.by_image, left_out, axis=1), axis=-1)
    size = scores.shape[1]
    # Fewer images than the promise takes: the largest score is then the best guess of what others would set.
    return class_thresholds(scores, calibration.shown, min(_rank(promise, size), size))


def _rank(promise: Promise, size: int) -> int:
    """The rank that the threshold of `size` images has; above `size` where they are too few."""
    try:
        return make_promise(size, promise.target_false_positive_rate, confidence=promise.confidence).rank
    except PromiseError:
        return size + 1
