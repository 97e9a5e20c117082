import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from testing.pictures import encoded, picture

NORMAL, ANOMALY = picture(level=255), picture(level=0)
HEADER_LENGTH = "Inference-Header-Content-Length"


def encoded_input(*images: bytes, **changes: Any) -> dict[str, Any]:
    data = [base64.b64encode(image).decode() for image in images]
    return {"name": "image", "shape": [len(images)], "datatype": "BYTES", "data": data, **changes}


def tensor_input(values: Any, datatype: str = "FP32", **changes: Any) -> dict[str, Any]:
    array = np.asarray(values)
    fields = {"name": "image", "shape": list(array.shape), "datatype": datatype, "data": array.ravel().tolist()}
    return {**fields, **changes}


def infer(client: TestClient, *inputs: dict[str, Any], path: str = "/v2/models/tiny", **fields: Any) -> Any:
    return client.post(path + "/infer", json={"inputs": list(inputs), **fields})


def infer_binary(client: TestClient, document: dict[str, Any], binary: bytes, length: int | str | None = None) -> Any:
    header = json.dumps(document).encode()
    headers = {HEADER_LENGTH: str(len(header) if length is None else length)}
    return client.post("/v2/models/tiny/infer", content=header + binary, headers=headers)


def outputs(response: Any) -> dict[str, dict[str, Any]]:
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


def test_encoded_images_are_judged_in_order(client: TestClient) -> None:
    response = infer(client, encoded_input(NORMAL, ANOMALY, NORMAL), id="7")
    body = response.json()
    model = client.get("/v1/model").json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("tiny", model["version"], "7")
    assert body["parameters"] == {"anomalous": True}
    found = outputs(response)
    assert list(found) == ["loss", "score", "p_value", "is_anomaly"]
    assert found["is_anomaly"] == {
        "name": "is_anomaly",
        "datatype": "BOOL",
        "shape": [3],
        "data": [False, True, False],
    }
    assert found["loss"]["data"] == [0.0, 1.0, 0.0]
    assert found["loss"]["datatype"] == found["p_value"]["datatype"] == "FP32"


def test_numbers_are_those_of_predict(client: TestClient) -> None:
    found = outputs(infer(client, encoded_input(ANOMALY)))
    prediction = client.post("/v1/predict", content=ANOMALY).json()
    for name in ("loss", "score", "p_value", "is_anomaly"):
        assert found[name]["data"][0] == pytest.approx(prediction[name])


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 1, 28, 28), (2, 784)])
@pytest.mark.parametrize(("datatype", "white"), [("FP32", 1.0), ("UINT8", 255)])
def test_tensors_of_each_shape_are_judged_alike_as_json_and_binary(
    client: TestClient, shape: tuple[int, ...], datatype: str, white: float
) -> None:
    values = np.zeros(shape, np.float32 if datatype == "FP32" else np.uint8)
    values[0] = white
    described = tensor_input(values, datatype)
    by_json = outputs(infer(client, described))
    nested = outputs(infer(client, {**described, "data": values.tolist()}))
    del described["data"]
    described["parameters"] = {"binary_data_size": values.nbytes}
    by_binary = outputs(infer_binary(client, {"inputs": [described]}, values.tobytes()))
    assert by_json["is_anomaly"]["data"] == [False, True]
    assert by_json == nested == by_binary


def test_binary_bytes_elements_stand_behind_their_length(client: TestClient) -> None:
    binary = b"".join(struct.pack("<I", len(image)) + image for image in (ANOMALY, NORMAL))
    described = encoded_input(ANOMALY, NORMAL, parameters={"binary_data_size": len(binary)})
    del described["data"]
    assert outputs(infer_binary(client, {"inputs": [described]}, binary))["is_anomaly"]["data"] == [True, False]


def test_header_length_zero_means_that_the_body_is_the_image(client: TestClient) -> None:
    response = client.post("/v2/models/tiny/infer", content=ANOMALY, headers={HEADER_LENGTH: "0"})
    assert response.json()["parameters"] == {"anomalous": True}


