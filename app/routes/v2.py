"""The /v2 routes: Open Inference Protocol, as Triton, KServe and their clients speak it, with binary tensors."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI
from numpy.typing import NDArray
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.detection.artifact import Artifact
from app.detection.detector import Detector
from app.detection.images import SIDE, open_image
from app.detection.readings import may_be_read_differently, other_readings
from app.errors import MalformedRequest, NotReady, Refusal, UnknownModel
from app.judging.judge import Admission, Judge, Judgement
from app.payload.image_end import check_image_end
from app.payload.tensors import (
    HEADER_LENGTH,
    MAX_IMAGES,
    InferenceRequest,
    Tensor,
    WantedOutput,
    holds_images,
    read_inference_request,
    tensor_images,
)
from app.routes.forwarding import run_by_size
from app.routes.intake import judge_found, take_in
from app.settings import Settings
from app.web.problems import BODY_REFUSALS, IMAGE_REFUSALS, documented
from app.web.routing import add_lean_route

_DATATYPES = {"loss": "FP32", "score": "FP32", "p_value": "FP32", "is_anomaly": "BOOL", "reconstruction": "FP32"}
_DEFAULT_OUTPUTS = ("loss", "score", "p_value", "is_anomaly")
# In a graph the same request goes on to a classifier, which might look for an image under another name.
_FIELDS = frozenset(("id", "model_name", "model_version", "parameters", "inputs", "outputs"))
_INPUT_FIELDS = frozenset(("name", "shape", "datatype", "parameters", "data"))
_PLATFORM = "onnxruntime_onnx"


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class ModelReady(BaseModel):
    """The specification says `live`, KServe's client reads `ready`."""

    name: str
    live: bool
    ready: bool


class TensorMetadata(BaseModel):
    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class OutputTensor(TensorMetadata):
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class InferenceResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any]
    outputs: list[OutputTensor]


def add_v2_routes(app: FastAPI) -> None:
    """Adds them to an app whose state has `judge` and `bodies`."""
    add = partial(add_lean_route, app)
    add("GET", "/v2", server_metadata, summary="The server and its extensions", response_model=ServerMetadata)
    add("GET", "/v2/health/live", live, summary="The process answers", response_model=Live)
    add(
        "GET",
        "/v2/health/ready",
        ready,
        summary="Requests are welcome",
        response_model=Ready,
        responses=documented(NotReady),
    )
    for path, parameters in (("", [_NAME]), ("/versions/{version}", [_NAME, _VERSION])):
        _add_model_routes(app, "/v2/models/{name}" + path, parameters)


def _add_model_routes(app: FastAPI, path: str, parameters: list[dict[str, Any]]) -> None:
    add = partial(add_lean_route, app)
    unusable = documented(UnknownModel, NotReady)
    shared = {"responses": unusable, "openapi_extra": {"parameters": parameters}}
    add("GET", path, model_metadata, summary="Inputs and outputs", response_model=ModelMetadata, **shared)
    add("GET", path + "/ready", model_ready, summary="The model answers", response_model=ModelReady, **shared)
    add(
        "POST",
        path + "/infer",
        infer,
        summary="Judge images",
        response_model=InferenceResponse,
        responses=documented(*BODY_REFUSALS, *IMAGE_REFUSALS, UnknownModel),
        openapi_extra={"parameters": [*parameters, _HEADER_LENGTH], "requestBody": _INFERENCE_REQUEST},
    )


async def server_metadata(request: Request) -> Response:
    """Name, version and extensions of this server."""
    version: str = request.app.version
    return _json({"name": "imagegate", "version": version, "extensions": ["binary_tensor_data"]})


async def live(request: Request) -> Response:
    """200 for as long as the event loop turns."""
    return _json({"live": True})


async def ready(request: Request) -> Response:
    """As /readyz."""
    judge: Judge = request.app.state.judge
    judge.check_ready()
    return _json({"ready": True})


async def model_ready(request: Request) -> Response:
    """200 if the model has loaded and judged a warm-up image."""
    return _json({"name": _current_artifact(request).manifest.name, "live": True, "ready": True})


async def model_metadata(request: Request) -> Response:
    """Names, types and shapes. The input may also be FP32 or UINT8 of [N,28,28], [N,1,28,28] or [N,784]."""
    artifact = _current_artifact(request)
    return _json(
        {
            "name": artifact.manifest.name,
            "versions": [artifact.version],
            "platform": _PLATFORM,
            "inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [
                {"name": name, "datatype": datatype, "shape": [-1, SIDE, SIDE] if name == "reconstruction" else [-1]}
                for name, datatype in _DATATYPES.items()
            ],
        }
    )


async def infer(request: Request) -> Response:
    """Judges the images of the one input `image`; one that cannot be judged refuses the whole request.

    Where none is an anomaly, `parameters.unambiguous` says whether every decoder shows what was judged.
    """
    return await take_in(request, partial(read_inference_request, request.headers), partial(_infer, request))


