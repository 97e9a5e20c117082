"""From scores to rates: false positives by variant, detection and AUROC by family."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.detector import Detector
from app.detection.promise import make_promise
from benchmarks.detection.pictures import ANOMALY_VARIANTS, Groups, Images, Scale, anomalies, resolvable, test_circles
from benchmarks.detection.ways import WITHIN
from training.fitting.calibrate import run_in_batches
from training.fitting.evaluate import auroc, refused, wilson_interval

Scores = NDArray[np.float32]
Score = Callable[[Images], Scores]
"""(N, 28, 28) grey levels 0 to 255 -> (N,); higher is odder."""

RATE = 0.01
BRIEF_CIRCLES = 1000  # of each variant


def score_of(detector: Detector) -> Score:
    """The serving graph's."""
    return lambda images: run_in_batches(detector, images)[0]


def threshold_of(score: Score, calibration: Images, rate: float = RATE) -> float:
    """Of the variants' own conformal thresholds the largest, as in training; `calibration` (variants, n, 28, 28)."""
    rank = make_promise(calibration.shape[1], rate).rank
    return max(float(np.sort(score(images))[rank - 1]) for images in calibration)


def rate(refused: NDArray[np.bool_]) -> dict[str, Any]:
    """The share that is refused, with its 95% Wilson interval."""
    low, high = wilson_interval(int(refused.sum()), refused.size)
    return {
        "rate": round(float(refused.mean()), 5),
        "interval": [round(low, 5), round(high, 5)],
        "images": refused.size,
    }


def remembered(score: Score) -> Score:
    """The same, but images that come again are not scored again: for one model under two thresholds."""
    known: dict[str, Scores] = {}

    def look_up(images: Images) -> Scores:
        digest = hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
        if digest not in known:
            known[digest] = score(images)
        return known[digest]

    return look_up


Margins = Callable[[Images, str], Scores]
"""Images and the class of their files -> how far each score lies above its threshold."""


def margins_of(detector: Detector) -> Margins:
    """As the service decides, each class of files by its own threshold."""
    thresholds = detector.artifact.manifest.thresholds
    return lambda images, shown: run_in_batches(detector, images, shown)[0] - np.float32(thresholds[shown])


def measure(
    score: Score, threshold: float, scale: Scale, brief: bool = False, margins: Margins | None = None
) -> dict[str, Any]:
    """All that is said of one model on circles; briefly, of large or slow ones, with anomalies sent as originals only,
    fewer circles, and without each family's own figures.

    A macro rate is the mean over families; as they are equally large it is also the rate over all their images, from
    which its interval comes. The interval is about other images of these families, not about other families.
    """
    classes = {way.name: way.shown for way in WITHIN}

    def judged(images: Images, way: str) -> Scores:
        return score(images) if margins is None else margins(images, classes[way])

    tested = test_circles(scale).items()
    scores = {name: judged(images[: BRIEF_CIRCLES if brief else None], name) for name, images in tested}
    variants = {name: rate(refused(own, threshold)) for name, own in scores.items()}
    worst = max(variants, key=lambda name: variants[name]["rate"])
    groups = anomalies(scale)
    apart = resolvable(groups, scale)
    families, verdicts = {}, {}
    for group, pictures in groups.items():
        for name, images in pictures.items():
            ways = zip(images[:1] if brief else images, ANOMALY_VARIANTS, strict=False)
            own = np.stack([judged(sent, way) for sent, way in ways])  # (anomaly variants, n)
            verdicts[name] = refused(own, threshold)
            families[name] = {
                "group": group,
                "auroc": round(auroc(scores["original"], own[0]), 5),
                "detection": {
                    variant: round(float(seen.mean()), 4)
                    for variant, seen in zip(ANOMALY_VARIANTS, verdicts[name], strict=False)
                },
                "resolvable": rate(verdicts[name][0][apart[name]]) if apart[name].any() else None,
            }
    measured = {
        "threshold": round(threshold, 6),
        "variants": variants,
        "worst": {"variant": worst, **variants[worst]},
        "groups": {name: _summary(families, verdicts, apart, _members(groups, name)) for name in (*groups, "all")},
    }
    return measured if brief else {**measured, "families": families}


def _members(groups: Groups, name: str) -> list[str]:
    """All: the drawn families, without the benchmark's own, so that it is comparable with the goals."""
    return list(groups[name]) if name in groups else [*groups["tuning"], *groups["final"]]


def _summary(
    families: Mapping[str, Any],
    verdicts: Mapping[str, NDArray[np.bool_]],
    apart: Mapping[str, NDArray[np.bool_]],
    names: list[str],
) -> dict[str, Any]:
    rates = [families[name]["resolvable"]["rate"] for name in names if families[name]["resolvable"]]
    every = np.concatenate([verdicts[name] for name in names], axis=1)  # (anomaly variants, images)
    clear = np.concatenate([verdicts[name][0][apart[name]] for name in names])
    return {
        "families": len(names),
        "auroc": round(float(np.mean([families[name]["auroc"] for name in names])), 5),
        "detection": rate(every[0]),
        "detection_by_variant": {
            variant: round(float(seen.mean()), 4) for variant, seen in zip(ANOMALY_VARIANTS, every, strict=False)
        },
        "resolvable": {"macro": round(float(np.mean(rates)), 5), **rate(clear), "missed": int((~clear).sum())},
    }
