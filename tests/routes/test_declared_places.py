"""GATE_IMAGE_AT and GATE_UNJUDGED: only the declared place is judged, it has to be there, and the rest passes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from testing.fake_classifier import FakeClassifier
from testing.gate_requests import b64
from testing.pictures import picture

NORMAL, ODD = picture(level=255), picture(level=0)
MakeClient = Callable[..., TestClient]
Build = Callable[[bytes], dict[str, Any]]
LONG = "You are a careful assistant. " * 40
TEXT, CALLBACK = "what is in this picture?", "https://client.example/done?id=7"


def chat(image: bytes, *, system: str = "") -> dict[str, Any]:
    url = f"data:image/png;base64,{b64(image)}"
    content = [{"type": "text", "text": TEXT}, {"type": "image_url", "image_url": {"url": url}}]
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    return {"json": {"model": "m", "messages": [*messages, {"role": "user", "content": content}]}}


def body(image: bytes, content_type: str = "image/png") -> dict[str, Any]:
    return {"content": image, "headers": {"content-type": content_type}}


def tensor(image: bytes, **more: Any) -> dict[str, Any]:
    return {"name": "image", "shape": [1], "datatype": "BYTES", "data": [b64(image)], **more}


def file(image: bytes, **fields: Any) -> dict[str, Any]:
    return {"files": {"picture": ("circle 1.png", image, "image/png"), **fields}}


PROMPT = {"name": "prompt", "shape": [1], "datatype": "BYTES", "data": [b64(LONG.encode())]}
BOXES = {"name": "boxes", "shape": [100], "datatype": "FP32", "data": [0.5] * 100}

# What requests are, the setting for them, and the request with an image. The table in docs/gate.md has the same rows.
ORDINARY: dict[str, tuple[str, Build]] = {
    "raw body": ("auto", body),
    "raw body without a type": ("body", lambda image: {"content": image}),
    "raw body as octet-stream": ("body", lambda image: body(image, "application/octet-stream")),
    "raw body with a long query": ("body", lambda image: {**body(image), "params": {"text": LONG}}),
    "raw body with a callback in the query": ("body", lambda image: {**body(image), "params": {"callback": CALLBACK}}),
    "form with one file": ("auto", file),
    "form with a file and fields": ("auto", lambda image: {**file(image), "data": {"top_k": "3", "text": TEXT}}),
    "form with a table": ("form:picture", lambda image: file(image, table=("a.csv", b"a,b\n1,2\n", "text/csv"))),
    "form with a JSON blob": ("auto", lambda image: file(image, meta=("blob", b'{"a":1}', "application/json"))),
    "form with a long prompt": ("form:picture", lambda image: {**file(image), "data": {"prompt": LONG}}),
    "form with a callback": ("form:picture", lambda image: {**file(image), "data": {"callback": CALLBACK}}),
    "form with base64": ("form:picture", lambda image: {"files": {"picture": (None, b64(image))}}),
    "form with several files": ("form:pictures", lambda image: {"files": [("pictures", ("a.png", image))] * 3}),
    "URL-encoded form": ("form:picture", lambda image: {"data": {"picture": b64(image), "text": LONG}}),
    "JSON field": ("auto", lambda image: {"json": {"image": b64(image), "top_k": 3}}),
    "JSON field of another name": ("auto", lambda image: {"json": {"anything": b64(image)}}),
    "JSON data: URL": ("json:/image", lambda image: {"json": {"image": "data:image/png;base64," + b64(image)}}),
    "JSON with a file's name": ("json:/image", lambda image: {"json": {"image": b64(image), "file": "circle.png"}}),
    "JSON with a callback": ("json:/image", lambda image: {"json": {"image": b64(image), "callback": CALLBACK}}),
    "JSON with an embedding": ("json:/image", lambda image: {"json": {"image": b64(image), "v": [0.5] * 512}}),
    "JSON list of images": ("json:/images/*", lambda image: {"json": {"images": [b64(image)] * 3}}),
    "JSON below other fields": (
        "json:/request/image/b64",
        lambda image: {"json": {"request": {"image": {"b64": b64(image)}}}},
    ),
    "JSON document that is the image": ("json:", lambda image: {"json": b64(image)}),
    "OpenAI chat": ("auto", chat),
    "OpenAI chat with a system message": (
        "json:/messages/*/content/*/image_url/url",
        lambda image: chat(image, system=LONG),
    ),
    "Ollama chat": (
        "json:/messages/*/images/*",
        lambda image: {"json": {"messages": [{"role": "user", "content": LONG, "images": [b64(image)]}]}},
    ),
    "TensorFlow Serving": (
        "json:/instances/*/image_bytes/b64",
        lambda image: {"json": {"signature_name": "s" * 300, "instances": [{"image_bytes": {"b64": b64(image)}}]}},
    ),
    "Gradio": (
        "json:/data/0/url",
        lambda image: {"json": {"data": [{"url": "data:image/png;base64," + b64(image)}, LONG], "session_hash": "a"}},
    ),
    "Hugging Face": ("auto", lambda image: {"json": {"inputs": b64(image), "parameters": {"top_k": 3}}}),
    "Open Inference": ("auto", lambda image: {"json": {"id": "7", "inputs": [tensor(image)]}}),
    "Open Inference with a prompt": ("tensor:image", lambda image: {"json": {"inputs": [tensor(image), PROMPT]}}),
    "Open Inference with boxes": ("tensor:image", lambda image: {"json": {"inputs": [BOXES, tensor(image)]}}),
    "MLServer": (
        "auto",
        lambda image: {"json": {"inputs": [tensor(image, parameters={"content_type": "base64"})]}},
    ),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_request_passes_with_its_setting_and_unchanged(
    make_client: MakeClient, classifier: FakeClassifier, kind: str
) -> None:
    image_at, build = ORDINARY[kind]
    client = make_client(classifier_url=classifier.url, image_at=image_at)
    request = client.build_request("POST", "/v1/gate/classify", **build(NORMAL))
    response = client.send(request)
    assert response.status_code == 200, response.text
    assert response.headers["x-gate-verdict"] == "normal"
    assert classifier.requests[0].body == request.read()


@pytest.mark.parametrize("kind", ORDINARY)
def test_the_same_request_with_an_odd_image_is_refused(
    make_client: MakeClient, classifier: FakeClassifier, kind: str
) -> None:
    image_at, build = ORDINARY[kind]
    client = make_client(classifier_url=classifier.url, image_at=image_at)
    assert client.post("/v1/gate/classify", **build(ODD)).json()["type"] == "urn:imagegate:anomalous-image"
    assert not classifier.requests


@pytest.mark.parametrize(
    ("image_at", "request_fields", "named"),
    [
        ("json:/image", {"json": {"images": [b64(NORMAL)]}}, "json:/image"),
        ("json:/image", {"json": {"image": None}}, "json:/image"),
        ("json:/image", {"json": {"image": CALLBACK}}, "`image`"),
        ("json:/images/*", {"json": {"images": [b64(NORMAL), "no base64!"]}}, "`images[1]`"),
        ("json:/images/*", {"json": {"images": [b64(NORMAL), b64(b"no image")]}}, "`images[1]`"),
        ("json:/image", body(NORMAL), "json:/image"),
        ("json:/image", {"content": b"{}", "headers": {"content-type": "application/json"}}, "json:/image"),
        ("body", {"json": {"image": b64(NORMAL)}}, "`body`"),
        ("form:picture", {"files": {"photo": ("a.png", NORMAL)}}, "form:picture"),
        ("form:picture", {"files": {"picture": ("a.png", b"no image")}}, "Part `picture`"),
        ("tensor:image", {"json": {"inputs": [PROMPT]}}, "tensor:image"),
        ("tensor:prompt", {"json": {"inputs": [PROMPT]}}, "Input `prompt`, element 0"),
        ("auto", {"json": {"image": b64(NORMAL), "messages": [{"content": LONG}]}}, "`messages[0].content`"),
        ("auto", {"json": {"image": b64(NORMAL), "callback": CALLBACK}}, "`callback`"),
        ("auto", {"json": {"image": b64(NORMAL), "v": [0.5] * 512}}, "`v[63]`"),
        ("auto", {"json": {"image": b64(NORMAL), "file": "circle.png"}}, "`file`"),
        ("auto", file(NORMAL, table=("a.csv", b"a,b\n1,2\n", "text/csv")), "Part `table`"),
        ("auto", {"json": {"inputs": [tensor(NORMAL), BOXES]}}, "Input `boxes`"),
        ("auto", {**body(NORMAL), "params": {"callback": CALLBACK}}, "Query parameter `callback`"),
    ],
)
def test_refusal_names_the_place(
    make_client: MakeClient,
    classifier: FakeClassifier,
    image_at: str,
    request_fields: dict[str, Any],
    named: str,
) -> None:
    client = make_client(classifier_url=classifier.url, image_at=image_at)
    response = client.post("/v1/gate/classify", **request_fields)
    assert 400 <= response.status_code < 500
    assert named in response.json()["detail"]
    assert not classifier.requests


@pytest.mark.parametrize(
    ("image_at", "document"),
    [
        ("json:/image", {"image": b64(NORMAL), "IMAGE": b64(ODD)}),
        ("json:/images/*/url", {"images": [{"url": b64(NORMAL)}, {"URL": b64(ODD)}]}),
        ("json:/images/0", {"images": [b64(NORMAL)], "images\0": [b64(ODD)]}),
    ],
)
def test_field_that_a_careless_reader_takes_for_the_declared_one_is_no_way_around(
    make_client: MakeClient, classifier: FakeClassifier, image_at: str, document: dict[str, Any]
) -> None:
    client = make_client(classifier_url=classifier.url, image_at=image_at)
    assert client.post("/v1/gate/", json=document).status_code in (400, 422)
    assert not classifier.requests


@pytest.mark.parametrize("name", ["picture", "picture[]", "Picture", "pic.ture"])
def test_every_form_field_that_may_be_the_declared_one_is_judged(
    make_client: MakeClient, classifier: FakeClassifier, name: str
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="form:picture,form:pic_ture")
    files = [("picture", ("a.png", NORMAL)), (name, ("b.png", ODD))]
    assert client.post("/v1/gate/", files=files).status_code == 422
    assert not classifier.requests


def test_several_places_serve_several_routes(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, image_at="body,json:/image")
    assert client.post("/v1/gate/", **body(NORMAL)).status_code == 200
    assert client.post("/v1/gate/", json={"image": b64(NORMAL)}).status_code == 200
    assert client.post("/v1/gate/", json={"image": b64(ODD)}).status_code == 422


@pytest.mark.parametrize("left_out", [None, ""])
def test_a_place_that_a_client_leaves_empty_is_absent_beside_another(
    make_client: MakeClient, classifier: FakeClassifier, left_out: str | None
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="json:/image,json:/images/*,form:image,form:images")

    def statuses(image: bytes) -> list[int]:
        requests: list[dict[str, Any]] = [
            {"json": {"image": left_out, "images": [b64(image)]}},
            {"json": {"image": b64(image), "images": left_out}},
            {"json": {"image": left_out, "images": [left_out, b64(image)]}},
            {"data": {"image": left_out or "", "images": b64(image)}},
            {"files": {"image": (None, left_out or ""), "images": ("a.png", image)}},
        ]
        return [client.post("/v1/gate/", **request).status_code for request in requests]

    assert statuses(NORMAL) == [200] * 5
    assert statuses(ODD) == [422] * 5
    assert client.post("/v1/gate/", json={"image": left_out, "images": [left_out]}).status_code == 400


def test_unjudged_route_passes_with_verdict_none(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, unjudged="POST /feedback,POST /jobs/*")
    for path in ("/feedback", "/jobs/7?by=a"):
        response = client.post(f"/v1/gate{path}", json={"text": LONG, "callback": CALLBACK})
        assert (response.status_code, response.headers["x-gate-verdict"]) == (200, "none")
    assert client.post("/v1/authz/feedback", json={"text": LONG}).status_code == 200
    assert client.post("/v1/gate/classify", json={"text": LONG}).status_code == 400
    rerouted = client.post("/v1/gate/feedback", json={"text": LONG}, headers={"X-Original-URL": "/classify"})
    assert rerouted.status_code == 400
    assert len(classifier.requests) == 2


@pytest.mark.parametrize("image_at", ["auto", "json:/image"])
def test_health_checks_pass_in_every_mode(make_client: MakeClient, classifier: FakeClassifier, image_at: str) -> None:
    client = make_client(classifier_url=classifier.url, image_at=image_at)
    assert client.get("/v1/gate/v2/models/m/versions/1/ready?verbose=true").headers["x-gate-verdict"] == "none"


@pytest.mark.parametrize("datatype", ["FP32", "FP16", "UINT8"])
def test_tensor_of_a_classifier_is_judged_where_it_is_declared(
    make_client: MakeClient, classifier: FakeClassifier, datatype: str
) -> None:
    """Such as Triton's FP32 [1,3,224,224], normalised."""
    settings = {} if datatype == "UINT8" else {"tensor_mean": "0.5", "tensor_std": "0.25"}
    client = make_client(classifier_url=classifier.url, image_at="tensor:pixels", **settings)
    for levels, status in ((np.ones((224, 224)), 200), (np.zeros((224, 224)), 422)):
        values = levels * 255 if datatype == "UINT8" else (levels - 0.5) / 0.25
        dtype = {"FP32": "<f4", "FP16": "<f2", "UINT8": "u1"}[datatype]
        data = np.broadcast_to(values, (1, 3, 224, 224)).astype(dtype).tobytes()
        pixels = {"name": "pixels", "shape": [1, 3, 224, 224], "datatype": datatype}
        document = json.dumps({"inputs": [{**pixels, "parameters": {"binary_data_size": len(data)}}]}).encode()
        headers = {"inference-header-content-length": str(len(document))}
        response = client.post("/v1/gate/v2/models/m/infer", content=document + data, headers=headers)
        assert response.status_code == status, response.text


