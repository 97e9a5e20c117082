"""The web page at `/`: one file."""

from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from app.headers import page_headers

_PAGE = Path(__file__).parent / "page.html"


def add_page(app: FastAPI) -> None:
    """Adds `GET /`; not in OpenAPI."""
    content = _PAGE.read_bytes()
    headers = {"Cache-Control": "no-cache", **page_headers(content.decode())}

    async def page(request: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")

    app.router.add_route("/", page, methods=["GET"], include_in_schema=False)
