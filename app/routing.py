"""FastAPI documents these routes but does not stand in their way."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class LeanRoute(APIRoute):
    """In OpenAPI like any other route; a request goes straight to the endpoint.

    FastAPI's own handling (dependencies, parsing, validation of the answer) costs more than judging a small image,
    and none of it is used here: bodies are read by `app.body`, and answers are written by orjson.
    """

    def __init__(self, path: str, endpoint: Endpoint, **documentation: Any) -> None:
        super().__init__(path, endpoint, **documentation)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = answer


def add_lean_route(app: FastAPI, method: str, path: str, endpoint: Endpoint, **documentation: Any) -> None:
    """Adds a route; `documentation` is what FastAPI's `add_api_route` takes (summary, responses, openapi_extra)."""
    app.router.add_api_route(path, endpoint, methods=[method], route_class_override=LeanRoute, **documentation)
