"""Images that the artifact carries for people: what belongs, and what does not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.detection.artifact import SAMPLES, Samples
from app.detection.detector import Detector
from app.detection.shown import CLASSES
from training.fitting.calibrate import run_in_batches
from training.fitting.evaluate import refused
from training.report.judgements import YOUR_ANOMALIES

_TRIED = 10
_MOST_NORMAL, _MOST_ODD = 96, 8
# What people know by sight comes before what is nearly right.
_SHOWN_FIRST = (YOUR_ANOMALIES, "duck", "square", "smiley", "letters", "triangle", "heart", "digits", "star 5")


def choose_samples(
    detector: Detector,
    threshold: float,
    normal: NDArray[np.float32],
    anomalies: Mapping[str, NDArray[np.float32]],
    shown: str = CLASSES[0],
) -> Samples:
    """The first test images that pass, and of each family of anomalies the first that is refused.

    Args:
        detector: Scores them.
        threshold: The largest score that passes.
        normal: (N, 28, 28) images that training did not see, grey levels in [0, 1].
        anomalies: The same of things that do not belong, by family.
        shown: The class of files (`app.detection.shown`) that all of them are judged as.
    """
    # Some more than are needed, for those that are refused.
    candidates = normal[: 2 * _MOST_NORMAL]
    passing = candidates[~refused(_scores(detector, candidates, shown), threshold)][:_MOST_NORMAL]
    odd: list[NDArray[np.float32]] = []
    first = [name for name in _SHOWN_FIRST if name in anomalies]
    for family in [*first, *(name for name in anomalies if name not in first)]:
        if len(odd) == _MOST_ODD:
            break
        images = anomalies[family][:_TRIED]
        odd += list(images[refused(_scores(detector, images, shown), threshold)][:1])
    return Samples(_levels(passing), _levels(np.array(odd, np.float32).reshape(-1, *normal.shape[1:])))


def write_samples(folder: Path, samples: Samples) -> None:
    """Writes them into an artifact's folder; the same samples always give the same bytes."""
    np.savez_compressed(folder / SAMPLES, normal=samples.normal, odd=samples.odd)


def _scores(detector: Detector, images: NDArray[np.float32], shown: str) -> NDArray[np.float32]:
    return run_in_batches(detector, images, shown)[0]


def _levels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    return (images * 255).round().astype(np.uint8)
