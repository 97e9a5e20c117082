"""The routes that stand in front of a classifier: a proxy, Envoy's ext_authz, nginx's X-Accel-Redirect.

A request passes if every image in it is normal. One without a body, of a method that changes nothing (GET, HEAD,
OPTIONS), passes unjudged: it carries no image, and health checks, metadata and CORS pre-flights are such requests.
"""

import asyncio
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from app.detection.detector import Detector
from app.detection.images import SIDE
from app.errors import (
    AnomalousImage,
    CannotJudgeNow,
    ClassifierDown,
    ClassifierTooSlow,
    GateFailed,
    MalformedRequest,
    NoClassifier,
    NotAdmitted,
    NotReady,
    PartialBody,
    Refusal,
    UndecodableImage,
)
from app.judging.judge import Judge, Judgement
from app.judging.prediction import PredictionOptions, prediction
from app.judging.queues import while_connected
from app.payload.body import BodyReader
from app.payload.request_images import find_images
from app.routes.classifier import Classifier, RawHeaders, end_to_end
from app.routes.intake import judge_found, parse_body
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.web.problems import BODY_REFUSALS, IMAGE_REFUSALS, documented
from app.web.routing import Endpoint, add_lean_route

logger = logging.getLogger(__name__)

# Routes are tried in this order, and most requests with an image are POST.
_METHODS = ("POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS")
_WITHOUT_IMAGE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What the gate found out about one request.

    Attributes:
        verdict: "anomaly" if any image is one; "unjudged" if any could not be judged; "none" if there is no image.
        model: Name and version of the artifact; "" if none was there.
        score: The largest of all images; None without a judgement.
        images: How many were judged.
        refusal: Why the request may not pass; None if it may.
        own_fault: Whether that is the gate's own fault, and neither the request's nor that of load.
    """

    verdict: Literal["normal", "anomaly", "unjudged", "none"]
    model: str = ""
    score: float | None = None
    images: int = 0
    refusal: Refusal | None = None
    own_fault: bool = False

    def headers(self) -> RawHeaders:
        fields = [(b"x-gate-verdict", self.verdict.encode())]
        if self.score is not None:
            fields.append((b"x-gate-score", f"{self.score:.6g}".encode()))
        if self.model:
            fields.append((b"x-gate-model", self.model.encode("ascii", "replace")))
        return fields

    def log_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"verdict": self.verdict, "images": self.images}
        if self.score is not None:
            fields.update(score=round(self.score, 6), model=self.model)
        return fields


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
        body = await bodies.read(_without_encoding(request.headers), request.receive, held)
        decision = await inspect(request, Headers(raw=headers), body)
        if not passes(decision, settings):
            raise _refusal(decision)
        _count_forwarded(request, decision)
        if classifier is None:
            return _admitted(decision, settings)
        async with while_connected(request.receive):
            answer = await classifier.forward(request.method, path, query, headers + decision.headers(), body)
    answer.headers = [field for field in answer.headers if not _is_ours(field[0])] + decision.headers()
    return answer


async def authorize(request: Request) -> Response:
    """Envoy sends the original request here, and forwards it if the answer is 200. Never answers 5xx."""
    settings: Settings = request.app.state.settings
    bodies: BodyReader = request.app.state.bodies
    try:
        with bodies.hold() as held:
            body = await bodies.read(_without_encoding(request.headers), request.receive, held)
            decision = await inspect(request, Headers(raw=_forwardable(request)), body)
    except Refusal as refusal:
        raise _never_5xx(refusal) from refusal
    if not passes(decision, settings):
        raise _never_5xx(_refusal(decision))
    _count_forwarded(request, decision)
    return _admitted(decision, settings)


def passes(decision: GateDecision, settings: Settings) -> bool:
    """Whether a request with this decision goes on to the classifier."""
    return decision.refusal is None or settings.mode == "shadow" or (settings.fail_open and decision.own_fault)


async def inspect(request: Request, headers: Headers, body: bytes) -> GateDecision:
    """Judges every image of a request, and adds the outcome to its access line.

    Args:
        headers: Those that the classifier will see.
    """
    decision = await _inspect(request, headers, body)
    request.state.log.update(decision.log_fields())
    return decision


async def _inspect(request: Request, headers: Headers, body: bytes) -> GateDecision:
    judge: Judge = request.app.state.judge
    query: bytes = request.scope["query_string"]
    if "true" in (value.lower() for value in request.headers.getlist("x-envoy-auth-partial-body")):
        return GateDecision("unjudged", refusal=PartialBody("The body exceeds Envoy's max_request_bytes."))
    if not body and not query and request.method in _WITHOUT_IMAGE:
        return GateDecision("none")
    model = ""
    try:
        with judge.admit(request.receive, request.scope) as admission:
            model = _model(admission.detector)
            found = await parse_body(admission, partial(find_images, headers, query), body)
            if found.count:
                return _decide(model, await judge_found(admission, found.files, found.pixels))
        if request.method in _WITHOUT_IMAGE:
            return GateDecision("none")
        raise MalformedRequest("There is no image: the request has no body.")
    except Refusal as refusal:
        return GateDecision("unjudged", model, refusal=refusal, own_fault=isinstance(refusal, NotReady))
    except ClientDisconnect:
        raise
    except Exception:
        return await _failed(request, model)


def _decide(model: str, judgements: list[Judgement]) -> GateDecision:
    scores = [judgement.detection.score for judgement in judgements]
    anomalies = [index for index, one in enumerate(judgements) if one.detection.is_anomaly]
    score = math.nan if any(map(math.isnan, scores)) else max(scores)
    if not anomalies:
        return GateDecision("normal", model, score, len(scores))
    # A score that is not a number is the oddest.
    oddest = max(anomalies, key=lambda index: math.inf if math.isnan(scores[index]) else scores[index])
    found = prediction(judgements[oddest], PredictionOptions(reconstruction="none"))
    return GateDecision("anomaly", model, score, len(scores), AnomalousImage(found, oddest, len(scores)))


async def _failed(request: Request, model: str) -> GateDecision:
    """Tells the gate's own fault from an image that breaks it: then a blank image can still be judged."""
    request_id = request.state.request_id
    logger.exception("judging failed", extra={"fields": {"request_id": request_id}})
    judge: Judge = request.app.state.judge
    try:
        await asyncio.to_thread(judge.detector.detect, np.zeros((1, SIDE, SIDE), np.float32))
    except Exception:
        fault = GateFailed(request_id)
        return GateDecision("unjudged", model, refusal=fault, own_fault=True)
    return GateDecision("unjudged", model, refusal=UndecodableImage("The image cannot be judged."))


