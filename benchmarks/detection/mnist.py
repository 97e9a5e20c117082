"""Real digits and clothes, MNIST and Fashion-MNIST. Nothing here was tuned on anomalies; test images come from their
own test parts. A fifth of the training part calibrates.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.detection import fetched
from benchmarks.detection.gates import fit_gate
from benchmarks.detection.measures import Score, rate, threshold_of
from benchmarks.detection.pictures import SEED, Images, Scale, anomalies
from training.fitting.evaluate import auroc, refused

Source = Callable[[], tuple[Images, Images, Images, Images]]
CALIBRATION_EVERY = 5
# Written or printed signs that may be digits, or nearly.
NOT_ODD = frozenset({"digits", "letters", "written digit"})


def run_one(scale: Scale) -> dict[str, Any]:
    """One digit normal, the nine others anomalous, for each of ten."""
    return _one_class(scale, fetched.mnist)


def run_clothes_one(scale: Scale) -> dict[str, Any]:
    """One class of Fashion-MNIST normal, the nine others anomalous, for each of ten."""
    return _one_class(scale, fetched.fashion_mnist)


def run_clothes_all(scale: Scale) -> dict[str, Any]:
    """All clothes normal; digits, and clothes upside down."""
    images, _, test, _ = _read(scale, fetched.fashion_mnist)
    score, threshold = _gate(images, scale)
    own = score(test)
    odd = {"digits of MNIST": score(_read(scale)[2]), "clothes upside down": score(test[:, ::-1])}
    found = {
        name: {
            "auroc": round(auroc(own, scores), 5),
            "detection": round(float(refused(scores, threshold).mean()), 5),
        }
        for name, scores in odd.items()
    }
    return {"false_positives": rate(refused(own, threshold)), "odd": found}


def _one_class(scale: Scale, source: Source) -> dict[str, Any]:
    images, labels, test, test_labels = _read(scale, source)
    results: dict[str, Any] = {}
    for digit in range(2 if scale.quick else 10):
        score, threshold = _gate(images[labels == digit], scale)
        own = score(test[test_labels == digit])
        others = {str(other): score(test[test_labels == other]) for other in range(10) if other != digit}
        results[str(digit)] = {
            "auroc": round(float(np.mean([auroc(own, scores) for scores in others.values()])), 5),
            "detection": round(float(np.mean([refused(odd, threshold).mean() for odd in others.values()])), 5),
            "false_positives": rate(refused(own, threshold)),
        }
        print(digit, results[str(digit)], flush=True)
    alarms = float(np.mean([found["false_positives"]["rate"] for found in results.values()]))
    return {"digits": results, "mean": {**_means(results.values()), "false_positives": round(alarms, 5)}}


def run_all(scale: Scale) -> dict[str, Any]:
    """All digits normal; drawings, photographs, and digits that were changed."""
    images, _, test, _ = _read(scale)
    score, threshold = _gate(images, scale)
    own = score(test)
    groups = _groups(test, scale)
    families = {}
    for group, pictures in groups.items():
        for name, odd in pictures.items():
            scores = score(odd)
            families[name] = {
                "group": group,
                "auroc": round(auroc(own, scores), 5),
                "detection": round(float(refused(scores, threshold).mean()), 4),
            }
    means = {group: _mean(families, {group}) for group in groups}
    return {
        "false_positives": rate(refused(own, threshold)),
        "groups": {
            **means,
            "all": _mean(families, set(groups)),
            "all but digits that still look written": _mean(families, set(groups) - {"digits rearranged"}),
        },
        "families": families,
    }


def _gate(images: Images, scale: Scale) -> tuple[Score, float]:
    order = np.random.default_rng(SEED).permutation(len(images))
    calibrating = np.arange(len(images)) % CALIBRATION_EVERY == 0
    train, calibration = images[order[~calibrating]], images[order[calibrating]]
    score = fit_gate(train[None], epochs=1 if scale.quick else None)
    return score, threshold_of(score, calibration[None])


def _mean(families: Mapping[str, Any], groups: set[str]) -> dict[str, Any]:
    chosen = [found for found in families.values() if found["group"] in groups]
    return {"families": len(chosen), **_means(chosen)}


def _means(found: Collection[Mapping[str, Any]]) -> dict[str, float]:
    return {key: round(float(np.mean([each[key] for each in found])), 5) for key in ("auroc", "detection")}


def _groups(digits: Images, scale: Scale) -> dict[str, dict[str, Images]]:
    """Drawings are dark on white, digits light on black: turned round."""
    drawn = {
        group: {name: 255 - sent[0] for name, sent in families.items() if name not in NOT_ODD}
        for group, families in anomalies(scale).items()
    }
    return {**drawn, **_changed(digits, scale.family)}


def _changed(digits: Images, count: int) -> dict[str, dict[str, Images]]:
    """Test digits, damaged or rearranged; of the latter some are still digits: a mirrored 8 counts as missed."""
    rng = np.random.default_rng([SEED, 8])

    def some() -> Images:
        return digits[rng.permutation(len(digits))[:count]].copy()

    def covered(rows: slice, columns: slice, level: int) -> Images:
        images = some()
        images[:, rows, columns] = level
        return images

    def halved(digit: Images) -> Images:
        return np.pad(np.asarray(Image.fromarray(digit).resize((14, 14), Image.Resampling.BICUBIC)), 7)

    everything = slice(None)
    return {
        "digits damaged": {
            "inverted digit": 255 - some(),
            "faint digit": (some() * 0.3).astype(np.uint8),
            "noisy digit": (some() + rng.normal(0, 50, (count, 28, 28))).clip(0, 255).astype(np.uint8),
            "digit with corner patch": covered(slice(8), slice(8), 255),
            "digit turned by 90 degrees": np.rot90(some(), 1, (1, 2)),
        },
        "digits rearranged": {
            "mirrored digit": some()[:, :, ::-1],
            "digit upside down": some()[:, ::-1],
            "two digits overlaid": np.maximum(some(), some()),
            "left half of a digit": covered(everything, slice(14, None), 0),
            "digit with a hole": covered(slice(10, 18), slice(10, 18), 0),
            "digit shifted by 6": np.roll(some(), 6, 2),
            "halves of two digits": np.concatenate([some()[:, :14], some()[:, 14:]], axis=1),
            "digit of half the size": np.stack([halved(digit) for digit in some()]),
        },
    }


def _read(scale: Scale, source: Source = fetched.mnist) -> tuple[Images, NDArray[np.uint8], Images, NDArray[np.uint8]]:
    """Training images (60,000, 28, 28) and labels, test images and labels."""
    images, labels, test, test_labels = source()
    if scale.quick:
        return images[:6000], labels[:6000], test[:1000], test_labels[:1000]
    return images, labels, test, test_labels
