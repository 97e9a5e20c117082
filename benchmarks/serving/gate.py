"""What standing behind the gate costs a request: `make bench-gate`.

A classifier that answers at once is asked directly and through /v1/gate, one at a time and sixteen at once. The
difference is the gate's own cost: reading, judging and forwarding one small image.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO

import aiohttp
import uvloop
from PIL import Image, ImageDraw

ANSWER = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"digit":3}'


class Classifier(asyncio.Protocol):
    """Answers each request of known length at once: the fastest classifier there is."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if separator and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]):
            self._received = b""
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


async def serve_classifier(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Classifier, "127.0.0.1", port)
    await server.serve_forever()


def circle() -> bytes:
    picture = Image.new("L", (28, 28), 255)
    ImageDraw.Draw(picture).ellipse((6, 6, 22, 22), outline=0)
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


_CLASSIFIER = ("-m", "benchmarks.serving.gate", "--classifier")


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[str]:
    with subprocess.Popen([sys.executable, *command], env=environment) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit(f"{command} ended with exit code {process.returncode}.") from None
                    time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def measure(url: str, body: bytes, concurrency: int, requests: int) -> dict[str, float]:
    """Milliseconds a request, and requests a second, after a tenth as many to warm up."""
    async with aiohttp.ClientSession() as session:

        async def ask() -> float:
            started = time.perf_counter()
            async with session.post(url, data=body, headers={"content-type": "image/png"}) as response:
                await response.read()
                assert response.status in (200, 422), response.status
            return time.perf_counter() - started

        async def ask_many(count: int) -> list[float]:
            return [await ask() for _ in range(count)]

        await asyncio.gather(*(ask_many(requests // concurrency // 10) for _ in range(concurrency)))
        started = time.perf_counter()
        times = await asyncio.gather(*(ask_many(requests // concurrency) for _ in range(concurrency)))
        elapsed = time.perf_counter() - started
    milliseconds = sorted(1000 * one for part in times for one in part)
    return {
        "median_ms": round(statistics.median(milliseconds), 3),
        "p99_ms": round(milliseconds[int(0.99 * len(milliseconds))], 3),
        "per_second": round(len(milliseconds) / elapsed),
    }


def running_classifier(port: int) -> AbstractContextManager[str]:
    """A server in a process of its own that answers everything at once; gives its URL."""
    return running([*_CLASSIFIER, str(port)], port, dict(os.environ))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--classifier", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.classifier:
        uvloop.run(serve_classifier(arguments.classifier))
    classifier_port, gate_port = free_port(), free_port()
    environment = {**os.environ, "GATE_LOG_LEVEL": "warning", "GATE_MODE": "shadow"}
    environment["GATE_CLASSIFIER_URL"] = f"http://127.0.0.1:{classifier_port}"
    with (
        running_classifier(classifier_port) as classifier,
        running(["-m", "app", "serve", "--port", str(gate_port)], gate_port, environment) as gate,
    ):
        for concurrency in (1, 16):
            direct = uvloop.run(measure(f"{classifier}/", circle(), concurrency, arguments.requests))
            gated = uvloop.run(measure(f"{gate}/v1/gate/", circle(), concurrency, arguments.requests))
            cost = round(gated["median_ms"] - direct["median_ms"], 3)
            print(json.dumps({"concurrency": concurrency, "direct": direct, "gated": gated, "cost_ms": cost}))


if __name__ == "__main__":
    main()
