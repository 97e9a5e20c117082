"""The /v1 routes: one image or several in, reconstruction, loss and verdict out."""

import base64
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Literal
from urllib.parse import parse_qs

import numpy as np
import orjson
from fastapi import FastAPI
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from app.detection.artifact import Artifact, Promise
from app.errors import (
    BodyTooSlow,
    CompressedBody,
    DeadlineExceeded,
    InvalidQuery,
    MalformedRequest,
    NotReady,
    Overloaded,
    Refusal,
    TooManyBytes,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
)
from app.judging.judge import Judge, Judgement, Turn
from app.payload.body import BodyReader, Part, is_multipart, parse_multipart
from app.web.problems import Problem, documented
from app.web.routing import add_lean_route

BODY_REFUSALS = (MalformedRequest, BodyTooSlow, TooManyBytes, CompressedBody, Overloaded, NotReady, DeadlineExceeded)
IMAGE_REFUSALS = (TooManyPixels, UnsupportedFormat, UndecodableImage)
_PARSED_IN_PLACE_BYTES = 2**20
_PIXELS = "28 rows of 28 grey levels in [0, 1]"


class ModelVersion(BaseModel):
    name: str = Field(examples=["circles"])
    version: str = Field(
        examples=["sha256:1a2b3c4d5e6f"], description="Changes whenever anything in the artifact does."
    )


class Reason(BaseModel):
    """One aspect of the judgement, for `?explain=true`."""

    name: str
    value: float | None = Field(description="Higher is odder; null if it is not a number.")
    p_value: float = Field(description="Share of normal images at least as odd in this respect.")
    sentence: str


class Prediction(BaseModel):
    is_anomaly: bool = Field(description="The verdict: score > threshold.")
    loss: float | None = Field(description="Mean squared error between the 28x28 image and its reconstruction.")
    score: float | None = Field(description="What is compared with the threshold; higher is odder.")
    threshold: float = Field(description="The largest score accepted.")
    p_value: float = Field(gt=0, le=1, description="Share of normal images at least as odd.")
    model: ModelVersion
    reconstruction: list[list[float]] | str | None = Field(
        None, description=f"What the network redrew: {_PIXELS}, or a base64 PNG; left out when not wanted."
    )
    image: list[list[float]] | None = Field(None, description=f"With explain: what the network saw, {_PIXELS}.")
    error_map: list[list[float]] | None = Field(None, description=f"With explain: squared error, {_PIXELS}.")
    reasons: list[Reason] | None = Field(None, description="With explain: one entry a view.")


class BatchPrediction(BaseModel):
    results: list[Prediction | Problem] = Field(description="In the order of the files.")


class CalibrationScores(BaseModel):
    """What the scores of normal images look like: what a new score is ranked among."""

    size: int = Field(description="Calibration images of each variant.")
    quantiles: list[float] = Field(
        description="Smallest score, then the 1% quantile and so on up to the largest: 101 numbers. With several "
        "variants the largest of theirs, which is the one that p-values go by."
    )


