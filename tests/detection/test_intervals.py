import numpy as np
import pytest

from app.detection.intervals import beta_below, share_interval


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"),
    # By scipy.stats.beta.ppf.
    [(0, 10, 0.0, 0.3084971), (1, 20, 0.001265089, 0.2487328), (8, 800, 0.004327, 0.019609), (10, 10, 0.6915029, 1.0)],
)
def test_intervals_are_those_of_clopper_and_pearson(hits: int, trials: int, low: float, high: float) -> None:
    assert share_interval(hits, trials) == pytest.approx((low, high), abs=2e-6)


def test_the_beta_distribution_is_that_of_ordered_uniform_draws() -> None:
    draws = np.sort(np.random.default_rng(0).random((20_000, 30)), axis=1)[:, 4]  # the 5th of 30: Beta(5, 26)
    for x in (0.05, 0.15, 0.3):
        assert beta_below(x, 5, 26) == pytest.approx((draws <= x).mean(), abs=0.01)


@pytest.mark.parametrize("rate", [0.002, 0.01, 0.1, 0.5])
def test_an_interval_covers_the_true_share_as_often_as_it_says(rate: float) -> None:
    hits = np.random.default_rng(1).binomial(400, rate, 1_000)
    bounds = {count: share_interval(int(count), 400) for count in set(hits.tolist())}
    covered = [bounds[count][0] <= rate <= bounds[count][1] for count in hits.tolist()]
    assert np.mean(covered) >= 0.94


def test_without_a_trial_everything_is_possible() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
