"""What a number of calibration images can promise about the false-positive rate.

If a new normal image and n calibration images are exchangeable, the new score exceeds the k-th smallest calibration
score with probability (n + 1 - k) / (n + 1) on average over calibration sets (Vovk 2012; Angelopoulos and Bates,
arXiv 2107.07511). For one given calibration set that rate is a draw from Beta(n + 1 - k, k), at most.
"""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from app.detection.artifact import Artifact, Promise, ReadFile, load_artifact, read_file
from app.errors import PromiseError

_CONFIDENCE = 0.9


def least_calibration_size(rate: float) -> int:
    """The fewest calibration images that can promise a false-positive rate in (0, 1)."""
    return math.ceil(1 / Fraction(str(rate))) - 1


_LIKE_TRAINING = "normal images like the training images, sent in any of the permitted ways,"


def make_promise(size: int, rate: float, whose: str = _LIKE_TRAINING) -> Promise:
    """What `size` calibration images (per variant) can promise.

    Args:
        size: Calibration images per variant.
        rate: The target false-positive rate, in (0, 1).
        whose: Which images the promise is for, in words.

    Raises:
        PromiseError: They are too few for this rate.
    """
    # As a fraction: 100 * (1 - 0.01) in floating point may land just above 99, and the rank one too high.
    rank = math.ceil((size + 1) * (1 - Fraction(str(rate))))
    if rank > size:
        raise PromiseError(
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
            f"Of {whose} at most "
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


def with_rate(artifact: Artifact, rate: float) -> Artifact:
    """Returns the artifact with the threshold that keeps another rate, from its own calibration scores.

    The evaluation is left out: it was measured at the other threshold. The version stays, since the folder does.

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
    promise = make_promise(before.calibration_size, rate, words)
    threshold = float(artifact.calibration[:, promise.rank - 1].max())
    changes = {"promise": promise, "threshold": threshold, "evaluation": {}}
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
