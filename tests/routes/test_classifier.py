import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from starlette.testclient import TestClient

from app.routes.classifier import end_to_end
from testing.fake_classifier import FakeClassifier
from testing.pictures import picture

NORMAL = picture()
MakeClient = Callable[..., TestClient]


def test_hop_by_hop_fields_are_left_out_and_others_keep_their_order() -> None:
    headers = [
        (b"Connection", b"keep-alive, X-Mine"),
        (b"X-A", b"1"),
        (b"x-mine", b"gone"),
        (b"X-A", b"2"),
        (b"Transfer-Encoding", b"chunked"),
    ]
    assert end_to_end(headers) == [(b"x-a", b"1"), (b"x-a", b"2")]


def test_classifier_that_is_down_is_a_502_that_does_not_tell_where_it_is(make_client: MakeClient) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        response = make_client(classifier_url=f"http://127.0.0.1:{port}").post("/v1/gate/", content=NORMAL)
    assert response.status_code == 502
    assert response.json()["type"] == "urn:imagegate:classifier-down"
    assert str(port) not in response.text


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbroken off",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    ],
)
def test_answer_that_breaks_off_or_is_not_http_is_a_502(
    make_client: MakeClient, classifier: FakeClassifier, answer: bytes
) -> None:
    classifier.answer, classifier.closes = answer, True
    response = make_client(classifier_url=classifier.url).post("/v1/gate/", content=NORMAL)
    assert response.status_code == 502
    assert response.headers["content-type"] == "application/problem+json"
    assert len(classifier.requests) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal"])
def test_slow_answer_is_a_504_when_the_time_is_up(
    make_client: MakeClient, classifier: FakeClassifier, answer: bytes
) -> None:
    classifier.answer, classifier.second_half, classifier.pause_seconds = answer, b"f!", 20
    client = make_client(classifier_url=classifier.url, classifier_timeout_seconds=0.2)
    started = time.monotonic()
    response = client.post("/v1/gate/", content=NORMAL)
    assert response.status_code == 504
    assert response.json()["type"] == "urn:imagegate:classifier-too-slow"
    assert time.monotonic() - started < 5


def test_connections_are_kept_and_used_again(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url)
    for _ in range(5):
        assert client.post("/v1/gate/", content=NORMAL).status_code == 200
    assert classifier.connections == 1


def test_connection_that_the_classifier_closed_is_not_used_again(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    classifier.closes = True
    client = make_client(classifier_url=classifier.url)
    for _ in range(5):
        assert client.post("/v1/gate/", content=NORMAL).status_code == 200
        time.sleep(0.02)
    assert len(classifier.requests) == classifier.connections == 5


def test_request_whose_answer_was_lost_is_not_sent_twice(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url)
    assert client.post("/v1/gate/", content=NORMAL).status_code == 200
    classifier.answer = b""
    assert client.post("/v1/gate/", content=NORMAL).status_code == 502
    assert len(classifier.requests) == 2


def test_large_body_arrives_whole_with_its_length(make_client: MakeClient, classifier: FakeClassifier) -> None:
    body = picture(side=2000, image_format="BMP")
    assert make_client(classifier_url=classifier.url).post("/v1/gate/", content=body).status_code == 200
    (received,) = classifier.requests
    assert received.body == body
    assert received.values(b"content-length") == [str(len(body)).encode()]
    assert not received.values(b"transfer-encoding")
    assert not received.values(b"content-disposition")


def test_body_in_chunks_is_forwarded_with_its_length(
    make_server: Callable[..., int], classifier: FakeClassifier
) -> None:
    connection = HTTPConnection("127.0.0.1", make_server(classifier_url=classifier.url))
    connection.request("POST", "/v1/gate/", iter([NORMAL[:10], NORMAL[10:]]), encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()
    (received,) = classifier.requests
    assert received.body == NORMAL
    assert not received.values(b"transfer-encoding")


@pytest.mark.parametrize("url", ["http://[::1]:1", "http://under_score.invalid/a%20b", "https://127.0.0.1:1"])
def test_every_kind_of_address_can_be_asked(make_client: MakeClient, url: str) -> None:
    assert make_client(classifier_url=url).post("/v1/gate/", content=NORMAL).status_code == 502


def test_large_answer_is_passed_on_in_pieces(make_client: MakeClient, classifier: FakeClassifier) -> None:
    body = bytes(range(256)) * (3 * 2**12)  # 3 MiB
    classifier.answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    response = make_client(classifier_url=classifier.url).post("/v1/gate/", content=NORMAL)
    assert response.content == body
    assert response.headers["content-length"] == str(len(body))


def test_large_answer_that_breaks_off_does_not_look_complete(
    make_server: Callable[..., int], classifier: FakeClassifier
) -> None:
    classifier.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4000000\r\n\r\n" + b"x" * 3_000_000
    classifier.closes = True
    with socket.create_connection(("127.0.0.1", make_server(classifier_url=classifier.url))) as connection:
        connection.sendall(b"POST /v1/gate/ HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(NORMAL) + NORMAL)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-length: 4000000" in head
    assert len(body) < 4_000_000


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_answer_without_a_body_comes_back_without_one(
    make_server: Callable[..., int], classifier: FakeClassifier, status: bytes
) -> None:
    classifier.answer = b"HTTP/1.1 " + status + b"\r\netag: a\r\ncontent-length: 10\r\n\r\n"
    with socket.create_connection(("127.0.0.1", make_server(classifier_url=classifier.url))) as connection:
        request = b"GET /v1/gate/ HTTP/1.1\r\nhost: h\r\n\r\n"
        connection.settimeout(5)
        for _ in range(2):  # the connection stays usable
            connection.sendall(request)
            head = connection.recv(65536)
            assert head.startswith(b"HTTP/1.1 " + status)
            assert b"etag: a" in head


def test_requests_at_the_same_time_each_get_their_own_answer(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url)
    with ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(lambda _: client.post("/v1/gate/", content=NORMAL), range(40)))
    assert {response.status_code for response in responses} == {200}
    assert len(classifier.requests) == 40
