import asyncio
import logging
import re
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Overloaded
from app.telemetry.metrics import Metrics
from app.web.middleware import RequestMiddleware
from app.web.tokens import TokenCheck


def enveloped(app: ASGIApp) -> TestClient:
    return TestClient(RequestMiddleware(app, TokenCheck([]), Metrics()))


def raising(error: BaseException) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return app


@pytest.mark.parametrize("sane", ["7", "a-b_c.d:e", "x" * 128])
def test_a_sane_request_id_is_the_clients(client: TestClient, sane: str) -> None:
    assert client.get("/livez", headers={"X-Request-ID": sane}).headers["x-request-id"] == sane


def test_requests_without_an_id_get_each_another(client: TestClient) -> None:
    ids = {client.get("/livez").headers["x-request-id"] for _ in range(20)}
    assert len(ids) == 20
    assert all(len(one) == 32 for one in ids)


@pytest.mark.parametrize("insane", ["", "a b", "x" * 129, "a\tstatus=200", "\u00e9".encode()])
def test_another_request_id_is_replaced(client: TestClient, insane: str | bytes) -> None:
    answered = client.get("/livez", headers={b"X-Request-ID": insane}).headers["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", answered)


def test_every_answer_forbids_guessing_its_type_and_names_no_server(client: TestClient) -> None:
    for path in ("/livez", "/openapi.json", "/nowhere", "/v1/predict"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_a_refusal_raised_anywhere_is_a_problem() -> None:
    response = enveloped(raising(Overloaded("Too much."))).get("/")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["detail"] == response.json()["error"] == "Too much."


def test_a_fault_of_ours_is_logged_with_its_request_id_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    response = enveloped(raising(RuntimeError("inner matters"))).get("/", headers={"X-Request-ID": "id-7"})
    assert response.status_code == 500
    assert "id-7" in response.json()["detail"]
    assert "inner matters" not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info
    assert record.__dict__["fields"]["request_id"] == "id-7"


def test_a_fault_after_the_answer_has_begun_ends_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse("answered")(scope, receive, send)
        raise RuntimeError

    assert enveloped(app).get("/").text == "answered"


@pytest.mark.parametrize(
    ("error", "sent"), [(ClientDisconnect(), []), (asyncio.CancelledError(), [503])], ids=["gone", "stopped"]
)
def test_a_client_that_went_away_gets_nothing_and_one_cut_off_by_the_stop_a_problem(
    error: BaseException, sent: list[int]
) -> None:
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    async def receive() -> dict[str, Any]:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(RequestMiddleware(raising(error), TokenCheck([]), Metrics())(scope, receive, send))
    assert [message["status"] for message in messages if message["type"] == "http.response.start"] == sent