def _never_5xx(refusal: Refusal) -> Refusal:
    """Returns the same refusal as /v1/authz sends it."""
    if isinstance(refusal, AnomalousImage):
        translated: Refusal = NotAdmitted(refusal.prediction, refusal.image, refusal.images)
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


def _model(detector: Detector) -> str:
    artifact = detector.artifact
    return f"{artifact.manifest.name}@{artifact.version}"


def _path_behind(prefix: bytes, request: Request) -> bytes:
    """What follows the route's prefix, as the client encoded it."""
    raw_path: bytes = request.scope["raw_path"]
    if not raw_path.startswith(prefix + b"/"):
        raise NoClassifier("The route's own part of the path is written without percent-encoding.")
    return raw_path.removeprefix(prefix)


def _forwardable(request: Request) -> RawHeaders:
    return [field for field in end_to_end(request.scope["headers"]) if not _is_ours(field[0])]


def _is_ours(name: bytes) -> bool:
    # CGI and WSGI do not tell "_" from "-", so neither may come from the client.
    return name.lower().replace(b"_", b"-").startswith(b"x-gate-")


def _without_encoding(headers: Headers) -> Headers:
    """For the body reader, which refuses compressed bodies; here it is a finding, which shadow mode only reports."""
    return Headers(raw=[field for field in headers.raw if field[0] != b"content-encoding"])


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
