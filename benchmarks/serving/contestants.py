"""What is compared: each a server process (or several) that starts, pauses and stops."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.load import http_request
from benchmarks.serving.torch_model import ARTIFACT_VARIABLE, NETWORK_VARIABLE
from benchmarks.serving.workloads import MULTIPART, RAW, Workload
from testing.paths import ROOT

_READY_SECONDS = 90
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Contestant:
    """How to start one, and what to send it.

    Attributes:
        name: As in the tables.
        command: After `python`; PORT is replaced.
        paths: For each kind of body that it takes.
        environment: Added to this process's.
        pictures: Only these are sent; None for all.
    """

    name: str
    command: tuple[str, ...]
    paths: dict[str, str]
    environment: dict[str, str]
    pictures: tuple[str, ...] | None = None

    def takes(self, workload: Workload) -> bool:
        return workload.kind in self.paths and (self.pictures is None or workload.picture in self.pictures)

    def request(self, workload: Workload) -> bytes:
        return http_request(self.paths[workload.kind], workload.content_type, workload.body)


def _uvicorn(app: str) -> tuple[str, ...]:
    quiet = ("--no-access-log", "--log-level", "warning")
    return ("-m", "uvicorn", app, "--port", "PORT", "--loop", "uvloop", "--http", "httptools", *quiet)


GATE, NAIVE, NAIVE_TUTORIAL = "imagegate", "naive app", "naive app, tutorial's network"
LITSERVE_TORCH, LITSERVE_ONNX = "LitServe, PyTorch", "LitServe, same graph"
FASTAPI_PLAIN, FASTAPI = "FastAPI without model, as commonly written", "FastAPI without model, tuned"
ASGI = "bare ASGI without model"
GATE_TUTORIAL = "imagegate, tutorial's network"
GATE_SINGLY, GATE_TUTORIAL_SINGLY = "imagegate, one at a time", "imagegate, tutorial's network, one at a time"


def contestants(artifact: Path, tutorial_artifact: Path) -> list[Contestant]:
    """All of them, ours first.

    Args:
        artifact: Of the default gate.
        tutorial_artifact: Of the tutorial's plain autoencoder.
    """
    environment = {ARTIFACT_VARIABLE: str(artifact)}
    with_tutorial = {ARTIFACT_VARIABLE: str(tutorial_artifact)}
    serve, small, raw = ("serve", "--port", "PORT"), ("28x28 PNG",), {RAW: "/v1/predict"}
    together, singly = ("-m", "app", *serve), ("-m", "benchmarks.serving.one_at_a_time", *serve)
    form = {MULTIPART: "/predict"}
    ceilings, lit = "benchmarks.serving.ceilings", ("-m", "benchmarks.serving.litserve_app")
    both = {RAW: "/raw", MULTIPART: "/multipart"}
    naive = _uvicorn("benchmarks.serving.naive:app")
    tutorial = {**environment, NETWORK_VARIABLE: "tutorial"}
    own = {RAW: "/v1/predict", MULTIPART: "/v1/predict"}
    return [
        Contestant(GATE, together, own, environment),
        Contestant(GATE_SINGLY, singly, raw, environment, small),
        Contestant(GATE_TUTORIAL, together, raw, with_tutorial, small),
        Contestant(GATE_TUTORIAL_SINGLY, singly, raw, with_tutorial, small),
        Contestant(NAIVE, naive, form, environment),
        Contestant(NAIVE_TUTORIAL, naive, form, tutorial),
        Contestant(LITSERVE_TORCH, (*lit, "torch", "PORT"), form, environment),
        Contestant(LITSERVE_ONNX, (*lit, "onnx", "PORT"), form, environment),
        Contestant(FASTAPI_PLAIN, _uvicorn(f"{ceilings}:plain_app"), both, {}),
        Contestant(FASTAPI, _uvicorn(f"{ceilings}:tuned_app"), both, {}),
        Contestant(ASGI, _uvicorn(f"{ceilings}:asgi_app"), both, {}),
    ]


class Server:
    """A started contestant, alone in its session and on its cores."""

    def __init__(self, contestant: Contestant, process: "subprocess.Popen[bytes]", port: int, ready: float) -> None:
        self.contestant = contestant
        self.port = port
        self.ready_seconds = ready
        self._session = process.pid

    def pause(self) -> None:
        """Takes nothing from the core while another is measured."""
        _send_all(self._session, signal.SIGSTOP)

    def resume(self) -> None:
        _send_all(self._session, signal.SIGCONT)

    def cpu_seconds(self) -> float:
        """That its processes have used."""
        fields = [stat.rsplit(")", 1)[1].split() for stat in self._read("stat")]
        return sum(int(field[11]) + int(field[12]) for field in fields) / _TICKS_A_SECOND

    def resident_bytes(self) -> int:
        """Of all its processes; what they share counts in each."""
        return sum(int(statm.split()[1]) for statm in self._read("statm")) * resource.getpagesize()

    def own_bytes(self) -> list[int]:
        """Of each process, the first one first; what several share is divided among them."""
        lines = [line.split() for text in self._read("smaps_rollup") for line in text.splitlines()]
        return [int(words[1]) * 1024 for words in lines if words[0] == "Pss:"]

    def _read(self, name: str) -> Iterator[str]:
        for pid in _processes(self._session):
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has ended
                yield Path(f"/proc/{pid}/{name}").read_text()


@contextmanager
def running(contestant: Contestant, first: Workload, cores: set[int], log: Path) -> Iterator[Server]:
    """Starts a contestant, and waits until it has answered one request.

    Raises:
        RuntimeError: It did not; the message ends with its log.
    """
    port = _free_port()
    command = [sys.executable, *(str(port) if part == "PORT" else part for part in contestant.command)]
    with log.open("wb") as stream:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **contestant.environment},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            preexec_fn=_pinned(cores),
        )
    try:
        _wait_until_ready(contestant.request(first), process, port, log)
        yield Server(contestant, process, port, time.perf_counter() - started)
    finally:
        _send_all(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_ready(request: bytes, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.perf_counter() + _READY_SECONDS
    while time.perf_counter() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
                connection.sendall(request)
                if connection.recv(12) == b"HTTP/1.1 200":
                    return
        except OSError:
            pass
        time.sleep(0.01)
    raise RuntimeError(f"{' '.join(process.args)} does not answer:\n{log.read_text()[-2000:]}")  # type: ignore[arg-type]


def _processes(session: int) -> list[int]:
    """The ids of a session's processes in order; a server's workers have process groups of their own."""
    found = []
    for pid in sorted(int(folder.name) for folder in Path("/proc").glob("[0-9]*")):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                found.append(pid)
    return found


def _send_all(session: int, number: signal.Signals) -> None:
    for pid in _processes(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _pinned(cores: set[int]) -> Callable[[], None]:
    return lambda: os.sched_setaffinity(0, cores)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
