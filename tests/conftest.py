"""What tests share: a tiny real artifact, the app that serves it, and pictures made by code."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import uvicorn
from fastapi import FastAPI
from onnx import TensorProto, helper
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from app.detection.artifact import CALIBRATION, CHECKPOINT, GRAPH, VIEW_CALIBRATION, load_artifact, write_artifact
from app.detection.detector import Detector
from app.main import create_app
from app.settings import Settings
from tests.fake_classifier import FakeClassifier, fake_classifier

DEFAULT_ARTIFACT = Path(__file__).resolve().parent.parent / "model_artifacts" / "circles"


def tiny_graph(reconstruction_level: float = 1.0) -> bytes:
    """A real graph whose network redraws everything as one grey level; score and the one view are the loss."""
    nodes = [
        helper.make_node("Mul", ["image", "zero"], ["black"]),
        helper.make_node("Add", ["black", "level"], ["reconstruction"]),
        helper.make_node("Sub", ["image", "reconstruction"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["loss"], keepdims=0),
        helper.make_node("Identity", ["loss"], ["score"]),
        helper.make_node("Reshape", ["loss", "column"], ["views"]),
    ]
    constants = {
        "zero": np.zeros((1,), np.float32),
        "level": np.full((1,), reconstruction_level, np.float32),
        "axes": np.array([1, 2, 3]),
        "column": np.array([-1, 1]),
    }
    outputs = {"reconstruction": ["N", 1, 28, 28], "loss": ["N"], "score": ["N"], "views": ["N", 1]}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_tiny_artifact(folder: Path, threshold: float = 0.5, **changes: Any) -> Path:
    """An artifact of `tiny_graph`: accepts images whose mean squared distance from white is at most `threshold`."""

    def fill(aside: Path) -> dict[str, Any]:
        (aside / GRAPH).write_bytes(tiny_graph(changes.pop("reconstruction_level", 1.0)))
        (aside / CHECKPOINT).write_bytes(b"the tests never train this one")
        scores = np.linspace(0, threshold, 99, dtype=np.float32)
        np.save(aside / CALIBRATION, scores[np.newaxis])
        np.save(aside / VIEW_CALIBRATION, scores[np.newaxis, np.newaxis])
        return {
            "name": "tiny",
            "architecture": {"name": "tiny", "arguments": {}},
            "preprocessing": {"background": 255, "resize_filter": "bicubic"},
            "threshold": threshold,
            "promise": {
                "target_false_positive_rate": 0.01,
                "rate_with_90_percent_confidence": 0.023,
                "calibration_size": 99,
                "rank": 99,
                "words": "At most 1% of normal images are refused on average.",
            },
            "variants": ["pipeline"],
            "views": [{"name": "loss", "meaning": "error", "odd": "redrawn badly here", "normal": "redrawn well"}],
            "evaluation": {},
            "data": {},
            "training": {},
            "seed": 0,
            "library_versions": {},
            **changes,
        }

    write_artifact(folder, fill)
    return folder


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def picture(
    side: int = 28, mode: str = "L", image_format: str = "PNG", level: int = 255, width: int | None = None
) -> bytes:
    """A file of one grey level."""
    color = {"L": level, "RGB": (level,) * 3, "RGBA": (level, level, level, 255)}[mode]
    return encoded(Image.new(mode, (width or side, side), color), image_format)


def circle_picture(side: int = 100) -> bytes:
    image = Image.new("L", (side, side), 255)
    ImageDraw.Draw(image).ellipse((side * 0.2, side * 0.2, side * 0.8, side * 0.8), outline=0, width=max(1, side // 72))
    return encoded(image)


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_artifact(tmp_path_factory.mktemp("artifacts") / "tiny")


@pytest.fixture(scope="session")
def tiny_detector(tiny_artifact: Path) -> Detector:
    return Detector(load_artifact(tiny_artifact))


@pytest.fixture
def make_client(tiny_artifact: Path) -> Iterator[Callable[..., TestClient]]:
    """Starts an app of the tiny artifact with the settings that a test names."""
    clients: list[TestClient] = []

    def make(**settings: Any) -> TestClient:
        app: FastAPI = create_app(Settings(**{"artifact": tiny_artifact, "log_level": "error", **settings}))
        client = TestClient(app)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


@pytest.fixture
def classifier() -> Iterator[FakeClassifier]:
    with fake_classifier() as fake:
        yield fake


@pytest.fixture
def make_server(tiny_artifact: Path) -> Iterator[Callable[..., int]]:
    """Starts a real server of the tiny artifact on a free port of the loopback, for what a test client hides."""
    with ExitStack() as stack:

        def make(**settings: Any) -> int:
            app = create_app(Settings(**{"artifact": tiny_artifact, "log_level": "error", **settings}))
            return stack.enter_context(serving(app))

        yield make


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serves in a thread; gives the port."""
    config = uvicorn.Config(app, log_config=None, http="httptools", ws="none", server_header=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()
