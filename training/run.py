"""One training run, top to bottom: images in, one artifact folder out."""

import importlib.metadata
import platform
from dataclasses import asdict
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
    check_replaceable,
    write_artifact,
)
from app.detection.detector import Detector
from app.detection.promise import make_promise
from training.data.dataset import Dataset, Part, circle_dataset, decode_variants
from training.data.folder import decode_folder, folder_dataset
from training.data.variants import SAME_PIXELS
from training.fitting.calibrate import calibrate, uncalibrated_detector
from training.fitting.evaluate import draw_families, evaluate
from training.fitting.fit import fit
from training.fitting.fit_views import fit_views
from training.model.autoencoders import build, describe
from training.model.export import check_agreement, export_graph, load_checkpoint, save_checkpoint
from training.model.scores import LossScore, ScoredAutoencoder
from training.plan import Plan
from training.report.judgements import YOUR_ANOMALIES, Findings
from training.report.samples import choose_samples, write_samples
from training.report.write import write_report

# One training image in eight is not fitted, but sets the scale of what is.
_HELD_OUT_EVERY = 8
_LIBRARIES = ("matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "safetensors", "torch")


def train(plan: Plan) -> Artifact:
    """Whatever can be refused is refused before the long part.

    Raises:
        TrainingError: The images, the rate or the fitted model will not do.
        ArtifactError: `plan.output` holds something else, or the artifact does not load.
    """
    check_replaceable(plan.output)
    rate, confidence = plan.target_false_positive_rate, plan.confidence
    if plan.data is None:
        promise = make_promise(plan.calibration_count, rate, confidence=confidence)
        dataset = circle_dataset(plan.count, plan.seed, plan.calibration_count, plan.test_count, plan.circles)
    else:
        dataset = folder_dataset(plan.data, plan.seed, rate, confidence, plan.group_by)
        promise = make_promise(len(dataset.calibration.images), rate, confidence=confidence)
    anomalies = draw_families(plan.family_count, dataset.preprocessing)
    if plan.anomalies:
        anomalies[YOUR_ANOMALIES] = decode_folder(plan.anomalies, dataset.preprocessing)[1]
    model, epoch_losses = _fit(plan, dataset)

    def fill(folder: Path) -> dict[str, Any]:
        written, detector = _write_model(folder, model, _architecture(plan))
        check_agreement(written, detector, dataset.test.images)
        calibration = calibrate(detector, _sent(plan, dataset.calibration, dataset), promise)
        np.save(folder / CALIBRATION, calibration.scores)
        np.save(folder / VIEW_CALIBRATION, calibration.view_scores)
        tested = dict(zip(_names(plan), _sent(plan, dataset.test, dataset), strict=True))
        evaluation = evaluate(detector, calibration.threshold, tested, anomalies)
        fields = _manifest_fields(plan, dataset, written, promise, calibration.threshold, evaluation)
        findings = Findings(fields, epoch_losses, tested, dataset.test.radii, anomalies)
        write_report(folder / "report", findings, written.autoencoder, detector)
        write_samples(folder, choose_samples(detector, calibration.threshold, dataset.test.images, anomalies))
        return fields

    return write_artifact(plan.output, fill)


def _architecture(plan: Plan) -> Architecture:
    return describe(plan.model, plan.latent_size, plan.fit.loss)


def _fit(plan: Plan, dataset: Dataset) -> tuple[ScoredAutoencoder, list[float]]:
    """Network and score, from the training part alone."""
    variants = [variant for variant in plan.variants if variant.name not in SAME_PIXELS]
    images = decode_variants(dataset.train.originals, variants, dataset.preprocessing, plan.seed)
    autoencoder = build(_architecture(plan), plan.seed)
    if plan.score == "loss":
        return ScoredAutoencoder(autoencoder, LossScore()), fit(autoencoder, _flat(images), plan.fit, plan.seed)
    held_out = np.arange(images.shape[1]) % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1
    epoch_losses = fit(autoencoder, _flat(images[:, ~held_out]), plan.fit, plan.seed)
    views = fit_views(autoencoder, images[:, ~held_out], images[:, held_out], plan.seed)
    return ScoredAutoencoder(autoencoder, views), epoch_losses


def _sent(plan: Plan, part: Part, dataset: Dataset) -> NDArray[np.uint8]:
    """(variants, N, 28, 28), grey levels 0 to 255: one part of the data, sent in every permitted way."""
    # Angles differ from those that were fitted.
    return decode_variants(part.originals, plan.variants, dataset.preprocessing, plan.seed + 1)


def _flat(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(variants, n, 28, 28) -> (variants * n, 28, 28)"""
    return images.reshape(-1, *images.shape[2:])


def _names(plan: Plan) -> list[str]:
    return [variant.name for variant in plan.variants]


def _manifest_fields(
    plan: Plan,
    dataset: Dataset,
    model: ScoredAutoencoder,
    promise: Promise,
    threshold: float,
    evaluation: dict[str, Any],
) -> dict[str, Any]:
    return {
        "name": plan.name,
        "architecture": _architecture(plan),
        "score": model.scorer.description,
        "preprocessing": PreprocessingRecord(**asdict(dataset.preprocessing)),
        "threshold": threshold,
        "promise": promise,
        "variants": _names(plan),
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
    """Of whatever can change a figure."""
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
