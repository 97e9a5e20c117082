"""What passes the gate, and what the client hears, when the gate itself is at fault or has too much to do."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from testing.fake_classifier import FakeClassifier
from testing.gate_requests import json_request
from testing.pictures import picture

NORMAL = picture(level=255)
MakeClient = Callable[..., TestClient]


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


def test_authz_never_answers_5xx(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
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
