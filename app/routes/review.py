"""The page at `/review`: kept images, looked at and labelled."""

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from app.routes.kept import NOT_KEEPING
from app.routes.page import page_headers, read_page


def add_review_page(app: FastAPI, keeps: bool) -> None:
    """Adds `GET /review`; not in OpenAPI.

    Args:
        keeps: Whether images are kept; without, the page is 404.
    """
    html = read_page("review.html")
    content, headers = html.encode(), page_headers(html)

    async def page(request: Request) -> Response:
        if not keeps:
            raise NOT_KEEPING()
        return Response(content, headers=headers, media_type="text/html")

    app.router.add_route("/review", page, methods=["GET"], include_in_schema=False)
