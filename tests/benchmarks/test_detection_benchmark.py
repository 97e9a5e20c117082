"""The parts of benchmarks/detection that a wrong figure could come from without anyone noticing."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.detection import table
from benchmarks.detection.fresh import FRESH
from benchmarks.detection.measures import threshold_of
from training.data.anomalies import FAMILIES


@pytest.mark.parametrize("name", FRESH)
def test_fresh_family_draws_pictures_of_its_own(name: str) -> None:
    """A family that drew the same picture each time would count one verdict three hundred times."""
    generator = np.random.default_rng(0)
    first, second = FRESH[name](generator), FRESH[name](generator)
    assert first.size == second.size == (100, 100)
    assert first.mode == second.mode == "L"
    assert first.tobytes() != second.tobytes()


def test_no_fresh_family_is_one_that_was_looked_at() -> None:
    assert not set(FRESH) & set(FAMILIES)


def test_threshold_holds_for_the_variant_that_needs_most() -> None:
    """1% of 200 calibration images leaves the largest two out, in the variant whose scores are higher."""
    levels = np.stack([np.arange(200), np.arange(200) // 2]).astype(np.uint8)
    calibration = np.broadcast_to(levels[:, :, None, None], (2, 200, 28, 28))
    assert threshold_of(lambda images: images[:, 0, 0].astype(np.float32), calibration) == 198


def test_table_replaces_what_stands_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"above\n{table.BEGIN}\nold\n{table.END}\nbelow\n")
    table.insert(page, "new\n")
    assert page.read_text() == f"above\n{table.BEGIN}\nnew\n{table.END}\nbelow\n"
