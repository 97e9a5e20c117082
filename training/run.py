"""One training run, top to bottom: images in, one artifact folder out."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.artifact import (
    CALIBRATION,
    CHECKPOINT,
    GRAPH,
    VIEW_CALIBRATION,
    Architecture,
    Artifact,
    PreprocessingRecord,
    Promise,
    Samples,
    check_replaceable,
    replaced_words,
    write_artifact,
)
from app.detection.detector import Detector
from app.detection.promise import make_promise
from app.detection.shown import Size
from training.data.dataset import Dataset, circle_dataset, decode_variants, own_size
from training.data.folder import check_anomalies, decode_folder, folder_dataset
from training.errors import TrainingError
from training.fitting.calibrate import Calibration, calibrate, uncalibrated_detector
from training.fitting.fit import fit, use_one_thread
from training.fitting.fit_views import fit_normalisation, fit_views, normalised
from training.fitting.other_thresholds import deciding_words
from training.model.autoencoders import build, describe
from training.model.export import check_agreement, export_graph, load_checkpoint, save_checkpoint
from training.model.scores import LossScore, ScoredAutoencoder
from training.plan import Plan
from training.report.judgements import Findings
from training.report.samples import choose_samples, write_samples
from training.report.write import write_report
from training.trials import Gate, Tried, file_classes, send, try_gate

# Of one scene in eight of the training images one is held out from fitting the network, and used to scale the views.
_HELD_OUT_EVERY = 8
_LIBRARIES = ("matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "safetensors", "torch")


def train(plan: Plan) -> Artifact:
    """Loads or draws the data, fits, exports, calibrates and evaluates the model, and writes the artifact.

    Errors in the data, the rate or the output folder are raised before the fitting, which takes most of the time.

    Raises:
        TrainingError: The images, the rate or the fitted model will not do.
        ArtifactError: `plan.output` holds something else, or the artifact does not load.
    """
    _check_folders(plan)
    use_one_thread()
    dataset, promise = _load(plan)
    own = decode_folder(plan.anomalies, dataset.preprocessing) if plan.anomalies else None
    size = own_size(dataset.train.originals)
    if size is not None:
        plan = replace(plan, permitted=plan.permitted.of_one_size())
    model, epoch_losses = _fit(plan, dataset)

    def fill(folder: Path) -> dict[str, Any]:
        written, detector = _write_model(folder, model, _architecture(plan))
        check_agreement(written, detector, dataset.test.images)
        calibration = _calibrate(folder, plan, dataset, detector, promise, size)
        tried = try_gate(plan, dataset, Gate(written, detector, calibration, promise, size), own)
        _check_detection(plan, tried)
        fields = _manifest_fields(plan, dataset, written, promise, calibration.thresholds, tried.evaluation)
        fields["own_size"] = size
        findings = Findings(
            fields,
            epoch_losses,
            tried.tested,
            dataset.test.radii,
            tried.anomalies,
            tried.limits,
            dataset.oddest,
            tried.deciding,
            own.names if own else (),
        )
        write_report(folder / "report", findings, written.autoencoder, detector)
        write_samples(folder, _samples(detector, dataset, tried))
        if tried.deciding:
            print(*deciding_words(tried.deciding), sep="\n")
        return fields

    return write_artifact(plan.output, fill)


def _check_folders(plan: Plan) -> None:
    """Refuses what would be found wrong only after work, and says what is replaced."""
    check_replaceable(plan.output)
    if plan.anomalies:
        check_anomalies(plan.anomalies, plan.data)
    if words := replaced_words(plan.output):
        print(words, flush=True)


def _load(plan: Plan) -> tuple[Dataset, Promise]:
    """The images, and what a threshold from so many of them can promise."""
    rate, confidence = plan.target_false_positive_rate, plan.confidence
    if plan.data is None:
        promise = make_promise(plan.calibration_count, rate, confidence=confidence)
        dataset = circle_dataset(plan.count, plan.seed, plan.calibration_count, plan.test_count, plan.circles)
    else:
        dataset = folder_dataset(plan.data, plan.seed, rate, confidence, plan.group_by)
        promise = make_promise(len(dataset.calibration.images), rate, confidence=confidence)
    return dataset, promise


def _calibrate(
    folder: Path, plan: Plan, dataset: Dataset, detector: Detector, promise: Promise, size: Size | None
) -> Calibration:
    """Calibrates, and writes the scores, from which p-values come."""
    shown = [variant.shown for variant in plan.permitted.variants]
    files = file_classes(plan, dataset.calibration, size)
    calibration = calibrate(detector, send(plan, dataset.calibration, dataset), promise, shown, files)
    np.save(folder / CALIBRATION, calibration.scores)
    np.save(folder / VIEW_CALIBRATION, calibration.view_scores)
    return calibration


def _check_detection(plan: Plan, tried: Tried) -> None:
    power = tried.evaluation["power"]
    if power["least"] < plan.least_detection:
        raise TrainingError(f"{power['words']} At least {plan.least_detection:.0%} were asked for.")


def _samples(detector: Detector, dataset: Dataset, tried: Tried) -> Samples:
    usual = tried.limits.usual_class
    return choose_samples(detector, tried.limits.thresholds[usual], dataset.test.images, tried.anomalies, usual)


def _architecture(plan: Plan) -> Architecture:
    return describe(plan.model, plan.latent_size, plan.fit.loss)


def _fit(plan: Plan, dataset: Dataset) -> tuple[ScoredAutoencoder, list[float]]:
    """Network and score, from the training part alone."""
    variants = [variant.for_fitting() for variant in plan.permitted.variants]
    images = decode_variants(dataset.train.originals, variants, dataset.preprocessing, plan.seed)
    autoencoder = build(_architecture(plan), plan.seed)
    if plan.score == "loss":
        return ScoredAutoencoder(autoencoder, LossScore()), fit(autoencoder, _flat(images), plan.fit, plan.seed)
    fitted, held_out = divided(dataset.train.scenes or range(len(dataset.train.images)))
    normalisation = fit_normalisation(images[0])
    seen = normalised(normalisation, _flat(images[:, fitted]))
    epoch_losses = fit(autoencoder, seen, plan.fit, plan.seed)
    shown = [variant.shown for variant in variants]
    views = fit_views(autoencoder, images[:, fitted], images[:, held_out], plan.seed, normalisation, shown)
    if not all(buffer.isfinite().all() for buffer in (views.typical, views.spread)):
        raise TrainingError("The training images differ too little: at 28x28 pixels nearly all are the same picture.")
    return ScoredAutoencoder(autoencoder, views), epoch_losses


def divided(scenes: Sequence[int]) -> tuple[list[int], list[int]]:
    """The rows that are fitted, and those that are held out: one image of each eighth scene, whose other images are
    left out, since a near-copy of a held-out image must not be fitted, and a scene counts once.

    Args:
        scenes: Of each image to train on, the scene that it shows.

    Raises:
        TrainingError: There are too few to hold any out.
    """
    first = {scene: row for row, scene in reversed(list(enumerate(scenes)))}
    order = list(dict.fromkeys(scenes))
    chosen = set(order[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY])
    if len(order) < 2 * _HELD_OUT_EVERY:
        raise TrainingError(f"{len(order)} images to fit are too few; it takes {2 * _HELD_OUT_EVERY}.")
    return [row for row, scene in enumerate(scenes) if scene not in chosen], sorted(first[scene] for scene in chosen)


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(variants, n, 28, 28) -> (variants * n, 28, 28)"""
    return images.reshape(-1, *images.shape[2:])


