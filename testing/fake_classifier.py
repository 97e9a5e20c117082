"""A classifier for tests: a real HTTP server on the loopback that records what it gets, byte for byte."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

DIGIT = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"
    b'content-length: 11\r\n\r\n{"digit":3}'
)


@dataclass
class ReceivedRequest:
    line: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class FakeClassifier:
    """What it answers may be changed at any time.

    Attributes:
        answer: Sent as it is, for each request; nothing is sent for b"".
        second_half: Sent `pause_seconds` after `answer`.
        closes: Whether it closes the connection behind each answer without announcing it.
        connections: How many it has accepted.
    """

    url: str
    answer: bytes = DIGIT
    second_half: bytes = b""
    pause_seconds: float = 0.0
    closes: bool = False
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def fake_classifier() -> Iterator[FakeClassifier]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            fake.connections += 1
            while request := _read(self.rfile):
                fake.requests.append(request)
                is_head = request.line.startswith(b"HEAD ")
                self.wfile.write(fake.answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if is_head else fake.answer)
                if fake.second_half:
                    fake.released.wait(fake.pause_seconds)
                    self.wfile.write(fake.second_half)
                if fake.closes or not fake.answer:
                    fake.released.wait(fake.pause_seconds)
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """The gate may go away first; that is what some tests are about."""

    with Server(("127.0.0.1", 0), Handler) as server:
        fake = FakeClassifier(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield fake
        finally:
            fake.released.set()
            server.shutdown()


def _read(stream: Any) -> ReceivedRequest | None:
    line = stream.readline().rstrip(b"\r\n")
    if not line:
        return None
    headers = []
    while field_line := stream.readline().rstrip(b"\r\n"):
        name, _, value = field_line.partition(b":")
        headers.append((name, value.strip()))
    length = next((int(value) for name, value in headers if name.lower() == b"content-length"), 0)
    return ReceivedRequest(line, headers, stream.read(length))