def test_lists_of_numbers_are_judged_where_they_are_declared(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="json:/instances/*", numbers_range="0,255")
    normal = np.full((28, 28), 255).tolist()
    assert client.post("/v1/gate/", json={"instances": [normal, normal]}).status_code == 200
    assert client.post("/v1/gate/", json={"instances": [normal, np.zeros((50, 40)).tolist()]}).status_code == 422
    assert client.post("/v1/gate/", json={"instances": [normal, [[300] * 28] * 28]}).status_code == 400
    assert len(classifier.requests) == 1


@pytest.mark.parametrize(
    "name",
    [
        '"=?utf-8?B?cGljdHVyZQ==?="',
        '"=?utf-8?Q?picture?="',
        '"=?x-MacRoman?B?cGljdHVyZQ==?="',
        "'picture'x",
        "'picture'",
        '"[picture]"',
        '"picture]"',
        '"picture[]"',
        '" picture"',
    ],
)
def test_no_spelling_of_the_declared_field_is_a_way_around(
    make_client: MakeClient, classifier: FakeClassifier, name: str
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="form:picture")
    parts = [(name, ODD), ('"picture"', NORMAL)]
    form = b"".join(
        b"--XX\r\nContent-Disposition: form-data; name=%s; filename=a.png\r\n\r\n%s\r\n" % (one.encode(), image)
        for one, image in parts
    )
    headers = {"content-type": "multipart/form-data; boundary=XX"}
    answer = client.post("/v1/gate/p", content=form + b"--XX--\r\n", headers=headers)
    assert answer.status_code in (400, 422), answer.text
    assert not classifier.requests


