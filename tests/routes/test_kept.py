import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.testclient import TestClient

from app.keeping.folder import KeptFolder
from testing.artifacts import write_tiny_artifact
from testing.pictures import picture
from testing.servers import Server, wait_until

WHITE, BLACK = picture(level=255), picture(level=0)


@pytest.fixture
def keeping(make_client: Callable[..., TestClient], tmp_path: Path) -> Callable[..., TestClient]:
    def make(**settings: Any) -> TestClient:
        return make_client(**{"keep_folder": tmp_path / "kept", **settings})

    return make


def kept(client: TestClient, count: int, **query: Any) -> list[dict[str, Any]]:
    """The list, once it has so many."""

    def found() -> list[dict[str, Any]]:
        answer = client.get("/v1/kept", params=query)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["kept"]
        return rows

    assert wait_until(lambda: len(found()) >= count, 10), found()
    return found()


def counted(client: TestClient, line: str) -> bool:
    return line in client.get("/metrics").text.splitlines()


@pytest.mark.parametrize("path", ["/v1/kept", "/v1/kept/rates", "/v1/kept/019a3f5c7d21-5f0c9a7be1d24433", "/review"])
def test_without_the_setting_there_is_nothing(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "GATE_KEEP_FOLDER" in answer.json()["detail"]


def test_a_refused_image_is_kept_as_it_came_and_an_admitted_one_is_not(keeping: Callable[..., TestClient]) -> None:
    client = keeping()
    client.post("/v1/predict", content=WHITE)
    answer = client.post("/v1/predict", content=BLACK, headers={"X-Request-ID": "mine"}).json()
    (row,) = kept(client, 1)
    assert (row["is_anomaly"], row["sampled"], row["label"], row["request_id"]) == (True, False, None, "mine")
    assert (row["score"], row["p_value"], row["route"]) == (answer["score"], answer["p_value"], "/v1/predict")
    assert row["reasons"][0]["sentence"] == "redrawn badly here"
    image = client.get(f"/v1/kept/{row['id']}/image")
    assert (image.content, image.headers["content-type"]) == (BLACK, "image/png")
    assert "sandbox" in image.headers["content-security-policy"]
    assert client.get(f"/v1/kept/{row['id']}").json() == row


def test_the_sample_takes_admitted_images_too_with_its_probability(keeping: Callable[..., TestClient]) -> None:
    client = keeping(keep_sample=1)
    client.post("/v1/predict/batch", files=[("files", WHITE), ("files", b"no image"), ("files", BLACK)])
    rows = kept(client, 2)
    assert [row["is_anomaly"] for row in rows] in ([True, False], [False, True])
    assert {(row["sampled"], row["sample_probability"]) for row in rows} == {(True, 1.0)}
    contents = {client.get(f"/v1/kept/{row['id']}/image").content for row in rows}
    assert contents == {WHITE, BLACK}


def test_the_sample_is_drawn_from_all_images_alike(keeping: Callable[..., TestClient]) -> None:
    client = keeping(keep_sample=0.3)
    for _ in range(8):
        client.post("/v1/predict/batch", files=[("files", WHITE)] * 50)
    assert wait_until(lambda: len(client.get("/v1/kept?limit=1000").json()["kept"]) > 70, 10)
    time.sleep(0.3)
    count = len(client.get("/v1/kept?limit=1000").json()["kept"])
    assert 80 < count < 165  # 400 draws at 30%: 120, and more than four standard deviations on either side


def test_a_folder_that_is_deleted_while_serving_is_an_empty_one_and_fills_again(
    keeping: Callable[..., TestClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = keeping(log_level="warning")
    client.post("/v1/predict", content=BLACK)
    (row,) = kept(client, 1)
    shutil.rmtree(tmp_path / "kept")
    capsys.readouterr()
    answer = client.get("/v1/kept")
    assert (answer.status_code, answer.json()) == (200, {"kept": []})
    assert "the kept images are no longer there" in capsys.readouterr().err
    assert client.get("/v1/kept/rates").json()["sampled"] == 0
    assert client.get(f"/v1/kept/{row['id']}").status_code == 404
    assert client.put(f"/v1/kept/{row['id']}/label", json={"label": "normal"}).status_code == 404
    client.post("/v1/predict", content=BLACK)
    (again,) = kept(client, 1)
    assert again["id"] != row["id"]


def test_an_index_that_cannot_be_used_is_503_with_the_reason(
    keeping: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = keeping()
    client.post("/v1/predict", content=BLACK)
    kept(client, 1)
    (index,) = (tmp_path / "kept").glob("*.sqlite")
    with closing(sqlite3.connect(index)) as connection:
        connection.execute("DROP TABLE kept")
    answer = client.get("/v1/kept")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The index of the kept images cannot be used: no such table: kept."
    assert answer.headers["retry-after"] == "1"


def test_pixels_without_a_file_are_kept_as_a_picture(keeping: Callable[..., TestClient]) -> None:
    client = keeping()
    tensor = {"name": "image", "shape": [1, 28, 28], "datatype": "UINT8", "data": [0] * 784}
    assert client.post("/v2/models/tiny/infer", json={"inputs": [tensor]}).status_code == 200
    (row,) = kept(client, 1)
    assert client.get(f"/v1/kept/{row['id']}/image").content.startswith(b"\x89PNG")


def test_what_is_tried_on_the_page_is_not_kept(keeping: Callable[..., TestClient]) -> None:
    client = keeping(keep_sample=1)
    client.post("/v1/predict", content=BLACK, headers={"x-gate-source": "page"})
    client.post("/v1/predict", content=WHITE)
    assert [row["is_anomaly"] for row in kept(client, 1)] == [False]


def test_shadow_mode_keeps_what_would_be_refused(keeping: Callable[..., TestClient]) -> None:
    client = keeping(mode="shadow")
    assert client.post("/v1/authz/classify", content=BLACK).status_code == 200
    (row,) = kept(client, 1)
    assert row["route"] == "/v1/authz/{path}"


def test_lists_go_on_where_they_ended_and_can_be_asked_for_parts(keeping: Callable[..., TestClient]) -> None:
    client = keeping(keep_sample=1)
    for level in (255, 0, 254, 1):
        client.post("/v1/predict", content=picture(level=level))
        time.sleep(0.002)
    rows = kept(client, 4)
    ids = [row["id"] for row in rows]
    assert ids == sorted(ids, reverse=True)
    first = kept(client, 2, limit=2)
    assert [row["id"] for row in kept(client, 2, limit=2, before=first[-1]["id"])] == ids[2:]
    assert {row["is_anomaly"] for row in kept(client, 2, verdict="anomaly")} == {True}
    assert len(kept(client, 4, label="none")) == len(kept(client, 4, day=rows[0]["time"][:10])) == 4
    assert kept(client, 0, before="2001-01-01T00:00:00Z") == kept(client, 0, label="normal") == []
    assert len(kept(client, 2, least_score=0.5)) == 2


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=x", "verdict=odd", "label=x", "sampled=2", "day=yesterday", "day=2026-13-01",
     "before=x", "least_score=nan"],
)  # fmt: skip
def test_a_query_that_means_nothing_is_refused(keeping: Callable[..., TestClient], query: str) -> None:
    assert keeping().get(f"/v1/kept?{query}").status_code == 422


def test_labels_are_put_changed_and_taken_back(keeping: Callable[..., TestClient], tmp_path: Path) -> None:
    client = keeping()
    client.post("/v1/predict", content=BLACK)
    (row,) = kept(client, 1)
    for label in ("normal", "anomaly", None):
        answer = client.put(f"/v1/kept/{row['id']}/label", json={"label": label})
        assert (answer.status_code, answer.json()["label"]) == (200, label)
        assert KeptFolder(tmp_path / "kept").read(row["id"]).label == label
    for body in ({"label": "odd"}, {}, {"label": "normal", "more": 1}, [], {"label": ["normal"]}):
        assert client.put(f"/v1/kept/{row['id']}/label", json=body).status_code == 400
    for name in ("019a3f5c7d21-5f0c9a7be1d24433", "..%2F..%2Fetc%2Fpasswd", "x"):
        assert client.put(f"/v1/kept/{name}/label", json={"label": "normal"}).status_code == 404


def test_rates_come_from_the_labelled_sample_of_the_artifact_that_serves(
    keeping: Callable[..., TestClient], tmp_path: Path
) -> None:
    client = keeping(keep_sample=1)
    client.post("/v1/predict/batch", files=[("files", WHITE)] * 9 + [("files", BLACK)] * 3)
    rows = kept(client, 12)
    anomalies = [row["id"] for row in rows if row["is_anomaly"]]
    assert client.get("/v1/kept/rates").json()["false_positive_rate"]["estimate"] is None
    for row in rows:
        label = "anomaly" if row["id"] in anomalies[:2] else "normal"
        client.put(f"/v1/kept/{row['id']}/label", json={"label": label})
    rates = client.get("/v1/kept/rates").json()
    assert (rates["sampled"], rates["labelled"]) == (12, 12)
    assert rates["false_positive_rate"]["estimate"] == pytest.approx(0.1)
    assert rates["detection_rate"]["estimate"] == 1
    write_tiny_artifact(tmp_path / "other", threshold=0.4)
    other = keeping(artifact=tmp_path / "other")
    assert other.get("/v1/kept/rates").json()["labelled"] == 0


def test_a_folder_that_cannot_be_written_is_a_metric_and_a_line_and_no_failure(
    make_client: Callable[..., TestClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    client = make_client(keep_folder=tmp_path / "file" / "kept")
    for _ in range(3):
        assert client.post("/v1/predict", content=BLACK).status_code == 200
    assert wait_until(lambda: counted(client, 'gate_kept_total{outcome="failed"} 4.0'), 10)
    assert client.get("/v1/kept").json() == {"kept": []}
    assert capsys.readouterr().err.count("images are not kept") == 1


def test_a_full_disk_is_a_metric_and_no_failure_and_leaves_no_half_image(tmp_path: Path) -> None:
    write_tiny_artifact(tmp_path / "tiny")
    # No file larger than 100 kB: writing past it fails as on a full disk.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
        "from app.__main__ import main; sys.exit(main(['serve', '--port', '0']))"
    )
    environment = {"GATE_ARTIFACT": str(tmp_path / "tiny"), "GATE_KEEP_FOLDER": str(tmp_path / "kept")}
    command = [sys.executable, "-c", code]
    noise = picture(level=0) + os.urandom(200_000)  # behind the image's end
    with subprocess.Popen(command, env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        address = next(line for line in process.stderr if "listening" in line).rsplit("address=")[1].strip()
        assert httpx2.post(f"{address}/v1/predict", content=noise).status_code == 200
        assert "File too large" in next(line for line in process.stderr if "not kept" in line)
        assert httpx2.post(f"{address}/v1/predict", content=BLACK).status_code == 200
        assert wait_until(lambda: len(httpx2.get(f"{address}/v1/kept").json()["kept"]) == 1, 10)
        assert 'gate_kept_total{outcome="failed"} 1.0' in httpx2.get(f"{address}/metrics").text
        process.send_signal(signal.SIGTERM)
    assert len(list((tmp_path / "kept").rglob("*.png"))) == 1
    assert not list((tmp_path / "kept").rglob(".unfinished*"))


def test_whatever_is_counted_as_kept_survives_a_kill(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "tiny")
    folder = tmp_path / "kept"
    with Server("--workers", "2", artifact=artifact, keep_folder=folder) as server, server.client() as client:
        server.wait_for_line("worker started", 2)
        files = [("files", picture(level=level)) for level in range(40)]
        pids = [int(line.rsplit("pid=")[1]) for line in server.log if "worker started" in line]
        for _ in range(5):
            client.post("/v1/predict/batch?reconstruction=none", files=files)
        count = 0
        for line in client.get("/metrics").text.splitlines():
            if line.startswith('gate_kept_total{outcome="kept"}'):
                count = int(float(line.split()[-1]))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.process.kill()
    records = list(KeptFolder(folder).records())
    assert len(records) >= count > 0
    for record in records:
        assert KeptFolder(folder).read_image(record).startswith(b"\x89PNG")


def test_several_workers_share_the_folder(tmp_path: Path) -> None:
    artifact = write_tiny_artifact(tmp_path / "tiny")
    with Server("--workers", "2", artifact=artifact, keep_folder=tmp_path / "kept", keep_sample=1) as server:
        server.wait_for_line("worker started", 2)
        for _ in range(30):
            httpx2.post(f"{server.url}/v1/predict?reconstruction=none", content=WHITE)
        assert wait_until(lambda: len(httpx2.get(f"{server.url}/v1/kept").json()["kept"]) == 30, 10)
        row = httpx2.get(f"{server.url}/v1/kept?limit=1").json()["kept"][0]
        for _ in range(6):  # whichever worker answers
            httpx2.put(f"{server.url}/v1/kept/{row['id']}/label", json={"label": "normal"})
            labelled = httpx2.get(f"{server.url}/v1/kept?label=normal").json()["kept"]
            assert [one["id"] for one in labelled] == [row["id"]]


def test_what_waits_is_written_before_the_service_stops(tmp_path: Path) -> None:
    from app.main import create_app
    from app.settings import Settings

    write_tiny_artifact(tmp_path / "tiny")
    settings = Settings(artifact=tmp_path / "tiny", keep_folder=tmp_path / "kept", log_level="error")
    with TestClient(create_app(settings)) as client:
        client.post("/v1/predict/batch", files=[("files", BLACK)] * 60)
    assert len(list(KeptFolder(tmp_path / "kept").records())) == 60


def test_a_candidate_judges_the_same_images_aside(
    keeping: Callable[..., TestClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    candidate = write_tiny_artifact(tmp_path / "candidate", threshold=0.0001)
    client = keeping(candidate=candidate, log_level="info")
    client.post("/v1/predict", content=WHITE)
    answer = client.post("/v1/predict", content=picture(level=200), headers={"X-Request-ID": "disputed"}).json()
    assert answer["is_anomaly"] is False
    (row,) = kept(client, 1, disagrees="true")
    assert row["candidate"]["verdict"] == "anomaly"
    assert row["request_id"] == "disputed"
    assert counted(client, 'gate_candidate_verdicts_total{candidate_verdict="anomaly",verdict="normal"} 1.0')
    assert counted(client, 'gate_candidate_verdicts_total{candidate_verdict="normal",verdict="normal"} 1.0')
    line = next(
        line for line in capsys.readouterr().err.splitlines() if "request_id=disputed" in line and "compared" in line
    )
    assert "verdict=normal" in line
    assert "candidate_verdict=anomaly" in line


def test_a_candidate_that_cannot_be_used_changes_nothing_but_a_line(
    keeping: Callable[..., TestClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = keeping(candidate=tmp_path / "nowhere", log_level="error")
    assert client.post("/v1/predict", content=BLACK).status_code == 200
    assert len(kept(client, 1)) == 1
    assert "the candidate is not used" in capsys.readouterr().err
    assert counted(client, 'gate_candidate_verdicts_total{candidate_verdict="unjudged",verdict="anomaly"} 1.0')


def test_the_json_file_says_what_the_list_says(keeping: Callable[..., TestClient], tmp_path: Path) -> None:
    client = keeping()
    client.post("/v1/predict", content=BLACK)
    (row,) = kept(client, 1)
    (path,) = (tmp_path / "kept").rglob("*.json")
    assert orjson.loads(path.read_bytes()) == row
    assert path.stem == row["id"]
    assert path.stat().st_mode & 0o077 == 0
