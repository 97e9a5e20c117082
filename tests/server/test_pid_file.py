import os
import signal
import time
from pathlib import Path

import pytest

from app.__main__ import main
from app.server.pid_file import pid_file as file_of_gate
from app.server.pid_file import report_reload
from testing.artifacts import write_tiny_artifact
from testing.servers import Server


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reload_finds_the_gate_and_is_obeyed(tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder, pid_file = write_tiny_artifact(tmp_path / "artifact"), tmp_path / "gate.pid"
    with Server("--workers", workers, artifact=folder, pid_file=pid_file) as server, server.client() as client:
        server.wait_for_line("worker started|listening", int(workers))
        assert int(pid_file.read_text()) == server.process.pid
        write_tiny_artifact(folder, threshold=0.25)
        assert main(["reload", "--pid-file", str(pid_file)]) == 0
        model = client.get("/v1/model").json()
        assert model["threshold"] == 0.25
        said = capsys.readouterr().out
        assert str(server.process.pid) in said
        assert model["version"] in said
        server.signal(signal.SIGTERM)
        assert server.exit_code() == 0
    assert [one.name for one in tmp_path.iterdir()] == ["artifact"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_reload_of_a_damaged_artifact_fails_with_what_the_gate_says(
    tmp_path: Path, workers: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, pid_file = write_tiny_artifact(tmp_path / "artifact"), tmp_path / "gate.pid"
    with Server("--workers", workers, artifact=folder, pid_file=pid_file) as server, server.client() as client:
        server.wait_for_line("worker started|listening", int(workers))
        version = client.get("/v1/model").json()["version"]
        (folder / "model.onnx").write_bytes(b"damaged")
        assert main(["reload", "--pid-file", str(pid_file)]) == 1
        said = capsys.readouterr().err
        assert f"the new artifact is not used, {version} goes on" in said
        assert "model.onnx" in said
        write_tiny_artifact(folder, threshold=0.25)
        assert main(["reload", "--pid-file", str(pid_file)]) == 0


def test_reload_says_so_if_the_gate_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gate.pid"
    signalled: list[int] = []
    earlier = signal.signal(signal.SIGHUP, lambda number, frame: signalled.append(number))
    monkeypatch.setattr("app.server.pid_file._PATIENCE_SECONDS", 0.2)
    try:
        with file_of_gate(file):
            report_reload(file, 1.0, "sha256:earlier", [])
            assert main(["reload", "--pid-file", str(file)]) == 1
    finally:
        signal.signal(signal.SIGHUP, earlier)
    assert signalled
    assert "has not said within 0.2 seconds" in capsys.readouterr().err


def test_a_process_that_reloads_twice_is_not_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gate.pid"

    def report_twice(number: int, frame: object) -> None:
        for _ in range(2):
            report_reload(file, time.time(), "sha256:new", [])

    earlier = signal.signal(signal.SIGHUP, report_twice)
    monkeypatch.setattr("app.server.pid_file._PATIENCE_SECONDS", 0.2)
    try:
        with file_of_gate(file, workers=2):
            assert main(["reload", "--pid-file", str(file)]) == 1
    finally:
        signal.signal(signal.SIGHUP, earlier)
    assert "(1 of its processes have)" in capsys.readouterr().err


def test_a_second_gate_does_not_take_the_file(tmp_path: Path) -> None:
    folder, pid_file = write_tiny_artifact(tmp_path / "artifact"), tmp_path / "gate.pid"
    with Server(artifact=folder, pid_file=pid_file) as server, server.client():
        with Server(artifact=folder, pid_file=pid_file) as second:
            assert second.exit_code() == 1
            assert "held by another gate" in second.log[0]
        assert int(pid_file.read_text()) == server.process.pid


def test_a_number_that_is_left_behind_is_never_signalled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = tmp_path / "gate.pid"
    left.write_text(f"{os.getpid()}\n")  # a signal would end this test
    assert main(["reload", "--pid-file", str(left)]) == 1
    assert "left from one that has ended" in capsys.readouterr().err
    assert main(["reload", "--pid-file", str(tmp_path / "nowhere")]) == 1


def test_without_a_file_reload_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reload"]) == 1
    said = capsys.readouterr().err
    assert "start the gate with GATE_PID_FILE=gate.pid" in said
    assert "or with --pid-file gate.pid" in said
