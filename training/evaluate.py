"""How a calibrated gate does on images that no earlier step saw: test images, and drawn families of anomalies."""

import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detector import Detector
from app.images import Preprocessing
from training.anomalies import Family
from training.calibrate import run_in_batches
from training.dataset import decode

IMAGES_PER_FAMILY = 300
# Of drawing anomalies; the same for every run, so that two artifacts are compared on the same pictures.
FAMILY_SEED = 20_000


def draw_family(family: Family, count: int, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(count, 28, 28): anomalies, sent as PNG files and decoded by the serving code."""
    generator = np.random.default_rng(FAMILY_SEED)
    files = []
    for _ in range(count):
        buffer = BytesIO()
        family(generator).save(buffer, "PNG", compress_level=1)
        files.append(buffer.getvalue())
    return decode(files, preprocessing)


def evaluate(
    detector: Detector,
    threshold: float,
    normal_images: NDArray[np.float32],
    anomalies: Mapping[str, NDArray[np.float32]],
) -> dict[str, Any]:
    """The rates that go into the manifest and the report.

    Args:
        detector: Around the exported graph; its own threshold is not used.
        threshold: The largest score accepted.
        normal_images: (N, 28, 28), unseen by fitting and calibration.
        anomalies: (M, 28, 28) for each family.

    Returns:
        Numbers under names, ready for JSON; rates in [0, 1], intervals at 95%.
    """
    normal, _ = run_in_batches(detector, normal_images)
    families = {}
    for name, images in anomalies.items():
        scores, _ = run_in_batches(detector, images)
        families[name] = {"auroc": round(auroc(normal, scores), 4), **_rate("detection_rate", scores, threshold)}
    return {
        **_rate("false_positive_rate", normal, threshold),
        "test_images": len(normal),
        "images_per_family": max((len(images) for images in anomalies.values()), default=0),
        "macro_auroc": _mean([family["auroc"] for family in families.values()]),
        "macro_detection_rate": _mean([family["detection_rate"] for family in families.values()]),
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
    """The 95% interval of a rate of which `hits` of `count` were seen; sound at 0 and at 1 too."""
    z = 1.959964
    centre = (hits + z * z / 2) / (count + z * z)
    spread = z / (count + z * z) * math.sqrt(hits * (count - hits) / count + z * z / 4)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def _rate(name: str, scores: NDArray[np.float32], threshold: float) -> dict[str, Any]:
    """The share that is refused, NaN included, and its interval."""
    refused = int((~(scores <= threshold)).sum())
    low, high = wilson_interval(refused, len(scores))
    return {name: round(refused / len(scores), 4), f"{name}_interval": [round(low, 4), round(high, 4)]}


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 4) if values else None
