"""The report of the training, as the artifact in use brings it along: `/report` is its page."""

import mimetypes

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from app.errors import HttpRefusal
from app.judging.judge import Judge

INDEX = "index.html"
_HEADERS = {
    # Its pictures stand in the page or beside it; no script, no form, no other host.
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; sandbox allow-same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def add_report(app: FastAPI) -> None:
    """Adds `GET /report` and the files beside it, to an app whose state has `judge`; not in OpenAPI."""
    app.router.add_route("/report", _report, methods=["GET"], include_in_schema=False)
    app.router.add_route("/report/{name}", _report, methods=["GET"], include_in_schema=False)


async def _report(request: Request) -> Response:
    """One file, from memory: nothing but what the manifest lists, and only as it was verified, can be asked for."""
    judge: Judge = request.app.state.judge
    name = request.path_params.get("name", INDEX)
    content = judge.detector.artifact.report.get(name)
    if content is None:
        raise HttpRefusal(404, "The artifact has no such report; a training leaves one.", {})
    media_type = mimetypes.guess_type(name)[0] or "text/plain"
    return Response(content, headers=_HEADERS, media_type=media_type)
