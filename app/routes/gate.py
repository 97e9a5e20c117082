"""The routes that stand in front of a classifier: a proxy, Envoy's ext_authz, nginx's X-Accel-Redirect.

A request passes if every image in it is normal; `passes` has the exceptions (shadow mode, fail_open). Requests that
GATE_UNJUDGED names pass without being looked at. GET, HEAD and OPTIONS requests without a body pass unless their query
holds an image: health checks, metadata requests and CORS preflights are of this kind.
"""

import asyncio
import logging
import re
from time import perf_counter
from typing import Any

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from app.errors import (
    AnomalousImage,
    CannotJudgeNow,
    ClassifierDown,
    ClassifierTooSlow,
    GateFailed,
    NoClassifier,
    NotAdmitted,
    PartialBody,
    Refusal,
)
from app.judging.queues import while_connected
from app.payload.body import BodyReader
from app.routes.classifier import Answer, Classifier
from app.routes.forwarding import WrittenRequest
from app.routes.inspection import GateDecision, inspect
from app.routes.raw_headers import RawHeaders, end_to_end
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.web.problems import BODY_REFUSALS, IMAGE_REFUSALS, documented
from app.web.routing import Endpoint, add_lean_route

logger = logging.getLogger(__name__)

# Routes are tried in this order, and most requests with an image are POST.
_TRACE = re.compile("[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_METHODS = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")


def add_gate_routes(app: FastAPI) -> None:
    """Adds them to an app whose state has `settings`, `judge`, `bodies` and `classifier`."""
    judging = (*BODY_REFUSALS, *IMAGE_REFUSALS)
    forwards = {
        **documented(*judging, AnomalousImage, NoClassifier, ClassifierDown, ClassifierTooSlow),
        "default": {"description": "The classifier's own answer, with X-Gate-Verdict, -Score and -Model."},
    }
    admits = {
        200: {"description": "Admitted; with GATE_ACCEL_REDIRECT, X-Accel-Redirect tells nginx where to."},
        **documented(*(one for one in judging if one.status < 500), NotAdmitted, PartialBody, CannotJudgeNow),
    }
    for method in _METHODS:
        _add(app, method, "/v1/gate/{path:rest}", gate, "Forward to the classifier what is normal", forwards)
        _add(app, method, "/v1/authz/{path:rest}", authorize, "Envoy ext_authz: 200 admits", admits)


async def gate(request: Request) -> ASGIApp:
    """Forwards a request whose images are all normal to the classifier; its answer comes back unchanged."""
    state = request.app.state
    settings: Settings = state.settings
    classifier: Classifier | None = state.classifier
    if classifier is None and settings.accel_redirect is None:
        raise NoClassifier("Set GATE_CLASSIFIER_URL to the classifier that this service stands in front of.")
    path = _path_behind(b"/v1/gate", request)
    query: bytes = request.scope["query_string"]
    headers = _forwardable(request)
    bodies: BodyReader = state.bodies
    with bodies.hold() as held:
        body = await bodies.read(_without_encoding(request.scope["headers"]), request.receive, held)
        decision = await inspect(request, headers, path, body, proxies=classifier is not None)
        if not passes(decision, settings):
            raise _refusal(decision)
        _count_forwarded(request, decision)
        if classifier is None:
            return _admitted(decision, settings)
        sent = decision.written or WrittenRequest(headers, query, body)
        answer = await _forward(request, classifier, path, sent, decision)
    answer.headers = [field for field in answer.headers if not _is_ours(field[0])] + decision.headers()
    return answer


async def _forward(
    request: Request, classifier: Classifier, path: bytes, sent: WrittenRequest, decision: GateDecision
) -> Answer:
    """Sends a request to the classifier, and notes how long that took until its answer began."""
    request_id: str = request.state.request_id
    fields = [field for field in sent.headers if field[0] != b"x-request-id"]
    fields += [(b"x-request-id", request_id.encode()), *decision.headers()]
    metrics: Metrics = request.app.state.metrics
    started = perf_counter()
    try:
        async with while_connected(request.receive):
            return await classifier.forward(request.method, path, sent.query, fields, sent.body)
    finally:
        seconds = perf_counter() - started
        metrics.classifier_seconds.observe(seconds)
        request.state.log["classifier_milliseconds"] = round(seconds * 1000, 2)


