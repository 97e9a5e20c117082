"""A judgement as clients see it: the fields of an answer, and of an access line."""

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from app.judging.judge import Judgement

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
    threshold: float = Field(description="The largest score accepted of such a file.")
    p_value: float = Field(gt=0, le=1, description="Share of normal images at least as odd.")
    model: ModelVersion
    reconstruction: list[list[float]] | str | None = Field(
        None, description=f"What the network redrew: {_PIXELS}, or a base64 PNG; left out when not wanted."
    )
    image: list[list[float]] | None = Field(None, description=f"With explain: what the network saw, {_PIXELS}.")
    error_map: list[list[float]] | None = Field(None, description=f"With explain: squared error, {_PIXELS}.")
    reasons: list[Reason] | None = Field(None, description="With explain: one entry a view.")


@dataclass(frozen=True, slots=True)
class PredictionOptions:
    """What a client wants to see beside the verdict."""

    reconstruction: Literal["pixels", "png", "none"] = "pixels"
    explain: bool = False


def prediction(judgement: Judgement, options: PredictionOptions) -> dict[str, Any]:
    """A `Prediction` as orjson writes it: arrays stay arrays, and NaN becomes null."""
    detection, detector = judgement.detection, judgement.detector
    body: dict[str, Any] = {
        "is_anomaly": detection.is_anomaly,
        "loss": detection.loss,
        "score": detection.score,
        "threshold": detection.threshold,
        "p_value": detection.p_value,
        "model": {"name": detector.artifact.manifest.name, "version": detector.artifact.version},
    }
    if options.reconstruction == "pixels":
        body["reconstruction"] = detection.reconstruction
    elif options.reconstruction == "png":
        body["reconstruction"] = _png(detection.reconstruction)
    if options.explain:
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


def _png(pixels: NDArray[np.float32]) -> str:
    buffer = BytesIO()
    Image.fromarray((pixels * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
