"""`python -m app serve`: uvicorn with our settings, drained and stopped by SIGTERM with exit code 0."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.artifact import load_artifact
from app.judge import Judge
from app.main import create_app
from app.settings import Settings


def serve(settings: Settings, host: str, port: int) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a drained stop.

    Raises:
        ArtifactError: The artifact cannot be served; said before a port is opened.
        OSError: The address cannot be bound.
    """
    load_artifact(settings.artifact)
    app = create_app(settings)
    server = _Server(app, settings)
    with socket.create_server((host, port), backlog=2048, reuse_port=False) as listener:
        server.run(sockets=[listener])
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """uvicorn's server, which would otherwise end by re-raising the signal, and without a draining time."""

    def __init__(self, app: FastAPI, settings: Settings) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http="httptools",
                ws="none",
                lifespan="on",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=int(settings.request_timeout_seconds),
            )
        )
        self._judge: Judge = app.state.judge
        self._drain_seconds = settings.drain_seconds

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        numbers = (signal.SIGTERM, signal.SIGINT)
        earlier = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Readiness goes off at once; requests are accepted for the draining time. A second signal stops at once."""
        if self._judge.draining or not self._drain_seconds:
            self._judge.draining = True
            self.should_exit = True
            return
        self._judge.draining = True
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
