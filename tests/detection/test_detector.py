from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.detection.artifact import load_artifact
from app.detection.detector import Detector, Ranking
from app.detection.images import decode_image
from app.errors import ArtifactError
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from training.data.circles import draw_circles, random_circles


def p_value_by_definition(calibration: np.ndarray, score: float) -> float:
    return max((1 + (row >= score).sum()) / (len(row) + 1) for row in calibration)


def test_p_values_are_those_of_the_definition_ties_included() -> None:
    generator = np.random.default_rng(0)
    calibration = np.sort(generator.integers(0, 50, (4, 200)).astype(np.float32), axis=1)
    ranking = Ranking(calibration)
    for score in [-1.0, *np.unique(calibration), 7.5, 49.5, 1e9]:
        assert ranking.p_value(score) == pytest.approx(p_value_by_definition(calibration, score))


def test_a_score_that_is_no_number_ranks_as_the_oddest() -> None:
    ranking = Ranking(np.linspace(0, 1, 99, dtype=np.float32)[np.newaxis])
    assert ranking.p_value(float("nan")) == ranking.p_value(float("inf")) == 1 / 100


def test_p_values_of_normal_scores_are_no_smaller_than_uniform() -> None:
    generator = np.random.default_rng(1)
    rates = []
    for _ in range(200):
        ranking = Ranking(np.sort(generator.normal(size=(1, 199)).astype(np.float32)))
        rates.append(np.mean([ranking.p_value(score) <= 0.05 for score in generator.normal(size=50)]))
    assert np.mean(rates) == pytest.approx(0.05, abs=0.01)


def test_verdict_is_score_above_threshold(tiny_detector: Detector) -> None:
    white, black = tiny_detector.detect(np.stack([np.ones((28, 28)), np.zeros((28, 28))]).astype(np.float32))
    assert (white.score, white.is_anomaly) == (0.0, False)
    assert (black.score, black.is_anomaly) == (1.0, True)
    assert black.p_value == pytest.approx(1 / 100)


def test_an_image_that_is_no_number_is_an_anomaly(tiny_detector: Detector) -> None:
    detection = tiny_detector.detect(np.full((1, 28, 28), np.nan, np.float32))[0]
    assert detection.is_anomaly
    assert np.isnan(detection.score)


def test_each_image_of_a_batch_gets_its_own_row(tiny_detector: Detector) -> None:
    images = np.linspace(0, 1, 64, dtype=np.float32)[:, np.newaxis, np.newaxis] * np.ones((1, 28, 28), np.float32)
    together = tiny_detector.detect(images)
    alone = [tiny_detector.detect(image[np.newaxis])[0] for image in images]
    assert [detection.score for detection in together] == pytest.approx([detection.score for detection in alone])


def test_the_default_artifact_judges_an_image_the_same_alone_and_in_a_batch() -> None:
    """Promised to a millionth on any processor; tests/training/test_views.py has the bits."""
    detector = Detector(load_artifact(Settings().artifact))
    circles = draw_circles(random_circles(20, np.random.default_rng(1)))
    drawn = [decode_image(circle, detector.artifact.preprocessing, 1_000_000) for circle in circles]
    images = np.concatenate([drawn, np.random.default_rng(0).random((17, 28, 28), np.float32)])
    alone = [detector.detect(image[np.newaxis])[0] for image in images]
    for detection, other in zip(detector.detect(images), alone, strict=True):
        assert detection.score == pytest.approx(other.score, rel=1e-6, abs=1e-6)
        assert (detection.is_anomaly, detection.p_value) == (other.is_anomaly, other.p_value)


def test_a_graph_that_does_not_run_is_an_artifact_error(tmp_path: Path) -> None:
    artifact = load_artifact(write_tiny_artifact(tmp_path / "tiny"))
    with pytest.raises(ArtifactError, match=r"model\.onnx is not a graph"):
        Detector(replace(artifact, graph=b"not a graph"))
