"""uvicorn's HTTP protocol, with the bounds that it lacks: on the size and the time of what comes before a body.

It also ignores offers to upgrade the protocol, as RFC 9110, 7.8 allows. Java's HttpClient and curl offer HTTP/2 with an
Upgrade header field. httptools then treats everything after the header as another protocol, and the request's body
would be lost, or parsed as the next request.
"""

import asyncio
from typing import Any, ClassVar

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.errors import MalformedRequest
from app.web.problems import MEDIA_TYPE

# The most bytes outside of the body: request line, header fields, chunk extensions, trailers.
_MAX_HEAD_BYTES = 64 * 2**10
# How much of a body is read and discarded after its request was answered. A client that sends the whole body before it
# reads would otherwise get a reset instead of the response.
_MAX_DISCARDED_BYTES = 64 * 2**20
# A client that has closed its side may wait for its answer, or have gone away: its kernel says the same. It keeps its
# request for this long, so that the work for those who gave up does not go on for much longer than they waited.
_HALF_CLOSED_SECONDS = 5.0
# Requests sent ahead on one connection; more are not needed to keep it busy.
_MAX_PIPELINED = 32


class GateProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with limits on the size of a header and the time to receive a request.

    httptools accepts header fields of any size and number, and uvicorn waits for them without a timeout.
    """

    receive_seconds: ClassVar[float]

    @classmethod
    def within(cls, receive_seconds: float) -> type["GateProtocol"]:
        """Returns a protocol class with a limit on the time to receive a request.

        The first request of a connection has `receive_seconds` from the connection's start, later ones twice that.
        """
        return type("GateProtocol", (cls,), {"receive_seconds": receive_seconds})

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._receiving = False
        self._resuming = False
        self._receive_timer: asyncio.TimerHandle | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer(self.receive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self.send_400_response("The request is not HTTP.")
        if self._head_bytes > _MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"The header has more than {_MAX_HEAD_BYTES} bytes.")
        self._time_receiving()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. Whether to keep the connection: until what it has asked is answered."""
        if self._receiving or self.cycle is None or self.cycle.response_complete or self.transport.is_closing():
            return False
        if not self._half_closed:
            self._half_closed = True
            last = self.pipeline[0][0] if self.pipeline else self.cycle
            last.keep_alive = False
            self._stop_timer()
            self._start_timer(_HALF_CLOSED_SECONDS)
        return True

    def on_message_begin(self) -> None:
        if self._resuming:
            return
        self._receiving = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._resuming:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._resuming:
            return
        if len(self.pipeline) >= _MAX_PIPELINED:
            raise ValueError("Too many requests are sent ahead.")
        super().on_headers_complete()
        self._head_bytes = 0
        # The body has a limit of its own, whose answer this connection must outlive, however long ago it was opened.
        self._stop_timer()

    def on_body(self, body: bytes) -> None:
        self._head_bytes = 0
        if self.cycle.response_complete:
            self._discarded_bytes += len(body)
            if self._discarded_bytes > _MAX_DISCARDED_BYTES:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return  # httptools takes the header for the whole message
        self._receiving = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers input that is not valid HTTP with a problem, and closes the connection."""
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

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            (offset,) = offer.args
            self._resume_without_upgrade()
            self._feed(data[offset:])

    def _resume_without_upgrade(self) -> None:
        """Continues with a new parser for the body of the current request.

        The parser gets a made-up header with the framing fields of the request, so that it knows where the body ends.
        """
        framing = [
            b"%b: %b\r\n" % field for field in self.headers if field[0] in (b"content-length", b"transfer-encoding")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self._resuming = True
        try:
            self.parser.feed_data(b"".join([b"POST / HTTP/1.1\r\n", *framing, b"\r\n"]))
        finally:
            self._resuming = False

    def _time_receiving(self) -> None:
        """Starts the timer if a request is incomplete, or if data has arrived without a request; stops it otherwise.

        uvicorn cancels its keep-alive timer at the first byte. Most requests arrive in one piece and need no timer.
        """
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
