import numpy as np
import pytest

from training.anomalies import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_family_is_drawn_by_its_seed_alone(family):
    first, again, other = (FAMILIES[family](np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.size == (100, 100)
    assert first.mode == "L"
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "blank"])
def test_family_shows_something(family):
    for seed in range(20):
        low, high = FAMILIES[family](np.random.default_rng(seed)).getextrema()
        assert high - low > 15
