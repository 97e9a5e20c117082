import math

import numpy as np
import pytest

from app.telemetry.drift import MOST_EVIDENCE, Drift, bets, careful_p_value

SIZE = 2000


def uniform_p_values(count: int, seed: int) -> list[float]:
    """What exchangeable images give: ranks among the calibration images, each as likely as the other."""
    ranks = np.random.default_rng(seed).integers(1, SIZE + 2, count)
    return [float(rank / (SIZE + 1)) for rank in ranks]


def evidence_after(p_values: list[float]) -> float:
    drift = Drift(SIZE)
    for p_value in p_values:
        drift.update(p_value)
    return drift.evidence


def test_no_bet_wins_on_average_while_nothing_has_changed() -> None:
    p_values = np.arange(1, SIZE + 2) / (SIZE + 1)
    for mean in np.mean([bets(float(p)) for p in p_values], axis=0):
        assert mean <= 1


def test_a_p_value_only_ever_grows_by_the_care_for_the_calibration_set() -> None:
    for p_value in np.arange(1, SIZE + 2) / (SIZE + 1):
        assert p_value <= careful_p_value(float(p_value), SIZE) <= 1


def test_normal_traffic_gives_no_evidence_that_an_alarm_would_hear() -> None:
    drift, most = Drift(SIZE), 0.0
    for p_value in uniform_p_values(20_000, seed=1):
        drift.update(p_value)
        most = max(most, drift.evidence)
    assert most < 5


@pytest.mark.parametrize(("share", "images"), [(0.2, 300), (1.0, 30)])
def test_anomalies_among_the_traffic_give_evidence_soon(share: float, images: int) -> None:
    anomalous = np.random.default_rng(2).random(images) < share
    p_values = np.where(anomalous, 1 / (SIZE + 1), uniform_p_values(images, seed=3))
    assert evidence_after(p_values.tolist()) > 6


def test_long_normal_traffic_does_not_delay_the_evidence_of_a_change() -> None:
    anomalies = [1 / (SIZE + 1)] * 30
    assert evidence_after(uniform_p_values(20_000, seed=4) + anomalies) > 6


def test_evidence_stays_finite_and_comes_down_again() -> None:
    drift = Drift(SIZE)
    for _ in range(5_000):
        drift.update(1 / (SIZE + 1))
    assert drift.evidence == MOST_EVIDENCE
    for p_value in [1.0] * 1000 + uniform_p_values(3000, seed=5):
        drift.update(p_value)
        assert math.isfinite(drift.evidence)
    assert drift.evidence < 3
