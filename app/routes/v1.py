"""The routes /v1/predict, /v1/predict/batch and /v1/model. (/v1/gate and /v1/authz are in `app.routes.gate`.)"""

import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from fastapi import FastAPI
from pydantic import BaseModel, Field
from starlette.datastructures import Headers
from starlette.requests import Request

from app.detection.artifact import Artifact, Manifest, Promise
from app.errors import InvalidQuery, MalformedRequest, NotReady, Refusal
from app.judging.judge import Admission, Judge, Judgement
from app.judging.prediction import Prediction, PredictionOptions, log_fields, png, prediction
from app.payload.multipart import Part, is_multipart, parse_multipart
from app.routes.intake import FORM_IN_PLACE_BYTES, take_in
from app.routes.page import is_from_page
from app.routes.report import INDEX
from app.web.json_answer import JsonAnswer
from app.web.problems import BODY_REFUSALS, IMAGE_REFUSALS, Problem, documented
from app.web.routing import add_lean_route


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
    threshold: float = Field(description="The largest of the thresholds.")
    thresholds: dict[str, float] = Field(
        description="The largest score accepted of each class of files, by format and size; empty: one for all."
    )
    target_false_positive_rate: float
    promise: Promise
    calibration: CalibrationScores
    kinds: dict[str, str] = Field(description="The permitted kinds of sending, and the range of each.")
    variants: list[str]
    evaluation: dict[str, Any]
    noun: str = Field(
        description="What the images that belong are called, for people: `circles`.", examples=["circles"]
    )
    has_report: bool = Field(description="Whether GET /report has the report of its training.")
    background: int = Field(description="Grey level, 0 to 255, of what an image leaves empty.", examples=[255])


class ModelSamples(BaseModel):
    """Some images as the network sees them: base64 PNGs of 28x28 grey levels. Both are empty for older artifacts."""

    normal: list[str] = Field(description="Images that belong, which training did not see.")
    odd: list[str] = Field(description="Images that do not.")


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
        openapi_extra={"parameters": _OPTION_PARAMETERS, "requestBody": _ONE_IMAGE},
    )
    add_lean_route(
        app,
        "POST",
        "/v1/predict/batch",
        predict_batch,
        summary="Judge several images",
        response_model=BatchPrediction,
        responses=documented(*BODY_REFUSALS, InvalidQuery),
        openapi_extra={"parameters": _OPTION_PARAMETERS, "requestBody": _SEVERAL_IMAGES},
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
    add_lean_route(
        app,
        "GET",
        "/v1/model/samples",
        model_samples,
        summary="Images to show",
        response_model=ModelSamples,
        responses=documented(NotReady),
    )


async def predict(request: Request) -> JsonAnswer:
    """One image, as the multipart part `file` or as the raw body; 200 whatever the verdict."""
    options = read_options(request)
    is_form = is_multipart(request.headers)
    find = partial(_file_of_form, request.headers) if is_form else _file_of_body
    judge = partial(Admission.judge, for_drift=False) if is_from_page(request.headers) else Admission.judge
    judgement = await take_in(request, find, judge, FORM_IN_PLACE_BYTES if is_form else sys.maxsize)
    request.state.log.update(log_fields(judgement))
    return _json(prediction(judgement, options))


async def predict_batch(request: Request) -> JsonAnswer:
    """Several images, each a multipart part `files`. The result of a file that cannot be judged is its problem."""
    options = read_options(request)
    results = await take_in(request, partial(_files_of_form, request.headers), Admission.judge_all, FORM_IN_PLACE_BYTES)
    request.state.log.update(
        images=len(results),
        anomalies=sum(isinstance(one, Judgement) and one.detection.is_anomaly for one in results),
    )
    answers = [one.problem() if isinstance(one, Refusal) else prediction(one, options) for one in results]
    return _json({"results": answers})


async def model(request: Request) -> JsonAnswer:
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
        thresholds=manifest.thresholds,
        kinds=manifest.kinds,
        target_false_positive_rate=manifest.promise.target_false_positive_rate,
        promise=manifest.promise,
        calibration=_calibration_scores(artifact),
        variants=manifest.variants,
        evaluation=manifest.evaluation,
        noun=_noun(manifest),
        has_report=INDEX in artifact.report,
        background=artifact.preprocessing.background,
    )
    return _json(info.model_dump())