def _names(plan: Plan) -> list[str]:
    return [variant.name for variant in plan.permitted.variants]


def _manifest_fields(
    plan: Plan,
    dataset: Dataset,
    model: ScoredAutoencoder,
    promise: Promise,
    thresholds: Mapping[str, float],
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    return {
        "name": plan.name,
        "architecture": _architecture(plan),
        "score": model.scorer.description,
        "preprocessing": PreprocessingRecord(**asdict(dataset.preprocessing)),
        "threshold": max(thresholds.values()),
        "thresholds": dict(thresholds),
        "score_columns": model.scorer.columns,
        "promise": promise,
        "kinds": dict(plan.permitted.ranges),
        "variants": _names(plan),
        "shown": [variant.shown for variant in plan.permitted.variants],
        "views": list(model.scorer.views),
        "evaluation": evaluation,
        "data": dataset.description,
        "training": asdict(plan.fit),
        "seed": plan.seed,
        "library_versions": library_versions(),
    }


def _write_model(
    folder: Path, model: ScoredAutoencoder, architecture: Architecture
) -> tuple[ScoredAutoencoder, Detector]:
    """Writes checkpoint and graph, and reads both back: from here on only what was written counts."""
    save_checkpoint(model, folder / CHECKPOINT)
    (folder / GRAPH).write_bytes(export_graph(model))
    loaded = load_checkpoint(folder / CHECKPOINT, architecture, model.scorer.description)
    return loaded, uncalibrated_detector((folder / GRAPH).read_bytes(), loaded.scorer.views)


def library_versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries that can influence the results."""
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
