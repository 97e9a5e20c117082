"""One training run, top to bottom: images in, one artifact folder out."""

import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from app.artifact import (
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
from app.detector import Detector
from training.anomalies import FAMILIES
from training.autoencoders import build, describe
from training.calibrate import calibrate, make_promise, uncalibrated_detector
from training.dataset import CALIBRATION_CIRCLES, TEST_CIRCLES, Dataset, circle_dataset, folder_dataset
from training.evaluate import IMAGES_PER_FAMILY, draw_family, evaluate
from training.export import check_agreement, export_graph, load_checkpoint, save_checkpoint
from training.fit import FitSettings, fit
from training.report import Findings, write_report
from training.scores import LossScore, ScoredAutoencoder

# The permitted ways of sending a normal image; each has its own row of calibration scores.
VARIANTS = ("pipeline",)
_LIBRARIES = ("matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript", "pillow", "safetensors", "torch")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a run makes.

    Attributes:
        output: The artifact folder.
        name: Of the artifact, as clients see it.
        model: A name in `training.autoencoders.ARCHITECTURES`.
        latent_size: Width of its bottleneck.
        fit: How to fit it.
        seed: Of the data, the weights and the fitting.
        target_false_positive_rate: In (0, 1).
        data: A folder of images; None draws circles.
        count: Circles to train on.
        calibration_count: Circles to calibrate on.
        test_count: Circles to test on.
        family_count: Drawn anomalies of each family.
    """

    output: Path
    name: str
    model: Literal["gate", "ae", "vae", "cvae"]
    latent_size: int
    fit: FitSettings
    seed: int = 0
    target_false_positive_rate: float = 0.01
    data: Path | None = None
    count: int = 1000
    calibration_count: int = CALIBRATION_CIRCLES
    test_count: int = TEST_CIRCLES
    family_count: int = IMAGES_PER_FAMILY


def train(plan: Plan) -> Artifact:
    """Whatever can be refused is refused before the long part.

    Raises:
        TrainingError: The images, the rate or the fitted model will not do.
        ArtifactError: `plan.output` holds something else, or the artifact does not load.
    """
    check_replaceable(plan.output)
    if plan.data is None:
        promise = make_promise(plan.calibration_count, plan.target_false_positive_rate)
        dataset = circle_dataset(plan.count, plan.seed, plan.calibration_count, plan.test_count)
    else:
        dataset = folder_dataset(plan.data, plan.seed, plan.target_false_positive_rate)
        promise = make_promise(len(dataset.calibration.images), plan.target_false_positive_rate)
    autoencoder = build(describe(plan.model, plan.latent_size, plan.fit.loss), plan.seed)
    epoch_losses = fit(autoencoder, dataset.train.images, plan.fit, plan.seed)
    model = ScoredAutoencoder(autoencoder, LossScore())
    return write_artifact(plan.output, lambda folder: _fill(folder, plan, dataset, promise, model, epoch_losses))


def _fill(
    folder: Path,
    plan: Plan,
    dataset: Dataset,
    promise: Promise,
    model: ScoredAutoencoder,
    epoch_losses: list[float],
) -> dict[str, Any]:
    """Writes every file but the manifest, and returns the manifest's fields."""
    architecture = describe(plan.model, plan.latent_size, plan.fit.loss)
    model, detector = _write_model(folder, model, architecture)
    check_agreement(model, detector, dataset.test.images)
    calibration = calibrate(detector, dataset.calibration.images[np.newaxis], promise)
    np.save(folder / CALIBRATION, calibration.scores)
    np.save(folder / VIEW_CALIBRATION, calibration.view_scores)

    anomalies = {
        name: draw_family(family, plan.family_count, dataset.preprocessing) for name, family in FAMILIES.items()
    }
    evaluation = evaluate(detector, calibration.threshold, dataset.test.images, anomalies)
    training = asdict(plan.fit)
    findings = Findings(
        name=plan.name,
        epoch_losses=epoch_losses,
        promise=promise,
        threshold=calibration.threshold,
        evaluation=evaluation,
        data=dataset.description,
        training=training,
        test_images=dataset.test.images,
        test_radii=dataset.test.radii,
        anomalies=anomalies,
    )
    write_report(folder / "report", findings, model.autoencoder, detector)
    return {
        "name": plan.name,
        "architecture": architecture,
        "preprocessing": PreprocessingRecord(**asdict(dataset.preprocessing)),
        "threshold": calibration.threshold,
        "promise": promise,
        "variants": list(VARIANTS),
        "views": list(model.scorer.views),
        "evaluation": evaluation,
        "data": dataset.description,
        "training": training,
        "seed": plan.seed,
        "library_versions": library_versions(),
    }


def _write_model(
    folder: Path, model: ScoredAutoencoder, architecture: Architecture
) -> tuple[ScoredAutoencoder, Detector]:
    """Writes checkpoint and graph, and reads both back: from here on only what was written counts."""
    save_checkpoint(model, folder / CHECKPOINT)
    (folder / GRAPH).write_bytes(export_graph(model))
    loaded = load_checkpoint(folder / CHECKPOINT, architecture)
    return loaded, uncalibrated_detector((folder / GRAPH).read_bytes(), loaded.scorer.views)


def library_versions() -> dict[str, str]:
    """Of whatever can change a figure."""
    versions = {library: importlib.metadata.version(library) for library in _LIBRARIES}
    return {"python": platform.python_version(), **versions}
