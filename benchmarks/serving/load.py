"""A closed loop of HTTP/1.1 requests over a fixed number of connections: each sends its next when it has its answer.

Its own cost is about 30 microseconds a request, on a core of its own; wrk measures the same rates (serving.md).
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import uvloop

_WARM_UP_SECONDS = 0.2
_DRAIN_SECONDS = 20


@dataclass(slots=True)
class Load:
    """What came back.

    Attributes:
        seconds: How long answers were counted.
        answered: 200s within that time.
        all_answers: All of any status, from the first connection to the last answer: what a server's CPU time is for.
        refused: Other answers and broken connections.
        latencies: Seconds of each 200, those that came after the end included: else slow ones would not count.
    """

    seconds: float
    answered: int = 0
    all_answers: int = 0
    refused: int = 0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def latency_milliseconds(self, percentile: float) -> float:
        """NaN without answers."""
        return float(np.percentile(self.latencies, percentile)) * 1000 if self.latencies else float("nan")


def http_request(path: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body


def load(port: int, request: bytes, concurrency: int, seconds: float) -> Load:
    """Sends `request` for `seconds`, after a short warm-up, and waits for what is then under way."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_load(port, request, concurrency, seconds))


async def _load(port: int, request: bytes, concurrency: int, seconds: float) -> Load:
    start = time.perf_counter() + _WARM_UP_SECONDS
    result = Load(seconds)
    await asyncio.gather(*(_connection(port, request, start, result) for _ in range(concurrency)))
    return result


async def _connection(port: int, request: bytes, start: float, result: Load) -> None:
    loop = asyncio.get_running_loop()
    end = start + result.seconds
    while time.perf_counter() < end:
        connection = _Connection(request, start, result, loop.create_future())
        try:
            transport, _ = await loop.create_connection(lambda: connection, "127.0.0.1", port)  # noqa: B023
            await asyncio.wait_for(connection.finished, end + _DRAIN_SECONDS - time.perf_counter())
            transport.close()
        except OSError:
            result.refused += 1
            await asyncio.sleep(0.01)


class _Connection(asyncio.Protocol):
    """One request after another until the end, or until the server closes."""

    def __init__(self, request: bytes, start: float, result: Load, finished: "asyncio.Future[None]") -> None:
        self._request = request
        self._start = start
        self._end = start + result.seconds
        self._result = result
        self.finished = finished
        self._missing = 0  # bytes of the answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class is none, but does as one
        self._send()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, _, rest = data.partition(b"\r\n\r\n")  # servers send a head in one piece
            self._succeeded = head.startswith(b"HTTP/1.1 200")
            self._missing = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            data = rest
        self._missing -= len(data)
        if not self._missing:
            self._count()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.finished.done():
            self._result.refused += 1
            self.finished.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._request)

    def _count(self) -> None:
        now = time.perf_counter()
        self._result.all_answers += 1
        if not self._succeeded:
            self._result.refused += 1
        elif self._sent >= self._start or now >= self._end:
            self._result.latencies.append(now - self._sent)
        self._result.answered += self._succeeded and self._start <= now < self._end
        if now < self._end:
            self._send()
        else:
            self.finished.set_result(None)
