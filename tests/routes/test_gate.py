"""Requests in front of a classifier: which reach it, what reaches it, and what comes back."""

import base64
import http.client
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.settings import Settings, SettingsError
from testing.fake_classifier import FakeClassifier
from testing.gate_requests import b64, bytes_input, json_request
from testing.pictures import encoded, picture

NORMAL, ANOMALY, BROKEN = picture(level=255), picture(level=0), picture()[:40]
TIFF = picture(image_format="TIFF")
MakeClient = Callable[..., TestClient]


@pytest.fixture
def gate(make_client: MakeClient, classifier: FakeClassifier) -> TestClient:
    return make_client(classifier_url=classifier.url)


def ways(data: bytes) -> dict[str, dict[str, Any]]:
    """One image in each way in which classifiers take one."""
    text = b64(data)
    level = 0 if data == ANOMALY else 1
    element = np.array([len(data)], "<u4").tobytes() + data
    header = {"inputs": [bytes_input(1, len(element))]}
    return {
        "raw": {"content": data, "headers": {"content-type": "image/png"}},
        "multipart": {"files": {"anything": ("a.png", data)}, "data": {"top_k": "3"}},
        "json": json_request(image=text, top_k=3),
        "data-url": json_request(image="data:image/png;base64," + text),
        "nested": json_request(request={"items": [{"image": {"b64": text}}]}),
        "list": json_request(images=[text]),
        "kserve-v1": json_request(instances=[{"image_bytes": {"b64": text}, "key": "1"}]),
        "unknown-field": json_request(whatever=text),
        "form-field": {"files": {"image": (None, text)}},
        "query": {"params": {"image": text}, "content": b"{}"},
        "tensor": json_request(
            inputs=[{"name": "x", "shape": [1, 784], "datatype": "FP32", "data": [float(level)] * 784}]
        ),
        "bytes-tensor": json_request(inputs=[bytes_tensor(data)]),
        "binary-tensor": {
            "content": (document := json.dumps(header).encode()) + element,
            "headers": {"inference-header-content-length": str(len(document))},
        },
        "raw-tensor": {"content": data, "headers": {"inference-header-content-length": "0"}},
    }


def bytes_tensor(data: bytes) -> dict[str, Any]:
    return {"name": "x", "shape": [1], "datatype": "BYTES", "data": [b64(data)]}


@pytest.mark.parametrize("way", ways(NORMAL))
def test_normal_image_reaches_the_classifier_unchanged(way: str, gate: TestClient, classifier: FakeClassifier) -> None:
    request = gate.build_request("POST", "/v1/gate/classify", **ways(NORMAL)[way])
    response = gate.send(request)
    assert response.status_code == 200, response.text
    assert response.json() == {"digit": 3}
    (received,) = classifier.requests
    assert received.body == request.read()
    assert received.values(b"content-type") == [value.encode() for value in request.headers.get_list("content-type")]


@pytest.mark.parametrize("way", ways(ANOMALY))
def test_anomaly_never_reaches_the_classifier(way: str, gate: TestClient, classifier: FakeClassifier) -> None:
    response = gate.post("/v1/gate/classify", **ways(ANOMALY)[way])
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:imagegate:anomalous-image"
    assert problem["prediction"]["is_anomaly"] is True
    assert problem["prediction"]["score"] > problem["prediction"]["threshold"]
    assert response.headers["X-Gate-Verdict"] == "anomaly"
    assert not classifier.requests