def test_an_image_in_place_of_the_object_that_usually_holds_it_is_judged(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="json:/messages/*/content/*/image_url/url")
    request = chat(NORMAL, system=LONG)
    content = request["json"]["messages"][-1]["content"]
    assert client.post("/v1/gate/p", **request).status_code == 200
    content.append({"type": "image_url", "image_url": f"data:image/png;base64,{b64(ODD)}"})
    assert client.post("/v1/gate/p", **request).status_code == 422
    content[-1]["image_url"] = "https://elsewhere.example/duck.png"
    assert client.post("/v1/gate/p", **request).status_code in (400, 415)


def test_a_document_without_inputs_is_no_fault_where_a_tensor_is_one_of_several_places(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, image_at="json:/image,tensor:image")
    assert client.post("/v1/gate/p", json={"image": b64(NORMAL)}).status_code == 200
    assert client.post("/v1/gate/p", json={"image": b64(ODD)}).status_code == 422
    assert client.post("/v1/gate/p", json={"inputs": [tensor(ODD)]}).status_code == 422


def test_an_input_in_shared_memory_is_refused(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, image_at="tensor:image")
    shared = tensor(NORMAL, parameters={"shared_memory_region": "r"})
    assert client.post("/v1/gate/p", json={"inputs": [shared]}).status_code == 400
    assert client.post("/v2/models/tiny/infer", json={"inputs": [shared]}).status_code == 400


