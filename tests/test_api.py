import numpy as np
import pytest
from starlette.testclient import TestClient

from app.images import Preprocessing, decode_image
from tests.conftest import circle_picture


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
    assert body["loss"] == pytest.approx(np.square(image - np.array(body["reconstruction"])).mean(), rel=1e-5)
    assert np.array(body["reconstruction"]).shape == (28, 28)
