import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testing.pictures import picture
from testing.servers import Server

HEAD = b"GET /livez HTTP/1.1\r\nHost: gate\r\n"


@pytest.fixture(scope="module")
def server(tiny_artifact: Path) -> Iterator[Server]:
    with Server(artifact=tiny_artifact, body_timeout_seconds=0.5) as server, server.client():
        yield server


def everything_sent_by(connection: socket.socket) -> bytes:
    """What the server answers until it closes the connection, or resets it because more was sent than it read."""
    chunks = []
    with suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            chunks.append(chunk)
    return b"".join(chunks)


def ask(server: Server, request: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(request)
        return everything_sent_by(connection)


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /livez", HEAD, b"\r\n", HEAD + b"\r\n" + HEAD],
    ids=["nothing", "no line", "no end of header", "blank lines", "a second request"],
)
def test_a_connection_that_does_not_get_on_is_closed(server: Server, beginning: bytes) -> None:
    started = time.monotonic()
    answer = ask(server, beginning)
    assert time.monotonic() - started < 6
    assert answer.count(b"HTTP/1.1 200") == beginning.count(b"\r\n\r\n")


def test_blank_lines_do_not_keep_a_connection_open(server: Server) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        end = time.monotonic() + 6
        with suppress(ConnectionError):
            while time.monotonic() < end:
                connection.sendall(b"\r\n")
                time.sleep(0.05)
        assert time.monotonic() < end


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"X: " + b"x" * 400_000,
        HEAD + b"".join(b"X-%d: x\r\n" % number for number in range(40_000)),
        b"GET /" + b"x" * 400_000,
        b"POST /v1/predict HTTP/1.1\r\nHost: gate\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 400_000,
    ],
    ids=["one field", "many fields", "the address", "a trailer"],
)
def test_a_header_without_end_is_refused(server: Server, request_bytes: bytes) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(request_bytes)
            answer = everything_sent_by(connection)
        except ConnectionError:  # the server closed before everything was sent
            return
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in answer


def test_what_is_not_http_gets_a_problem(server: Server) -> None:
    answer = ask(server, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400")
    assert b'"type":"urn:imagegate:malformed-request"' in answer


def test_requests_sent_ahead_are_answered_in_order(server: Server) -> None:
    answer = ask(server, (HEAD + b"\r\n") * 2 + HEAD + b"Connection: close\r\n\r\n")
    assert answer.count(b"HTTP/1.1 200") == 3


def test_too_many_requests_sent_ahead_end_the_connection(server: Server) -> None:
    assert ask(server, (HEAD + b"\r\n") * 5000).count(b"HTTP/1.1 200") < 100


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\n"
NEXT = HEAD + b"Connection: close\r\n\r\n"


@pytest.mark.parametrize("cut_at", [0, 60, 120, 180, 200, 230, 260])
@pytest.mark.parametrize("chunked", [False, True])
def test_an_offer_to_upgrade_changes_nothing_wherever_the_packets_are_cut(
    server: Server, chunked: bool, cut_at: int
) -> None:
    image = picture()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(image)
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(image), image) if chunked else image
    request = b"POST /v1/predict HTTP/1.1\r\nHost: gate\r\n" + OFFER + framing + b"\r\n\r\n" + body
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request[:cut_at])
        time.sleep(0.02)
        connection.sendall(request[cut_at:] + NEXT)
        answer = everything_sent_by(connection)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert b'"is_anomaly":false' in answer


def test_a_body_behind_an_offer_is_never_a_request_of_its_own(server: Server) -> None:
    hidden = HEAD + b"\r\n"
    request = b"POST /v1/predict HTTP/1.1\r\nHost: gate\r\n" + OFFER + b"Content-Length: %d\r\n\r\n" % len(hidden)
    answer = ask(server, request + hidden + NEXT)
    assert answer.count(b"HTTP/1.1 ") == 2
    assert answer.count(b"HTTP/1.1 415") == 1


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_an_offer_without_a_body_is_answered(server: Server, method: bytes) -> None:
    answer = ask(server, method + b" /livez HTTP/1.1\r\nHost: gate\r\n" + OFFER + b"\r\n" + NEXT)
    assert answer.count(b"HTTP/1.1 ") == 2


def test_the_server_lives_on_after_all_that(server: Server) -> None:
    with server.client() as client:
        assert client.get("/livez").status_code == 200


def half_closed(server: Server, *requests: bytes) -> bytes:
    """The answers to a client that says by closing its side that it sends no more, as `nc -N` and some proxies do."""
    with socket.create_connection(server.address, timeout=10) as connection:
        connection.sendall(b"".join(requests))
        connection.shutdown(socket.SHUT_WR)
        return everything_sent_by(connection)


def post(content: bytes) -> bytes:
    return b"POST /v1/predict HTTP/1.1\r\nHost: gate\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


@pytest.mark.parametrize("side", [28, 3000])
def test_a_client_that_closes_its_side_gets_its_answer_and_then_the_end(server: Server, side: int) -> None:
    answer = half_closed(server, post(picture(side)))
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"is_anomaly" in answer


def test_requests_sent_ahead_are_all_answered_to_a_client_that_closes_its_side(server: Server) -> None:
    answer = half_closed(server, *[post(picture(300))] * 3)
    assert answer.count(b"HTTP/1.1 200") == 3


def test_half_a_request_and_a_closed_side_get_no_answer(server: Server) -> None:
    assert half_closed(server, post(picture())[:-1]) == b""


def test_a_slow_body_gets_its_answer_on_a_connection_that_waited_before(server: Server) -> None:
    with socket.create_connection(server.address, timeout=10) as connection:
        time.sleep(0.4)
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: gate\r\nContent-Length: 9\r\n\r\nabc")
        assert everything_sent_by(connection).startswith(b"HTTP/1.1 408")
