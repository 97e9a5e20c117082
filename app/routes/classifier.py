"""The HTTP client that forwards to the classifier: bytes as they came, pooled connections, one deadline.

aiohttp, for it takes 0.1 ms of processor time for a small POST where httpx2 takes 0.6, and sends a path as it is.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from io import BytesIO

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

from app.errors import ClassifierDown, ClassifierTooSlow, MalformedRequest
from app.telemetry.tracing import traced, with_trace

logger = logging.getLogger(__name__)

RawHeaders = list[tuple[bytes, bytes]]

_CONNECTIONS = 256
# Shorter than any server's own limit (gunicorn's is 2 seconds): a connection that the classifier closes while a
# request is on its way would lose that request, for a POST may not be sent twice.
_IDLE_SECONDS = 1.0
_HEADER_BYTES = 64 * 2**10
# An answer up to this size is held until it is complete, so that one that breaks off can still become a problem.
_HELD_BYTES = 2**20
_HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
    | {b"trailer", b"transfer-encoding", b"upgrade"}
)
_AUTOMATIC = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


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


@dataclass(slots=True)
class Answer:
    """The classifier's answer, as an ASGI application that sends it on.

    Attributes:
        status: As the classifier gave it.
        headers: End-to-end, without Date, which the server that sends it on writes.
        held: The body, or the beginning of a large one.
        rest: What follows `held`, if anything does.
    """

    status: int
    headers: RawHeaders
    held: bytes
    rest: AsyncGenerator[bytes] | None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.held, "more_body": self.rest is not None})
        if self.rest is not None:
            async with aclosing(self.rest) as rest:
                async for chunk in rest:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Classifier:
    """One classifier, reached over pooled connections. Made and closed within one event loop."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """
        Args:
            url: http(s)://HOST[:PORT][/PATH], without a slash at its end.
            timeout_seconds: For connecting, sending and the whole answer; beyond `_HELD_BYTES` of it, for each chunk.
        """
        base = URL(url, encoded=True)
        self._scheme, self._authority = base.scheme, base.raw_authority
        self._path = base.raw_path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_read=timeout_seconds),
            auto_decompress=False,
            skip_auto_headers=_AUTOMATIC,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    @traced("forward", "client")
    async def forward(self, method: str, path: bytes, query: bytes, headers: RawHeaders, body: bytes) -> Answer:
        """Sends one request, once; its answer is not interpreted: redirects, encodings and cookies are the client's.

        Args:
            path: Percent-encoded; empty, or begins with a slash. Appended to the classifier's own path.
            headers: End-to-end. Host, Content-Length and Expect are left out of them: those are this connection's.

        Raises:
            ClassifierDown: It cannot be reached, or its answer breaks off or is not HTTP.
            ClassifierTooSlow: The time is up.
            MalformedRequest: The request cannot be sent on as it is.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._exchange(method, self._target(path, query), _sendable(with_trace(headers)), body)
        except TimeoutError as error:
            raise ClassifierTooSlow(
                f"The classifier did not answer within {self._timeout_seconds:g} seconds."
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            logger.warning("classifier down", extra={"fields": {"error": f"{type(error).__name__}: {error}"}})
            raise ClassifierDown(_why(error)) from error

    def _target(self, path: bytes, query: bytes) -> URL:
        try:
            # With `encoded`, yarl takes the bytes as they are: no dot segment is resolved, nothing quoted anew.
            return URL.build(
                scheme=self._scheme,
                authority=self._authority,
                path=self._path + path.decode("ascii") or "/",
                query_string=query.decode("ascii"),
                encoded=True,
            )
        except UnicodeDecodeError as error:
            raise MalformedRequest("Path and query are ASCII, with everything else percent-encoded.") from error

    async def _exchange(self, method: str, target: URL, headers: CIMultiDict[str], body: bytes) -> Answer:
        # aiohttp writes a file in pieces, and warns of large bodies that are none.
        data = BytesIO(body) if body else None
        response = await self._session.request(method, target, headers=headers, data=data, allow_redirects=False)
        try:
            held = await _read_up_to(response.content, _HELD_BYTES)
        except BaseException:
            response.close()
            raise
        rest = None if response.content.at_eof() else self._rest(response)
        # A length that belongs to the body of another answer would be held against this empty one.
        unsent = (b"date", b"content-length") if response.status in (204, 304) else (b"date",)
        headers_back = [field for field in end_to_end(response.raw_headers) if field[0] not in unsent]
        return Answer(response.status, headers_back, held, rest)

    async def _rest(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # Too late for a problem: the connection to the client is cut, so that it does not take this for the end.
            raise ClassifierDown("The classifier's answer broke off.") from error
        finally:
            response.close()


async def _read_up_to(content: aiohttp.StreamReader, size: int) -> bytes:
    chunks: list[bytes] = []
    held = 0
    while held < size and not content.at_eof():
        chunks.append(await content.readany())
        held += len(chunks[-1])
    return b"".join(chunks)


def _sendable(headers: RawHeaders) -> CIMultiDict[str]:
    try:
        return CIMultiDict(
            (name.decode("ascii"), value.decode())
            for name, value in headers
            if name not in (b"host", b"content-length", b"expect")
        )
    except UnicodeDecodeError as error:
        raise MalformedRequest("A header field that is not UTF-8 cannot be forwarded.") from error


def _why(error: Exception) -> str:
    """For clients: without the classifier's address."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return "The classifier cannot be reached."
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError):
        return "The classifier closed the connection before its answer was complete."
    return "The classifier's answer is not HTTP."
