"""Converts a judgement to the JSON fields of a response, and to the fields of an access log line."""

import base64
import math
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field

from app.detection.detector import Detection
from app.judging.judge import Judgement

_PIXELS = "28 rows of 28 grey levels in [0, 1]"

_P_VALUE = (
    "Rank of the score among the calibration scores, (1 + those at least as high) / (n + 1), the largest over the "
    "permitted ways of sending. For normal images P(p_value <= t) <= t; since it is the largest, usually far less: it "
    "is a bound, not the share of normal images that are at least as odd."
)


class ModelVersion(BaseModel):
    name: str = Field(examples=["circles"])
    version: str = Field(
        examples=["sha256:1a2b3c4d5e6f"], description="Changes whenever anything in the artifact does."
    )


class Reason(BaseModel):
    """One aspect of the judgement, for `?explain=true`."""

    name: str
    value: float | None = Field(description="Higher is odder; null if it is not a number.")
    p_value: float = Field(description="As the prediction's p_value, in this respect alone.")
    sentence: str


class Prediction(BaseModel):
    is_anomaly: bool = Field(description="The verdict: score > threshold.")
    loss: float | None = Field(description="Mean squared error between the 28x28 image and its reconstruction.")
    score: float | None = Field(description="What is compared with the threshold; higher is odder.")
    threshold: float = Field(description="The largest score accepted of such a file.")
    p_value: float = Field(gt=0, le=1, description=_P_VALUE)
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
        body["reconstruction"] = png((detection.reconstruction * 255).round().astype(np.uint8))
    if options.explain:
        body["image"] = judgement.image
        body["error_map"] = np.square(judgement.image - detection.reconstruction)
        body["reasons"] = reasons(judgement)
    return body


def verdict_of(detection: Detection) -> Literal["normal", "anomaly"]:
    """Returns the verdict in one word."""
    return "anomaly" if detection.is_anomaly else "normal"


def finite(number: float) -> float | None:
    """Returns the number, or None where JSON has none for it."""
    return number if math.isfinite(number) else None


def log_fields(judgement: Judgement) -> dict[str, Any]:
    """What an access line says of a judgement."""
    detection = judgement.detection
    return {
        "verdict": verdict_of(detection),
        "score": round(detection.score, 6),
        "model": judgement.detector.artifact.version,
    }


def reasons(judgement: Judgement) -> list[dict[str, Any]]:
    """Returns each view's value, rank and sentence, as in `Reason`.

    Views are judged together, so that an image may be odd though no single view is: then the highest says so.
    """
    detector, detection = judgement.detector, judgement.detection
    manifest = detector.artifact.manifest
    ranks = detector.view_p_values(detection)
    odd = {row for row, p_value in enumerate(ranks) if p_value <= manifest.promise.target_false_positive_rate}
    if detection.is_anomaly and not odd:
        odd = {int(np.argmax(detection.views))}
    return [
        {
            "name": view.name,
            "value": float(value),
            "p_value": p_value,
            "sentence": view.odd if row in odd else view.normal,
        }
        for row, (view, value, p_value) in enumerate(zip(manifest.views, detection.views, ranks, strict=True))
    ]


def png(levels: NDArray[np.uint8]) -> str:
    """(28, 28) grey levels 0 to 255 -> a base64 PNG."""
    buffer = BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
