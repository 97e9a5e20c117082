"""Checks for a proxy that forwards by itself, and does not always say what the content type is."""

import base64
import json
import re
from urllib.parse import quote_plus

import numpy as np
import pytest
from starlette.testclient import TestClient

from testing.gate_requests import b64, bytes_input
from testing.hostile_files import chunk
from testing.pictures import picture

NORMAL, ANOMALY = picture(level=255), picture(level=0)
TIFF = picture(image_format="TIFF")


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
    document = json.dumps({"image": b64(ANOMALY)}).encode()
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
    document = json.dumps({"image": b64(NORMAL), "x": form.decode()}).encode()
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
