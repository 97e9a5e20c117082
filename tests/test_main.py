from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import app
from app.errors import ArtifactError
from app.main import create_app
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.pictures import picture


def test_not_ready_until_the_artifact_is_loaded(tiny_artifact: Path) -> None:
    client = TestClient(create_app(Settings(artifact=tiny_artifact)))
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    assert client.post("/v1/predict", content=picture()).headers["retry-after"]
    with client:
        assert client.get("/readyz").status_code == 200


def test_a_missing_artifact_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere"), TestClient(create_app(Settings(artifact=tmp_path / "nowhere"))):
        pass


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("GET", "/v1/predict", 405)])
def test_unknown_routes_and_methods_are_problems_too(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["error"] == answer.json()["detail"]


def test_a_fault_of_our_own_is_500_and_says_nothing_of_its_cause(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the secret cause")

    monkeypatch.setattr("app.routes.v1.prediction", fail)
    answer = client.post("/v1/predict", content=picture())
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["detail"]


def test_every_answer_carries_a_request_id_the_clients_own_if_it_is_sane(client: TestClient) -> None:
    assert client.get("/livez", headers={"X-Request-ID": "my-id.1"}).headers["x-request-id"] == "my-id.1"
    forged = client.get("/nothing", headers={"X-Request-ID": 'x" status=200'}).headers["x-request-id"]
    assert '"' not in forged
    assert client.get("/livez").headers["x-request-id"] != client.get("/livez").headers["x-request-id"]


def test_openapi_documents_both_body_kinds_and_every_status(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/v1/predict"]["post"]
    assert {"multipart/form-data", "image/png"} <= set(predict["requestBody"]["content"])
    assert {"200", "400", "408", "413", "415", "422", "503"} <= set(predict["responses"])
    assert schema["components"]["schemas"]["Problem"]["required"]
    assert "/metrics" not in schema["paths"]


def test_two_apps_share_nothing(make_client: Callable[..., TestClient]) -> None:
    one, other = make_client(max_upload_bytes=10), make_client()
    assert one.post("/v1/predict", content=picture()).status_code == 413
    assert other.post("/v1/predict", content=picture()).status_code == 200


def test_openapi_names_the_version_of_the_project(client: TestClient) -> None:
    assert client.get("/openapi.json").json()["info"]["version"] == app.__version__


@pytest.mark.parametrize(("forward", "warns"), [("original", True), ("judged", False)])
def test_an_artifact_of_transparent_files_is_told_about_at_the_start(
    make_client: Callable[..., TestClient],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    forward: str,
    warns: bool,
) -> None:
    found = {"images": 60, "read_differently": 60, "refused": 57, "words": "WARNING: ..."}
    folder = write_tiny_artifact(tmp_path / "flags", evaluation={"other_decoders": found})
    make_client(artifact=folder, classifier_url="http://127.0.0.1:1", forward=forward, log_level="warning")
    assert ("normal_files=60 refused=57" in capsys.readouterr().err) is warns
