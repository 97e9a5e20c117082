"""Real server processes for tests: started on a free loopback port, stopped by their process id."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import httpx2
import uvicorn
from fastapi import FastAPI

from testing.paths import ROOT

_SECONDS = 60


class Server:
    """`python -m app serve`, or another command that serves, from its first answer on.

    Attributes:
        log: The lines of standard error so far.
    """

    def __init__(self, *arguments: str, command: tuple[str, ...] = ("app", "serve", "--port", "0"), **gate: object):
        """
        Args:
            arguments: More of the command line.
            gate: Settings; `max_waiting=2` sets GATE_MAX_WAITING.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GATE_")}
        environment |= {f"GATE_{name.upper()}": str(value) for name, value in gate.items()}
        self.log: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command, *arguments],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def url(self) -> str:
        line = self.wait_for_line(r"(listening|running on)")
        match = re.search(r"http://\S+", line)
        assert match
        return match.group()

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    @contextmanager
    def client(self) -> Iterator[httpx2.Client]:
        """A client, once the server is ready."""
        with httpx2.Client(base_url=self.url, timeout=_SECONDS) as client:
            assert wait_until(lambda: client.get("/readyz").status_code == 200)
            yield client

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def exit_code(self, seconds: float = _SECONDS) -> int:
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def wait_for_line(self, pattern: str, count: int = 1, seconds: float = _SECONDS) -> str:
        """The line of the log that matches, for the `count`th time."""

        def found() -> list[str]:
            return [line for line in self.log if re.search(pattern, line)]

        assert wait_until(lambda: len(found()) >= count, seconds), f"no {pattern} in {''.join(self.log)}"
        return found()[count - 1]

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)


def wait_until(condition: Callable[[], bool], seconds: float = _SECONDS) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serves in a thread; gives the port."""
    config = uvicorn.Config(app, log_config=None, http="httptools", ws="none", server_header=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def free_port() -> int:
    """A port of the loopback that nothing listens on at this moment."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[str]:
    """Runs a server until the end of the block; gives its address once it listens."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            deadline = time.monotonic() + 30
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()[-3000:]
                    assert time.monotonic() < deadline, log.read_text()[-3000:]
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
