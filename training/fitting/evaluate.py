"""How a calibrated gate does on images that no earlier step saw: test images, and drawn families of anomalies."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from app.detection.detector import Detector
from app.detection.images import Preprocessing
from app.detection.shown import CLASSES
from training.data.anomalies import FAMILIES, Family
from training.data.dataset import decode
from training.fitting.calibrate import FileClass, run_in_batches

# Seed for drawing anomalies. It is the same for every run, so that artifacts are compared on the same pictures.
FAMILY_SEED = 20_000


def draw_families(
    count: int, preprocessing: Preprocessing, names: Collection[str] = FAMILIES
) -> dict[str, NDArray[np.float32]]:
    """`count` drawn anomalies of each family, (count, 28, 28), sent as PNG files and decoded by the serving code.

    They are dark on white; on a dark background they are inverted, as the normal images are.

    Args:
        count: Of each family.
        preprocessing: Of the normal images.
        names: Which of `FAMILIES`.
    """
    return {name: draw_family(family, count, preprocessing) for name, family in FAMILIES.items() if name in names}


def draw_family(family: Family, count: int, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(count, 28, 28): anomalies of one family."""
    generator = np.random.default_rng(FAMILY_SEED)
    files = []
    for _ in range(count):
        picture = family(generator)
        buffer = BytesIO()
        (picture if preprocessing.background >= 128 else ImageOps.invert(picture)).save(buffer, "PNG", compress_level=1)
        files.append(buffer.getvalue())
    return decode(files, preprocessing)


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest scores accepted of several sets of images.

    Attributes:
        thresholds: By class of files.
        files: By set, the class of all its files or of each.
        usual_class: That of most originals.
    """

    thresholds: Mapping[str, float]
    files: Mapping[str, FileClass]
    usual_class: str = CLASSES[0]

    def of(self, name: str) -> NDArray[np.float64]:
        """Of one set: one number for all its images, or (N,)."""
        files = self.files[name]
        return np.array(self.thresholds[files] if isinstance(files, str) else [self.thresholds[own] for own in files])


def one_limit(threshold: float, names: Iterable[str]) -> Limits:
    """The same threshold for every set, judged as one class."""
    return Limits({CLASSES[0]: threshold}, dict.fromkeys(names, CLASSES[0]))


Scores = Mapping[str, NDArray[np.float32]]
"""Of several sets of images, by name: (N,) each."""


def score_sets(
    detector: Detector, limits: Limits, sets: Mapping[str, NDArray[np.uint8]] | Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Scores (N,) of each set of images (N, 28, 28), judged as the class of files that `limits` names."""
    return {name: run_in_batches(detector, images, limits.files[name])[0] for name, images in sets.items()}


def evaluate(limits: Limits, normal: Scores, anomalies: Scores, apart: Collection[str] = ()) -> dict[str, Any]:
    """The rates that go into the manifest and the report.

    Args:
        limits: The largest score accepted, for each variant and family.
        normal: Scores of each variant, the first of which is the original; of images unseen by fitting and calibration.
        anomalies: Scores of each family.
        apart: Families that are not drawn, such as the user's own anomalies: each has its rates, and the means over
            the drawn families are without them.

    Returns:
        Numbers under names, ready for JSON; rates in [0, 1], intervals at 95%.
    """
    original = next(iter(normal.values()))
    variants = {name: rate_of("false_positive_rate", scores, limits.of(name)) for name, scores in normal.items()}
    families = {
        name: {
            "auroc": round(auroc(original, scores), 4),
            **rate_of("detection_rate", scores, limits.of(name)),
        }
        for name, scores in anomalies.items()
    }
    drawn = [name for name in families if name not in apart]
    return {
        **next(iter(variants.values())),
        "worst_variant_false_positive_rate": max(rate["false_positive_rate"] for rate in variants.values()),
        "test_images": len(original),
        "images_per_family": max((len(anomalies[name]) for name in drawn), default=0),
        "macro_auroc": _mean([families[name]["auroc"] for name in drawn]),
        "macro_detection_rate": _mean([families[name]["detection_rate"] for name in drawn]),
        "variants": variants,
        "families": families,
    }


def auroc(normal: NDArray[np.float32], anomalous: NDArray[np.float32]) -> float:
    """The chance that an anomaly scores higher than a normal image; ties count half, and NaN is odder than all.

    Args:
        normal: (N,) scores.
        anomalous: (M,) scores.
    """
    ranked = np.sort(np.nan_to_num(normal, nan=np.inf))
    scores = np.nan_to_num(anomalous, nan=np.inf)
    below, not_above = np.searchsorted(ranked, scores, "left"), np.searchsorted(ranked, scores, "right")
    return float((below + not_above).mean() / (2 * len(ranked)))


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """Returns the 95% Wilson score interval for `hits` successes in `count` trials; it is also valid at 0 and 1."""
    z = 1.959964
    centre = (hits + z * z / 2) / (count + z * z)
    spread = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def refused(scores: NDArray[np.float32], limit: float | NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) verdicts on scores (N,), as the service decides: what is not a number is refused too.

    Args:
        scores: Of images.
        limit: The largest that is accepted: one number, or one for each.
    """
    return ~(scores <= limit)


def share_refused(scores: NDArray[np.float32], limit: float | NDArray[np.float64]) -> float:
    """The share of scores (N,) that is refused. `limit` is one number, or one for each."""
    return float(refused(scores, limit).mean())


def rate_of(name: str, scores: NDArray[np.float32], limit: float | NDArray[np.float64]) -> dict[str, Any]:
    """The share of scores (N,) that is refused, under this name, and its 95% interval."""
    hits = int(refused(scores, limit).sum())
    low, high = wilson_interval(hits, len(scores))
    return {name: round(hits / len(scores), 4), f"{name}_interval": [round(low, 4), round(high, 4)]}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
