import numpy as np
import pytest

from training.data.anomalies import FAMILIES, FINAL, TUNING

# What these show is that they show nothing.
EMPTY = {"white", "black", "grey", "near white", "nearly blank"}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_drawn_by_its_seed_alone(family):
    first, again, other = (FAMILIES[family](np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.size == (100, 100)
    assert first.mode == "L"
    assert first.tobytes() == again.tobytes()
    assert family in EMPTY or first.tobytes() != other.tobytes()


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in EMPTY])
def test_family_shows_something(family):
    for seed in range(20):
        low, high = FAMILIES[family](np.random.default_rng(seed)).getextrema()
        assert high - low > 15


def test_families_kept_apart_and_families_looked_at_share_none_and_are_many():
    assert len(FAMILIES) >= 55
    assert not FINAL & TUNING
    assert set(FAMILIES) == FINAL | TUNING
