import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.detection.artifact import Architecture
from app.detection.images import Preprocessing
from training.data.anomalies import FAMILIES
from training.fitting.calibrate import run_in_batches, uncalibrated_detector
from training.fitting.evaluate import auroc, draw_family, evaluate, one_limit, score_sets, wilson_interval
from training.model.autoencoders import build
from training.model.export import export_graph
from training.model.scores import LossScore, ScoredAutoencoder


def test_auroc_is_scikit_learns_with_ties_too():
    generator = np.random.default_rng(0)
    normal = generator.integers(0, 20, 300).astype(np.float32)
    anomalous = generator.integers(5, 30, 200).astype(np.float32)
    truth = np.repeat([0, 1], [300, 200])
    assert auroc(normal, anomalous) == pytest.approx(roc_auc_score(truth, np.concatenate([normal, anomalous])))


def test_score_that_is_no_number_counts_as_the_oddest():
    assert auroc(np.array([1.0, 2.0], np.float32), np.array([np.nan], np.float32)) == 1


@pytest.mark.parametrize(
    ("hits", "count", "expected"), [(0, 10, (0.0, 0.2775)), (5, 10, (0.2366, 0.7634)), (300, 300, (0.9874, 1.0))]
)
def test_interval_is_wilsons(hits, count, expected):
    assert wilson_interval(hits, count) == pytest.approx(expected, abs=1e-4)


def test_rates_are_the_shares_above_the_threshold():
    model = ScoredAutoencoder(build(Architecture(name="gate", arguments={"latent_size": 2, "width": 8})), LossScore())
    detector = uncalibrated_detector(export_graph(model), LossScore.views)
    normal = np.random.default_rng(0).random((100, 28, 28), dtype=np.float32) * 0.1
    dark, same = normal + 0.9, normal[:50]
    threshold = float(np.sort(run_in_batches(detector, normal)[0])[89])
    sets = {"original": normal, "darker": dark}, {"dark": dark, "same": same}
    limits = one_limit(threshold, ("original", "darker", "dark", "same"))
    evaluation = evaluate(limits, *(score_sets(detector, limits, own) for own in sets))
    assert evaluation["false_positive_rate"] == evaluation["variants"]["original"]["false_positive_rate"] == 0.1
    assert evaluation["worst_variant_false_positive_rate"] == 1
    assert evaluation["families"]["dark"]["detection_rate"] == 1
    assert evaluation["families"]["dark"]["auroc"] == 1
    assert evaluation["families"]["same"]["detection_rate"] < 0.2
    apart = evaluate(limits, *(score_sets(detector, limits, own) for own in sets), apart=["same"])
    assert apart["families"] == evaluation["families"]
    assert (apart["macro_detection_rate"], apart["macro_auroc"], apart["images_per_family"]) == (1, 1, 100)
    assert evaluation["macro_auroc"] == pytest.approx((1 + evaluation["families"]["same"]["auroc"]) / 2, abs=1e-3)


def test_families_are_drawn_alike_for_every_artifact():
    first, again = (draw_family(FAMILIES["duck"], 3, Preprocessing()) for _ in range(2))
    assert first.shape == (3, 28, 28)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
