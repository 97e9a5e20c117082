"""Header fields as bytes, on their way from one connection to another."""

import re
from collections.abc import Iterable
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict

from app.errors import MalformedRequest

RawHeaders = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade"}
)
_OF_THIS_CONNECTION = (b"host", b"content-length", b"expect")
# aiohttp writes header fields as UTF-8. A byte above ASCII becomes a character of the private use area, and that
# character's three bytes become the byte again when they are written.
_PRIVATE = 0xF700
_ABOVE_ASCII = {byte: _PRIVATE + byte for byte in range(0x80, 0x100)}
_WRITTEN = re.compile(rb"\xef[\x9e\x9f][\x80-\xbf]")


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Without the header fields that concern one connection only, and those that `Connection` names (RFC 9110, 7.6.1).

    Returns:
        The others in their order, repeated ones repeated; names in lower case.
    """
    fields = [(name.lower(), value) for name, value in headers]
    named = {
        token.strip().lower() for name, value in fields if name == b"connection" for token in value.split(b",")
    } | _HOP_BY_HOP
    return [(name, value) for name, value in fields if name not in named]


def sendable(headers: RawHeaders) -> CIMultiDict[str]:
    """Returns fields as `RawHeadersRequest` sends them byte for byte; those of one connection are left out.

    Raises:
        MalformedRequest: The name of a field is not ASCII.
    """
    try:
        return CIMultiDict(
            (name.decode("ascii"), value.decode("ascii") if value.isascii() else _in_private_use(value))
            for name, value in headers
            if name not in _OF_THIS_CONNECTION
        )
    except UnicodeDecodeError as error:
        raise MalformedRequest("The name of a header field is not ASCII.") from error


class RawHeadersRequest(aiohttp.ClientRequest):
    """A request that sends what `sendable` returned."""

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        if any(not value.isascii() for value in self.headers.values()):
            conn.protocol.transport = _FirstWrite(conn.protocol)
        return await super().send(conn)


class _FirstWrite:
    """Stands in for a connection's transport until the header is written, which is the first thing that is."""

    def __init__(self, protocol: ResponseHandler) -> None:
        self._protocol = protocol
        self._transport: Any = protocol.transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._protocol.transport = self._transport
        self._transport.write(_as_bytes(data))

    def writelines(self, chunks: Iterable[bytes]) -> None:
        header, *body = chunks
        self._protocol.transport = self._transport
        self._transport.writelines([_as_bytes(header), *body])


def _in_private_use(value: bytes) -> str:
    return value.decode("latin-1").translate(_ABOVE_ASCII)


def _as_bytes(header: bytes) -> bytes:
    head, end, body = bytes(header).partition(b"\r\n\r\n")
    return _WRITTEN.sub(lambda found: bytes((ord(found[0].decode()) - _PRIVATE,)), head) + end + body
