"""Folders of other people's pictures: the gate as the plain command trains it, beside simple models, by the same rule.

Every model gets the same split, and the same 28x28 images of every variant to fit and to calibrate; each class of files
has its own conformal threshold, for the peers too. A detection rate is the mean over groups of odd pictures.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.detection.artifact import Artifact
from app.detection.detector import Detector
from app.detection.promise import make_promise
from app.detection.shown import class_of, class_thresholds
from benchmarks.detection.folders import FOLDERS, Folder, odd_pictures
from benchmarks.detection.gates import fit_network, loss_score
from benchmarks.detection.measures import Score, Scores, rate
from benchmarks.detection.pictures import Images, Scale, cache_folder
from training.data.dataset import Part, decode, decode_variants, own_size, shown_by
from training.data.folder import folder_dataset
from training.data.variants import parse_variants
from training.fitting.calibrate import run_in_batches
from training.fitting.evaluate import auroc
from training.fitting.fit import to_grey_levels
from training.model.gradients import GradientHistograms
from training.plan import DEFAULTS, FitSettings, Plan
from training.run import train

# Rows that the peers are fitted on at most: nearest neighbours of more would take hours.
_MOST_ROWS, _MOST_SVM_ROWS = 6_000, 3_000


@dataclass(frozen=True)
class Sets:
    """What all models of one folder are measured on; `shown` are classes of files.

    Attributes:
        normal: Images (variants, n, 28, 28) of the parts "train", "calibration" and "test", grey levels 0 to 255.
        shown: By part, the class of each image of each variant.
        odd: By group, images (m, 28, 28) and the class of each.
    """

    normal: Mapping[str, Images]
    shown: Mapping[str, Sequence[Sequence[str]]]
    odd: Mapping[str, tuple[Images, Sequence[str]]]


def run(name: str, scale: Scale) -> dict[str, Any]:
    """One of `FOLDERS`."""
    folder = FOLDERS[name]()
    started, work = time.monotonic(), time.process_time()
    artifact = _trained(name, folder, scale)
    seconds = {"seconds": round(time.monotonic() - started), "of CPU time": round(time.process_time() - work)}
    sets = _sets(folder)
    detector = Detector(artifact)
    models = {"imagegate": _judged(folder, sets, lambda images, shown: run_in_batches(detector, images, shown)[0])}
    for peer, score in _peers(sets.normal["train"], scale):
        models[peer] = _judged(folder, sets, lambda images, shown, score=score: score(images))  # type: ignore[misc]
        print(name, peer, models[peer]["detection"], flush=True)
    power = artifact.manifest.evaluation["power"]
    counts = {part: images.shape[1] for part, images in sets.normal.items()}
    return {
        "promised": folder.rate,
        "images": counts,
        "training": seconds,
        "power": power,
        "own": list(folder.own),
        "models": models,
    }


def _trained(name: str, folder: Folder, scale: Scale) -> Artifact:
    """As `python -m training --data FOLDER --target-false-positive-rate RATE` does."""
    output = cache_folder() / "artifacts" / name.replace(" ", "-")
    shutil.rmtree(output, ignore_errors=True)
    defaults = DEFAULTS["gate"]
    settings = FitSettings(
        1 if scale.quick else defaults.epochs, defaults.batch_size, defaults.learning_rate, one_cycle=True
    )
    return train(
        Plan(
            output=output,
            name=output.name,
            model="gate",
            latent_size=defaults.latent_size,
            fit=settings,
            score=defaults.score,
            permitted=parse_variants(defaults.variants),
            target_false_positive_rate=folder.rate,
            data=folder.normal,
        )
    )


def _sets(folder: Folder) -> Sets:
    dataset = folder_dataset(folder.normal, 0, folder.rate, tell=lambda line: None)
    size = own_size(dataset.train.originals)
    permitted = parse_variants(DEFAULTS["gate"].variants)
    permitted = permitted.of_one_size() if size else permitted
    fitted = [variant.for_fitting() for variant in permitted.variants]
    parts = {"train": dataset.train, "calibration": dataset.calibration, "test": dataset.test}

    def sent(name: str) -> Images:
        ways = fitted if name == "train" else permitted.variants
        return decode_variants(parts[name].originals, ways, dataset.preprocessing, int(name != "train"))

    def shown(part: Part) -> list[list[str]]:
        own = [class_of(shown_by(original), size) for original in part.originals]
        return [own, *([variant.shown] * len(own) for variant in permitted.variants[1:])]

    groups = {name: odd_pictures()[name] for name in folder.odd} | dict(folder.own)
    odd = {}
    for name, path in groups.items():
        files = sorted(path.iterdir())
        images = (255 * decode(files, dataset.preprocessing)).round().astype(np.uint8)
        odd[name] = images, [class_of(shown_by(file), size) for file in files]
    return Sets({name: sent(name) for name in parts}, {name: shown(part) for name, part in parts.items()}, odd)


Judge = Callable[[Images, Sequence[str]], Scores]
"""Images (n, 28, 28) and the class of each -> scores (n,)."""


def _judged(folder: Folder, sets: Sets, judge: Judge) -> dict[str, Any]:
    """False positives on test images as originals and in the worst variant, detection and AUROC by group."""
    scores = {
        part: np.stack([judge(images, own) for images, own in zip(sets.normal[part], sets.shown[part], strict=True)])
        for part in ("calibration", "test")
    }
    rank = make_promise(scores["calibration"].shape[1], folder.rate).rank
    # The original counts in every class, as in training.
    classes = ["", *(own[0] for own in sets.shown["calibration"][1:])]
    thresholds = class_thresholds(np.sort(scores["calibration"], axis=1), classes, rank)

    def margins(found: Scores, own: Sequence[str]) -> Scores:
        return found - np.array([thresholds[name] for name in own], np.float32)

    tested = [margins(found, own) for found, own in zip(scores["test"], sets.shown["test"], strict=True)]
    odd = {name: margins(judge(images, own), own) for name, (images, own) in sets.odd.items()}
    detection = {name: round(float((found > 0).mean()), 4) for name, found in odd.items()}
    return {
        "false positives": rate(tested[0] > 0),
        "worst variant": round(max(float((found > 0).mean()) for found in tested), 4),
        "detection": round(float(np.mean(list(detection.values()))), 4),
        "auroc": round(float(np.mean([auroc(tested[0], found) for found in odd.values()])), 4),
        "groups": detection,
    }


def _peers(train: Images, scale: Scale) -> Iterator[tuple[str, Score]]:
    """Models fitted on (variants, n, 28, 28)."""
    from pyod.models.knn import KNN
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors
    from sklearn.svm import OneClassSVM

    rows = train.reshape(-1, *train.shape[2:])
    rows = rows[:: 1 + len(rows) // _MOST_ROWS]
    pixels, outlines = _pixels(rows), _outlines(rows)
    nearest, nearest_outlines = (NearestNeighbors(n_neighbors=1).fit(table) for table in (pixels, outlines))
    yield "1-NN on pixels", lambda images: nearest.kneighbors(_pixels(images))[0][:, 0]
    yield "1-NN on HOG", lambda images: nearest_outlines.kneighbors(_outlines(images))[0][:, 0]
    components = PCA(0.95, svd_solver="full").fit(pixels)

    def left(images: Images) -> Scores:
        table = _pixels(images)
        return np.asarray(((table - components.inverse_transform(components.transform(table))) ** 2).sum(axis=1))

    yield "PCA, 95% of the variance", left
    covariance = LedoitWolf().fit(pixels)
    yield "Mahalanobis (Ledoit-Wolf)", lambda images: covariance.mahalanobis(_pixels(images))
    forest = IsolationForest(n_estimators=200, random_state=0).fit(pixels)
    yield "isolation forest", lambda images: -forest.score_samples(_pixels(images))
    svm = OneClassSVM(nu=0.05).fit(pixels[:: 1 + len(pixels) // _MOST_SVM_ROWS])
    yield "one-class SVM", lambda images: -svm.score_samples(_pixels(images))
    neighbours = KNN().fit(pixels)
    yield "PyOD KNN", lambda images: neighbours.decision_function(_pixels(images)).astype(np.float32)
    yield "tutorial's ae", loss_score(fit_network("ae", rows[None], 1 if scale.quick else None))


def _pixels(images: Images) -> NDArray[np.float32]:
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255)


def _outlines(images: Images) -> NDArray[np.float32]:
    """(n, 324)"""
    histograms = GradientHistograms()
    chunks = torch.split(to_grey_levels(torch.from_numpy(images)).unsqueeze(1), 512)
    with torch.no_grad():
        found: NDArray[np.float32] = torch.cat([histograms(chunk) for chunk in chunks]).numpy()
    return found
