"""The Kubernetes probes: no model work, no thread pool, so that they answer under any load."""

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.errors import NotReady
from app.judging.judge import Judge
from app.web.problems import documented
from app.web.routing import add_lean_route


class Probe(BaseModel):
    status: str


def add_probes(app: FastAPI) -> None:
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


async def livez(request: Request) -> Response:
    """200 for as long as the event loop turns."""
    return JSONResponse({"status": "live"})


async def readyz(request: Request) -> Response:
    """200 once the artifact has loaded and scored a warm-up image; 503 before, and again from the start of draining."""
    judge: Judge = request.app.state.judge
    if judge.draining:
        raise NotReady("The service is shutting down.")
    _ = judge.detector  # raises NotReady before one is loaded
    return JSONResponse({"status": "ready"})
