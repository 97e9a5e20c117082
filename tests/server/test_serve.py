import http.client
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from testing.artifacts import write_tiny_artifact
from testing.pictures import picture
from testing.servers import Server, wait_until


def half_a_request(server: Server, path: str = "/v1/predict") -> socket.socket:
    """A connection whose request lacks the last byte of its body."""
    connection = socket.create_connection(server.address, timeout=20)
    body = picture()
    head = f"POST {path} HTTP/1.1\r\nHost: gate\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body[:-1])
    with server.client():  # answered after the half was seen
        return connection


def answer_of(connection: socket.socket) -> bytes:
    with connection:
        return connection.recv(65536)


def version_of(client: httpx2.Client) -> str:
    version: str = client.get("/v1/model").json()["version"]
    return version


def test_sigterm_completes_what_is_in_work_and_exits_with_0(tiny_artifact: Path) -> None:
    with Server(artifact=tiny_artifact) as server:
        connection = half_a_request(server)
        server.signal(signal.SIGTERM)
        server.wait_for_line("Shutting down")
        connection.sendall(picture()[-1:])
        assert answer_of(connection).startswith(b"HTTP/1.1 200")
        assert server.exit_code() == 0
        assert not any("Traceback" in line for line in server.log)


def test_an_idle_connection_outlives_what_clients_keep_theirs_for(tiny_artifact: Path) -> None:
    with Server(artifact=tiny_artifact) as server:
        connection = http.client.HTTPConnection(*server.address, timeout=5)
        for idle_seconds in (5.5, 0):
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            time.sleep(idle_seconds)  # uvicorn's own limit is 5 seconds, as httpx's is
        connection.close()


