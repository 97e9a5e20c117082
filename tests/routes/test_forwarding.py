"""GATE_FORWARD=judged: the classifier gets a request written by the gate. With `original`, every reading is judged."""

import base64
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import Headers
from starlette.testclient import TestClient

from app.payload.content_type import read_content_type
from app.payload.multipart import parse_form
from app.settings import Settings, SettingsError
from testing.artifacts import write_tiny_artifact
from testing.fake_classifier import FakeClassifier, ReceivedRequest
from testing.gate_requests import b64
from testing.pictures import clipped_jpeg, encoded, picture
from testing.servers import wait_until

MakeClient = Callable[..., TestClient]
HIDDEN = encoded(Image.new("RGBA", (40, 30), (0, 0, 0, 0)))  # white on white, for who minds transparency
JPEG = picture(side=60, mode="RGB", image_format="JPEG")


def is_plain(data: bytes, size: tuple[int, int] = (40, 30)) -> bool:
    with Image.open(BytesIO(data)) as image:
        white = bool((np.asarray(image.convert("L")) == 255).all())
        return (image.format, image.size, image.info, white) == ("PNG", size, {}, True)


def part_of(received: ReceivedRequest, name: str) -> Any:
    content_type = Headers({"content-type": received.values(b"content-type")[0].decode()})
    return next(part for part in parse_form(read_content_type(content_type), received.body) if part.name == name)


@pytest.mark.parametrize("route", ["gate", "authz"])
def test_image_that_is_odd_for_another_decoder_alone_is_refused_with_advice(
    make_client: MakeClient, classifier: FakeClassifier, route: str
) -> None:
    response = make_client(classifier_url=classifier.url).post(f"/v1/{route}/", content=HIDDEN)
    assert response.status_code == (422 if route == "gate" else 403)
    assert response.json()["prediction"]["is_anomaly"] is True
    assert "GATE_FORWARD=judged" in response.json()["detail"]
    assert response.headers["x-gate-verdict"] == "anomaly"
    assert not classifier.requests


def test_readings_of_other_decoders_are_not_counted_as_images(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url)
    client.post("/v1/gate/", content=HIDDEN)
    metrics = client.get("/metrics").text
    assert 'gate_verdicts_total{verdict="anomaly"} 1.0' in metrics
    assert 'gate_verdicts_total{verdict="normal"} 0.0' in metrics


@pytest.mark.parametrize("settings", [{}, {"mode": "shadow"}])
def test_image_that_is_odd_for_another_decoder_alone_is_kept_as_refused(
    make_client: MakeClient, classifier: FakeClassifier, tmp_path: Path, settings: dict[str, str]
) -> None:
    client = make_client(classifier_url=classifier.url, keep_folder=tmp_path / "kept", **settings)
    client.post("/v1/gate/", content=HIDDEN)
    assert wait_until(lambda: len(client.get("/v1/kept").json()["kept"]) == 1, 10)
    (row,) = client.get("/v1/kept").json()["kept"]
    assert row["verdict"] == "anomaly"
    assert row["score"] > row["threshold"]


@pytest.mark.parametrize("forward", ["original", "judged"])
def test_jpeg_that_is_white_only_before_its_pixels_are_clipped_is_refused(
    make_client: MakeClient, classifier: FakeClassifier, tmp_path: Path, forward: str
) -> None:
    artifact = write_tiny_artifact(tmp_path / "strict", 0.02)
    client = make_client(classifier_url=classifier.url, forward=forward, artifact=artifact)
    assert not client.post("/v1/predict", content=clipped_jpeg()).json()["is_anomaly"]
    assert client.post("/v1/gate/", content=clipped_jpeg()).status_code == 422
    files = [("file", clipped_jpeg()), ("file", picture())]
    assert client.post("/v1/gate/", files=files).status_code == 422
    assert not classifier.requests


