"""Takes multipart bodies apart, in memory."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.datastructures import Headers

from app.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 1000
# python-multipart takes each of these byte by byte, in the event loop; no client sends more than a few.
_MAX_PADDING = 64
_MAX_DISPOSITION_PARAMETERS = 16


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
