"""Header fields as bytes, on their way from one connection to another."""

import posixpath
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

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


# Fields that say what a request is. CGI and WSGI do not tell "_" from "-" in their names (uWSGI takes the first of both
# spellings for a request's type or length), and gunicorn takes its SCRIPT_NAME and PATH_INFO from such fields.
_MEANINGS = frozenset(
    {b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"host", b"script-name"}
    | {b"path-info", b"request-method", b"query-string"}
)


def check_spelling(headers: RawHeaders) -> None:
    """Refuses what some servers take for a field that says what the request is, and others do not.

    Args:
        headers: Names in lower case.

    Raises:
        MalformedRequest: A field of such a name is spelt with an underscore.
    """
    for name, _ in headers:
        if b"_" in name and name.replace(b"_", b"-") in _MEANINGS:
            spelt = name.decode("latin-1")
            raise MalformedRequest(
                f"The header field `{spelt}`, with an underscore, means different things to servers."
            )


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


def relative_location(location: bytes, target: URL) -> bytes:
    """Where a redirect leads, seen from what was asked for: an address of the classifier's own becomes a relative one.

    A client that followed that address would leave the gate behind. A relative one is right behind any prefix.

    Args:
        location: As the classifier wrote it.
        target: Of the request that it answered.
    """
    try:
        wanted = urlsplit(location.decode("ascii"))
        is_its_port = target.is_default_port() if wanted.port is None else wanted.port == target.port
    except ValueError:
        return location
    if wanted.hostname != target.host or not is_its_port:
        return location
    path = wanted.path or "/"
    relative = posixpath.relpath(path, posixpath.dirname(target.raw_path))
    relative = "./" + relative if relative != "." else "."
    relative += "/" if path.endswith("/") else ""
    return wanted._replace(scheme="", netloc="", path=relative).geturl().encode("ascii")


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