def test_outputs_are_those_asked_for_and_binary_where_asked(client: TestClient) -> None:
    wanted = [{"name": "reconstruction", "parameters": {"binary_data": True}}, {"name": "is_anomaly"}]
    response = infer(client, encoded_input(NORMAL), outputs=wanted)
    length = int(response.headers[HEADER_LENGTH])
    document = json.loads(response.content[:length])
    reconstruction, is_anomaly = document["outputs"]
    assert reconstruction["shape"] == [1, 28, 28]
    assert reconstruction["parameters"] == {"binary_data_size": 784 * 4}
    assert np.frombuffer(response.content[length:], "<f4").tolist() == [1.0] * 784
    assert is_anomaly["data"] == [False]


def test_all_outputs_go_binary_when_the_request_says_so(client: TestClient) -> None:
    response = infer(client, encoded_input(NORMAL), parameters={"binary_data_output": True})
    length = int(response.headers[HEADER_LENGTH])
    assert len(response.content) - length == 3 * 4 + 1
    assert response.headers["content-length"] == str(len(response.content))


@pytest.mark.parametrize(
    ("described", "status"),
    [
        (encoded_input(NORMAL, NORMAL[:40]), 422),
        (encoded_input(NORMAL, b"no image"), 415),
        (encoded_input(), 400),
        (encoded_input(NORMAL, shape=[2]), 400),
        (encoded_input(NORMAL, shape=[True]), 400),
        (encoded_input(NORMAL, shape=[-1]), 400),
        (encoded_input(NORMAL, shape=[1] * 9), 400),
        (encoded_input(NORMAL, shape=[10**6]), 400),
        (encoded_input(NORMAL, data=["not base64!"]), 400),
        (encoded_input(NORMAL, data=[1]), 400),
        (encoded_input(NORMAL, data="text"), 400),
        (encoded_input(NORMAL, name="other"), 400),
        (encoded_input(NORMAL, datatype="FP64"), 400),
        (encoded_input(NORMAL, parameters={"binary_data_size": 10}), 400),
        (encoded_input(NORMAL, parameters=[]), 400),
        (tensor_input(np.ones((1, 3, 28, 28))), 400),
        (tensor_input(np.ones((28, 28))), 400),
        (tensor_input(np.ones((0, 784))), 400),
        (tensor_input(np.ones((1, 784)), shape=[2, 784]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + [2.0]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + [-0.1]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + [1e300]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + ["1"]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + [None]), 400),
        (tensor_input(np.ones((1, 784)), data=[1.0] * 783 + [[1.0]]), 400),
        (tensor_input(np.ones((1, 784)), "UINT8", data=[1] * 783 + [256]), 400),
        (tensor_input(np.ones((1, 784)), "UINT8", data=[1] * 783 + [0.5]), 400),
        (tensor_input(np.ones((1001, 784), np.uint8), "UINT8"), 400),
    ],
)
def test_unusable_input_refuses_the_whole_request(client: TestClient, described: dict[str, Any], status: int) -> None:
    response = infer(client, described)
    assert response.status_code == status, response.text
    assert response.json()["error"] == response.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"inputs":[]}', b'{"inputs":[1]}', b'{"inputs":"x"}', b"\xff", b'{"inputs":[{"name":1}]}'],
)
def test_body_that_is_no_inference_request_is_malformed(client: TestClient, body: bytes) -> None:
    assert client.post("/v2/models/tiny/infer", content=body).status_code == 400


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_value_that_is_not_finite_is_refused(client: TestClient, value: float) -> None:
    values = np.full((1, 784), value, np.float32)
    described = {"name": "image", "shape": [1, 784], "datatype": "FP32", "parameters": {"binary_data_size": 3136}}
    assert infer_binary(client, {"inputs": [described]}, values.tobytes()).status_code == 400
    content = json.dumps({"inputs": [tensor_input(values)]})
    assert client.post("/v2/models/tiny/infer", content=content).status_code == 400


