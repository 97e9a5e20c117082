"""Routes that appear in FastAPI's OpenAPI document, but bypass FastAPI's request handling."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[ASGIApp]]


class _RestOfPath(PathConvertor):
    """`{name:rest}`: like Starlette's `path`, but with line breaks, which a client may well escape into a path."""

    regex = "(?s:.*)"


register_url_convertor("rest", _RestOfPath())


class LeanRoute(APIRoute):
    """A route that is documented like any other, but calls its endpoint directly with the request.

    FastAPI's handling of a request (dependencies, parsing, response validation) takes longer than judging a small image
    and is not needed: `app.payload.body` reads bodies, and orjson writes responses.
    """

    def __init__(self, path: str, endpoint: Endpoint, **documentation: Any) -> None:
        super().__init__(path, endpoint, **documentation)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await endpoint(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = answer


class ExactRoutes:
    """Dispatches by a dictionary of (method, path), and leaves all other requests to the router.

    The dictionary holds the lean routes without path parameters. The lookup halves the time that routing takes.
    """

    def __init__(self, router: APIRouter) -> None:
        self._router = router
        lean = [route for route in router.routes if isinstance(route, LeanRoute) and not route.param_convertors]
        self._routes = {(method, route.path): route for route in lean for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._router(scope, receive, send)
        else:
            scope["route"] = route
            await route.app(scope, receive, send)


def add_lean_route(app: FastAPI, method: str, path: str, endpoint: Endpoint, **documentation: Any) -> None:
    """Adds a route; `documentation` is what FastAPI's `add_api_route` takes (summary, responses, openapi_extra)."""
    app.router.add_api_route(path, endpoint, methods=[method], route_class_override=LeanRoute, **documentation)
    if method == "GET":  # probes of balancers ask with HEAD; the server leaves the body away
        app.router.add_api_route(
            path,
            endpoint,
            methods=["HEAD"],
            route_class_override=LeanRoute,
            include_in_schema=False,
            response_model=None,
        )
