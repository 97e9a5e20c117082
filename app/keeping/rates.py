"""The live false-positive rate and detection rate, from the labelled part of the random sample.

The refused images alone are not enough: for the false-positive rate one also needs the normal images that passed, and
for the detection rate the anomalies that passed. The random sample contains both, in the proportions of the traffic.

Each labelled image is weighted by 1 / (its sampling probability), and by the ratio of sampled to labelled images with
its verdict, so that labelling the refused images first does not bias the rates. The intervals are Clopper-Pearson
intervals for the effective sample size (Kish, "Survey Sampling", 1965): for equal weights, the number of images.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from pydantic import BaseModel, Field

from app.detection.intervals import share_interval
from app.keeping.index import Cell

# An estimate is useful if the interval of the false-positive rate excludes twice the promised rate, and if the
# detection rate is known to about ten percentage points.
_USEFUL_FACTOR = 2.0
_USEFUL_DETECTION_IMAGES = 100


class LiveRate(BaseModel):
    """A share, with the interval that holds it with 95% confidence."""

    estimate: float | None = Field(description="Null until images of both verdicts are labelled, where both occur.")
    low: float
    high: float
    images: int = Field(description="Labelled images of the random sample behind it.")
    missing: int = Field(description="About how many more of them a useful figure takes.")


class LiveRates(BaseModel):
    """What the labels say of the artifact that serves."""

    sampled: int = Field(description="Images drawn at random from all that it judged.")
    labelled: int
    false_positive_rate: LiveRate = Field(description="Of images that belong, the share refused.")
    detection_rate: LiveRate = Field(description="Of images that do not belong, the share refused.")


class _Weighed(NamedTuple):
    refused: bool
    images: int
    weight: float


def live_rates(cells: Sequence[Cell], target_false_positive_rate: float) -> LiveRates:
    """Estimates both rates.

    Args:
        cells: From `KeptIndex.cells`.
        target_false_positive_rate: What was promised; it sets how many labels are useful.
    """
    drawn = [cell for cell in cells if cell.label is None]
    labelled = [cell for cell in cells if cell.label is not None]
    stands_for = {verdict: _stands_for(verdict, drawn, labelled) for verdict in (False, True)}
    unknown = any(weight is None for weight in stands_for.values())
    weighed = {
        label: [
            _Weighed(cell.is_anomaly, cell.images, (stands_for[cell.is_anomaly] or 0.0) / cell.probability)
            for cell in labelled
            if cell.label == label
        ]
        for label in ("normal", "anomaly")
    }
    return LiveRates(
        sampled=sum(cell.images for cell in drawn),
        labelled=sum(cell.images for cell in labelled),
        false_positive_rate=_rate(weighed["normal"], unknown, useful_images(target_false_positive_rate)),
        detection_rate=_rate(weighed["anomaly"], unknown, _USEFUL_DETECTION_IMAGES),
    )


@lru_cache(maxsize=16)
def useful_images(rate: float) -> int:
    """The fewest images of which, with `rate` of them refused, the interval excludes twice that rate."""
    low, high = 1, 2
    while not _excludes_twice(rate, high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if _excludes_twice(rate, middle) else (middle, high)
    return high


def _excludes_twice(rate: float, images: int) -> bool:
    return share_interval(rate * images, images)[1] <= min(_USEFUL_FACTOR * rate, 1.0)


def _stands_for(verdict: bool, drawn: Iterable[Cell], labelled: Iterable[Cell]) -> float | None:
    """How many images of the sample with this verdict one labelled one stands for; None without a labelled one."""
    in_all = sum(cell.images / cell.probability for cell in drawn if cell.is_anomaly == verdict)
    seen = sum(cell.images / cell.probability for cell in labelled if cell.is_anomaly == verdict)
    if not seen:
        return None if in_all else 1.0
    return max(in_all / seen, 1.0)


def _rate(weighed: Sequence[_Weighed], unknown: bool, useful: int) -> LiveRate:
    images = sum(one.images for one in weighed)
    missing = max(useful - images, 0)
    total = sum(one.images * one.weight for one in weighed)
    if unknown or not total:
        return LiveRate(estimate=None, low=0.0, high=1.0, images=images, missing=missing)
    share = sum(one.images * one.weight for one in weighed if one.refused) / total
    trials = _effective(weighed)
    hits = _effective([one for one in weighed if one.refused])
    misses = _effective([one for one in weighed if not one.refused])
    # A few hits with large weights carry no more information than their own effective number, so it limits the trials.
    if hits:
        trials = min(trials, hits / share)
    if misses:
        trials = min(trials, misses / (1 - share))
    low, high = share_interval(share * trials, trials)
    return LiveRate(estimate=share, low=low, high=high, images=images, missing=missing)


def _effective(weighed: Sequence[_Weighed]) -> float:
    """How many images of equal weight carry as much information."""
    squares = sum(one.images * one.weight**2 for one in weighed)
    total = sum(one.images * one.weight for one in weighed)
    return total**2 / squares if squares and math.isfinite(squares) else 0.0