async def _infer(request: Request, admission: Admission, inference: InferenceRequest) -> Response:
    artifact = _artifact(request, admission.detector)
    wanted = _wanted(inference)
    tensor = _image_input(inference)
    _check_fields(inference, tensor)
    if isinstance(tensor.data, list):
        judgements = await judge_found(admission, tensor.data)
    else:
        judgements = await judge_found(admission, (), tensor_images(tensor))
    anomalies = sum(one.detection.is_anomaly for one in judgements)
    request.state.log.update(images=len(judgements), anomalies=anomalies)
    answer: dict[str, Any] = {
        "model_name": artifact.manifest.name,
        "model_version": artifact.version,
        "parameters": {"anomalous": anomalies > 0},
    }
    if not anomalies:
        files = tensor.data if isinstance(tensor.data, list) else []
        answer["parameters"]["unambiguous"] = await _are_unambiguous(request, admission, files)
    if inference.id is not None:
        answer["id"] = inference.id
    return _answer(answer, wanted, judgements)


async def _are_unambiguous(request: Request, admission: Admission, files: Sequence[bytes]) -> bool:
    """Whether every decoder shows of each file what this one does, and nothing stands behind its end."""
    settings: Settings = request.app.state.settings
    preprocessing = admission.detector.artifact.preprocessing
    for data in files:
        read = partial(other_readings, data, preprocessing, settings.max_image_pixels, settings.formats)
        try:
            check_image_end(data)
            if open_image(data, settings.max_image_pixels, settings.formats, settings.reduce_jpegs).is_reduced:
                return False
            readings = await run_by_size(admission, settings, data, read) if may_be_read_differently(data) else []
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            return False
        if readings:
            return False
    return True


def _artifact(request: Request, detector: Detector) -> Artifact:
    artifact = detector.artifact
    name, version = request.path_params["name"], request.path_params.get("version", artifact.version)
    if (name, version) != (artifact.manifest.name, artifact.version):
        raise UnknownModel(f"This service has the model {artifact.manifest.name}, version {artifact.version}.")
    return artifact


def _current_artifact(request: Request) -> Artifact:
    judge: Judge = request.app.state.judge
    return _artifact(request, judge.detector)


def _image_input(inference: InferenceRequest) -> Tensor:
    if len(inference.inputs) != 1 or inference.inputs[0].name != "image":
        raise MalformedRequest("There is one input, `image`.")
    tensor = inference.inputs[0]
    rows = tensor.shape[0]
    if not 0 < rows <= MAX_IMAGES:
        raise MalformedRequest(f"A request has 1 to {MAX_IMAGES} images.")
    if tensor.datatype == "BYTES" and tensor.shape in ((rows,), (rows, 1)):
        return tensor
    if holds_images(tensor):
        return tensor
    raise MalformedRequest(
        "The input `image` is BYTES of shape [N], or FP32 or UINT8 of shape [N,28,28], [N,1,28,28] or [N,784]."
    )


def _check_fields(inference: InferenceRequest, tensor: Tensor) -> None:
    unknown = [*(inference.rest.keys() - _FIELDS), *(tensor.fields.keys() - _INPUT_FIELDS)]
    if unknown:
        raise MalformedRequest(
            f"`{min(unknown)[:100]}` is no field of the protocol; further ones go into `parameters`."
        )


def _wanted(inference: InferenceRequest) -> list[WantedOutput]:
    if inference.outputs is None:
        return [WantedOutput(name, inference.binary_outputs) for name in _DEFAULT_OUTPUTS]
    unknown = [output.name for output in inference.outputs if output.name not in _DATATYPES]
    if unknown or len({output.name for output in inference.outputs}) < len(inference.outputs):
        raise MalformedRequest(f"`outputs` names each of {', '.join(_DATATYPES)} at most once.")
    return inference.outputs


def _answer(answer: dict[str, Any], wanted: Sequence[WantedOutput], judgements: Sequence[Judgement]) -> Response:
    outputs, behind = [], []
    for output in wanted:
        values = _values(output.name, judgements)
        described: dict[str, Any] = {
            "name": output.name,
            "datatype": _DATATYPES[output.name],
            "shape": list(values.shape),
        }
        if output.binary:
            behind.append(values.tobytes())
            described["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            described["data"] = values.reshape(-1)
        outputs.append(described)
    document = orjson.dumps({**answer, "outputs": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    if not behind:
        return Response(document, media_type="application/json")
    headers = {HEADER_LENGTH: str(len(document))}
    return Response(b"".join([document, *behind]), headers=headers, media_type="application/octet-stream")


def _values(name: str, judgements: Sequence[Judgement]) -> NDArray[Any]:
    """(N,), or (N, 28, 28) for the reconstruction; little-endian, as the protocol has it."""
    values = [getattr(judgement.detection, name) for judgement in judgements]
    return np.asarray(values, dtype=np.bool_ if _DATATYPES[name] == "BOOL" else "<f4")


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


_NAME = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
_HEADER_LENGTH = {
    "name": HEADER_LENGTH,
    "in": "header",
    "description": "Bytes of the JSON document in front of binary tensors; 0 if the whole body is one encoded image.",
    "schema": {"type": "integer", "minimum": 0},
}
_INFERENCE_REQUEST = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["inputs"],
                "additionalProperties": False,
                "properties": {
                    "id": {"type": "string"},
                    "model_name": {"type": "string"},
                    "model_version": {"type": "string"},
                    "parameters": {"type": "object"},
                    "inputs": {"type": "array", "minItems": 1, "maxItems": 1, "items": {"type": "object"}},
                    "outputs": {"type": "array", "items": {"type": "object"}},
                },
            },
            "example": {
                "inputs": [
                    {
                        "name": "image",
                        "shape": [1],
                        "datatype": "BYTES",
                        "parameters": {"content_type": "base64"},
                        "data": ["iVBORw0KGgo..."],
                    }
                ]
            },
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