async def authorize(request: Request) -> Response:
    """Answers Envoy's ext_authz check: 200 admits the request. Whatever would be a 5xx is answered with 429."""
    try:
        return await _authorize(request)
    except Refusal as refusal:
        raise _never_5xx(refusal) from refusal
    except ClientDisconnect:
        raise
    except asyncio.CancelledError as error:
        # uvicorn cancels what is still running when the time for a graceful shutdown is over.
        raise CannotJudgeNow("The service stopped before this was done.") from error
    except Exception as error:
        request_id: str = request.state.request_id
        logger.exception("authorizing failed", extra={"fields": {"request_id": request_id}})
        raise CannotJudgeNow(GateFailed(request_id).detail) from error


async def _authorize(request: Request) -> Response:
    settings: Settings = request.app.state.settings
    bodies: BodyReader = request.app.state.bodies
    path = _path_behind(b"/v1/authz", request)
    with bodies.hold() as held:
        body = await bodies.read(_without_encoding(request.scope["headers"]), request.receive, held)
        decision = await inspect(request, _forwardable(request), path, body, proxies=False)
    if not passes(decision, settings):
        raise _refusal(decision)
    _count_forwarded(request, decision)
    return _admitted(decision, settings)


def passes(decision: GateDecision, settings: Settings) -> bool:
    """Whether a request with this decision goes on to the classifier."""
    return decision.refusal is None or settings.mode == "shadow" or (settings.fail_open and decision.own_fault)


def _never_5xx(refusal: Refusal) -> Refusal:
    """Translates a refusal for /v1/authz: anomalies become 403, and any 5xx becomes 429."""
    if isinstance(refusal, AnomalousImage):
        translated: Refusal = NotAdmitted(refusal.prediction, refusal.image, refusal.images)
        translated.detail = refusal.detail
    elif refusal.status >= 500:
        translated = CannotJudgeNow(refusal.detail)
    else:
        return refusal
    translated.more_headers = refusal.more_headers
    return translated


def _refusal(decision: GateDecision) -> Refusal:
    assert decision.refusal is not None
    decision.refusal.more_headers = decision.headers()
    return decision.refusal


def _count_forwarded(request: Request, decision: GateDecision) -> None:
    if decision.refusal is not None:
        request.state.log["would_refuse"] = decision.refusal.slug
    metrics: Metrics = request.app.state.metrics
    metrics.forwarded(decision.verdict)


def _admitted(decision: GateDecision, settings: Settings) -> Response:
    response = Response()
    response.raw_headers += decision.headers()
    if settings.accel_redirect is not None:
        response.headers["X-Accel-Redirect"] = settings.accel_redirect
    return response


def _path_behind(prefix: bytes, request: Request) -> bytes:
    """What follows the route's prefix, as the client encoded it."""
    raw_path: bytes = request.scope["raw_path"]
    if not raw_path.startswith(prefix + b"/"):
        raise NoClassifier("The route's own part of the path is written without percent-encoding.")
    return raw_path.removeprefix(prefix)


def _forwardable(request: Request) -> RawHeaders:
    """What the classifier may see of the header fields; the trace that they name goes to the log."""
    found = _TRACE.fullmatch(request.headers.get("traceparent", ""))
    if found is not None:
        request.state.log.setdefault("trace_id", found[1])
    return [field for field in end_to_end(request.scope["headers"]) if not _is_ours(field[0])]


def _is_ours(name: bytes) -> bool:
    # CGI and WSGI treat "_" and "-" alike, so both spellings are removed from the client's request.
    return name.lower().replace(b"_", b"-").startswith(b"x-gate-")


def _without_encoding(headers: RawHeaders) -> RawHeaders:
    """Removes Content-Encoding, so that the body reader accepts the body.

    A compressed body is refused later, by `find_images`, as part of the decision, so that shadow mode only reports it.
    """
    return [field for field in headers if field[0] != b"content-encoding"]


def _add(
    app: FastAPI,
    method: str,
    path: str,
    endpoint: Endpoint,
    summary: str,
    responses: dict[int | str, dict[str, Any]],
) -> None:
    extra: dict[str, Any] = {
        "parameters": [{"name": "path", "in": "path", "required": True, "schema": {"type": "string"}}]
    }
    if method in ("POST", "PUT", "PATCH"):
        extra["requestBody"] = _ANY_BODY
    add_lean_route(
        app,
        method,
        path,
        endpoint,
        summary=summary,
        response_class=Response,
        response_model=None,
        responses=responses,
        openapi_extra=extra,
    )


_BINARY = {"type": "string", "format": "binary"}
_ANY_BODY = {
    "required": True,
    "description": "The classifier's own request, with at least one image.",
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "additionalProperties": _BINARY}},
        "application/json": {"schema": {}, "example": {"image": "iVBORw0KGgo..."}},
        "application/octet-stream": {"schema": _BINARY},
        "image/*": {"schema": _BINARY},
    },
}
