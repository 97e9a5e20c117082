"""Fixtures that all tests share."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.main import create_app
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.fake_classifier import FakeClassifier, fake_classifier
from testing.servers import serving

# The test client has a line for each request, among those of the service.
logging.getLogger("httpx2").setLevel(logging.WARNING)


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
