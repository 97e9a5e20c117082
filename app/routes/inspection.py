"""Judges the images of a request to a classifier, and decides whether the request may pass."""

import asyncio
import logging
import math
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any, Literal

import numpy as np
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request

from app.detection.detector import Detector
from app.detection.images import SIDE, DecodedImage
from app.detection.readings import may_be_read_differently, other_readings
from app.errors import AnomalousImage, GateFailed, MalformedRequest, NotReady, PartialBody, Refusal, UndecodableImage
from app.judging.judge import Admission, Judge, Judgement
from app.judging.prediction import PredictionOptions, prediction
from app.payload.classifier_request import ClassifierRequest, take_apart
from app.payload.found_images import Images
from app.payload.places import Places
from app.routes.forwarding import WrittenRequest, run_by_size, write_judged
from app.routes.intake import judge_found, parse_body
from app.routes.raw_headers import RawHeaders, check_spelling
from app.settings import Settings

logger = logging.getLogger(__name__)

WITHOUT_IMAGE = ("GET", "HEAD", "OPTIONS")
# Header fields that make some frameworks change a request's method or path.
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
        verdict: "normal"; "anomaly" if any image is one; "unjudged" if an image could not be judged; "none" if the
            request was let through without looking for images, or has none.
        model: Name and version of the artifact; "" if nothing was judged.
        score: The largest score of all images; None if nothing was judged.
        images: Number of judged images.
        refusal: Why the request may not pass; None if it may.
        own_fault: Whether the gate itself failed (no artifact, or the network fails), so that `fail_open` applies.
        written: What the classifier gets in place of the request, with GATE_FORWARD=judged; else None.
    """

    verdict: Literal["normal", "anomaly", "unjudged", "none"]
    model: str = ""
    score: float | None = None
    images: int = 0
    refusal: Refusal | None = None
    own_fault: bool = False
    written: WrittenRequest | None = None

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


async def inspect(request: Request, headers: RawHeaders, path: bytes, body: bytes, proxies: bool) -> GateDecision:
    """Judges every image of a request, and adds the outcome to its access line.

    Args:
        headers: Those that the classifier will see.
        path: That the classifier will see, percent-encoded.
        proxies: Whether the gate itself sends the request on, and could send another one.
    """
    started = perf_counter()
    decision = await _inspect(request, headers, path, body, proxies)
    request.state.log.update(decision.log_fields(), gate_milliseconds=round((perf_counter() - started) * 1000, 2))
    return decision


async def _inspect(request: Request, headers: RawHeaders, path: bytes, body: bytes, proxies: bool) -> GateDecision:
    judge: Judge = request.app.state.judge
    places: Places = request.app.state.places
    query: bytes = request.scope["query_string"]
    if "true" in (value.lower() for value in request.headers.getlist("x-envoy-auth-partial-body")):
        return GateDecision("unjudged", refusal=PartialBody("The body exceeds Envoy's max_request_bytes."))
    settings: Settings = request.app.state.settings
    writes = proxies and settings.forward == "judged"
    try:
        check_spelling(headers)
    except Refusal as refusal:
        return GateDecision("unjudged", refusal=refusal)
    if _is_unjudged(request, Headers(raw=headers), path):
        return GateDecision("none")
    model = ""
    take = partial(take_apart, places, Headers(raw=headers), path, query, judges_bytes=not writes)
    try:
        if request.method in WITHOUT_IMAGE and not body and not take(body).images.count:
            return GateDecision("none")
        with judge.admit(request.receive, request.scope, reduces=False) as admission:
            model = _model(admission.detector)
            found = await parse_body(admission, take, body)
            if found.images.count:
                judgements = await _judge(admission, found.images)
                if not writes:
                    odd_elsewhere = await _judge_readings(admission, settings, found.images, judgements)
                    return _decide(model, judgements, found, odd_elsewhere)
                decision = _decide(model, judgements, found)
                if decision.refusal is None or settings.mode == "shadow":
                    written = await write_judged(admission, settings, found, headers, query)
                    return replace(decision, written=written)
                return decision
        raise MalformedRequest("There is no image: the request has no body.")
    except Refusal as refusal:
        return GateDecision("unjudged", model, refusal=refusal, own_fault=isinstance(refusal, NotReady))
    except ClientDisconnect:
        raise
    except Exception:
        return await _failed(request, model)


def _is_unjudged(request: Request, headers: Headers, path: bytes) -> bool:
    """Whether GATE_UNJUDGED names the request's route, and no header field redirects it to another route."""
    places: Places = request.app.state.places
    is_named = bool(places.unjudged) and places.is_unjudged(request.method, (path or b"/").decode("latin-1"))
    # CGI and WSGI do not tell "_" from "-".
    sent = {name.replace("_", "-") for name in headers}
    return is_named and sent.isdisjoint(_REROUTING)


async def _judge(admission: Admission, images: Images) -> list[Judgement]:
    """Judges what was found; a refusal names the place of the image that it is about."""
    return await judge_found(admission, images.files, images.pixels if images.tensors else None, images.places)


async def _judge_readings(
    admission: Admission, settings: Settings, images: Images, judgements: list[Judgement]
) -> set[int]:
    """Judges each image in the ways of other decoders too, and puts its oddest judgement in the place of its own.

    Returns:
        The indices of the images that are odd for another decoder alone.
    """
    odd_elsewhere: set[int] = set()
    for index, found in enumerate(images.found):
        if not may_be_read_differently(found.data) or judgements[index].detection.is_anomaly:
            continue
        preprocessing = admission.detector.artifact.preprocessing
        read = partial(other_readings, found.data, preprocessing, settings.max_image_pixels, settings.formats)
        try:
            readings = await run_by_size(admission, settings, found.data, read)
        except Refusal as refusal:
            raise refusal.at(found.place) from refusal.__cause__
        shown = judgements[index].shown
        detections = await admission.detect([DecodedImage(pixels, shown) for pixels in readings])
        odd = [
            Judgement(pixels, detection, admission.detector, shown)
            for pixels, detection in zip(readings, detections, strict=True)
            if detection.is_anomaly
        ]
        if odd:
            oddest = max(odd, key=lambda one: _oddness(one.detection.score))
            admission.revise(judgements[index], oddest)
            judgements[index] = oddest
            odd_elsewhere.add(index)
    return odd_elsewhere


def _decide(
    model: str, judgements: list[Judgement], found: ClassifierRequest, odd_elsewhere: AbstractSet[int] = frozenset()
) -> GateDecision:
    scores = [judgement.detection.score for judgement in judgements]
    anomalies = [index for index, one in enumerate(judgements) if one.detection.is_anomaly]
    score = math.nan if any(map(math.isnan, scores)) else max(scores)
    if not anomalies:
        return GateDecision("normal", model, score, len(scores))
    oddest = max(anomalies, key=lambda index: _oddness(scores[index]))
    shown = prediction(judgements[oddest], PredictionOptions(reconstruction="none"))
    refusal = AnomalousImage(shown, oddest, len(scores), found.images.places[oddest], oddest in odd_elsewhere)
    return GateDecision("anomaly", model, score, len(scores), refusal)


def _oddness(score: float) -> float:
    """A score that is not a number is the oddest."""
    return math.inf if math.isnan(score) else score


async def _failed(request: Request, model: str) -> GateDecision:
    """Decides whether an unexpected error is the gate's fault or the image's.

    If a blank image can still be judged, the request's image caused the error and the request is refused. Otherwise
    the gate itself is broken, and `fail_open` applies.
    """
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
