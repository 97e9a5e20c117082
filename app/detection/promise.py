"""What a number of calibration images can promise about the false-positive rate.

If a new normal image and n calibration images are exchangeable, the new score exceeds the k-th smallest calibration
score with probability (n + 1 - k) / (n + 1) on average over calibration sets (Vovk 2012; Angelopoulos and Bates,
arXiv 2107.07511). For one given calibration set, the rate is itself random: its distribution is Beta(n + 1 - k, k), or
stochastically smaller if scores have ties.
"""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from app.detection.artifact import Artifact, Promise, ReadFile, load_artifact, read_file
from app.detection.shown import class_thresholds
from app.errors import PromiseError


def least_calibration_size(rate: float, confidence: float | None = None) -> int:
    """The fewest calibration images that can promise a false-positive rate in (0, 1).

    Args:
        rate: In (0, 1).
        confidence: None for the rate on average; in (0, 1) for the rate that holds with this confidence.
    """
    if confidence is None:
        return math.ceil(1 / Fraction(str(rate))) - 1
    # The threshold is then the largest of n scores, and P(Beta(1, n) > rate) = (1 - rate) ** n.
    return math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)


_LIKE_TRAINING = "normal images like the training images, sent in any of the permitted ways,"


def make_promise(size: int, rate: float, whose: str = _LIKE_TRAINING, confidence: float | None = None) -> Promise:
    """What `size` calibration images (per variant) can promise.

    Args:
        size: Calibration images per variant.
        rate: The target false-positive rate, in (0, 1).
        whose: Which images the promise is for, in words.
        confidence: None promises the rate on average over calibration sets; a confidence in (0, 1) promises that it
            holds for this calibration set, with this confidence.

    Raises:
        PromiseError: They are too few for this rate.
    """
    least = least_calibration_size(rate, confidence)
    if size < least:
        with_confidence = "" if confidence is None else f" with {100 * confidence:.4g}% confidence"
        raise PromiseError(
            f"{size} calibration images cannot promise a false-positive rate of {rate:g}{with_confidence}: "
            f"it takes at least {least}."
        )
    rank = _mean_rank(size, rate) if confidence is None else _confident_rank(size, rate, confidence)
    return Promise(
        target_false_positive_rate=rate,
        rate_with_90_percent_confidence=round(rate_with_confidence(size, rank), 6),
        calibration_size=size,
        rank=rank,
        words=_words(size, rate, rank, whose, confidence),
        mean_false_positive_rate=round(mean_rate(size, rank), 6),
        confidence=confidence,
    )


def mean_rate(size: int, rank: int) -> float:
    """The share of normal images above the rank-th smallest of `size` scores, on average over calibration sets."""
    return (size + 1 - rank) / (size + 1)


def _mean_rank(size: int, rate: float) -> int:
    """The least rank whose mean rate is at most `rate`."""
    # As a fraction: 100 * (1 - 0.01) in floating point may land just above 99, and the rank one too high.
    return math.ceil((size + 1) * (1 - Fraction(str(rate))))


def _confident_rank(size: int, rate: float, confidence: float) -> int:
    """The least rank whose rate is at most `rate` with this confidence; rates fall as ranks rise."""
    low, high = 1, size
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if rate_with_confidence(size, middle, confidence) <= rate else (middle + 1, high)
    return low


def _words(size: int, rate: float, rank: int, whose: str, confidence: float | None) -> str:
    images = f"Of {whose} at most "
    mean = f"{100 * mean_rate(size, rank):.3g}%"
    if confidence is not None:
        return (
            f"{images}{100 * rate:.3g}% are refused, with {100 * confidence:.4g}% confidence that this holds for the "
            f"{size} images that set this threshold; on average over such sets it is {mean}."
        )
    confident = rate_with_confidence(size, rank)
    words = (
        f"{images}{100 * rate:.3g}% are refused on average; for the {size} images that set this threshold, the rate is "
        f"at most {100 * confident:.3g}% with 90% confidence."
    )
    # The rank is a whole number: few images give the rate in coarse steps.
    if mean_rate(size, rank) < 0.9 * rate:
        words += f" ({100 * rate:.3g}% was asked for; {size} images can only give steps, and {mean} is given.)"
    return words


def rate_with_confidence(size: int, rank: int, confidence: float = 0.9) -> float:
    """A quantile of Beta(size + 1 - rank, rank): the false-positive rate that holds with that confidence, in (0, 1).

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
        low, high = (rate, high) if below > 1 - confidence else (low, rate)
    return high


def with_rate(artifact: Artifact, rate: float) -> Artifact:
    """Returns the artifact with the threshold for another rate, computed from its own calibration scores.

    The evaluation is removed, because it was measured with the old threshold. The version does not change, since it
    identifies the files.

    Args:
        artifact: As loaded.
        rate: The target false-positive rate, in (0, 1).

    Raises:
        PromiseError: The calibration images are too few for this rate.
    """
    before = artifact.manifest.promise
    if rate == before.target_false_positive_rate:
        return artifact
    words = before.words.removeprefix("Of ").partition(" at most ")[0]
    promise = make_promise(before.calibration_size, rate, words, before.confidence)
    changes: dict[str, object] = {"promise": promise, "evaluation": {}}
    if artifact.manifest.thresholds:
        thresholds = class_thresholds(artifact.calibration, artifact.manifest.shown, promise.rank)
        changes.update(thresholds=thresholds, threshold=max(thresholds.values()))
    else:
        changes["threshold"] = float(artifact.calibration[:, promise.rank - 1].max())
    return replace(artifact, manifest=artifact.manifest.model_copy(update=changes))


def load_with_rate(folder: Path, rate: float | None, read: ReadFile = read_file) -> Artifact:
    """Reads and verifies an artifact, and sets another rate where one is asked for.

    Args:
        folder: The folder, or a link to it.
        rate: GATE_TARGET_FALSE_POSITIVE_RATE; None for the artifact's own.
        read: Reads its files.

    Raises:
        ArtifactError: It cannot be used, or cannot promise the rate; the message says why.
    """
    # Resolved once: a link that is pointed elsewhere meanwhile must not mix the files of two artifacts.
    artifact = load_artifact(folder.resolve(), read)
    return artifact if rate is None else with_rate(artifact, rate)
