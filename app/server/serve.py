"""The serving process: uvicorn with a draining time. SIGTERM stops it with exit code 0.

`app.__main__` runs one such process, or a supervisor (`app.server.supervisor`) that starts several.
"""

import asyncio
import logging
import math
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from app.detection.snapshot import RecordedFiles, reader_of
from app.judging.judge import Judge
from app.judging.reload import load_detector
from app.main import create_app
from app.server.http_limits import GateProtocol
from app.server.listener import Address, listen, log_address
from app.server.pid_file import report_reload
from app.settings import Settings

# Longer than the keep-alive timeout of clients and most load balancers (httpx 5 seconds, nginx 60), so that they close
# idle connections first. If the server did, it might close one just as the next request arrives.
_KEEP_ALIVE_SECONDS = 75

logger = logging.getLogger(__name__)


def serve_alone(settings: Settings, address: Address) -> int:
    """Serves with this process until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 after a drained stop.

    Raises:
        ArtifactError: The artifact cannot be served. Raised before the port is opened.
        SettingsError: There is no such address.
        OSError: The port cannot be bound.
    """
    server = GateServer(settings)
    with listen(address) as listener:
        server.on_started = partial(log_address, listener)
        server.run(sockets=[listener])
    return 0 if server.started else 1


class GateServer(uvicorn.Server):
    """A uvicorn server that drains before it stops, and does not re-raise the signal at its end.

    Attributes:
        on_started: Called in the event loop once requests are accepted.
    """

    def __init__(
        self,
        settings: Settings,
        snapshot: bytes | None = None,
        on_artifact: Callable[[Mapping[str, bytes]], None] | None = None,
    ) -> None:
        """
        Args:
            settings: All of them.
            snapshot: From `app.detection.snapshot.pack`: the artifact to begin with, in place of the folder's.
            on_artifact: Is given the files of each artifact that comes to serve, by name.

        Raises:
            ArtifactError: The artifact cannot be served.
        """
        read = RecordedFiles() if snapshot is None else reader_of(snapshot)
        detector = load_detector(settings.artifact, settings.target_false_positive_rate, read)
        if on_artifact is not None and isinstance(read, RecordedFiles):
            on_artifact(read.contents)
        app: FastAPI = create_app(settings, detector)
        app.state.on_artifact = on_artifact
        if settings.pid_file is not None:
            app.state.on_reloaded = partial(report_reload, settings.pid_file)
        self._judge: Judge = app.state.judge
        self._drain_seconds = settings.drain_seconds
        self.on_started: Callable[[], None] = lambda: None
        config = uvicorn.Config(
            app,
            loop="uvloop",
            http=GateProtocol.within(settings.body_timeout_seconds),
            ws="none",
            lifespan="on",
            access_log=False,
            proxy_headers=False,  # nothing here goes by the client's address
            log_config=None,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds),
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

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
        """Handles SIGTERM and SIGINT: the first signal starts draining, a second one ends the draining time."""
        self.drain()

    def drain(self) -> None:
        """Marks the service as not ready, but accepts requests for the draining time. A second call ends that time.

        After it, the server stops accepting and completes the requests in flight, but waits no longer than
        `request_timeout_seconds` for them.
        """
        if self._judge.draining or not self._drain_seconds:
            self._judge.draining = True
            self.should_exit = True
            return
        self._judge.draining = True
        logger.info("draining", extra={"fields": {"seconds": self._drain_seconds}})
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def _stop(self) -> None:
        self.should_exit = True