def test_numbers_of_thousands_of_digits_are_refused_as_malformed(make_client: MakeClient) -> None:
    client = make_client()
    huge = "1" * 4000
    body = f'{{"inputs":[{{"name":"image","datatype":"FP32","shape":[{huge},{huge}],"data":[1]}}]}}'
    assert client.post("/v2/models/tiny/infer", content=body).status_code == 400
    answer = client.post("/v2/models/tiny/infer", content=b'{"inputs":[{"data":[' + b"1" * 5000 + b"]}]}")
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "The JSON document holds an integer of thousands of digits.",
    )
    headers = {"inference-header-content-length": "1" * 5000}
    assert client.post("/v2/models/tiny/infer", content=b"{}", headers=headers).status_code == 400


@pytest.mark.parametrize("name", ["2024/a.jpg", "/home/me/a.png"])
def test_a_file_name_with_folders_is_no_address(make_client: MakeClient, classifier: FakeClassifier, name: str) -> None:
    client = make_client(classifier_url=classifier.url)
    assert client.post("/v1/gate/p", files={"picture": (name, NORMAL)}).status_code == 200
    odd_name = f"{b64(ODD)}/a.png"
    assert client.post("/v1/gate/p", files={"picture": (odd_name, NORMAL)}).status_code in (400, 415)
    assert client.post("/v1/gate/p", files={"picture": ("https://a.example/a.png", NORMAL)}).status_code == 415
