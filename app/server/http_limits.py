"""uvicorn's HTTP protocol, with the bounds that it lacks: on the size and the time of what comes before a body."""

import asyncio
from typing import Any, ClassVar

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import MalformedRequest
from app.web.problems import MEDIA_TYPE

# Of everything that is not body: request line, header fields, chunk extensions, trailers.
_MAX_HEAD_BYTES = 64 * 2**10
# Of a body whose request is answered already: reading on lets a client that sends first and reads then see its answer.
_MAX_DISCARDED_BYTES = 64 * 2**20
# Requests sent ahead on one connection; more are not needed to keep it busy.
_MAX_PIPELINED = 32


class GateProtocol(HttpToolsProtocol):
    """One connection.

    httptools takes header fields of any size and number, and uvicorn waits for them for ever: both are bounded here.
    """

    receive_seconds: ClassVar[float]

    @classmethod
    def within(cls, receive_seconds: float) -> type["GateProtocol"]:
        """The protocol whose clients have this long to send a request's header, and as long again for its body."""
        return type("GateProtocol", (cls,), {"receive_seconds": receive_seconds})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._receiving = False
        self._receive_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(self.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The header has more than {_MAX_HEAD_BYTES} bytes.")
        self._time_receiving()

    def on_message_begin(self) -> None:
        self._receiving = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("Too many requests are sent ahead.")
        super().on_headers_complete()
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > _MAX_DISCARDED_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP gets a problem too, and the connection ends."""
        problem = orjson.dumps(MalformedRequest(msg).problem())
        lines = [
            "HTTP/1.1 400 Bad Request",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(problem)}",
            "x-content-type-options: nosniff",
            "connection: close",
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + problem)
        self.transport.close()

    def _time_receiving(self) -> None:
        """Limits the time of a connection that has begun a request, or sends what is none; uvicorn's own limit is off
        from the first byte on. Most requests come in one piece and never need the timer."""
        idle = self.cycle is None or self.cycle.response_complete
        if not self._receiving and not idle:
            self._stop_timer()
        elif self._receive_timer is None:
            self._start_timer(2 * self.receive_seconds)

    def _start_timer(self, seconds: float) -> None:
        self._receive_timer = self.loop.call_later(seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._receive_timer is not None:
            self._receive_timer.cancel()
            self._receive_timer = None

    def _too_slow(self) -> None:
        self._receive_timer = None
        if not self.transport.is_closing():
            self.transport.close()
