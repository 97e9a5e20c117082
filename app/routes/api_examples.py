"""What OpenAPI says beside what the routes do: groups of routes, and examples that succeed when they are sent."""

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import orjson
from PIL import Image, ImageDraw

from app.detection.detector import Detector
from app.detection.images import decode_opened, open_image
from app.judging.judge import Judgement
from app.judging.prediction import PredictionOptions, prediction

_JUDGE, _MODEL, _FRONT, _V2 = "Judge images", "The model", "In front of a classifier", "Open Inference Protocol"
_KEPT, _OPERATE = "Kept images", "Operate"
_TAGS = {
    _JUDGE: "One image or several in; verdict, score and reconstruction out.",
    _MODEL: "What is served, and what it promises.",
    _FRONT: "Normal images go on to the classifier, others are refused.",
    _V2: "As Triton, KServe and their clients speak it.",
    _KEPT: "Refused images and a random sample, to look at and to label; off unless GATE_KEEP_FOLDER is set.",
    _OPERATE: "Probes.",
}
# By the beginning of a path, the first that fits.
_TAG_OF = (
    ("/v1/predict", _JUDGE),
    ("/v1/model", _MODEL),
    ("/v1/kept", _KEPT),
    ("/v1/gate", _FRONT),
    ("/v1/authz", _FRONT),
    ("/v2", _V2),
    ("", _OPERATE),
)
_SIDE = 28


def describe_api(schema: dict[str, Any], detector: Detector | None) -> None:
    """Adds tags and examples to an OpenAPI document.

    Args:
        schema: What FastAPI made; changed in place.
        detector: What judges now, by which the example's answer is made; None leaves answers out.
    """
    schema["tags"] = [{"name": name, "description": words} for name, words in _TAGS.items()]
    for path, operation in _operations(schema):
        operation["tags"] = [next(tag for start, tag in _TAG_OF if path.startswith(start))]
        for parameter in operation.get("parameters", ()):
            _describe_parameter(parameter, detector)
    image = _example_image()
    encoded = base64.b64encode(image).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [encoded]}
    for path, operation in _operations(schema):
        contents = operation.get("requestBody", {}).get("content", {})
        if path.startswith("/v2") and "application/json" in contents:
            contents["application/json"]["example"] = {"inputs": [tensor]}
        elif path.startswith(("/v1/gate", "/v1/authz")) and "application/json" in contents:
            contents["application/json"]["example"] = {"image": encoded}
    if detector is not None:
        _add_answers(schema, _example_answer(image, detector))


def _operations(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if isinstance(operation, dict):
                yield path, operation


def _describe_parameter(parameter: dict[str, Any], detector: Detector | None) -> None:
    if detector is None or "example" in parameter:
        return
    artifact = detector.artifact
    if parameter["name"] == "name" and parameter["in"] == "path":
        parameter["example"] = artifact.manifest.name
    elif parameter["name"] == "version" and parameter["in"] == "path":
        parameter["example"] = artifact.version


def _add_answers(schema: dict[str, Any], answer: dict[str, Any]) -> None:
    examples = {"/v1/predict": answer, "/v1/predict/batch": {"results": [answer]}}
    for path, example in examples.items():
        content = schema["paths"][path]["post"]["responses"]["200"]["content"]
        content["application/json"]["example"] = example


def _example_image() -> bytes:
    """A circle, as a PNG of some 200 bytes."""
    image = Image.new("L", (_SIDE, _SIDE), 255)
    ImageDraw.Draw(image).ellipse((7, 7, 20, 20), outline=0)
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _example_answer(image: bytes, detector: Detector) -> dict[str, Any]:
    """What `?reconstruction=png` answers to the example."""
    decoded = decode_opened(open_image(image, _SIDE * _SIDE, ("PNG",)), detector.artifact.preprocessing)
    detection = detector.detect(decoded.pixels[np.newaxis], [decoded.shown])[0]
    judgement = Judgement(decoded.pixels, detection, detector, decoded.shown)
    body = prediction(judgement, PredictionOptions("png"))
    answer: dict[str, Any] = orjson.loads(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY))
    return answer
