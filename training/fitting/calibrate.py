"""Split conformal calibration: scores of held-out normal images -> a threshold."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.artifact import Artifact, Manifest, Promise, View
from app.detection.detector import Detector
from app.detection.shown import CLASSES, class_thresholds
from training.errors import TrainingError

_BATCH_SIZE = 256
_VIEW_SCORES = 400

FileClass = str | Sequence[str]
"""The class (`app.detection.shown`) of all files of a set, or of each of them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What serving ranks scores with.

    Attributes:
        thresholds: The largest score accepted of each class of files: of its variants' own thresholds the largest.
        scores: (variants, n), each row sorted.
        view_scores: (views, variants, at most 400), each row sorted, half precision: enough to explain with.
        by_image: (variants, n), the same scores in the order of the images.
        shown: The class of each variant's files, "" for one that counts in all.
    """

    thresholds: Mapping[str, float]
    scores: NDArray[np.float32]
    view_scores: NDArray[np.float16]
    by_image: NDArray[np.float32]
    shown: Sequence[str]


def calibrate(
    detector: Detector,
    images: NDArray[np.uint8],
    promise: Promise,
    shown: Sequence[str] = (),
    files: Sequence[FileClass] = (),
) -> Calibration:
    """Scores the calibration images as serving would.

    Args:
        detector: From `uncalibrated_detector`.
        images: (variants, n, 28, 28), grey levels 0 to 255: held-out normal images, sent in each permitted way.
        promise: For n images.
        shown: The class of each variant's files; "" for one that counts in all; none: all so.
        files: The class that each variant is judged as, or each of its images.

    Raises:
        TrainingError: The scores are not numbers, or all the same: the model learnt nothing that a threshold can use.
    """
    runs = [
        run_in_batches(detector, variant, shown_of)
        for variant, shown_of in zip(images, files or [CLASSES[0]] * len(images), strict=True)
    ]
    by_image = np.stack([scores for scores, _ in runs])  # (variants, n)
    scores = np.sort(by_image, axis=-1)
    views = np.sort(np.stack([views.T for _, views in runs], axis=1), axis=-1)  # (views, variants, n)
    if not (np.isfinite(scores).all() and np.isfinite(views).all()):
        raise TrainingError("Scores of calibration images are not finite: the training diverged; lower the rate.")
    if scores.min() == scores.max():
        raise TrainingError("All calibration images have the same score: the model tells nothing apart.")
    shown = shown or [""] * len(scores)
    return Calibration(class_thresholds(scores, shown, promise.rank), scores, _thinned(views), by_image, shown)


def _thinned(views: NDArray[np.float32]) -> NDArray[np.float16]:
    """(views, variants, n) sorted -> (views, variants, at most 400), evenly spaced, the largest of them kept."""
    size = views.shape[-1]
    kept = np.linspace(0, size - 1, min(size, _VIEW_SCORES)).round().astype(int)
    return views[..., kept].astype(np.float16)


def run_in_batches(
    detector: Detector, images: NDArray[np.float32] | NDArray[np.uint8], shown: FileClass = CLASSES[0]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (N,) and views (N, views) of images (N, 28, 28): grey levels in [0, 1], or bytes 0 to 255.

    Args:
        shown: The class of all files, or of each, by which they are judged.
    """
    batches = [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)]
    runs = [detector.run(as_grey_levels(batch)) for batch in batches]
    scores, views = (np.concatenate([run[output] for run in runs]) for output in (2, 3))
    names = [shown] * len(scores) if isinstance(shown, str) else shown
    columns = [CLASSES.index(name) if scores.shape[1] > 1 else 0 for name in names]
    rows = np.arange(len(scores))
    return scores[rows, columns], views[rows, columns]


def as_grey_levels(images: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes 0 to 255 become the grey levels in [0, 1] that the serving decoder gives for them, to the last bit."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False)


def uncalibrated_detector(graph: bytes, views: tuple[View, ...]) -> Detector:
    """Returns a `Detector` for a graph that has no threshold yet. Only its `run` method is meaningful.

    Raises:
        ArtifactError: The graph does not run, or gives no numbers.
    """
    known: dict[str, Any] = {"threshold": math.inf, "views": list(views), "thresholds": {}, "own_size": None}
    scores, view_scores = np.zeros((1, 1), np.float32), np.zeros((len(views), 1, 1), np.float32)
    return Detector(Artifact(Manifest.model_construct(**known), "uncalibrated", graph, scores, view_scores))
