"""The HTTP client that forwards requests to the classifier, unchanged, over pooled connections.

It uses aiohttp, which takes 0.1 ms of CPU time for a small POST (httpx2 takes 0.6 ms) and can send a path without
normalising it.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from io import BytesIO

import aiohttp
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send
from yarl import URL

from app.errors import ClassifierDown, ClassifierTooSlow, MalformedRequest
from app.judging.queues import while_connected
from app.routes.raw_headers import RawHeaders, RawHeadersRequest, end_to_end, relative_location, sendable
from app.telemetry.tracing import traced, with_trace

logger = logging.getLogger(__name__)

_CONNECTIONS = 256
# Shorter than the keep-alive timeout of common servers (gunicorn: 2 seconds). If the classifier closed an idle
# connection just as a request is sent over it, the request would be lost, since a POST must not be repeated.
_IDLE_SECONDS = 1.0
_HEADER_BYTES = 64 * 2**10
# An answer that announces no more than this is held until it is complete: if it breaks off, it is a problem.
_HELD_BYTES = 2**20
# An answer of unknown length is held for as long, behind its first piece; most are complete by then.
_MOMENT_SECONDS = 0.02
_EVENTS = "text/event-stream"
_AUTOMATIC = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")


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
            async with aclosing(self.rest) as rest, while_connected(receive):
                async for chunk in rest:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Classifier:
    """One classifier, reached over pooled connections. Made and closed within one event loop."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """
        Args:
            url: http(s)://HOST[:PORT][/PATH], without a slash at its end.
            timeout_seconds: For connecting, sending and the beginning of the answer, and then for each silence in it.
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
            request_class=RawHeadersRequest,
            skip_auto_headers=_AUTOMATIC,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def close(self) -> None:
        await self._session.close()

    @traced("forward", "client")
    async def forward(self, method: str, path: bytes, query: bytes, headers: RawHeaders, body: bytes) -> Answer:
        """Sends one request, once; its answer is not interpreted: redirects, encodings and cookies are the client's.
        Only a redirect to the classifier's own address becomes a relative one.

        Args:
            path: Percent-encoded; empty, or begins with a slash. Appended to the classifier's own path.
            headers: End-to-end. Host, Content-Length and Expect are left out of them: those are this connection's.

        Raises:
            ClassifierDown: It cannot be reached, or its answer breaks off or is not HTTP.
            ClassifierTooSlow: The time is up.
            MalformedRequest: The request cannot be sent on as it is.
        """
        try:
            return await self._exchange(method, self._target(path, query), sendable(with_trace(headers)), body)
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
        # As a file object: aiohttp sends those in chunks, and warns about large bodies given as bytes.
        data = BytesIO(body) if body else None
        async with asyncio.timeout(self._timeout_seconds):
            response = await self._session.request(method, target, headers=headers, data=data, allow_redirects=False)
        try:
            held = await _beginning(response)
        except BaseException:
            response.close()
            raise
        rest = None if response.content.at_eof() else self._rest(response)
        # The Content-Length of a 204 or 304 response is not that of its own body, which is empty; the server would
        # reject the mismatch.
        unsent = (b"date", b"content-length") if response.status in (204, 304) else (b"date",)
        headers_back = [
            (name, relative_location(value, target) if name == b"location" else value)
            for name, value in end_to_end(response.raw_headers)
            if name not in unsent
        ]
        return Answer(response.status, headers_back, held, rest)

    async def _rest(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        try:
            async for chunk in response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            # The response has started, so no problem can be sent. Raising closes the client's connection, which tells
            # the client that the response is incomplete.
            raise ClassifierDown("The classifier's answer broke off.") from error
        finally:
            response.close()


async def _beginning(response: aiohttp.ClientResponse) -> bytes:
    """What is there before an answer is passed on: all of a short one, so that one that breaks off is still a problem.

    Of one whose length is not known, what comes within a moment of its first piece; it may be a stream of events.
    """
    content = response.content
    if response.content_length is not None and response.content_length <= _HELD_BYTES:
        return await content.read()
    pieces = [await content.readany()]
    with suppress(TimeoutError):
        async with asyncio.timeout(0 if response.content_type == _EVENTS else _MOMENT_SECONDS):
            while not content.at_eof() and sum(map(len, pieces)) < _HELD_BYTES:
                pieces.append(await content.readany())
    return b"".join(pieces)


def _why(error: Exception) -> str:
    """For clients: without the classifier's address."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return "The classifier cannot be reached."
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | aiohttp.ClientPayloadError):
        return "The classifier closed the connection before its answer was complete."
    return "The classifier's answer is not HTTP."
