from collections.abc import Callable

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from testing.pictures import circle_picture


async def out_of_order(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the router was asked")


def test_exactly_a_lean_route_is_reached_past_the_router(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    exact = client.app.middleware_stack._app  # type: ignore[attr-defined]
    router, exact._router = exact._router, out_of_order
    assert client.post("/v1/predict?reconstruction=none", content=circle_picture()).status_code == 200
    assert client.post("/v1/predict", content=b"no image").status_code == 415
    assert client.get("/livez").status_code == 200
    assert client.get("/docs").status_code == 500
    exact._router = router
    assert client.get("/v1/predict").status_code == 405
    assert client.get("/docs").status_code == 200
    assert '"/v1/predict"' in client.get("/metrics").text


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/v1/model", "/v2/health/live", "/", "/metrics", "/openapi.json"]
)
def test_head_answers_like_get_without_a_body(client: TestClient, path: str) -> None:
    assert client.head(path).status_code == client.get(path).status_code == 200
    assert "head" not in client.get("/openapi.json").json()["paths"].get(path, {})


@pytest.mark.parametrize("path", ["/livez/", "/readyz/", "/v1/model/", "/v1/predict/", "/docs/", "/metrics/", "/v2/"])
def test_a_slash_at_the_end_is_another_path_and_never_a_redirect(client: TestClient, path: str) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = client.request(method, path, follow_redirects=False)
        assert answer.status_code == 404
        assert "location" not in answer.headers
