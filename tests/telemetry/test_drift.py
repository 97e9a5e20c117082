"""Evidence of drift: valid for one fixed calibration set of any size, about images rather than clients."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from app.detection.detector import Ranking
from app.telemetry.drift import CONFIDENCE, MOST_EVIDENCE, Drift, Gambler, rank_bounds

SIZE = 2000
ODD = 100.0


class Traffic:
    """A calibration set of standard normal scores with its drift, and images that are judged by it."""

    def __init__(self, size: int = SIZE, seed: int = 0) -> None:
        self.generator = np.random.default_rng(seed)
        calibration = np.sort(self.generator.standard_normal((1, size)).astype(np.float32))
        self.threshold = float(calibration[0, min(size, math.ceil(0.99 * (size + 1))) - 1])
        self.drift = Drift(calibration, self.threshold)
        self._ranking = Ranking(calibration)

    def normal(self, count: int) -> NDArray[np.float64]:
        return self.generator.standard_normal(count)

    def odd(self, count: int) -> NDArray[np.float64]:
        return ODD + self.generator.random(count)

    def send(self, scores: NDArray[np.float64]) -> None:
        for score in scores.tolist():
            self.drift.update(score, score, self._ranking.p_value(score), score > self.threshold)


@pytest.mark.parametrize("size", [1, 19, 100, 500, 2000])
def test_all_rank_bounds_hold_at_once_for_nearly_all_calibration_sets(size: int) -> None:
    bounds = np.array(rank_bounds(size))
    assert len(bounds) == size + 1
    assert (np.diff(bounds) >= 0).all()
    assert bounds[-1] == 1
    # For uniform scores, P(p <= k / (n + 1)) is 1 - the k-th largest of n.
    draws = np.sort(1 - np.random.default_rng(1).random((2000, size)), axis=1)
    assert (draws <= bounds[:size]).all(axis=1).mean() >= CONFIDENCE


def test_rank_bounds_are_above_the_exact_quantiles_yet_near() -> None:
    bounds = rank_bounds(SIZE)
    for rank in (1, 16, 128, 1024):
        exact = beta.ppf(0.9995, rank, SIZE + 1 - rank)
        assert exact <= bounds[rank - 1] <= 1.4 * exact


@pytest.mark.parametrize("least", [0.001, 0.07, 0.3, 0.9])
def test_no_bet_wins_on_average_while_values_are_uniform(least: float) -> None:
    gambler = Gambler(least)
    edges = np.array([0.0, *gambler._edges, 1.0])
    means = np.diff(edges) @ np.array(gambler._wins)
    assert means == pytest.approx(np.ones(len(means)))


@pytest.mark.parametrize("size", [19, 100, 500, SIZE])
def test_normal_traffic_gives_no_evidence_that_an_alarm_would_hear(size: int) -> None:
    for seed in range(3):
        traffic, most = Traffic(size, seed), 0.0
        for scores in np.split(traffic.normal(5_000), 50):
            traffic.send(scores)
            drift = traffic.drift
            most = max(most, drift.every.evidence, drift.admitted.evidence, drift.sameness.evidence)
        assert most < 5


def test_one_anomaly_in_twenty_is_noticed_within_600_images() -> None:
    traffic = Traffic()
    traffic.send(traffic.normal(500))
    scores = traffic.normal(600)
    scores[::20] = traffic.odd(30)
    traffic.send(scores)
    assert traffic.drift.every.evidence > 6
    assert traffic.drift.admitted.evidence < 3, "admitted images are as they were"


def test_a_burst_of_eight_odd_images_is_no_alarm() -> None:
    for seed in range(5):
        traffic = Traffic(seed=seed)
        traffic.send(traffic.normal(300))
        traffic.send(traffic.odd(8))
        assert traffic.drift.every.evidence < 6


def test_an_image_that_repeats_counts_once_and_shows_as_sameness() -> None:
    traffic = Traffic()
    traffic.send(np.full(200, ODD))
    assert traffic.drift.every.evidence < 1
    assert traffic.drift.sameness.evidence > 6


def test_a_frozen_picture_shows_as_sameness_though_no_file_repeats() -> None:
    traffic = Traffic()
    traffic.send(0.4 + 0.001 * traffic.normal(200))
    assert traffic.drift.sameness.evidence > 6
    assert traffic.drift.every.evidence < 3


def test_normal_images_that_grow_odder_show_among_the_admitted() -> None:
    traffic = Traffic()
    traffic.send(traffic.normal(2_000) + 1.0)
    assert traffic.drift.admitted.evidence > 6


def test_long_normal_traffic_does_not_delay_the_evidence_of_a_change() -> None:
    traffic = Traffic()
    traffic.send(traffic.normal(10_000))
    traffic.send(traffic.odd(40))
    assert traffic.drift.every.evidence > 6


def test_evidence_stays_finite_and_comes_down_again() -> None:
    traffic = Traffic()
    traffic.send(traffic.odd(3_000))
    assert traffic.drift.every.evidence == MOST_EVIDENCE
    traffic.send(traffic.normal(5_000))
    assert traffic.drift.every.evidence < 3


def test_scores_that_are_no_numbers_are_the_oddest_and_break_nothing() -> None:
    traffic = Traffic()
    for loss in range(50):
        traffic.drift.update(math.nan, float(loss), 1 / (SIZE + 1), is_anomaly=True)
    traffic.drift.update(math.nan, math.nan, 1 / (SIZE + 1), is_anomaly=True)
    assert 6 < traffic.drift.every.evidence <= MOST_EVIDENCE