class ModelInfo(BaseModel):
    """What is served, and what it promises."""

    name: str
    version: str
    architecture: dict[str, Any]
    preprocessing: dict[str, Any]
    threshold: float
    target_false_positive_rate: float
    promise: Promise
    calibration: CalibrationScores
    variants: list[str]
    evaluation: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants to see beside the verdict."""

    reconstruction: Literal["pixels", "png", "none"] = "pixels"
    explain: bool = False


def add_v1_routes(app: FastAPI) -> None:
    """Adds them to an app whose state has `judge` and `bodies`."""
    add_lean_route(
        app,
        "POST",
        "/v1/predict",
        predict,
        summary="Judge one image",
        response_model=Prediction,
        responses=documented(*BODY_REFUSALS, *IMAGE_REFUSALS, InvalidQuery),
        openapi_extra={"parameters": _WISH_PARAMETERS, "requestBody": _ONE_IMAGE},
    )
    add_lean_route(
        app,
        "POST",
        "/v1/predict/batch",
        predict_batch,
        summary="Judge several images",
        response_model=BatchPrediction,
        responses=documented(*BODY_REFUSALS, InvalidQuery),
        openapi_extra={"parameters": _WISH_PARAMETERS, "requestBody": _SEVERAL_IMAGES},
    )
    add_lean_route(
        app,
        "GET",
        "/v1/model",
        model,
        summary="What is served",
        response_model=ModelInfo,
        responses=documented(NotReady),
    )


async def predict(request: Request) -> Response:
    """One image, as the multipart part `file` or as the raw body; 200 whatever the verdict."""
    wish = read_wish(request)
    judge: Judge = request.app.state.judge
    bodies: BodyReader = request.app.state.bodies
    with bodies.hold() as held:
        body = await bodies.read(request.headers, request.receive, held)
        with judge.admit(request.receive) as turn:
            image = await _one_image(request, body, turn)
            del body  # a part is a copy, and waiting with both would double what an upload takes
            judgement = await turn.judge(image)
    request.state.log.update(log_fields(judgement))
    return _json(prediction(judgement, wish))


async def predict_batch(request: Request) -> Response:
    """Several images, each a multipart part `files`; a file that cannot be judged gives its problem, in its place."""
    wish = read_wish(request)
    judge: Judge = request.app.state.judge
    bodies: BodyReader = request.app.state.bodies
    with bodies.hold() as held:
        body = await bodies.read(request.headers, request.receive, held)
        if not is_multipart(request.headers):
            raise MalformedRequest("Send multipart/form-data with one part `files` for each image.")
        with judge.admit(request.receive) as turn:
            files = [part.content for part in await read_parts(request, body, turn) if part.name == "files"]
            if not files:
                raise MalformedRequest("The form has no part named `files`.")
            del body  # as above
            results = await turn.judge_all(files)
    request.state.log.update(
        images=len(results),
        anomalies=sum(isinstance(one, Judgement) and one.detection.is_anomaly for one in results),
    )
    return _json({"results": [one.problem() if isinstance(one, Refusal) else prediction(one, wish) for one in results]})


async def model(request: Request) -> Response:
    """Name, version, preprocessing, threshold, the promise, and how well the artifact did when it was evaluated."""
    judge: Judge = request.app.state.judge
    artifact = judge.detector.artifact
    manifest = artifact.manifest
    info = ModelInfo(
        name=manifest.name,
        version=artifact.version,
        architecture=manifest.architecture.model_dump(),
        preprocessing=manifest.preprocessing.model_dump(),
        threshold=manifest.threshold,
        target_false_positive_rate=manifest.promise.target_false_positive_rate,
        promise=manifest.promise,
        calibration=_calibration_scores(artifact),
        variants=manifest.variants,
        evaluation=manifest.evaluation,
    )
    return _json(info.model_dump())


def read_wish(request: Request) -> Wish:
    """The query parameters `reconstruction` and `explain`; others are ignored.

    Raises:
        InvalidQuery: One has a value that it cannot have.
    """
    query_string: bytes = request.scope["query_string"]
    if not query_string:
        return Wish()
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    reconstruction = query.get("reconstruction", ["pixels"])[-1]
    explain = query.get("explain", ["false"])[-1].lower()
    if reconstruction not in ("pixels", "png", "none"):
        raise InvalidQuery("`reconstruction` is one of pixels, png, none.")
    if explain not in ("true", "false", "1", "0"):
        raise InvalidQuery("`explain` is true or false.")
    return Wish(reconstruction, explain in ("true", "1"))  # type: ignore[arg-type]


def prediction(judgement: Judgement, wish: Wish) -> dict[str, Any]:
    """A `Prediction` as orjson writes it: arrays stay arrays, and NaN becomes null."""
    detection, detector = judgement.detection, judgement.detector
    body: dict[str, Any] = {
        "is_anomaly": detection.is_anomaly,
        "loss": detection.loss,
        "score": detection.score,
        "threshold": detector.threshold,
        "p_value": detection.p_value,
        "model": {"name": detector.artifact.manifest.name, "version": detector.artifact.version},
    }
    if wish.reconstruction == "pixels":
        body["reconstruction"] = detection.reconstruction
    elif wish.reconstruction == "png":
        body["reconstruction"] = _png(detection.reconstruction)
    if wish.explain:
        body["image"] = judgement.image
        body["error_map"] = np.square(judgement.image - detection.reconstruction)
        body["reasons"] = _reasons(judgement)
    return body


def log_fields(judgement: Judgement) -> dict[str, Any]:
    """What an access line says of a judgement."""
    detection = judgement.detection
    return {
        "verdict": "anomaly" if detection.is_anomaly else "normal",
        "score": round(detection.score, 6),
        "model": judgement.detector.artifact.version,
    }


async def read_parts(request: Request, body: bytes, turn: Turn) -> list[Part]:
    """The parts of a multipart body; a large one is taken apart in a thread, for that takes milliseconds.

    Raises:
        MalformedRequest: It is broken.
    """
    parse = partial(parse_multipart, request.headers, body)
    return parse() if len(body) <= _PARSED_IN_PLACE_BYTES else await turn.run(parse)


async def _one_image(request: Request, body: bytes, turn: Turn) -> bytes:
    if is_multipart(request.headers):
        files = [part.content for part in await read_parts(request, body, turn) if part.name == "file"]
        if not files:
            raise MalformedRequest("The form has no part named `file`.")
        if len(files) > 1:
            raise MalformedRequest("The form has several parts named `file`; /v1/predict/batch takes several images.")
        body = files[0]
    if not body:
        raise MalformedRequest("There is no image: send one as the body, or as the multipart part `file`.")
    return body


def _reasons(judgement: Judgement) -> list[dict[str, Any]]:
    detector, detection = judgement.detector, judgement.detection
    manifest = detector.artifact.manifest
    unusual = manifest.promise.target_false_positive_rate
    return [
        {
            "name": view.name,
            "value": float(value),
            "p_value": p_value,
            "sentence": view.odd if p_value <= unusual else view.normal,
        }
        for view, value, p_value in zip(manifest.views, detection.views, detector.view_p_values(detection), strict=True)
    ]


def _calibration_scores(artifact: Artifact) -> CalibrationScores:
    """The quantiles of the careful p-value: of the variants' own, each row being sorted, the largest."""
    scores = artifact.calibration.max(axis=0)
    ranks = np.linspace(0, len(scores) - 1, 101).round().astype(int)
    return CalibrationScores(size=len(scores), quantiles=scores[ranks].tolist())


def _png(pixels: NDArray[np.float32]) -> str:
    buffer = BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


_BINARY = {"type": "string", "format": "binary"}
_ONE_IMAGE = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}},
        },
        **{
            media_type: {"schema": _BINARY}
            for media_type in (
                "image/png",
                "image/jpeg",
                "image/webp",
                "image/bmp",
                "image/gif",
                "application/octet-stream",
            )
        },
    },
}
_SEVERAL_IMAGES = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["files"],
                "properties": {"files": {"type": "array", "items": _BINARY, "minItems": 1}},
            }
        }
    },
}
_WISH_PARAMETERS = [
    {
        "name": "reconstruction",
        "in": "query",
        "description": "Rows of floats, a base64 PNG, or nothing.",
        "schema": {"type": "string", "enum": ["pixels", "png", "none"], "default": "pixels"},
    },
    {
        "name": "explain",
        "in": "query",
        "description": "Adds the error map and the reasons.",
        "schema": {"type": "boolean", "default": False},
    },
]
