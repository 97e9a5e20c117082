import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app.settings import SettingsError
from app.web.tokens import OPEN_PATHS, TokenCheck
from testing.pictures import picture
from testing.servers import Server, wait_until

TOKENS = "old-token-of-last-week,new-token-of-this-week"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_each_of_several_tokens_opens_every_route(make_client: Callable[..., TestClient]) -> None:
    client = make_client(tokens=TOKENS)
    for token in TOKENS.split(","):
        assert client.post("/v1/predict", content=picture(), headers=bearer(token)).status_code == 200
        assert client.get("/openapi.json", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(TOKENS),
        bearer("old-token-of-last-wee"),
        {"Authorization": "old-token-of-last-week"},
        {"Authorization": "Basic old-token-of-last-week"},
        {"X-Gate-Token": "old-token-of-last-week"},
        {"Authorization": "Bearer \xfc".encode("latin-1")},
    ],
)
def test_without_a_token_that_fits_every_route_refuses(
    make_client: Callable[..., TestClient], headers: dict[str, str]
) -> None:
    client = make_client(tokens=TOKENS)
    for method, path in (
        ("POST", "/v1/predict"),
        ("GET", "/v1/model"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/nowhere"),
        ("POST", "/livez/"),
    ):
        response = client.request(method, path, headers=headers)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["type"] == "urn:imagegate:unauthorized"


def test_probes_and_page_need_no_token(make_client: Callable[..., TestClient]) -> None:
    client = make_client(tokens=TOKENS)
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
    for path in OPEN_PATHS:
        assert client.get(path).status_code != 401


@pytest.mark.parametrize("path", ["/v1/gate/classify", "/v1/authz/classify", "/v1/gate", "/v1%2Fgate/classify"])
def test_in_front_of_a_classifier_the_token_has_a_header_of_its_own(
    make_client: Callable[..., TestClient], path: str
) -> None:
    client = make_client(tokens=TOKENS)
    token = TOKENS.split(",")[0]
    assert client.post(path, headers=bearer(token)).status_code == 401
    assert "X-Gate-Token" in client.post(path, headers=bearer(token)).json()["detail"]
    assert client.post(path, headers={"X-Gate-Token": token}).status_code != 401


def test_a_stranger_is_refused_before_the_body_is_read(make_client: Callable[..., TestClient]) -> None:
    client = make_client(tokens=TOKENS, max_upload_bytes=10)
    assert client.post("/v1/predict", content=b"x" * 1000).status_code == 401
    assert client.post("/v1/predict", content=b"x" * 1000, headers=bearer(TOKENS.split(",")[0])).status_code == 413


def test_without_tokens_everybody_may_ask(client: TestClient) -> None:
    assert client.post("/v1/predict", content=picture(), headers=bearer("anything")).status_code == 200


def test_openapi_names_the_schemes_and_the_refusal(make_client: Callable[..., TestClient]) -> None:
    schema = make_client(tokens=TOKENS).get("/openapi.json", headers=bearer(TOKENS.split(",")[0])).json()
    predict = schema["paths"]["/v1/predict"]["post"]
    assert predict["security"] == [{"bearer": []}]
    assert "application/problem+json" in predict["responses"]["401"]["content"]
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "gateToken"}
    assert "401" not in schema["paths"]["/livez"]["get"]["responses"]


def test_openapi_demands_no_token_where_none_is_needed(client: TestClient) -> None:
    assert "security" not in client.get("/openapi.json").json()["paths"]["/v1/predict"]["post"]


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    file = tmp_path / "tokens"
    file.write_text("# who may ask\n\nshop:token-of-the-shop-17\nlab:token-of-the-lab-1234\n")
    return file


def test_tokens_of_a_file_open_routes_and_their_names_are_logged(
    make_client: Callable[..., TestClient], tokens_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = make_client(tokens_file=tokens_file, tokens="one-without-a-name", log_level="info")
    for token, status in (
        ("token-of-the-lab-1234", 200),
        ("one-without-a-name", 200),
        ("lab:token-of-the-lab-1234", 401),
    ):
        assert client.post("/v1/predict", content=picture(), headers=bearer(token)).status_code == status
    assert client.post("/v1/authz/x", content=picture(), headers={"X-Gate-Token": "token-of-the-shop-17"}).is_success
    logged = capsys.readouterr().err
    assert logged.count("token=lab") == logged.count("token=shop") == 1
    assert "token-of-the" not in logged


def test_the_file_is_read_again_and_a_bad_one_changes_nothing(
    make_client: Callable[..., TestClient], tokens_file: Path
) -> None:
    client = make_client(tokens_file=tokens_file)
    check: TokenCheck = client.app.state.tokens  # type: ignore[attr-defined]
    tokens_file.write_text("lab:token-of-the-lab-5678\n")
    check.read_again()
    assert client.get("/v1/model", headers=bearer("token-of-the-lab-1234")).status_code == 401
    assert client.get("/v1/model", headers=bearer("token-of-the-lab-5678")).status_code == 200
    tokens_file.write_text("secret without a name\n")
    with pytest.raises(SettingsError, match="line 1 is not") as caught:
        check.read_again()
    assert "secret" not in str(caught.value)
    assert client.get("/v1/model", headers=bearer("token-of-the-lab-5678")).status_code == 200


def test_sighup_reads_the_file_again(tiny_artifact: Path, tokens_file: Path) -> None:
    with Server(artifact=tiny_artifact, tokens_file=tokens_file) as server, server.client() as client:
        tokens_file.write_text("new:token-of-somebody-new\n")
        server.signal(signal.SIGHUP)
        server.wait_for_line("artifact reloaded")
        headers = bearer("token-of-somebody-new")
        assert wait_until(lambda: client.get("/v1/model", headers=headers).status_code == 200)


@pytest.mark.parametrize("content", ["", "# nothing\n", "no-name\n", "a name:token\n"])
def test_a_file_without_usable_tokens_stops_the_start(
    make_client: Callable[..., TestClient], tmp_path: Path, content: str
) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(SettingsError, match="GATE_TOKENS_FILE"):
        make_client(tokens_file=tmp_path / "tokens")


def test_metrics_have_a_token_of_their_own_or_none(make_client: Callable[..., TestClient]) -> None:
    own = make_client(tokens=TOKENS, metrics_token="scrape-it-all-you-like")
    assert own.get("/metrics").status_code == 401
    assert own.get("/metrics", headers=bearer("scrape-it-all-you-like")).status_code == 200
    assert own.get("/metrics", headers=bearer(TOKENS.split(",")[0])).status_code == 200
    assert own.get("/v1/model", headers=bearer("scrape-it-all-you-like")).status_code == 401
    assert make_client(tokens=TOKENS, metrics_token="open").get("/metrics").status_code == 200
    alone = make_client(metrics_token="scrape-it-all-you-like")
    assert (alone.get("/metrics").status_code, alone.get("/v1/model").status_code) == (401, 200)


def test_the_health_routes_of_the_protocol_are_as_open_as_the_probes(make_client: Callable[..., TestClient]) -> None:
    client = make_client(tokens=TOKENS)
    assert client.get("/v2/health/live").status_code == client.get("/v2/health/ready").status_code == 200