async def model_samples(request: Request) -> JsonAnswer:
    """Images that belong, and some that do not, as the artifact brings them along."""
    judge: Judge = request.app.state.judge
    samples = judge.detector.artifact.samples
    return _json({"normal": [png(image) for image in samples.normal], "odd": [png(image) for image in samples.odd]})


def _noun(manifest: Manifest) -> str:
    """The artifact's own word for its images, where its name is one."""
    if manifest.data.get("kind") == "circles":
        return "circles"
    words = re.sub(r"[-_.]+", " ", manifest.name).strip().lower()
    return words if re.fullmatch(r"[a-z ]*[a-z]{2}s", words) else f"images of {manifest.name}"


def read_options(request: Request) -> PredictionOptions:
    """The query parameters `reconstruction` and `explain`.

    Raises:
        InvalidQuery: One has a value that it cannot have, or there is no such parameter.
    """
    query_string: bytes = request.scope["query_string"]
    if not query_string:
        return PredictionOptions()
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    unknown = next((name for name in query if name not in _OPTIONS), None)
    if unknown is not None:
        raise InvalidQuery(f"There is no query parameter {names_words([unknown])}; there are {names_words(_OPTIONS)}.")
    reconstruction = query.get("reconstruction", ["pixels"])[-1]
    explain = query.get("explain", ["false"])[-1].lower()
    if reconstruction not in ("pixels", "png", "none"):
        raise InvalidQuery("`reconstruction` is one of pixels, png, none.")
    if explain not in ("true", "false", "1", "0"):
        raise InvalidQuery("`explain` is true or false.")
    return PredictionOptions(reconstruction, explain in ("true", "1"))  # type: ignore[arg-type]


def _file_of_body(body: bytes) -> bytes:
    if not body:
        raise MalformedRequest("There is no image: send one as the body, or as the multipart part `file`.")
    return body


def _file_of_form(headers: Headers, body: bytes) -> bytes:
    parts = parse_multipart(headers, body)
    files = [part.content for part in parts if part.name == "file"]
    if not files:
        raise _without_part("file", parts)
    if len(files) > 1:
        raise MalformedRequest("The form has several parts named `file`; /v1/predict/batch takes several images.")
    return _file_of_body(files[0])


def _files_of_form(headers: Headers, body: bytes) -> list[bytes]:
    if not is_multipart(headers):
        raise MalformedRequest("Send multipart/form-data with one part `files` for each image.")
    parts = parse_multipart(headers, body)
    # PHP's, jQuery's and axios's way of saying that there are several.
    files = [part.content for part in parts if part.name in ("files", "files[]")]
    if not files:
        raise _without_part("files", parts)
    return files


def _without_part(name: str, parts: Sequence[Part]) -> MalformedRequest:
    others = list(dict.fromkeys(part.name for part in parts))
    return MalformedRequest(
        f"The form has no part named `{name}`; it has {names_words(others) if others else 'no parts'}."
    )


def names_words(names: Iterable[str]) -> str:
    """Some names, as a message may repeat them: the first few, short, and without anything but plain signs."""
    listed = list(names)
    words = [f"`{re.sub(r'[^ -_a-~]', '?', name[:_LONGEST_NAME])}`" for name in listed[:_MOST_NAMES]]
    return ", ".join(words) + (", ..." if len(listed) > _MOST_NAMES else "")


def _calibration_scores(artifact: Artifact) -> CalibrationScores:
    """Returns the percentiles of the calibration scores, each the largest of all variants, as in `Ranking`."""
    scores = artifact.calibration.max(axis=0)
    ranks = np.linspace(0, len(scores) - 1, 101).round().astype(int)
    return CalibrationScores(size=len(scores), quantiles=scores[ranks].tolist())


def _json(body: dict[str, Any]) -> JsonAnswer:
    return JsonAnswer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))


_OPTIONS = ("reconstruction", "explain")
_LONGEST_NAME, _MOST_NAMES = 40, 5
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
_OPTION_PARAMETERS = [
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
