"""What the gate finds out about one request on its way to a classifier."""

import asyncio
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from app.detection.detector import Detector
from app.detection.images import SIDE
from app.errors import AnomalousImage, GateFailed, MalformedRequest, NotReady, PartialBody, Refusal, UndecodableImage
from app.judging.judge import Admission, Judge, Judgement
from app.judging.prediction import PredictionOptions, prediction
from app.payload.classifier_request import ClassifierRequest, take_apart
from app.payload.found_images import Images
from app.payload.places import Places
from app.routes.classifier import RawHeaders
from app.routes.intake import judge_found, parse_body

logger = logging.getLogger(__name__)

WITHOUT_IMAGE = ("GET", "HEAD", "OPTIONS")
# Header fields by which some frameworks take a request for another one.
_REROUTING = (
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-forwarded-prefix",
)


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
        request: What was judged, taken apart; None without a judgement.
    """

    verdict: Literal["normal", "anomaly", "unjudged", "none"]
    model: str = ""
    score: float | None = None
    images: int = 0
    refusal: Refusal | None = None
    own_fault: bool = False
    request: ClassifierRequest | None = None

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


async def inspect(request: Request, headers: Headers, path: bytes, body: bytes) -> GateDecision:
    """Judges every image of a request, and adds the outcome to its access line.

    Args:
        headers: Those that the classifier will see.
        path: That the classifier will see, percent-encoded.
    """
    decision = await _inspect(request, headers, path, body)
    request.state.log.update(decision.log_fields())
    return decision


async def _inspect(request: Request, headers: Headers, path: bytes, body: bytes) -> GateDecision:
    judge: Judge = request.app.state.judge
    places: Places = request.app.state.places
    query: bytes = request.scope["query_string"]
    if "true" in (value.lower() for value in request.headers.getlist("x-envoy-auth-partial-body")):
        return GateDecision("unjudged", refusal=PartialBody("The body exceeds Envoy's max_request_bytes."))
    if _is_unjudged(request, headers, path):
        return GateDecision("none")
    model = ""
    take = partial(take_apart, places, headers, path, query)
    try:
        if request.method in WITHOUT_IMAGE and not body and not take(body).images.count:
            return GateDecision("none")
        with judge.admit(request.receive, request.scope) as admission:
            model = _model(admission.detector)
            found = await parse_body(admission, take, body)
            if found.images.count:
                return _decide(model, await _judge(admission, found.images), found)
        raise MalformedRequest("There is no image: the request has no body.")
    except Refusal as refusal:
        return GateDecision("unjudged", model, refusal=refusal, own_fault=isinstance(refusal, NotReady))
    except ClientDisconnect:
        raise
    except Exception:
        return await _failed(request, model)


def _is_unjudged(request: Request, headers: Headers, path: bytes) -> bool:
    """Whether GATE_UNJUDGED names the request's route, and nothing in it asks the classifier for another one."""
    places: Places = request.app.state.places
    is_named = bool(places.unjudged) and places.is_unjudged(request.method, (path or b"/").decode("latin-1"))
    return is_named and not any(name in headers for name in _REROUTING)


async def _judge(admission: Admission, images: Images) -> list[Judgement]:
    """Judges what was found; a refusal names the place of the image that it is about."""
    places = images.places
    return await judge_found(admission, images.files, images.pixels if images.tensors else None, places)


def _decide(model: str, judgements: list[Judgement], found: ClassifierRequest) -> GateDecision:
    scores = [judgement.detection.score for judgement in judgements]
    anomalies = [index for index, one in enumerate(judgements) if one.detection.is_anomaly]
    score = math.nan if any(map(math.isnan, scores)) else max(scores)
    if not anomalies:
        return GateDecision("normal", model, score, len(scores), request=found)
    # A score that is not a number is the oddest.
    oddest = max(anomalies, key=lambda index: math.inf if math.isnan(scores[index]) else scores[index])
    shown = prediction(judgements[oddest], PredictionOptions(reconstruction="none"))
    refusal = AnomalousImage(shown, oddest, len(scores), found.images.places[oddest])
    return GateDecision("anomaly", model, score, len(scores), refusal, request=found)


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


def _model(detector: Detector) -> str:
    artifact = detector.artifact
    return f"{artifact.manifest.name}@{artifact.version}"
