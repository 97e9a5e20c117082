from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.web.tokens import OPEN_PATHS
from testing.pictures import picture

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
