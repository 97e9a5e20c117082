import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from app.telemetry.metrics import Metrics
from app.telemetry.shared_metrics import RESERVED_BYTES, shared_metrics
from testing.pictures import picture
from testing.servers import Server

WHITE, BLACK = picture(level=255), picture(level=0)


def samples(client: TestClient) -> dict[str, float]:
    """Every sample by its name and labels, as in `gate_verdicts_total{verdict="normal"}`."""
    found = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_every_metric_begins_with_gate(client: TestClient) -> None:
    client.post("/v1/predict", content=WHITE)
    assert all(name.startswith("gate_") for name in samples(client))


def test_verdicts_and_score_ratios_count_images_not_requests(client: TestClient) -> None:
    client.post("/v1/predict", content=WHITE)
    client.post("/v1/predict/batch", files=[("files", WHITE), ("files", BLACK), ("files", BLACK)])
    found = samples(client)
    assert found['gate_verdicts_total{verdict="normal"}'] == 2
    assert found['gate_verdicts_total{verdict="anomaly"}'] == 2
    assert found['gate_score_ratio_bucket{le="1.0"}'] == 2
    assert found["gate_score_ratio_count"] == 4
    assert found["gate_score_ratio_sum"] == pytest.approx(4)  # 0 + 0 + 1/0.5 + 1/0.5


def test_durations_carry_the_route_template_method_and_status(client: TestClient) -> None:
    client.post("/v1/predict", content=WHITE)
    client.get("/v1/predict")
    found = samples(client)
    name = "gate_http_request_duration_seconds_count"
    assert found[f'{name}{{method="POST",route="/v1/predict",status="200"}}'] == 1
    assert found[f'{name}{{method="GET",route="/v1/predict",status="405"}}'] == 1


def test_labels_stay_bounded_whatever_strangers_ask_for(client: TestClient) -> None:
    for number in range(50):
        client.request(f"METHOD{number}", f"/nowhere/{number}")
    name = "gate_http_request_duration_seconds_count"
    assert samples(client)[f'{name}{{method="other",route="other",status="404"}}'] == 50


def test_rejections_are_counted_by_reason_those_within_a_batch_too(client: TestClient) -> None:
    client.post("/v1/predict", content=b"not an image")
    client.post("/v1/predict/batch", files=[("files", WHITE), ("files", b"nor this")])
    client.get("/nowhere")
    found = samples(client)
    assert found['gate_rejected_total{reason="unsupported-format"}'] == 2
    assert found['gate_rejected_total{reason="http-404"}'] == 1


def test_bodies_are_measured_and_nothing_waits_afterwards(client: TestClient) -> None:
    client.post("/v1/predict", content=WHITE)
    found = samples(client)
    assert found["gate_input_bytes_sum"] == len(WHITE)
    assert found["gate_waiting"] == 0


def test_the_artifact_that_judges_is_named(client: TestClient) -> None:
    model = client.get("/v1/model").json()
    labels = f'name="{model["name"]}",version="{model["version"]}"'
    assert samples(client)[f"gate_model_info{{{labels}}}"] == 1


def test_drift_evidence_rises_with_different_refused_images(client: TestClient) -> None:
    assert samples(client)["gate_drift_evidence_log10"] == 0
    for level in range(40):
        client.post("/v1/predict", content=picture(level=level))
    found = samples(client)
    assert found["gate_drift_evidence_log10"] > 6
    assert found["gate_drift_admitted_evidence_log10"] == 0


def test_one_image_again_and_again_is_sameness_and_no_other_evidence(client: TestClient) -> None:
    for _ in range(100):
        client.post("/v1/predict", content=BLACK)
    found = samples(client)
    assert found["gate_drift_evidence_log10"] < 2
    assert found["gate_drift_sameness_log10"] > 6


def test_what_is_no_traffic_is_counted_and_gives_no_evidence(client: TestClient) -> None:
    metrics, detector = client.app.state.judge.metrics, client.app.state.judge.detector  # type: ignore[attr-defined]
    for level in np.linspace(0, 0.1, 40):
        detection = detector.detect(np.full((1, 28, 28), level, np.float32))[0]
        metrics.judged(detection, detector, for_drift=False)
    found = samples(client)
    assert found['gate_verdicts_total{verdict="anomaly"}'] == 40
    assert found["gate_drift_evidence_log10"] == found["gate_drift_sameness_log10"] == 0


def test_two_apps_in_one_process_count_apart(make_client: Callable[..., TestClient]) -> None:
    one, other = make_client(), make_client()
    one.post("/v1/predict", content=WHITE)
    assert samples(one)['gate_verdicts_total{verdict="normal"}'] == 1
    assert samples(other)['gate_verdicts_total{verdict="normal"}'] == 0


