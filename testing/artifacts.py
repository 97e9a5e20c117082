"""Artifacts for tests: the committed one, and a tiny real one."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from app.detection.artifact import CALIBRATION, CHECKPOINT, GRAPH, SAMPLES, VIEW_CALIBRATION, write_artifact
from testing.paths import ROOT

DEFAULT_ARTIFACT = ROOT / "model_artifacts" / "circles"


def tiny_graph(reconstruction_level: float = 1.0) -> bytes:
    """A real graph whose network redraws everything as one grey level; score and the one view are the loss."""
    nodes = [
        helper.make_node("Mul", ["image", "zero"], ["black"]),
        helper.make_node("Add", ["black", "level"], ["reconstruction"]),
        helper.make_node("Sub", ["image", "reconstruction"], ["difference"]),
        helper.make_node("Mul", ["difference", "difference"], ["squared"]),
        helper.make_node("ReduceMean", ["squared", "axes"], ["loss"], keepdims=0),
        helper.make_node("Identity", ["loss"], ["score"]),
        helper.make_node("Reshape", ["loss", "column"], ["views"]),
    ]
    constants = {
        "zero": np.zeros((1,), np.float32),
        "level": np.full((1,), reconstruction_level, np.float32),
        "axes": np.array([1, 2, 3]),
        "column": np.array([-1, 1]),
    }
    outputs: dict[str, list[str | int]] = {
        "reconstruction": ["N", 1, 28, 28],
        "loss": ["N"],
        "score": ["N"],
        "views": ["N", 1],
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def write_tiny_artifact(
    folder: Path,
    threshold: float = 0.5,
    samples: tuple[NDArray[np.uint8], NDArray[np.uint8]] | None = None,
    report: dict[str, bytes] | None = None,
    **changes: Any,
) -> Path:
    """An artifact of `tiny_graph`: accepts images whose mean squared distance from white is at most `threshold`."""

    def fill(aside: Path) -> dict[str, Any]:
        (aside / GRAPH).write_bytes(tiny_graph(changes.pop("reconstruction_level", 1.0)))
        (aside / CHECKPOINT).write_bytes(b"the tests never train this one")
        scores = np.linspace(0, threshold, 99, dtype=np.float32)
        np.save(aside / CALIBRATION, scores[np.newaxis])
        np.save(aside / VIEW_CALIBRATION, scores[np.newaxis, np.newaxis])
        if samples is not None:
            np.savez(aside / SAMPLES, normal=samples[0], odd=samples[1])
        for name, content in (report or {}).items():
            (aside / "report").mkdir(exist_ok=True)
            (aside / "report" / name).write_bytes(content)
        return {**_manifest_fields(threshold), **changes}

    write_artifact(folder, fill)
    return folder


def _manifest_fields(threshold: float) -> dict[str, Any]:
    return {
        "name": "tiny",
        "architecture": {"name": "tiny", "arguments": {}},
        "preprocessing": {"background": 255, "resize_filter": "bicubic"},
        "threshold": threshold,
        "promise": {
            "target_false_positive_rate": 0.01,
            "rate_with_90_percent_confidence": 0.023,
            "calibration_size": 99,
            "rank": 99,
            "words": "At most 1% of normal images are refused on average.",
        },
        "variants": ["pipeline"],
        "views": [{"name": "loss", "meaning": "error", "odd": "redrawn badly here", "normal": "redrawn well"}],
        "evaluation": {},
        "data": {},
        "training": {},
        "seed": 0,
        "library_versions": {},
    }
