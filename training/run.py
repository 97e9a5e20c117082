"""One training run, top to bottom: images in, one artifact folder out."""

import importlib.metadata
import platform
import statistics
from collections.abc import Iterable, Mapping
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
    write_artifact,
)
from app.detection.detector import Detector
from app.detection.promise import make_promise
from app.detection.shown import Size, class_of
from training.data.dataset import Dataset, Part, circle_dataset, decode_variants, own_size, shown_by
from training.data.folder import decode_folder, folder_dataset
from training.data.variants import ALSO_DONE, ORIGINAL
from training.errors import TrainingError
from training.fitting.calibrate import FileClass, calibrate, run_in_batches, uncalibrated_detector
from training.fitting.evaluate import Limits, draw_families, evaluate
from training.fitting.fit import fit, use_one_thread
from training.fitting.fit_views import fit_normalisation, fit_views, normalised
from training.fitting.power import describe_power, made_images
from training.model.autoencoders import build, describe
from training.model.export import check_agreement, export_graph, load_checkpoint, save_checkpoint
from training.model.scores import LossScore, ScoredAutoencoder
from training.plan import Plan
from training.report.judgements import YOUR_ANOMALIES, Findings
from training.report.samples import choose_samples, write_samples
from training.report.write import write_report

# One training image in eight is held out from fitting the network, and used to scale the views.
_HELD_OUT_EVERY = 8
_ALSO_DONE_IMAGES = 300
_LIBRARIES = ("matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "safetensors", "torch")


def train(plan: Plan) -> Artifact:
    """Loads or draws the data, fits, exports, calibrates and evaluates the model, and writes the artifact.

    Errors in the data, the rate or the output folder are raised before the fitting, which takes most of the time.

    Raises:
        TrainingError: The images, the rate or the fitted model will not do.
        ArtifactError: `plan.output` holds something else, or the artifact does not load.
    """
    check_replaceable(plan.output)
    rate, confidence = plan.target_false_positive_rate, plan.confidence
    use_one_thread()
    if plan.data is None:
        promise = make_promise(plan.calibration_count, rate, confidence=confidence)
        dataset = circle_dataset(plan.count, plan.seed, plan.calibration_count, plan.test_count, plan.circles)
    else:
        dataset = folder_dataset(plan.data, plan.seed, rate, confidence, plan.group_by)
        promise = make_promise(len(dataset.calibration.images), rate, confidence=confidence)
    anomalies = draw_families(plan.family_count, dataset.preprocessing)
    if plan.anomalies:
        anomalies[YOUR_ANOMALIES] = decode_folder(plan.anomalies, dataset.preprocessing)[1]
    size = own_size(dataset.train.originals)
    if size is not None:
        plan = replace(plan, permitted=plan.permitted.of_one_size())
    model, epoch_losses = _fit(plan, dataset)

    def fill(folder: Path) -> dict[str, Any]:
        written, detector = _write_model(folder, model, _architecture(plan))
        check_agreement(written, detector, dataset.test.images)
        shown = [variant.shown for variant in plan.permitted.variants]
        files = _files(plan, dataset.calibration, size)
        calibration = calibrate(detector, _sent(plan, dataset.calibration, dataset), promise, shown, files)
        np.save(folder / CALIBRATION, calibration.scores)
        np.save(folder / VIEW_CALIBRATION, calibration.view_scores)
        tested = dict(zip(_names(plan), _sent(plan, dataset.test, dataset), strict=True))
        limits = _limits(plan, dataset.test, calibration.thresholds, anomalies, size)
        evaluation = evaluate(detector, limits, tested, anomalies)
        evaluation["power"] = power = _power(detector, dataset, limits)
        evaluation["also_done"] = _also_done(detector, dataset, calibration.thresholds, plan.seed + 2)
        if power["least"] < plan.least_detection:
            raise TrainingError(f"{power['words']} At least {plan.least_detection:.0%} were asked for.")
        fields = _manifest_fields(plan, dataset, written, promise, calibration.thresholds, evaluation)
        fields["own_size"] = size
        findings = Findings(fields, epoch_losses, tested, dataset.test.radii, anomalies, limits, dataset.oddest)
        write_report(folder / "report", findings, written.autoencoder, detector)
        write_samples(folder, _samples(detector, limits, dataset, anomalies))
        return fields

    return write_artifact(plan.output, fill)


def _samples(
    detector: Detector, limits: Limits, dataset: Dataset, anomalies: Mapping[str, NDArray[np.float32]]
) -> Samples:
    usual = limits.usual_class
    return choose_samples(detector, limits.thresholds[usual], dataset.test.images, anomalies, usual)


def _power(detector: Detector, dataset: Dataset, limits: Limits) -> dict[str, Any]:
    """What the gate finds of pictures made by code, sent as most originals are."""
    usual = limits.usual_class
    rates = {}
    for name, images in made_images(dataset.test.images).items():
        scores, _ = run_in_batches(detector, images, usual)
        rates[name] = float((~(scores <= limits.thresholds[usual])).mean())
    return describe_power(rates)


def _also_done(detector: Detector, dataset: Dataset, thresholds: Mapping[str, float], seed: int) -> dict[str, Any]:
    """What becomes of normal images that are sent in ways that are not permitted unless the user says so."""
    originals = dataset.test.originals[:_ALSO_DONE_IMAGES]
    sent = decode_variants(originals, ALSO_DONE, dataset.preprocessing, seed)
    rates = {}
    for variant, images in zip(ALSO_DONE, sent, strict=True):
        scores, _ = run_in_batches(detector, images, variant.shown)
        refused = float((~(scores <= thresholds[variant.shown])).mean())
        rates[variant.name] = {"what": variant.description, "refused": round(refused, 4)}
    return rates


def _architecture(plan: Plan) -> Architecture:
    return describe(plan.model, plan.latent_size, plan.fit.loss)


def _fit(plan: Plan, dataset: Dataset) -> tuple[ScoredAutoencoder, list[float]]:
    """Network and score, from the training part alone."""
    variants = [variant.for_fitting() for variant in plan.permitted.variants]
    images = decode_variants(dataset.train.originals, variants, dataset.preprocessing, plan.seed)
    autoencoder = build(_architecture(plan), plan.seed)
    if plan.score == "loss":
        return ScoredAutoencoder(autoencoder, LossScore()), fit(autoencoder, _flat(images), plan.fit, plan.seed)
    held_out = np.arange(images.shape[1]) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    normalisation = fit_normalisation(images[0])
    seen = normalised(normalisation, _flat(images[:, ~held_out]))
    epoch_losses = fit(autoencoder, seen, plan.fit, plan.seed)
    shown = [variant.shown for variant in variants]
    views = fit_views(autoencoder, images[:, ~held_out], images[:, held_out], plan.seed, normalisation, shown)
    return ScoredAutoencoder(autoencoder, views), epoch_losses


def _sent(plan: Plan, part: Part, dataset: Dataset) -> NDArray[np.uint8]:
    """(variants, N, 28, 28), grey levels 0 to 255: one part of the data, sent in every permitted way."""
    # Sizes, angles and all else differ from those that were fitted.
    return decode_variants(part.originals, plan.permitted.variants, dataset.preprocessing, plan.seed + 1)


def _files(plan: Plan, part: Part, size: Size | None) -> list[FileClass]:
    """As what each variant of a part is judged: the originals as what their own files show."""
    own = [class_of(shown_by(original), size) for original in part.originals]
    return [own, *(variant.shown for variant in plan.permitted.variants[1:])]


def _limits(
    plan: Plan, part: Part, thresholds: Mapping[str, float], families: Iterable[str], size: Size | None
) -> Limits:
    """The largest scores accepted of each variant of a part, and of anomalies, which are sent as most originals are."""
    files = dict(zip(_names(plan), _files(plan, part, size), strict=True))
    usual = statistics.mode(files[ORIGINAL.name])
    return Limits(thresholds, {**files, **dict.fromkeys(families, usual)}, usual)


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