def test_openmetrics_is_given_to_those_who_ask(client: TestClient) -> None:
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_a_score_that_is_not_a_number_does_not_spoil_the_sum(client: TestClient) -> None:
    metrics: Metrics = client.app.state.metrics  # type: ignore[attr-defined]
    detector = client.app.state.judge.detector  # type: ignore[attr-defined]
    detection = detector.detect(np.full((1, 28, 28), np.nan, np.float32))[0]
    metrics.judged(detection, detector)
    found = samples(client)
    assert found["gate_score_ratio_sum"] == 1000
    assert found['gate_verdicts_total{verdict="anomaly"}'] == 1


_WORKER = """
import sys, os
from app.telemetry.metrics import Metrics
from app.telemetry.shared_metrics import forget_worker
metrics = Metrics()
if sys.argv[1] == "count":
    metrics.refused("overloaded")
    metrics.waiting(3)
    print(os.getpid())
else:
    for pid in sys.argv[2:]:
        forget_worker(int(pid))
    print(metrics.exposition("")[0].decode())
"""


def test_several_workers_add_up_and_a_dead_one_no_longer_waits(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker(*arguments: str) -> str:
        command = [sys.executable, "-c", _WORKER, *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    first, _ = worker("count"), worker("count")
    together = worker("scrape")
    assert 'gate_rejected_total{reason="overloaded"} 2.0' in together
    assert re.search(r"^gate_waiting 6.0$", together, re.MULTILINE)
    without_the_first = worker("scrape", first)
    assert 'gate_rejected_total{reason="overloaded"} 2.0' in without_the_first
    assert re.search(r"^gate_waiting 3.0$", without_the_first, re.MULTILINE)


def test_any_of_several_serving_workers_tells_for_all(tiny_artifact: Path) -> None:
    with Server("--workers", "2", artifact=tiny_artifact) as server:
        server.wait_for_line("serving", 2)
        for _ in range(16):  # each on a connection of its own, which either worker may take
            httpx2.post(f"{server.url}/v1/predict", content=WHITE)
        for _ in range(4):
            text = httpx2.get(f"{server.url}/metrics").text
            assert 'gate_verdicts_total{verdict="normal"} 16.0' in text
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_workers_share_a_folder_that_goes_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("app.telemetry.shared_metrics._MEMORY", str(tmp_path))
    with shared_metrics() as folder:
        assert folder is not None
        assert folder.parent == tmp_path
        assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(folder)
    assert list(tmp_path.iterdir()) == []
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


def test_a_folder_that_the_environment_names_is_emptied_of_old_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    (tmp_path / "counter_1.db").write_bytes(b"of a process that has gone")
    (tmp_path / "notes.txt").write_text("not ours")
    with shared_metrics() as folder:
        assert folder == tmp_path
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_without_a_place_in_memory_the_folder_is_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("app.telemetry.shared_metrics._MEMORY", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with shared_metrics() as folder:
        assert folder is not None
        assert folder.parent == tmp_path


def test_without_any_folder_workers_count_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a container with a root that is read only and no memory to share."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr("app.telemetry.shared_metrics._MEMORY", str(tmp_path / "nowhere"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with shared_metrics() as folder:
        assert folder is None
        assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    assert "each counts for itself" in caplog.text


def test_a_worker_has_all_pages_of_its_numbers_before_it_uses_one(tmp_path: Path) -> None:
    code = f"from app.telemetry.shared_metrics import reserve; reserve(){_WORKER}"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, "count"], env=environment, check=True, capture_output=True)
    files = {file.name.rsplit("_", 1)[0]: file.stat() for file in tmp_path.glob("*.db")}
    assert set(files) == set(RESERVED_BYTES), "each file that the numbers take is reserved, and no other"
    for name, status in files.items():
        assert status.st_blocks * 512 >= status.st_size == RESERVED_BYTES[name]


def test_a_worker_without_room_for_its_numbers_counts_for_itself(tmp_path: Path) -> None:
    # As a full disk: no file may be larger than 10 kB.
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000));"
        f"from app.telemetry.shared_metrics import reserve; reserve(){_WORKER}"
        "\nprint(metrics.exposition('')[0].decode())"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code, "count"]
    ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert 'gate_rejected_total{reason="overloaded"} 1.0' in ran.stdout
    assert "this worker counts for itself" in ran.stderr
    assert list(tmp_path.iterdir()) == []
