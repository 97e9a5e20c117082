import base64
import http.client
import json
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pytest
from starlette.testclient import TestClient

from app.settings import Settings, SettingsError
from testing.fake_classifier import FakeClassifier
from testing.hostile_files import chunk
from testing.pictures import picture

NORMAL, ANOMALY, BROKEN = picture(level=255), picture(level=0), picture()[:40]
TIFF = picture(image_format="TIFF")
MakeClient = Callable[..., TestClient]


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def gate(make_client: MakeClient, classifier: FakeClassifier) -> TestClient:
    return make_client(classifier_url=classifier.url)


def json_request(**fields: Any) -> dict[str, Any]:
    return {"content": json.dumps(fields).encode(), "headers": {"content-type": "application/json"}}


def ways(data: bytes) -> dict[str, dict[str, Any]]:
    """One image in each way in which classifiers take one."""
    text = base64_text(data)
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
    return {"name": "x", "shape": [1], "datatype": "BYTES", "data": [base64_text(data)]}


def bytes_input(count: int, size: int) -> dict[str, Any]:
    return {"name": "x", "shape": [count], "datatype": "BYTES", "parameters": {"binary_data_size": size}}


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
        (json_request(image=base64_text(TIFF)), 415),
        (json_request(image=base64_text(NORMAL), other={"image_url": "https://elsewhere/duck.png"}), 415),
        (json_request(images=[base64_text(NORMAL), base64_text(TIFF)]), 415),
        (json_request(image=base64_text(NORMAL), pixels=[[0] * 28] * 28), 415),
        (json_request(image=base64_text(NORMAL), row={f"pixel{index}": 0 for index in range(784)}), 415),
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
    assert gate.get("/v1/gate/", params={"image": base64_text(ANOMALY)}).status_code == 422
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


def break_detector(client: TestClient, monkeypatch: pytest.MonkeyPatch, only_black: bool = False) -> None:
    """Every judgement fails, or that of images which are not of one grey level."""
    detector = client.app.state.judge.detector  # type: ignore[attr-defined]
    detect = detector.detect

    def broken(images: Any) -> Any:
        if only_black and images.min() == images.max():
            return detect(images)
        raise RuntimeError("broken")

    monkeypatch.setattr(detector, "detect", broken)


