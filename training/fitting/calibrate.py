"""Split conformal calibration: scores of held-out normal images -> a threshold, and what it promises.

If a new normal image and n calibration images are exchangeable, the new score exceeds the k-th smallest calibration
score with probability (n + 1 - k) / (n + 1) on average over calibration sets (Vovk 2012; Angelopoulos and Bates,
arXiv 2107.07511). For one given calibration set that rate is a draw from Beta(n + 1 - k, k), at most.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.artifact import Artifact, Manifest, Promise, View
from app.detection.detector import Detector
from training.errors import TrainingError

_CONFIDENCE = 0.9
_BATCH_SIZE = 256
_VIEW_SCORES = 500


@dataclass(frozen=True, slots=True)
class Calibration:
    """What serving ranks scores with.

    Attributes:
        threshold: The largest score accepted: of the variants' own thresholds the largest.
        scores: (variants, n), each row sorted.
        view_scores: (views, variants, at most 500), each row sorted, half precision: enough to explain with.
    """

    threshold: float
    scores: NDArray[np.float32]
    view_scores: NDArray[np.float16]


def least_calibration_size(rate: float) -> int:
    """The fewest calibration images that can promise a false-positive rate in (0, 1)."""
    return math.ceil(1 / Fraction(str(rate))) - 1


def make_promise(size: int, rate: float) -> Promise:
    """What `size` calibration images (per variant) can promise.

    Args:
        size: Calibration images per variant.
        rate: The target false-positive rate, in (0, 1).

    Raises:
        TrainingError: They are too few for this rate.
    """
    # As a fraction: 100 * (1 - 0.01) in floating point may land just above 99, and the rank one too high.
    rank = math.ceil((size + 1) * (1 - Fraction(str(rate))))
    if rank > size:
        raise TrainingError(
            f"{size} calibration images cannot promise a false-positive rate of {rate:g}: "
            f"it takes at least {least_calibration_size(rate)}."
        )
    confident = rate_with_confidence(size, rank)
    return Promise(
        target_false_positive_rate=rate,
        rate_with_90_percent_confidence=round(confident, 6),
        calibration_size=size,
        rank=rank,
        words=(
            "Of normal images like the training images, sent in any of the permitted ways, at most "
            f"{100 * rate:.3g}% are refused on average; for the {size} images that set this threshold, the rate is at "
            f"most {100 * confident:.3g}% with 90% confidence."
        ),
    )


def rate_with_confidence(size: int, rank: int) -> float:
    """The 90% quantile of Beta(size + 1 - rank, rank): the false-positive rate that holds with that confidence.

    By bisection on the binomial tail that equals it, since SciPy would be a dependency for this one number:
    P(Beta(a, n + 1 - a) <= q) = P(Binomial(n, q) >= a).
    """
    # log of "n choose j" for every j below a = size + 1 - rank.
    odds = np.log(size - np.arange(size - rank)) - np.log(1 + np.arange(size - rank))
    log_choices = np.concatenate(([0.0], np.cumsum(odds)))
    counts = np.arange(len(log_choices))
    low, high = 0.0, 1.0
    for _ in range(60):
        rate = (low + high) / 2
        below = np.exp(log_choices + counts * math.log(rate) + (size - counts) * math.log1p(-rate)).sum()
        low, high = (rate, high) if below > 1 - _CONFIDENCE else (low, rate)
    return high


def calibrate(detector: Detector, images: NDArray[np.uint8], promise: Promise) -> Calibration:
    """Scores the calibration images as serving would.

    Args:
        detector: From `uncalibrated_detector`.
        images: (variants, n, 28, 28), grey levels 0 to 255: held-out normal images, sent in each permitted way.
        promise: For n images.

    Raises:
        TrainingError: The scores are not numbers, or all the same: the model learnt nothing that a threshold can use.
    """
    runs = [run_in_batches(detector, variant) for variant in images]
    scores = np.sort(np.stack([scores for scores, _ in runs]), axis=-1)  # (variants, n)
    views = np.sort(np.stack([views.T for _, views in runs], axis=1), axis=-1)  # (views, variants, n)
    if not (np.isfinite(scores).all() and np.isfinite(views).all()):
        raise TrainingError("Scores of calibration images are not finite: the training diverged; lower the rate.")
    if scores.min() == scores.max():
        raise TrainingError("All calibration images have the same score: the model tells nothing apart.")
    return Calibration(float(scores[:, promise.rank - 1].max()), scores, _thinned(views))


def _thinned(views: NDArray[np.float32]) -> NDArray[np.float16]:
    """(views, variants, n) sorted -> (views, variants, at most 500), evenly spaced, the largest of them kept."""
    size = views.shape[-1]
    kept = np.linspace(0, size - 1, min(size, _VIEW_SCORES)).round().astype(int)
    return views[..., kept].astype(np.float16)


def run_in_batches(
    detector: Detector, images: NDArray[np.float32] | NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scores (N,) and views (N, views) of images (N, 28, 28): grey levels in [0, 1], or bytes 0 to 255."""
    batches = [images[start : start + _BATCH_SIZE] for start in range(0, len(images), _BATCH_SIZE)]
    runs = [detector.run(as_grey_levels(batch)) for batch in batches]
    return np.concatenate([run[2] for run in runs]), np.concatenate([run[3] for run in runs])


def as_grey_levels(images: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes 0 to 255 become the grey levels in [0, 1] that the serving decoder gives for them, to the last bit."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return images.astype(np.float32, copy=False)


def uncalibrated_detector(graph: bytes, views: tuple[View, ...]) -> Detector:
    """The serving code around a graph that has no threshold yet; only its `run` means anything.

    Raises:
        ArtifactError: The graph does not run, or gives no numbers.
    """
    known: dict[str, Any] = {"threshold": math.inf, "views": list(views)}
    scores, view_scores = np.zeros((1, 1), np.float32), np.zeros((len(views), 1, 1), np.float32)
    return Detector(Artifact(Manifest.model_construct(**known), "uncalibrated", graph, scores, view_scores))
