from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import beta

from app.detection.artifact import Architecture
from app.detection.promise import least_calibration_size, make_promise, rate_with_confidence
from app.detection.shown import CLASSES
from app.errors import PromiseError
from training.errors import TrainingError
from training.fitting.calibrate import calibrate
from training.fitting.calibrate import uncalibrated_detector as detector_of
from training.model.autoencoders import build
from training.model.export import export_graph
from training.model.scores import LossScore, ScoredAutoencoder


@pytest.fixture(scope="module")
def detector():
    autoencoder = build(Architecture(name="gate", arguments={"latent_size": 2, "width": 8}))
    return detector_of(export_graph(ScoredAutoencoder(autoencoder, LossScore())), LossScore.views)


def images_of(*shape, seed=0):
    return np.random.default_rng(seed).random((*shape, 28, 28), dtype=np.float32)


@pytest.mark.parametrize(
    ("size", "rate", "rank"), [(99, 0.01, 99), (100, 0.01, 100), (199, 0.01, 198), (1000, 0.01, 991), (19, 0.05, 19)]
)
def test_rank_is_exact_where_floating_point_rounds_up(size, rate, rank):
    assert make_promise(size, rate).rank == rank


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.05, 19), (0.001, 999), (0.5, 1), (0.3, 3)])
def test_rate_that_the_calibration_set_cannot_promise_is_refused_with_the_size_it_takes(rate, least):
    assert least_calibration_size(rate) == least
    assert make_promise(least, rate).rank == least
    with pytest.raises(PromiseError, match=f"takes at least {least}\\."):
        make_promise(least - 1, rate)


@pytest.mark.parametrize(("size", "rank"), [(99, 99), (1000, 991), (5000, 4951), (20, 1), (2000, 1000)])
def test_confident_rate_is_the_quantile_of_the_beta_distribution(size, rank):
    assert rate_with_confidence(size, rank) == pytest.approx(beta.ppf(0.9, size + 1 - rank, rank), abs=1e-9)


def test_confident_rate_falls_towards_the_target_as_the_set_grows():
    rates = [make_promise(size, 0.01).rate_with_90_percent_confidence for size in (100, 1000, 5000, 100_000)]
    assert all(larger > smaller for larger, smaller in pairwise(rates))
    assert rates[-1] > 0.01


def test_promise_is_in_words_with_both_rates():
    promise = make_promise(1000, 0.01)
    assert "at most 1% are refused on average" in promise.words
    assert "1.42% with 90% confidence" in promise.words
    assert "1000 images" in promise.words


@pytest.mark.parametrize(("size", "rank"), [(99, 99), (1000, 991), (400, 390)])
def test_any_confidence_is_a_quantile_of_the_beta_distribution(size, rank):
    assert rate_with_confidence(size, rank, 0.95) == pytest.approx(beta.ppf(0.95, size + 1 - rank, rank), abs=1e-9)


@pytest.mark.parametrize(("rate", "confidence", "least"), [(0.01, 0.95, 299), (0.05, 0.95, 59), (0.1, 0.9, 22)])
def test_confidence_takes_more_images_and_says_how_many(rate, confidence, least):
    assert least_calibration_size(rate, confidence) == least
    assert make_promise(least, rate, confidence=confidence).rank == least
    with pytest.raises(PromiseError, match=rf"with \d+% confidence: it takes at least {least}\."):
        make_promise(least - 1, rate, confidence=confidence)


@pytest.mark.parametrize(("size", "rate"), [(299, 0.01), (500, 0.01), (1000, 0.05)])
def test_promised_confidence_is_kept_and_no_lower_rank_would_keep_it(size, rate):
    """Of 1,000 calibration sets at most 5% give a true rate above the promise, up to chance in the thousand."""
    rank = make_promise(size, rate, confidence=0.95).rank
    generator = np.random.default_rng(size)
    # Scores are uniform, so that the false-positive rate of a threshold is 1 - threshold.
    rates = 1 - np.sort(generator.random((1000, size)))[:, rank - 1]
    assert (rates > rate).mean() <= 0.05 + 2 * 0.007
    assert beta.ppf(0.95, size + 2 - rank, rank - 1) > rate


def test_promise_with_confidence_says_the_mean_rate_too():
    promise = make_promise(1000, 0.01, confidence=0.95)
    assert promise.confidence == 0.95
    assert "at most 1% are refused, with 95% confidence" in promise.words
    assert f"on average over such sets it is {100 * promise.mean_false_positive_rate:.3g}%" in promise.words


def test_rounding_to_a_rank_is_said_where_it_changes_the_rate():
    assert "5% was asked for; 38 images can only give steps, and 2.56% is given" in make_promise(38, 0.05).words
    assert "asked" not in make_promise(1000, 0.01).words


def test_promise_is_kept_on_average():
    """Over many calibration sets of 99, the share of new scores above the threshold is 5%, and 10% exceed the bound."""
    generator = np.random.default_rng(0)
    promise = make_promise(99, 0.05)
    # Scores are uniform, so that the false-positive rate of a threshold is 1 - threshold.
    rates = 1 - np.sort(generator.random((20_000, 99)))[:, promise.rank - 1]
    assert rates.mean() == pytest.approx(0.05, abs=0.001)
    assert (rates > promise.rate_with_90_percent_confidence).mean() == pytest.approx(0.1, abs=0.01)


def test_threshold_is_the_ranked_score_of_the_graph_that_serves(detector):
    images = images_of(1, 300)
    promise = make_promise(300, 0.1)
    calibration = calibrate(detector, images, promise)
    scores = np.sort(detector.run(images[0])[2][:, 0])
    assert set(calibration.thresholds) == set(CLASSES)
    threshold = calibration.thresholds[CLASSES[0]]
    assert threshold == pytest.approx(scores[promise.rank - 1])
    assert (calibration.scores[0] > threshold).sum() == 300 - promise.rank


def test_threshold_of_a_class_is_the_largest_over_its_variants(detector):
    easy, hard = images_of(50) * 0.5, images_of(50, seed=1)
    promise = make_promise(50, 0.1)
    both = calibrate(detector, np.stack([easy, hard]), promise)
    alone = [max(calibrate(detector, variant[None], promise).thresholds.values()) for variant in (easy, hard)]
    assert set(both.thresholds.values()) == {max(alone)}
    apart = calibrate(detector, np.stack([easy, hard]), promise, ["", CLASSES[2]])
    easiest, hardest = (calibrate(detector, own[None], promise).thresholds[CLASSES[0]] for own in (easy, hard))
    assert apart.thresholds[CLASSES[0]] == easiest
    assert apart.thresholds[CLASSES[2]] == max(easiest, hardest)
    assert min(alone) < max(alone)
    assert both.scores.shape == (2, 50)
    assert both.view_scores.shape == (1, 2, 50)
    assert (np.diff(both.view_scores) >= 0).all()


def test_scores_that_are_no_numbers_are_refused(detector):
    images = images_of(1, 20)
    images[0, 3] = np.nan
    with pytest.raises(TrainingError, match="not finite"):
        calibrate(detector, images, make_promise(20, 0.1))


def test_model_that_scores_all_images_alike_is_refused(detector):
    with pytest.raises(TrainingError, match="same score"):
        calibrate(detector, np.ones((1, 20, 28, 28), np.float32), make_promise(20, 0.1))


def test_uncalibrated_detector_refuses_nothing(detector):
    torch.manual_seed(0)
    assert not any(detection.is_anomaly for detection in detector.detect(images_of(5) * 100))
