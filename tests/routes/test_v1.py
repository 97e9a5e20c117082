import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.detection.images import Preprocessing, decode_image
from app.main import create_app
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.pictures import circle_picture, encoded, picture


def test_one_image_is_judged_alike_as_multipart_and_as_raw_body(client: TestClient) -> None:
    data = circle_picture()
    raw = client.post("/v1/predict", content=data)
    form = client.post("/v1/predict", files={"file": ("circle.png", data, "image/png")})
    assert raw.status_code == form.status_code == 200
    assert raw.json() == form.json()
    assert set(raw.json()) == {"is_anomaly", "loss", "score", "threshold", "p_value", "model", "reconstruction"}


def test_loss_is_the_mean_squared_error_of_what_is_returned(client: TestClient) -> None:
    data = circle_picture()
    body = client.post("/v1/predict", content=data).json()
    image = decode_image(data, Preprocessing(), max_pixels=10**6)
    assert np.array(body["reconstruction"]).shape == (28, 28)
    assert body["loss"] == pytest.approx(np.square(image - np.array(body["reconstruction"])).mean(), rel=1e-5)


def test_verdict_follows_score_and_threshold(client: TestClient) -> None:
    white = client.post("/v1/predict", content=picture(level=255)).json()
    black = client.post("/v1/predict", content=picture(level=0)).json()
    assert (white["is_anomaly"], black["is_anomaly"]) == (False, True)
    assert white["score"] <= white["threshold"] < black["score"]
    assert 0 < black["p_value"] < white["p_value"] <= 1


def test_an_image_is_recognised_by_its_bytes_whatever_its_content_type(client: TestClient) -> None:
    for content_type in ("application/x-www-form-urlencoded", "text/plain", "image/jpeg"):
        answer = client.post("/v1/predict", content=picture(), headers={"content-type": content_type})
        assert answer.status_code == 200, content_type


def test_reconstruction_comes_as_png_or_not_at_all_when_asked(client: TestClient) -> None:
    as_png = client.post("/v1/predict?reconstruction=png", content=picture()).json()["reconstruction"]
    assert Image.open(BytesIO(base64.b64decode(as_png))).size == (28, 28)
    assert "reconstruction" not in client.post("/v1/predict?reconstruction=none", content=picture()).json()


def test_explanation_shows_where_and_why(client: TestClient) -> None:
    body = client.post("/v1/predict?explain=true", content=picture(level=0)).json()
    assert np.array(body["error_map"]).mean() == pytest.approx(body["loss"])
    assert body["reasons"] == [
        {"name": "loss", "value": pytest.approx(1.0), "p_value": pytest.approx(0.01), "sentence": "redrawn badly here"}
    ]


@pytest.mark.parametrize("query", ["reconstruction=all", "explain=perhaps", "reconstruction="])
def test_a_bad_query_is_422(client: TestClient, query: str) -> None:
    answer = client.post(f"/v1/predict?{query}", content=picture())
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:imagegate:invalid-query"


@pytest.mark.parametrize(
    ("request_body", "status"),
    [
        ({"content": b""}, 400),
        ({"files": {"image": picture()}}, 400),
        ({"files": [("file", picture()), ("file", picture())]}, 400),
        ({"files": {"file": b""}}, 400),
        ({"content": b"no image"}, 415),
        ({"content": circle_picture()[:200]}, 422),
        ({"content": picture(), "headers": {"content-encoding": "gzip"}}, 415),
        ({"content": picture(5001, width=5001)}, 413),
    ],
)
def test_what_cannot_be_judged_is_a_problem_from_the_closed_list(
    client: TestClient, request_body: dict[str, object], status: int
) -> None:
    answer = client.post("/v1/predict", **request_body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "error"} <= set(answer.json())
    assert answer.json()["status"] == status
    assert answer.json()["error"] == answer.json()["detail"]


def test_batch_answers_in_order_and_a_bad_file_spoils_only_its_own_place(client: TestClient) -> None:
    files = [("files", picture(level=0)), ("files", b"no image"), ("files", picture(level=255))]
    results = client.post("/v1/predict/batch", files=files).json()["results"]
    assert [one.get("is_anomaly") for one in results] == [True, None, False]
    assert results[1]["status"] == 415
    assert results[0] == client.post("/v1/predict", content=picture(level=0)).json()


def test_batch_without_files_is_400(client: TestClient) -> None:
    assert client.post("/v1/predict/batch", files={"file": picture()}).status_code == 400
    assert client.post("/v1/predict/batch", content=picture()).status_code == 400


def test_model_says_what_is_served_and_promised(client: TestClient) -> None:
    info = client.get("/v1/model").json()
    prediction = client.post("/v1/predict", content=picture()).json()
    assert {"name": info["name"], "version": info["version"]} == prediction["model"]
    assert info["threshold"] == prediction["threshold"]
    assert info["target_false_positive_rate"] == 0.01
    assert "1%" in info["promise"]["words"]


def test_a_body_over_the_limit_is_413_by_length_and_by_chunks(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_upload_bytes=1000)
    by_length = client.post("/v1/predict", content=b"x" * 1001)
    by_chunks = client.post("/v1/predict", content=iter([b"x" * 600, b"x" * 600]))
    assert by_length.status_code == by_chunks.status_code == 413
    assert client.post("/v1/predict/batch", content=b"x" * 1001).status_code == 413


def test_formats_that_the_operator_adds_are_judged_on_every_way(tmp_path: Path) -> None:
    image = encoded(Image.new("L", (64, 64), 255), "TIFF")
    settings = Settings(artifact=write_tiny_artifact(tmp_path / "tiny"), formats=("PNG", "TIFF"))
    with TestClient(create_app(settings)) as client:
        assert client.post("/v1/predict", content=image).json()["is_anomaly"] is False
        files = [("files", image), ("files", encoded(Image.new("L", (9, 9)), "GIF"))]
        first, second = client.post("/v1/predict/batch", files=files).json()["results"]
    assert first["is_anomaly"] is False
    assert second["status"] == 415


def test_a_query_parameter_that_does_not_exist_is_refused_by_name(client: TestClient) -> None:
    for path in ("/v1/predict", "/v1/predict/batch"):
        answer = client.post(f"{path}?explain=true&recon%00struction`=png", content=picture())
        assert answer.status_code == 422
        assert answer.json()["detail"] == (
            "There is no query parameter `recon?struction?`; there are `reconstruction`, `explain`."
        )


def test_a_batch_whose_parts_are_named_as_arrays_is_judged(client: TestClient) -> None:
    answer = client.post("/v1/predict/batch", files=[("files[]", picture()), ("files", picture())])
    assert [one["is_anomaly"] for one in answer.json()["results"]] == [False, False]


def test_a_form_without_the_part_is_told_which_parts_it_has(client: TestClient) -> None:
    files = [("image", picture()), ("b" * 99, picture())]
    assert client.post("/v1/predict", files=files).json()["detail"] == (
        f"The form has no part named `file`; it has `image`, `{'b' * 40}`."
    )
    assert (
        "no part named `files`; it has `images[]`"
        in client.post("/v1/predict/batch", files=[("images[]", picture())]).text
    )
