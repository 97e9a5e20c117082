from pathlib import Path
from typing import Any

import pytest

from benchmarks import documented
from benchmarks.serving import growth, report
from benchmarks.serving.contestants import contestants
from benchmarks.serving.load import Load
from benchmarks.serving.workloads import MULTIPART, RAW
from testing.paths import ROOT


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """docs/performance.md as it is, to be written to."""
    page = tmp_path / "performance.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text())
    monkeypatch.setattr(documented, "PAGE", page)
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    return page


def measured() -> dict[str, Any]:
    """Results of a run in which each contestant was ten requests a second faster than the one before it."""
    measurements = [
        {
            "round": number,
            "contestant": one.name,
            "workload": f"28x28 PNG, {kind}",
            "concurrency": 16,
            "requests_a_second": 100.0 + 10 * place,
            "p50_milliseconds": 1.0,
            "p99_milliseconds": 2.0,
            "server_cpu_microseconds": 300.0,
            "refused": 0,
        }
        for number in range(2)
        for kind in (RAW, MULTIPART)
        for place, one in enumerate(contestants(Path("artifact"), Path("tutorial")))
        if kind in one.paths
    ]
    return {
        "version": "1.2.3",
        "when": "2026-01-31T00:00:00",
        "machine": {"processor": "a processor", "python": "3.11"},
        "bodies": {"28x28 PNG, raw": 100},
        "start_seconds": dict.fromkeys(report.NAMES, 1.0),
        "resident_bytes": dict.fromkeys(report.NAMES, 10**8),
        "installed_bytes": {},
        "in_process": {name: {RAW: (100.0, 1.0), MULTIPART: (120.0, 2.0)} for name in report.NAMES},
        "measurements": measurements,
    }


def test_a_run_writes_its_tables_into_the_page_and_a_second_one_replaces_them(page: Path) -> None:
    for _ in range(2):
        report.write_report(measured(), save=True)
    text = page.read_text()
    assert text.count("| 28x28 PNG, raw | 100 | 1 / 2 |") == 1
    assert text.count("| imagegate | 100 ± 1.0 | 120 ± 2.0 |") == 1
    assert text.count("with version 1.2.3") == 1
    assert "## What more costs" in text


def test_shares_of_growth_are_taken_within_each_round() -> None:
    one, other = "one worker", "two workers"
    loads = {
        (one, "28x28 PNG"): [Load(1.0, answered=100, latencies=[0.1]), Load(1.0, answered=200, latencies=[0.1])],
        (other, "28x28 PNG"): [Load(1.0, answered=150, latencies=[0.1]), Load(1.0, answered=300, latencies=[0.1])],
    }
    text = growth.report(loads, {one: [10**8], other: [10**7, 10**8]})
    assert "| two workers | 225 | 1.50 | 100 / 100 | 10 + 100 |" in text
