"""The committed artifact and the code that makes it belong together."""

import json
from dataclasses import replace

import numpy as np
import pytest

from app.detection.artifact import CHECKPOINT, load_artifact
from app.detection.detector import Detector
from app.detection.shown import Shown
from testing.artifacts import DEFAULT_ARTIFACT
from training.__main__ import main
from training.data.dataset import circle_dataset
from training.data.variants import ORIGINAL
from training.fitting.calibrate import run_in_batches
from training.fitting.evaluate import draw_families
from training.model.export import check_agreement, export_graph, load_checkpoint
from training.plan import FitSettings, Plan
from training.run import train


@pytest.fixture(scope="module")
def artifact():
    return load_artifact(DEFAULT_ARTIFACT)


@pytest.fixture(scope="module")
def dataset():
    """The circles that calibrated and tested the committed artifact; one is enough of those that trained it."""
    return circle_dataset(1, seed=0)


def test_graph_is_what_the_code_exports_from_the_checkpoint(artifact, dataset):
    manifest = artifact.manifest
    images = np.concatenate([dataset.test.images[:100], *draw_families(1, dataset.preprocessing).values()])
    model = load_checkpoint(DEFAULT_ARTIFACT / CHECKPOINT, manifest.architecture, manifest.score)
    committed, exported = Detector(artifact), Detector(replace(artifact, graph=export_graph(model)))
    check_agreement(model, committed, images)
    for ours, theirs in zip(exported.run(images), committed.run(images), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_calibration_scores_are_those_that_the_code_computes(artifact, dataset):
    scores, _ = run_in_batches(Detector(artifact), dataset.calibration.images)
    committed = artifact.calibration[artifact.manifest.variants.index(ORIGINAL.name)]
    np.testing.assert_allclose(np.sort(scores), committed, rtol=1e-4, atol=1e-4)


def test_a_small_training_gives_a_gate_that_refuses_nothing_else(dataset, tmp_path):
    plan = Plan(
        output=tmp_path / "small",
        name="small",
        model="gate",
        latent_size=32,
        fit=FitSettings(epochs=300, batch_size=128, learning_rate=1e-3, one_cycle=True),
        count=500,
        calibration_count=200,
        test_count=20,
        family_count=1,
        score="views",
    )
    train(plan)
    anomalies = np.concatenate(list(draw_families(3, dataset.preprocessing).values()))
    images = np.concatenate([dataset.test.images[:200], anomalies])
    drawn = [Shown("PNG", 100, 100)] * len(images)
    committed, small = (
        np.array([detection.is_anomaly for detection in Detector(load_artifact(folder)).detect(images, drawn)])
        for folder in (DEFAULT_ARTIFACT, plan.output)
    )
    assert committed[:200].mean() < 0.02
    assert small[:200].mean() < 0.05
    # An eighth of the circles, sent in one way, find half of what all of them find, and hardly anything else.
    assert 0.4 < small[200:].mean() < committed[200:].mean()
    assert committed[200:][small[200:]].mean() > 0.97


@pytest.mark.slow
@pytest.mark.retraining
def test_the_whole_training_gives_the_committed_figures(artifact, tmp_path):
    assert main(["--output", str(tmp_path / "circles")]) == 0
    manifest = json.loads((tmp_path / "circles" / "manifest.json").read_text())
    committed = artifact.manifest
    assert manifest["data"] == committed.data
    assert manifest["variants"] == committed.variants
    assert manifest["threshold"] == pytest.approx(committed.threshold, abs=0.1)
    for rate, tolerance in (("macro_detection_rate", 0.01), ("macro_auroc", 0.002), ("false_positive_rate", 0.005)):
        assert manifest["evaluation"][rate] == pytest.approx(committed.evaluation[rate], abs=tolerance), rate