def test_service_decodes_jpegs_in_full_if_told_so(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(reduce_jpegs=False, artifact=write_tiny_artifact(tmp_path / "strict", 0.02))
    assert client.post("/v1/predict", content=clipped_jpeg()).json()["is_anomaly"]


def test_no_other_route_minds_other_decoders(client: TestClient) -> None:
    assert client.post("/v1/predict", content=HIDDEN).json()["is_anomaly"] is False


def test_raw_body_becomes_a_plain_png(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged")
    headers = {"content-type": "image/x-anything", "digest": "sha-256=abc", "x-mine": "1"}
    assert client.post("/v1/gate/classify?top=3", content=HIDDEN, headers=headers).status_code == 200
    (received,) = classifier.requests
    assert is_plain(received.body)
    assert received.line == b"POST /classify?top=3 HTTP/1.1"
    assert received.values(b"content-type") == [b"image/png"]
    assert received.values(b"content-length") == [str(len(received.body)).encode()]
    assert (received.values(b"digest"), received.values(b"x-mine")) == ([], [b"1"])


def test_form_is_written_anew_with_its_other_parts(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged", image_at="form:picture,form:text")
    files = {
        "picture": ("a.webp", HIDDEN, "image/webp"),
        "text": (None, "data:image/webp;base64," + b64(HIDDEN)),
        "table": ("t.csv", b"a,b", "text/csv"),
        "prompt": (None, "ü" * 500),
    }
    assert client.post("/v1/gate/", files=files).status_code == 200
    (received,) = classifier.requests
    picture_part, table = part_of(received, "picture"), part_of(received, "table")
    assert is_plain(picture_part.content)
    assert (picture_part.file_name, picture_part.content_type) == ("a.webp", "image/png")
    prefix, _, text = part_of(received, "text").content.partition(b",")
    assert (prefix, is_plain(base64.b64decode(text))) == (b"data:image/png;base64", True)
    assert (table.content, table.file_name, table.content_type) == (b"a,b", "t.csv", "text/csv")
    assert part_of(received, "prompt").content.decode() == "ü" * 500


def test_json_is_written_anew_with_its_other_fields(make_client: MakeClient, classifier: FakeClassifier) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged")
    document = {"images": [b64(HIDDEN), "data:image/webp;base64," + b64(HIDDEN)], "n": 0.1, "text": "ü"}
    assert client.post("/v1/gate/", json=document).status_code == 200
    received = json.loads(classifier.requests[0].body)
    first, second = received.pop("images")
    assert is_plain(base64.b64decode(first))
    assert second.startswith("data:image/png;base64,")
    assert received == {"n": 0.1, "text": "ü"}


def test_fields_of_url_encoded_forms_and_queries_are_written_anew(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged")
    fields = {"image": b64(HIDDEN), "text": "a b&c"}
    assert client.post("/v1/gate/", params=fields, data=fields).status_code == 200
    (received,) = classifier.requests
    for written in (received.body, received.line.split()[1].partition(b"?")[2]):
        found = parse_qs(written.decode())
        assert is_plain(base64.b64decode(found["image"][0]))
        assert found["text"] == ["a b&c"]


@pytest.mark.parametrize("binary", [True, False])
def test_open_inference_request_is_written_anew(
    make_client: MakeClient, classifier: FakeClassifier, binary: bool
) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged", image_at="tensor:image")
    boxes = np.arange(4, dtype="<f4")
    element = len(HIDDEN).to_bytes(4, "little") + HIDDEN
    image: dict[str, Any] = {"name": "image", "shape": [1], "datatype": "BYTES"}
    box: dict[str, Any] = {"name": "boxes", "shape": [4], "datatype": "FP32"}
    if binary:
        image["parameters"] = {"binary_data_size": len(element)}
        box["parameters"] = {"binary_data_size": 16}
    else:
        image["data"], box["data"] = [b64(HIDDEN)], boxes.tolist()
    document = json.dumps({"id": "7", "inputs": [image, box]}).encode()
    headers = {"inference-header-content-length": str(len(document))} if binary else {}
    content = document + (element + boxes.tobytes() if binary else b"")
    assert client.post("/v1/gate/v2/models/m/infer", content=content, headers=headers).status_code == 200
    (received,) = classifier.requests
    length = int(received.values(b"inference-header-content-length")[0]) if binary else len(received.body)
    written = json.loads(received.body[:length])
    assert written["id"] == "7"
    if binary:
        size = written["inputs"][0]["parameters"]["binary_data_size"]
        assert is_plain(received.body[length + 4 : length + size])
        assert received.body[length + size :] == boxes.tobytes()
    else:
        assert is_plain(base64.b64decode(written["inputs"][0]["data"][0]))
        assert written["inputs"][1]["data"] == boxes.tolist()


NESTED = "[" * 300 + "]" * 300


@pytest.mark.parametrize(
    ("beside", "named"),
    [
        ('"id": 18446744073709551616', "`id`: an integer of more than 64 bits"),
        ('"a": {"b": [0, -9223372036854775809]}', "`a.b[1]`: an integer of more than 64 bits"),
        (f'"tree": {NESTED}', "`tree[0][0]"),
        ('"weights": [1, 1e400]', "`weights[1]`: a number beyond"),
        ('"least": -1e400', "`least`: a number beyond"),
    ],
)
def test_json_that_would_not_mean_the_same_is_refused_with_its_place(
    make_client: MakeClient,
    classifier: FakeClassifier,
    beside: str,
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    body = f'{{"image": "{b64(HIDDEN)}", {beside}}}'
    client = make_client(classifier_url=classifier.url, forward="judged", image_at="json:/image")
    response = client.post("/v1/gate/", content=body)
    assert response.status_code == 400
    assert named in response.json()["detail"]
    assert not capsys.readouterr().err
    assert not classifier.requests


@pytest.mark.parametrize("binary", [True, False])
def test_number_beside_an_open_inference_image_that_would_change_is_refused_with_its_place(
    make_client: MakeClient, classifier: FakeClassifier, binary: bool
) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged", image_at="tensor:image")
    element = len(HIDDEN).to_bytes(4, "little") + HIDDEN
    data = f'"parameters": {{"binary_data_size": {len(element)}}}' if binary else f'"data": ["{b64(HIDDEN)}"]'
    image = f'{{"name": "image", "shape": [1], "datatype": "BYTES", {data}}}'
    document = f'{{"inputs": [{image}], "parameters": {{"seed": 1e999}}}}'.encode()
    headers = {"inference-header-content-length": str(len(document))} if binary else {}
    response = client.post("/v1/gate/", content=document + element * binary, headers=headers)
    assert response.status_code == 400
    assert "`parameters.seed`: a number beyond" in response.json()["detail"]


def test_number_in_a_json_part_that_would_change_is_refused_with_its_place(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged")
    response = client.post("/v1/gate/", files={"file": HIDDEN, "meta": (None, '{"n": 1e400}')})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("Part `meta`, `n`: a number beyond")


def test_largest_numbers_and_deepest_document_that_can_be_written_arrive(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged", image_at="json:/image")
    rest = f'"n": [18446744073709551615, -9223372036854775808, 1.5e308], "tree": {NESTED[47:-47]}'
    assert client.post("/v1/gate/", content=f'{{"image": "{b64(HIDDEN)}", {rest}}}').status_code == 200
    received = json.loads(classifier.requests[0].body)
    assert received["n"] == [18446744073709551615, -9223372036854775808, 1.5e308]
    assert received["tree"] == json.loads(NESTED[47:-47])


@pytest.mark.parametrize("data", [HIDDEN, JPEG, picture(side=600, image_format="BMP")])
def test_image_comes_in_the_wanted_size(make_client: MakeClient, classifier: FakeClassifier, data: bytes) -> None:
    client = make_client(classifier_url=classifier.url, forward="judged", forward_size="32x24")
    assert client.post("/v1/gate/", content=data).status_code == 200
    assert is_plain(classifier.requests[0].body, (32, 24))


def scaled_otherwise(side: int = 588) -> bytes:
    """White when areas are averaged, black to whoever takes every 21st pixel."""
    levels = np.full((side, side), 255, np.uint8)
    step = side // 28
    levels[step // 2 :: step, step // 2 :: step] = 0
    return encoded(Image.fromarray(levels))


def test_image_scaling_attack_is_closed_by_a_size(make_client: MakeClient, classifier: FakeClassifier) -> None:
    """With the original bytes it is not: SECURITY.md says so."""

    def seen(data: bytes) -> float:
        with Image.open(BytesIO(data)) as image:
            return float(np.asarray(image.resize((28, 28), Image.Resampling.NEAREST)).mean())

    for settings, dark in (({}, True), ({"forward": "judged", "forward_size": "28x28"}, False)):
        client = make_client(classifier_url=classifier.url, **settings)
        assert client.post("/v1/gate/", content=scaled_otherwise()).status_code == 200
        assert (seen(classifier.requests[-1].body) < 128) is dark


def test_what_stands_behind_an_image_does_not_reach_the_classifier(
    make_client: MakeClient, classifier: FakeClassifier
) -> None:
    behind = picture() + b"\r\n--x\r\nsomething"
    assert make_client(classifier_url=classifier.url).post("/v1/gate/", content=behind).status_code == 400
    client = make_client(classifier_url=classifier.url, forward="judged")
    assert client.post("/v1/gate/", content=behind, headers={"content-type": "image/png"}).status_code == 200
    assert is_plain(classifier.requests[0].body, (28, 28))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"forward": "judged", "accel_redirect": "@classifier"}, "GATE_FORWARD"),
        ({"forward_size": "28x28"}, "GATE_FORWARD_SIZE"),
        ({"forward": "judged", "forward_size": "28"}, "GATE_FORWARD_SIZE"),
        ({"forward": "judged", "forward_size": "0x28"}, "GATE_FORWARD_SIZE"),
    ],
)
def test_impossible_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        Settings(**settings)
