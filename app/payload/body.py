"""Request bodies: read within a size and a time, held within a budget, multipart taken apart in memory."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Self

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.errors import BodyTooSlow, CompressedBody, MalformedRequest, Overloaded, TooManyBytes
from app.payload.allocator import return_free_pages
from app.settings import Settings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

# After this much was held at once, freed pieces of bodies are worth the time that returning them takes.
_BURST_BYTES = 16 * 2**20
_MAX_PARTS = 1000
# python-multipart takes each of these byte by byte, in the event loop; no client sends more than a few.
_MAX_PADDING = 64
_MAX_DISPOSITION_PARAMETERS = 16
# No length that is accepted has more digits, and int() refuses thousands of them with an error of its own.
_MAX_LENGTH_DIGITS = 15


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body.

    Attributes:
        name: Of its form field.
        is_file: Whether it has a file name; which one is the client's word, and not kept.
    """

    name: str
    content: bytes
    is_file: bool


class BodyReader:
    """Reads the bodies of one app's requests, and knows how many bytes they hold together at this moment."""

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

    def hold(self) -> "HeldBody":
        """For as long as a request needs its body, in a `with`; at the end its bytes go back to the budget."""
        return HeldBody(self)

    async def read(self, headers: Headers, receive: Receive, held: "HeldBody") -> bytes:
        """The whole body.

        Raises:
            CompressedBody: It has a Content-Encoding.
            TooManyBytes: It is larger than the limit, by its declared length or as it arrives.
            Overloaded: All requests together would hold more than the budget.
            BodyTooSlow: It did not arrive in time.
            ClientDisconnect: The client went away before its end.
        """
        if any(coding.lower() != "identity" for coding in headers.getlist("content-encoding")):
            raise CompressedBody("Send the body as it is, without Content-Encoding.")
        declared = headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > _MAX_LENGTH_DIGITS or int(declared) > self._max_upload_bytes):
            raise self._too_many_bytes()
        # Not a list of chunks: joining them at the end would hold everything twice.
        body = BytesIO()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientDisconnect
                    chunk: bytes = message.get("body", b"")
                    self._account(held, len(chunk))
                    if not message.get("more_body", False) and not body.tell():
                        return chunk
                    body.write(chunk)
                    if not message.get("more_body", False):
                        break
        except TimeoutError as error:
            raise BodyTooSlow(f"The body took longer than {self._timeout_seconds:g} seconds.") from error
        return body.getvalue()

    def give_back(self, size: int) -> None:
        """Takes back what a request held; `HeldBody` calls it."""
        self.buffered_bytes -= size
        if self.buffered_bytes == 0 and self._most_buffered_bytes > _BURST_BYTES:
            self._most_buffered_bytes = 0
            return_free_pages()
        self._observe_bytes(size)

    def _account(self, held: "HeldBody", size: int) -> None:
        held.size += size
        self.buffered_bytes += size
        self._most_buffered_bytes = max(self._most_buffered_bytes, self.buffered_bytes)
        if held.size > self._max_upload_bytes:
            raise self._too_many_bytes()
        if self.buffered_bytes > self._max_buffered_bytes:
            raise Overloaded("The bodies of all requests in work are too large together; try again.")

    def _too_many_bytes(self) -> TooManyBytes:
        return TooManyBytes(f"The body has more than the {self._max_upload_bytes} bytes that are accepted.")


class HeldBody:
    """How much of the budget one request takes, until the end of its `with`."""

    __slots__ = ("_bodies", "size")

    def __init__(self, bodies: BodyReader) -> None:
        self._bodies = bodies
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._bodies.give_back(self.size)


def is_multipart(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith("multipart/form-data")


def parse_multipart(headers: Headers, body: bytes) -> list[Part]:
    """Takes a multipart body apart. File names and content types are the client's words: they are not even read.

    Raises:
        MalformedRequest: No boundary, broken or unfinished parts, or too many of them.
    """
    _, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    if not boundary:
        raise MalformedRequest("The multipart content type names no boundary.")
    _check_delimiters(body, b"--" + boundary)
    collector = _PartCollector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise MalformedRequest(f"The multipart body is broken: {error}.") from error
    if not collector.finished:
        raise MalformedRequest("The multipart body ends before its last boundary.")
    return collector.parts


def _check_delimiters(body: bytes, delimiter: bytes) -> None:
    """Refuses what the parser would take seconds for: very many delimiters, or padding behind one."""
    position = body.find(delimiter)
    for _ in range(_MAX_PARTS + 1):
        if position < 0:
            return
        position += len(delimiter)
        padding = body[position : position + _MAX_PADDING]
        if len(padding) == _MAX_PADDING and not padding.strip(b" \t"):
            raise MalformedRequest("The multipart body has padding behind a boundary.")
        position = body.find(delimiter, position)
    if position >= 0:
        raise MalformedRequest(f"The multipart body has more than {_MAX_PARTS} parts.")


class _PartCollector:
    """What python-multipart's parser calls; collects name and content of each part."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.finished = False
        self._field = b""
        self._value = b""
        self._name = ""
        self._is_file = False
        self._content: list[bytes] = []

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._name, self._is_file, self._content = "", False, []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._field.lower() == b"content-disposition":
            if self._value.count(b";") > _MAX_DISPOSITION_PARAMETERS:
                raise MalformedRequest("A part's Content-Disposition has too many parameters.")
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("utf-8", "replace")
            self._is_file = bool(options.get(b"filename", b""))
        self._field, self._value = b"", b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        self.parts.append(Part(self._name, b"".join(self._content), self._is_file))

    def _finish(self) -> None:
        self.finished = True
