import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import pytest
from starlette.testclient import TestClient
from yarl import URL

from app.routes.raw_headers import end_to_end, relative_location
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


@pytest.mark.parametrize(
    ("location", "comes_back"),
    [
        (b"{}/digits/", b"./digits/"),
        (b"{}/digits/?q=1#there", b"./digits/?q=1#there"),
        (b"{}/other/place", b"./other/place"),
        (b"{}", b"./"),
        (b"/digits/", b"/digits/"),
        (b"https://elsewhere.example/digits", b"https://elsewhere.example/digits"),
        (b"http://127.0.0.1:1/digits", b"http://127.0.0.1:1/digits"),
    ],
)
def test_redirect_to_the_classifier_itself_does_not_lead_around_the_gate(
    make_client: MakeClient, classifier: FakeClassifier, location: bytes, comes_back: bytes
) -> None:
    location = location.replace(b"{}", classifier.url.encode())
    classifier.answer = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % location
    client = make_client(classifier_url=classifier.url)
    answer = client.post("/v1/gate/digits", content=NORMAL, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"].encode()) == (308, comes_back)


@pytest.mark.parametrize("location", [b"//app/digits/", b"https://app/digits/", b"http://APP:80/digits/"])
def test_its_own_address_without_a_port_or_with_another_scheme_is_known_too(location: bytes) -> None:
    assert relative_location(location, URL("http://app/digits")) == b"./digits/"
    assert relative_location(location, URL("http://app:9000/digits")) == location


def test_client_that_follows_such_a_redirect_is_judged_again(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    redirect = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: %s/a/b/\r\nContent-Length: 0\r\n\r\n"
    classifier.answer = redirect % classifier.url.encode()
    client = make_client(classifier_url=classifier.url)
    answer = client.get("/v1/gate/a/c", follow_redirects=False)
    assert answer.next_request is not None
    assert answer.next_request.url.path == "/v1/gate/a/b/"


@pytest.mark.parametrize("name", ["Content_Type", "content_length", "SCRIPT_NAME", "Path_Info"])
@pytest.mark.parametrize("settings", [{}, {"unjudged": "POST /jobs/*"}])
def test_field_that_some_servers_take_for_another_is_refused(
    make_client: MakeClient, classifier: FakeClassifier, name: str, settings: dict[str, str]
) -> None:
    client = make_client(classifier_url=classifier.url, **settings)
    answer = client.post("/v1/gate/jobs/1", content=NORMAL, headers={name: "x"})
    assert answer.status_code == 400
    assert f"`{name.lower()}`" in answer.json()["detail"]
    assert not classifier.requests
    assert client.post("/v1/gate/jobs/1", content=NORMAL, headers={"api_key": "x"}).status_code == 200


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


def test_events_are_passed_on_as_they_come(make_server: Callable[..., int], classifier: FakeClassifier) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    classifier.answer = head + b"9\r\ndata: 1\n\n\r\n"
    classifier.second_half, classifier.pause_seconds = b"9\r\ndata: 2\n\n\r\n0\r\n\r\n", 30
    with socket.create_connection(("127.0.0.1", make_server(classifier_url=classifier.url)), timeout=20) as connection:
        connection.sendall(b"POST /v1/gate/ HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(NORMAL) + NORMAL)
        received = b""
        while b"data: 1" not in received:
            received += connection.recv(65536)
        assert b"data: 2" not in received  # the classifier has not sent it yet
        classifier.released.set()
        while b"data: 2" not in received:
            received += connection.recv(65536)


def test_stream_goes_on_for_longer_than_the_deadline_if_it_is_never_silent_for_so_long(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    classifier.answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"first "
    classifier.second_half, classifier.pause_seconds, classifier.closes = b"second", 0.3, True
    client = make_client(classifier_url=classifier.url, classifier_timeout_seconds=0.5)
    assert client.post("/v1/gate/", content=NORMAL).content == b"first second"


def test_silent_stream_is_cut_when_the_time_is_up(make_server: Callable[..., int], classifier: FakeClassifier) -> None:
    classifier.answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    classifier.second_half, classifier.pause_seconds = b"0\r\n\r\n", 30
    port = make_server(classifier_url=classifier.url, classifier_timeout_seconds=0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"POST /v1/gate/ HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n" % len(NORMAL) + NORMAL)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert b"first" in received
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("value", [b"caf\xe9", "café \uf7e9".encode(), b"\xff\x80"])
@pytest.mark.parametrize("body", [NORMAL, b""])
def test_header_values_beyond_ascii_arrive_byte_for_byte(
    make_server: Callable[..., int], classifier: FakeClassifier, value: bytes, body: bytes
) -> None:
    method = b"POST" if body else b"GET"
    request = b"%b /v1/gate/ HTTP/1.1\r\nhost: h\r\nx-name: %b\r\ncontent-length: %d\r\n\r\n"
    classifier.answer = b"HTTP/1.1 200 OK\r\nx-back: " + value + b"\r\ncontent-length: 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", make_server(classifier_url=classifier.url)), timeout=20) as connection:
        for _ in range(2):  # the connection to the classifier stays usable
            connection.sendall(request % (method, value, len(body)) + body)
            assert b"x-back: " + value in connection.recv(65536)
    assert [one.values(b"x-name") for one in classifier.requests] == [[value]] * 2
    assert [one.body for one in classifier.requests] == [body] * 2


def test_request_id_and_trace_go_to_the_classifier(make_client: MakeClient, classifier: FakeClassifier) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client = make_client(classifier_url=classifier.url)
    response = client.post("/v1/gate/", content=NORMAL, headers={"X-Request-ID": "mine-7", "traceparent": trace})
    client.post("/v1/gate/", content=NORMAL, headers={"X-Request-ID": "not sane"})
    first, second = classifier.requests
    assert first.values(b"x-request-id") == [b"mine-7"] == [response.headers["x-request-id"].encode()]
    assert first.values(b"traceparent") == [trace.encode()]
    (made,) = second.values(b"x-request-id")
    assert len(made) == 32


def test_log_and_metrics_tell_the_classifiers_time_from_the_gates_own(
    make_client: MakeClient, classifier: FakeClassifier, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(classifier_url=classifier.url, log_level="info")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    access = logging.getLogger("app.access")
    access.addHandler(caplog.handler)  # the start of the service takes the root's handlers away
    client.post("/v1/gate/", content=NORMAL, headers={"traceparent": trace})
    access.removeHandler(caplog.handler)
    fields = caplog.records[-1].__dict__["fields"]
    assert fields["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert 0 < fields["classifier_milliseconds"] + fields["gate_milliseconds"] <= fields["milliseconds"]
    assert "gate_classifier_duration_seconds_count 1.0" in client.get("/metrics").text