def test_readiness_goes_off_before_requests_are_refused(tiny_artifact: Path) -> None:
    with Server(artifact=tiny_artifact, drain_seconds=60) as server, server.client() as client:
        server.signal(signal.SIGTERM)
        assert wait_until(lambda: client.get("/readyz").status_code == 503)
        assert client.get("/livez").status_code == 200
        assert httpx2.post(f"{server.url}/v1/predict", content=picture()).status_code == 200
        # A second signal is impatience: no more waiting for load balancers, but still a clean end.
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_a_client_that_never_ends_its_request_does_not_hold_the_exit(tiny_artifact: Path) -> None:
    with Server(artifact=tiny_artifact, request_timeout_seconds=1, body_timeout_seconds=60) as server:
        connections = half_a_request(server), half_a_request(server, "/v1/authz/x")
        server.signal(signal.SIGTERM)
        assert server.exit_code(10) == 0
        assert answer_of(connections[0]).startswith(b"HTTP/1.1 503")
        # Envoy may admit a request when it gets a 5xx.
        assert answer_of(connections[1]).startswith(b"HTTP/1.1 429")
        assert not any("Traceback" in line for line in server.log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_serves_the_artifact_that_the_link_now_points_to(tmp_path: Path, workers: str) -> None:
    link = tmp_path / "current"
    link.symlink_to(write_tiny_artifact(tmp_path / "first", threshold=0.5))
    write_tiny_artifact(tmp_path / "second", threshold=0.25)
    with Server("--workers", workers, artifact=link) as server, server.client() as client:
        server.wait_for_line("serving", int(workers))
        before = version_of(client)
        (tmp_path / "next").symlink_to(tmp_path / "second")
        (tmp_path / "next").rename(link)
        server.signal(signal.SIGHUP)
        server.wait_for_line("artifact reloaded", int(workers))
        answer = httpx2.post(f"{server.url}/v1/predict", content=picture()).json()
        assert answer["model"]["version"] == version_of(client) != before
        assert answer["threshold"] == 0.25
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_an_artifact_that_is_wrong_is_logged_and_the_old_one_stays(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "artifact")
    with Server(artifact=folder) as server, server.client() as client:
        before = version_of(client)
        graph = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(graph[:-1])
        server.signal(signal.SIGHUP)
        assert "model.onnx is damaged" in server.wait_for_line("the new artifact is not used")
        assert version_of(client) == before
        assert client.post("/v1/predict", content=picture()).status_code == 200
        (folder / "model.onnx").write_bytes(graph)
        server.signal(signal.SIGHUP)
        server.wait_for_line("artifact reloaded")


def test_reloading_under_load_loses_no_request_and_mixes_no_two_artifacts(tmp_path: Path) -> None:
    link = tmp_path / "current"
    thresholds = {}
    for name, threshold in (("first", 0.5), ("second", 0.25)):
        write_tiny_artifact(tmp_path / name, threshold=threshold)
    link.symlink_to(tmp_path / "first")
    with Server(artifact=link, log_level="info") as server, server.client() as client:
        thresholds[version_of(client)] = 0.5

        def ask(_: int) -> tuple[int, list[tuple[str, float]]]:
            files = [("files", picture()), ("files", picture(300)), ("files", picture())]
            response = httpx2.post(f"{server.url}/v1/predict/batch?reconstruction=none", files=files, timeout=20)
            results = response.json()["results"]
            return response.status_code, [(one["model"]["version"], one["threshold"]) for one in results]

        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(ask, range(60))
            for turn, name in enumerate(("second", "first", "second"), 1):
                (tmp_path / "next").symlink_to(tmp_path / name)
                (tmp_path / "next").rename(link)
                server.signal(signal.SIGHUP)
                server.wait_for_line("artifact reloaded", turn)
            answers = list(answers)
        thresholds[version_of(client)] = 0.25
    assert {status for status, _ in answers} == {200}
    for _, judged in answers:
        assert len(set(judged)) == 1, "one batch was judged by two artifacts"
        assert thresholds[judged[0][0]] == judged[0][1]


def test_a_worker_that_dies_is_replaced(tiny_artifact: Path) -> None:
    with Server("--workers", "2", artifact=tiny_artifact) as server, server.client():
        server.wait_for_line("worker started", 2)
        os.kill(int(server.wait_for_line("worker started").rsplit("pid=")[1]), signal.SIGKILL)
        server.wait_for_line("a worker died")
        server.wait_for_line("worker started", 3)
        assert httpx2.post(f"{server.url}/v1/predict", content=picture()).status_code == 200
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_a_worker_that_is_replaced_gets_the_artifact_that_serves_whatever_the_folder_holds(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "artifact")
    with Server("--workers", "2", artifact=folder) as server, server.client() as client:
        server.wait_for_line("worker started", 2)
        write_tiny_artifact(folder, threshold=0.25)
        server.signal(signal.SIGHUP)
        server.wait_for_line("artifact reloaded", 2)
        before = version_of(client)
        graph = folder / "model.onnx"
        graph.write_bytes(graph.read_bytes()[:-1])
        server.signal(signal.SIGHUP)
        server.wait_for_line("the new artifact is not used", 2)
        assert "gate_reload_failures_total 2.0" in client.get("/metrics").text
        pids = [int(line.rsplit("pid=")[1]) for line in server.log if "worker started" in line]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        server.wait_for_line("worker started", 4)
        with server.client() as again:
            assert version_of(again) == before
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0


def test_an_artifact_with_another_name_is_swapped_in_with_a_warning(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "artifact")
    with Server(artifact=folder) as server, server.client():
        write_tiny_artifact(folder, name="other")
        server.signal(signal.SIGHUP)
        assert "before=tiny" in server.wait_for_line("the artifact has another name")
        server.wait_for_line("artifact reloaded")


def test_workers_end_when_their_supervisor_is_killed(tiny_artifact: Path) -> None:
    with Server("--workers", "2", artifact=tiny_artifact) as server, server.client():
        server.wait_for_line("worker started", 2)
        server.process.kill()
        server.process.wait()
        server.wait_for_line("Finished server process", 2)
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{server.url}/livez")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_artifact_that_is_missing_stops_the_start_with_one_message(tmp_path: Path, workers: str) -> None:
    with Server("--workers", workers, artifact=tmp_path / "nowhere") as server:
        assert server.exit_code() == 1
        assert "".join(server.log).count("There is no artifact folder") == len(server.log) == 1


def test_an_address_in_use_stops_the_start(tiny_artifact: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with Server(port, command=("app", "serve", "--port"), artifact=tiny_artifact) as server:
            assert server.exit_code() == 1
            assert server.log == [f"imagegate: 127.0.0.1:{port}: Address already in use.\n"]


def test_bare_uvicorn_serves_and_reloads(tmp_path: Path) -> None:
    folder = write_tiny_artifact(tmp_path / "artifact")
    command = ("uvicorn", "app.main:create_app", "--factory", "--port", "0")
    with Server(command=command, artifact=folder) as server, server.client() as client:
        before = version_of(client)
        write_tiny_artifact(folder, threshold=0.25)
        server.signal(signal.SIGHUP)
        server.wait_for_line("artifact reloaded")
        assert version_of(client) != before
        server.signal(signal.SIGTERM)
        assert server.exit_code() in (0, -signal.SIGTERM)
        assert any("Application shutdown complete" in line for line in server.log)