@pytest.mark.parametrize(("fail_open", "status"), [(False, 500), (True, 200)])
def test_own_fault_passes_only_with_fail_open(
    make_client: MakeClient,
    classifier: FakeClassifier,
    monkeypatch: pytest.MonkeyPatch,
    fail_open: bool,
    status: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    client = make_client(classifier_url=classifier.url, fail_open=fail_open)
    break_detector(client, monkeypatch)
    with caplog.at_level(logging.ERROR):
        response = client.post("/v1/gate/", content=NORMAL)
    assert response.status_code == status
    assert response.headers["x-gate-verdict"] == "unjudged"
    assert len(classifier.requests) == fail_open


def test_fail_open_never_concerns_an_image_that_breaks_the_gate(
    make_client: MakeClient, classifier: FakeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(classifier_url=classifier.url, fail_open=True)
    break_detector(client, monkeypatch, only_black=True)
    gradient = np.tile(np.arange(28, dtype=np.uint8), (28, 1))
    request = json_request(
        inputs=[{"name": "x", "shape": [1, 784], "datatype": "UINT8", "data": gradient.ravel().tolist()}]
    )
    assert client.post("/v1/gate/", **request).status_code == 422
    assert client.post("/v1/authz/", **request).status_code == 422
    assert not classifier.requests


def test_fail_open_never_concerns_overload(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, fail_open=True)
    client.app.state.judge.waiting = 10**6  # type: ignore[attr-defined]
    response = client.post("/v1/gate/", content=NORMAL)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert not classifier.requests


def test_gate_without_a_classifier_is_not_found(client: TestClient) -> None:
    response = client.post("/v1/gate/x", content=NORMAL)
    assert response.status_code == 404
    assert "GATE_CLASSIFIER_URL" in response.json()["detail"]


def test_body_limit_holds_on_the_way_to_the_classifier(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, max_upload_bytes=10)
    assert client.post("/v1/gate/", content=NORMAL).status_code == 413
    assert client.post("/v1/authz/", content=NORMAL).status_code == 413


def test_authz_admits_with_200_and_refuses_with_403(client: TestClient) -> None:
    admitted = client.post("/v1/authz/any/path", content=NORMAL)
    refused = client.post("/v1/authz/any/path", content=ANOMALY)
    assert (admitted.status_code, admitted.content) == (200, b"")
    assert admitted.headers["x-gate-verdict"] == "normal"
    assert refused.status_code == 403
    assert refused.json()["prediction"]["is_anomaly"] is True
    assert client.get("/v1/authz/").status_code == 200
    assert client.get("/v1/authz/line%0Abreak%0A").status_code == 200
    assert client.post("/v1/authz/").status_code == 400


def test_authz_recognises_images_without_a_content_type(client: TestClient) -> None:
    form = client.build_request("POST", "/v1/authz/", files={"f": ("a.png", ANOMALY)}).read()
    document = json.dumps({"image": base64_text(ANOMALY)}).encode()
    assert client.post("/v1/authz/", content=form).status_code == 403
    assert client.post("/v1/authz/", content=document).status_code == 403


def with_chunk(png: bytes, content: bytes) -> bytes:
    """A PNG with a chunk that no reader of images needs, between its header and its pixels."""
    return png[:33] + chunk(b"teSt", content) + png[33:]


@pytest.mark.parametrize(
    "header",
    [
        b'Content-Disposition: form-data; name="f"; filename="a.png"\r\n\r\n',
        b'Content-Type: image/png\r\ncontent-disposition:form-data; name="f"; filename="a.png"\r\n\r\n',
        b'X: y\r\n z\r\nCONTENT-DISPOSITION : form-data; name="f"\r\n\r\n',
        b'Content-Type: image/png\nContent-Disposition: form-data; name="f"; filename="a.png"\n\n',
    ],
)
def test_authz_without_a_content_type_refuses_a_form_that_an_image_hides(client: TestClient, header: bytes) -> None:
    end = header[-1:] if b"\r" not in header else b"\r\n"
    form = b"".join((end, b"--x", end, header, ANOMALY, end, b"--x--", end))
    element = np.array([len(with_chunk(NORMAL, form))], "<u4").tobytes() + with_chunk(NORMAL, form)
    document = json.dumps({"inputs": [bytes_input(1, len(element))]}).encode()
    in_a_form = client.build_request("POST", "/", files={"f": ("a.png", with_chunk(NORMAL, form))}).read()
    for body in (NORMAL + form, with_chunk(NORMAL, form), in_a_form):
        answer = client.post("/v1/authz/", content=body)
        assert answer.status_code == 400
        assert "content type" in answer.json()["detail"]
    headers = {"inference-header-content-length": str(len(document))}
    assert client.post("/v1/authz/", content=document + element, headers=headers).status_code == 400
    typed = {"content-type": "image/png"}
    assert client.post("/v1/authz/", content=with_chunk(NORMAL, form), headers=typed).status_code == 200


@pytest.mark.parametrize("value", ["{}", "data:image/png;base64,{}", "wrapped"])
def test_authz_without_a_content_type_refuses_a_url_form_that_an_image_hides(client: TestClient, value: str) -> None:
    """A reader of forms takes all in front of the first `&` for a field of its own."""
    hidden = base64.b64encode(with_chunk(ANOMALY, bytes(300)))
    text = base64.encodebytes(with_chunk(ANOMALY, bytes(300))) if value == "wrapped" else quote_plus(hidden).encode()
    form = b"&image=" + (text if value == "wrapped" else value.encode().replace(b"{}", text)) + b"&x="
    document = json.dumps({"image": base64_text(NORMAL), "x": form.decode()}).encode()
    for body in (with_chunk(NORMAL, form), document):
        answer = client.post("/v1/authz/", content=body)
        assert answer.status_code == 400
        assert "content type" in answer.json()["detail"]
    typed = {"content-type": "image/png"}
    assert client.post("/v1/authz/", content=with_chunk(NORMAL, form), headers=typed).status_code == 200
    short = b"&comment=" + b"x" * 256 + b"&x="
    assert client.post("/v1/authz/", content=with_chunk(NORMAL, short)).status_code == 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08grpl", "HEIC"),
        (b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moof", "not one of PNG"),
        (TIFF[:-20], "TIFF.*GATE_FORMATS"),
    ],
)
def test_file_of_another_format_is_refused_as_such_whatever_its_end_is(
    client: TestClient, data: bytes, words: str
) -> None:
    answer = client.post("/v1/authz/", content=data, headers={"content-type": "image/x"})
    assert answer.json()["status"] == 415
    assert re.search(words, answer.json()["detail"])


def test_authz_admits_a_form_without_a_content_type(client: TestClient) -> None:
    form = client.build_request("POST", "/", files={"f": ("a.png", NORMAL), "g": ("b.png", NORMAL)}).read()
    assert client.post("/v1/authz/", content=form).status_code == 200


def test_authz_refuses_a_body_that_was_cut(client: TestClient) -> None:
    headers = {"x-envoy-auth-partial-body": "true"}
    assert client.post("/v1/authz/", content=NORMAL, headers=headers).status_code == 403


def test_authz_never_answers_5xx(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()
    break_detector(client, monkeypatch)
    assert client.post("/v1/authz/", content=NORMAL).status_code == 429
    client.app.state.judge.waiting = 10**6  # type: ignore[attr-defined]
    assert client.post("/v1/authz/", content=NORMAL).status_code == 429
    client.app.state.bodies.buffered_bytes = 10**12  # type: ignore[attr-defined]
    response = client.post("/v1/authz/", content=NORMAL)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"


def test_authz_never_answers_5xx_for_a_fault_outside_of_judging(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: Any) -> bytes:
        raise RuntimeError("broken")

    monkeypatch.setattr(client.app.state.bodies, "read", broken)  # type: ignore[attr-defined]
    with caplog.at_level(logging.ERROR):
        response = client.post("/v1/authz/", content=NORMAL)
    assert response.status_code == 429
    assert response.headers["retry-after"] == "1"
    assert caplog.records[0].exc_info is not None


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
