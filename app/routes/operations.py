"""Routes for operators: probes, which do no model work and use no thread pool, and metrics."""

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import NotReady
from app.judging.judge import Judge
from app.telemetry.metrics import Metrics
from app.web.problems import documented
from app.web.routing import add_lean_route


class Probe(BaseModel):
    status: str


def add_operations(app: FastAPI) -> None:
    """Adds them to an app whose state has `judge` and `metrics`."""
    add_lean_route(app, "GET", "/livez", livez, summary="The process answers", response_model=Probe)
    add_lean_route(
        app,
        "GET",
        "/readyz",
        readyz,
        summary="Requests are welcome",
        response_model=Probe,
        responses=documented(NotReady),
    )
    app.router.add_route("/metrics", _metrics, methods=["GET"], include_in_schema=False)


async def livez(request: Request) -> Response:
    """Always 200: the process is running and its event loop responds."""
    return JSONResponse({"status": "live"})


async def readyz(request: Request) -> Response:
    """200 once the artifact has loaded and scored a warm-up image; 503 before, and again from the start of draining."""
    judge: Judge = request.app.state.judge
    judge.check_ready()
    return JSONResponse({"status": "ready"})


async def _metrics(request: Request) -> Response:
    metrics: Metrics = request.app.state.metrics
    content, media_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(content, media_type=media_type)