@pytest.mark.parametrize(
    ("request_fields", "status"),
    [
        ({"content": b""}, 400),
        ({"content": b"no image"}, 415),
        ({"content": TIFF}, 415),
        ({"content": BROKEN}, 422),
        ({"content": NORMAL, "headers": {"content-encoding": "gzip"}}, 415),
        ({"content": NORMAL, "headers": [("content-type", "image/png"), ("content-type", "text/plain")]}, 400),
        ({"files": [("a", ("a.png", NORMAL)), ("b", ("b.ppm", b"P2 1 1 255 0"))]}, 415),
        ({"files": [("a", ("a.png", NORMAL)), ("b", ("b.tiff", TIFF))]}, 415),
        ({"files": [("a", ("a.png", NORMAL)), ("b", (None, TIFF))]}, 415),
        ({"data": {"a": "b"}, "files": {"n": (None, "text")}}, 400),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/mixed; boundary=x"}}, 415),
        ({"content": b"--x\r\n", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400),
        (json_request(text="hello"), 400),
        (json_request(image="not base64!"), 400),
        (json_request(image=b64(TIFF)), 415),
        (json_request(image=b64(NORMAL), other={"image_url": "https://elsewhere/duck.png"}), 415),
        (json_request(images=[b64(NORMAL), b64(TIFF)]), 415),
        (json_request(image=b64(NORMAL), pixels=[[0] * 28] * 28), 415),
        (json_request(image=b64(NORMAL), row={f"pixel{index}": 0 for index in range(784)}), 415),
        (json_request(inputs=[bytes_tensor(NORMAL)], instances=[[0] * 784]), 415),
        ({"content": b'{"image":"", "image":"%s"}' % base64.b64encode(NORMAL)}, 400),
        ({"content": b'{"image":"%s", "n": NaN}' % base64.b64encode(NORMAL)}, 400),
        ({"content": b"[" * 100_000}, 400),
        ({"content": b"[" + b"0," * 1_100_000 + b"0]"}, 413),
        (json_request(inputs=[{"name": "x", "shape": [1, 64], "datatype": "INT32", "data": [0] * 64}]), 415),
        (json_request(inputs=[{"name": "x", "shape": [1, 784], "datatype": "FP32", "data": [255] * 784}]), 400),
    ],
)
def test_request_that_cannot_be_judged_never_reaches_the_classifier(
    gate: TestClient, classifier: FakeClassifier, request_fields: dict[str, Any], status: int
) -> None:
    response = gate.post("/v1/gate/classify", **request_fields)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["X-Gate-Verdict"] == "unjudged"
    assert not classifier.requests


def test_one_anomaly_refuses_a_whole_batch_and_is_named(gate: TestClient, classifier: FakeClassifier) -> None:
    files = [("files", ("a.png", data)) for data in (NORMAL, ANOMALY, NORMAL)]
    response = gate.post("/v1/gate/", files=files)
    assert response.status_code == 422
    assert response.json()["image"] == 1
    assert not classifier.requests


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_request_without_a_body_passes_if_its_method_changes_nothing(
    gate: TestClient, classifier: FakeClassifier, method: str
) -> None:
    response = gate.request(method, "/v1/gate/v2/health/ready")
    assert response.status_code == 200
    assert response.headers["X-Gate-Verdict"] == "none"
    assert classifier.requests[0].line == f"{method} /v2/health/ready HTTP/1.1".encode()


def test_image_in_a_query_is_judged(gate: TestClient, classifier: FakeClassifier) -> None:
    assert gate.get("/v1/gate/", params={"image": b64(ANOMALY)}).status_code == 422
    assert gate.get("/v1/gate/", params={"url": "http://elsewhere/duck.png"}).status_code == 415
    assert not classifier.requests


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_method_is_forwarded(gate: TestClient, classifier: FakeClassifier, method: str) -> None:
    assert gate.request(method, "/v1/gate/x", content=NORMAL).status_code == 200
    assert classifier.requests[0].line.split()[0] == method.encode()


@pytest.mark.parametrize(
    "path",
    [
        "/a%2Fb/../c%20d;v=1//e/",
        "//elsewhere.example/x",
        "/x?q=%20+&&a=%2F",
        "/?",
        "/@elsewhere.example/",
        "/%00",
        "/a%0Ab%0D%0A",
    ],
)
def test_path_and_query_arrive_byte_for_byte(
    make_server: Callable[..., int], classifier: FakeClassifier, path: str
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", make_server(classifier_url=classifier.url + "/base/"))
    connection.putrequest("POST", "/v1/gate" + path, skip_host=True)
    connection.putheader("Host", "gate.example")
    connection.putheader("Content-Length", str(len(NORMAL)))
    connection.endheaders(NORMAL)
    assert connection.getresponse().status == 200
    connection.close()
    (received,) = classifier.requests
    assert received.line == f"POST /base{path.removesuffix('?')} HTTP/1.1".encode()
    assert received.values(b"host") == [classifier.url.removeprefix("http://").encode()]


def test_headers_arrive_end_to_end_and_no_verdict_can_be_forged(gate: TestClient, classifier: FakeClassifier) -> None:
    headers = [
        ("Authorization", "Bearer classifier"),
        ("X-Trace", "1"),
        ("X-Trace", "2"),
        ("Accept-Encoding", "br"),
        ("Cookie", "session=1"),
        ("Connection", "close, X-Hop"),
        ("X-Hop", "mine"),
        ("TE", "trailers"),
        ("Expect", "100-continue"),
        ("X-Gate-Token", "secret"),
        ("X-Gate-Verdict", "normal"),
        ("X_Gate_Score", "0"),
        ("X-Gate-Model", "other"),
    ]
    gate.post("/v1/gate/", content=NORMAL, headers=headers)
    (received,) = classifier.requests
    names = [name.lower() for name, _ in received.headers]
    assert received.values(b"x-trace") == [b"1", b"2"]
    assert received.values(b"authorization") == [b"Bearer classifier"]
    assert received.values(b"accept-encoding") == [b"br"]
    assert received.values(b"cookie") == [b"session=1"]
    assert not {b"x-hop", b"te", b"expect", b"x-gate-token", b"x_gate_score", b"content-type"} & set(names)
    assert received.values(b"x-gate-verdict") == [b"normal"]
    assert received.values(b"x-gate-score") == [b"0"]
    (model,) = received.values(b"x-gate-model")
    assert re.fullmatch(rb"tiny@sha256:[0-9a-f]{12}", model)


def test_answer_comes_back_unchanged_with_the_gates_own_headers(gate: TestClient, classifier: FakeClassifier) -> None:
    classifier.answer = (
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
        b"X-Gate-Verdict: forged\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nrest"
    )
    with gate.stream("POST", "/v1/gate/", content=NORMAL, follow_redirects=False) as response:
        body = b"".join(response.iter_raw())
    assert response.status_code == 302
    assert body == b"rest"
    assert response.headers["location"] == "http://elsewhere.example/"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["content-encoding"] == "gzip"
    assert response.headers.get_list("x-gate-verdict") == ["normal"]
    assert response.headers["x-gate-score"] == "0"
    assert response.headers["x-gate-model"].startswith("tiny@sha256:")


@pytest.mark.parametrize(
    "request_fields", [{"content": ANOMALY}, {"content": BROKEN}, {"content": b""}, json_request(text="hello")]
)
def test_shadow_mode_forwards_everything_and_reports(
    make_client: MakeClient, classifier: FakeClassifier, request_fields: dict[str, Any]
) -> None:
    response = make_client(classifier_url=classifier.url, mode="shadow").post("/v1/gate/", **request_fields)
    assert response.status_code == 200
    expected = "anomaly" if request_fields["content"] == ANOMALY else "unjudged"
    assert response.headers["x-gate-verdict"] == expected
    assert classifier.requests[0].values(b"x-gate-verdict") == [expected.encode()]


def test_shadow_mode_counts_what_would_be_refused(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, mode="shadow")
    for content in (NORMAL, ANOMALY, BROKEN, BROKEN):
        client.post("/v1/gate/", content=content)
    metrics = client.get("/metrics").text.splitlines()
    assert {
        'gate_forwarded_total{verdict="normal"} 1.0',
        'gate_forwarded_total{verdict="anomaly"} 1.0',
        'gate_forwarded_total{verdict="unjudged"} 2.0',
    } <= set(metrics)
    assert not any(line.startswith("gate_rejected_total") for line in metrics)


def test_shadow_mode_forwards_compressed_bodies(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, mode="shadow")
    assert client.post("/v1/gate/", content=b"zip", headers={"content-encoding": "gzip"}).status_code == 200
    assert classifier.requests[0].values(b"content-encoding") == [b"gzip"]
    assert classifier.requests[0].body == b"zip"


def test_gate_without_a_classifier_is_not_found(client: TestClient) -> None:
    response = client.post("/v1/gate/x", content=NORMAL)
    assert response.status_code == 404
    assert "GATE_CLASSIFIER_URL" in response.json()["detail"]


def test_body_limit_holds_on_the_way_to_the_classifier(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, max_upload_bytes=10)
    assert client.post("/v1/gate/", content=NORMAL).status_code == 413
    assert client.post("/v1/authz/", content=NORMAL).status_code == 413


@pytest.mark.parametrize("route", ["gate", "authz"])
def test_accel_redirect_names_the_location_for_admitted_requests_only(make_client: MakeClient, route: str) -> None:
    client = make_client(accel_redirect="@classifier")
    admitted = client.post(f"/v1/{route}/classify", content=NORMAL)
    refused = client.post(f"/v1/{route}/classify", content=ANOMALY)
    assert (admitted.status_code, admitted.headers["X-Accel-Redirect"]) == (200, "@classifier")
    assert refused.status_code == (422 if route == "gate" else 403)
    assert "X-Accel-Redirect" not in refused.headers


@pytest.mark.parametrize(
    "url",
    [
        "classifier:80",
        "ftp://classifier",
        "http://",
        "http://u:pass@c",
        "http://c/?a=b",
        "http://c:99999",
        "http://a b",
    ],
)
def test_impossible_classifier_url_is_refused_by_name_without_repeating_it(url: str) -> None:
    with pytest.raises(SettingsError, match="GATE_CLASSIFIER_URL") as caught:
        Settings(classifier_url=url)
    assert "pass" not in str(caught.value)


def test_accel_redirect_is_a_named_location() -> None:
    with pytest.raises(SettingsError, match="GATE_ACCEL_REDIRECT"):
        Settings(accel_redirect="/classifier")


def test_tiff_of_two_pages_is_judged_by_its_first_and_not_sent_to_a_classifier_that_may_read_the_second(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    pages = [Image.new("L", (28, 28), level) for level in (255, 0)]
    two = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    client = make_client(classifier_url=classifier.url, formats=("TIFF",))
    assert client.post("/v1/predict", content=two).json()["is_anomaly"] is False
    assert client.post("/v1/gate/predict", content=encoded(pages[0], "TIFF")).status_code == 200
    refusal = client.post("/v1/gate/predict", content=two)
    assert refusal.status_code == 422
    assert "further pages" in refusal.json()["detail"]
    assert len(classifier.requests) == 1
    writer = make_client(classifier_url=classifier.url, formats=("TIFF",), forward="judged")
    assert writer.post("/v1/gate/predict", content=two).status_code == 200
    assert classifier.requests[-1].body.startswith(b"\x89PNG")