@pytest.mark.parametrize(
    ("size", "binary", "length"),
    [
        (3136, b"short", None),
        (3136, b"\0" * 3137, None),
        (3135, b"\0" * 3135, None),
        (-1, b"", None),
        ("3136", b"\0" * 3136, None),
        (3136, b"\0" * 3136, 10**9),
        (3136, b"\0" * 3136, -1),
        (3136, b"\0" * 3136, "x"),
    ],
)
def test_sizes_that_do_not_agree_are_malformed(
    client: TestClient, size: Any, binary: bytes, length: int | str | None
) -> None:
    described = {"name": "image", "shape": [1, 784], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    assert infer_binary(client, {"inputs": [described]}, binary, length).status_code == 400


@pytest.mark.parametrize("binary", [b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\0" * 5000])
def test_bytes_elements_that_do_not_fit_are_malformed(client: TestClient, binary: bytes) -> None:
    described = {
        "name": "image",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(binary)},
    }
    assert infer_binary(client, {"inputs": [described]}, binary).status_code == 400


@pytest.mark.parametrize("wanted", [[{"name": "label"}], [{"name": "loss"}, {"name": "loss"}], [{}], "loss"])
def test_impossible_outputs_are_malformed(client: TestClient, wanted: Any) -> None:
    assert infer(client, encoded_input(NORMAL), outputs=wanted).status_code == 400


def test_metadata_describes_server_and_model(client: TestClient) -> None:
    version = client.get("/v1/model").json()["version"]
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    for path in ("/v2/models/tiny", f"/v2/models/tiny/versions/{version}"):
        metadata = client.get(path).json()
        assert metadata["platform"]
        assert metadata["versions"] == [version]
        assert metadata["inputs"][0]["name"] == "image"
        assert client.get(path + "/ready").json() == {"name": "tiny", "live": True, "ready": True}
        assert infer(client, encoded_input(NORMAL), path=path).status_code == 200


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/tiny/versions/1"])
def test_unknown_model_is_not_found(client: TestClient, path: str) -> None:
    for response in (client.get(path), client.get(path + "/ready"), infer(client, encoded_input(NORMAL), path=path)):
        assert response.status_code == 404
        assert response.json()["error"]


def test_readiness_ends_with_draining(client: TestClient) -> None:
    client.app.state.judge.draining = True  # type: ignore[attr-defined]
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").status_code == 200


@pytest.mark.parametrize("name", ["contents", "raw_input_contents", "instances", "image"])
def test_field_in_which_another_server_might_find_an_image_is_refused_by_name(client: TestClient, name: str) -> None:
    other = [base64.b64encode(ANOMALY).decode()]
    beside = infer(client, encoded_input(NORMAL), **{name: other})
    within = infer(client, encoded_input(NORMAL, **{name: other}))
    for refused in (beside, within):
        assert refused.status_code == 400
        assert f"`{name}` is no field of the protocol" in refused.json()["detail"]


def test_fields_that_clients_send_are_known(client: TestClient) -> None:
    tensor = encoded_input(NORMAL, parameters={"content_type": "base64", "own": 1})
    more = {"id": "7", "model_name": "tiny", "model_version": "1", "parameters": {"own": 1}, "outputs": []}
    assert infer(client, tensor, **more).status_code == 200


ALPHA = Image.new("RGBA", (28, 28), "white")
HIDDEN = Image.new("RGBA", (28, 28), (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("files", "is_unambiguous"),
    [
        ([NORMAL, encoded(ALPHA.convert("RGB"), "JPEG"), encoded(ALPHA)], True),
        ([encoded(HIDDEN)], False),
        ([NORMAL, encoded(HIDDEN)], False),
        ([NORMAL + ANOMALY], False),
        ([encoded(ALPHA.convert("L"), "GIF", save_all=True, append_images=[HIDDEN.convert("L")])], False),
    ],
)
def test_answer_says_whether_every_decoder_shows_what_was_judged(
    client: TestClient, files: list[bytes], is_unambiguous: bool
) -> None:
    answer = infer(client, encoded_input(*files)).json()
    assert answer["parameters"] == {"anomalous": False, "unambiguous": is_unambiguous}


@pytest.mark.parametrize("reduces", [True, False])
def test_large_jpeg_is_unambiguous_only_if_it_is_decoded_in_full(
    make_client: Callable[..., TestClient], reduces: bool
) -> None:
    large = encoded(ALPHA.convert("L").resize((300, 300)), "JPEG")
    answer = infer(make_client(reduce_jpegs=reduces), encoded_input(large)).json()
    assert answer["parameters"] == {"anomalous": False, "unambiguous": not reduces}


def test_tensor_and_raw_image_are_unambiguous(client: TestClient) -> None:
    tensor = infer(client, tensor_input(np.ones((1, 784)))).json()
    raw = client.post("/v2/models/tiny/infer", content=NORMAL, headers={HEADER_LENGTH: "0"}).json()
    assert tensor["parameters"] == raw["parameters"] == {"anomalous": False, "unambiguous": True}
