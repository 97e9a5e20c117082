"""Reads request bodies, with limits on the size and the time of each, and on the memory of all together."""

import asyncio
import types
from collections.abc import Callable, Coroutine, Generator, Iterable
from io import BytesIO
from typing import Any, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import BodyTooSlow, CompressedBody, MalformedRequest, Overloaded, TooManyBytes, size_words
from app.payload.allocator import return_free_pages
from app.settings import Settings
from app.telemetry.tracing import traced

# If bodies have taken this much memory at once, free pages are returned to the system when the last one is released.
_BURST_BYTES = 16 * 2**20
# Longer Content-Length values are not parsed: they exceed any limit, and int() raises ValueError beyond 4300 digits.
_MAX_LENGTH_DIGITS = 15


class BodyReader:
    """Reads the bodies of one app's requests, and tracks how many bytes they take together."""

    def __init__(self, settings: Settings, observe_bytes: Callable[[float], None] = lambda size: None) -> None:
        """
        Args:
            settings: The bounds.
            observe_bytes: Is told the size of each body, however far it was read.
        """
        self._observe_bytes = observe_bytes
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_buffered_bytes = settings.max_buffered_bytes
        self._timeout_seconds = settings.body_timeout_seconds
        self.buffered_bytes = 0
        self._most_buffered_bytes = 0

    def hold(self) -> "BodyReservation":
        """Returns a context manager for as long as a request needs its body; at its end the bytes are released."""
        return BodyReservation(self)

    @traced("read body")
    async def read(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, held: "BodyReservation") -> bytes:
        """The whole body.

        Args:
            headers: The request's fields, as ASGI gives them: names in lower case.
            receive: The request's.
            held: Counts the bytes.

        Raises:
            CompressedBody: It has a Content-Encoding.
            TooManyBytes: It is larger than the limit, by its declared length or as it arrives.
            Overloaded: All requests together would hold more than the budget.
            BodyTooSlow: It did not arrive in time.
            MalformedRequest: It is not as long as it was declared; a server that takes an offer to upgrade for the end
                of the request hands over none of it.
            ClientDisconnect: The client went away before its end.
        """
        declared = ""
        for name, value in headers:
            if name == b"content-length":
                declared = declared or value.decode("latin-1")
            elif name == b"content-encoding" and value.lower() != b"identity":
                raise CompressedBody("Send the body as it is, without Content-Encoding.")
        if declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > self._max_upload_bytes):
            raise self._too_many_bytes(int(declared[: _MAX_LENGTH_DIGITS + 1]))
        receiving = self._receive(receive, held)
        try:
            waited_for = receiving.send(None)
        except StopIteration as received:
            # Most bodies came with their headers. For those, the timer would take longer than everything else here.
            body: bytes = received.value
        else:
            body = await self._receive_in_time(receiving, waited_for)
        if declared.isdecimal() and int(declared) != len(body):
            raise MalformedRequest(f"The body has {len(body)} bytes, and was announced with {int(declared)}.")
        return body

    async def _receive_in_time(self, receiving: Coroutine[Any, Any, bytes], waited_for: object) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await _rest_of(receiving, waited_for)
        except TimeoutError as error:
            raise BodyTooSlow(f"The body took longer than {self._timeout_seconds:g} seconds.") from error

    async def _receive(self, receive: Receive, held: "BodyReservation") -> bytes:
        # Not a list of chunks: joining them at the end would hold everything twice.
        body = BytesIO()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk: bytes = message.get("body", b"")
            self._account(held, len(chunk))
            if not message.get("more_body", False):
                break
            body.write(chunk)
        if not body.tell():
            return chunk
        body.write(chunk)
        return body.getvalue()

    def give_back(self, size: int) -> None:
        """Releases the bytes of one request, and reports their number to `observe_bytes`. `BodyReservation` calls it.

        After a burst, when no body is left, free memory is returned to the system.
        """
        self.buffered_bytes -= size
        if self.buffered_bytes == 0 and self._most_buffered_bytes > _BURST_BYTES:
            self._most_buffered_bytes = 0
            return_free_pages()
        self._observe_bytes(size)

    def _account(self, held: "BodyReservation", size: int) -> None:
        held.size += size
        self.buffered_bytes += size
        self._most_buffered_bytes = max(self._most_buffered_bytes, self.buffered_bytes)
        if held.size > self._max_upload_bytes:
            raise self._too_many_bytes(None)
        if self.buffered_bytes > self._max_buffered_bytes:
            raise Overloaded("The bodies of all requests in flight are too large together; try again.")

    def _too_many_bytes(self, size: int | None) -> TooManyBytes:
        """`size` is the declared one, or None for a body that was read as far as it may be."""
        most = self._max_upload_bytes
        if size is None:
            return TooManyBytes(f"The body has more than the {size_words(most)} that are accepted.")
        exact = size_words(size) == size_words(most)
        has, may = (f"{size:,} bytes", f"{most:,}") if exact else (size_words(size), size_words(most))
        return TooManyBytes(f"The body has {has}; at most {may} are accepted.")


@types.coroutine
def _rest_of(begun: Coroutine[Any, Any, bytes], waited_for: object) -> Generator[object, Any, bytes]:
    """Awaits a coroutine whose first step was made by `send(None)`, which returned `waited_for`."""
    try:
        while True:
            try:
                sent = yield waited_for
            except BaseException as error:
                waited_for = begun.throw(error)
            else:
                waited_for = begun.send(sent)
    except StopIteration as done:
        result: bytes = done.value
        return result


class BodyReservation:
    """How much of the budget one request takes, until the end of its `with`."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: BodyReader) -> None:
        self._bodies = bodies
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bodies.give_back(self.size)
