"""PyTorch -> the two files that hold a model: a safetensors checkpoint, and the ONNX graph that serves."""

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save

from app.detection.artifact import Architecture
from app.detection.detector import Detector
from app.detection.images import SIDE
from training.errors import TrainingError
from training.model.autoencoders import build
from training.model.scores import LossScore, ScoredAutoencoder, Scorer, Verdict, score_images
from training.model.views import Views

# PyTorch and ONNX Runtime add float32 numbers in a different order, a few thousand per layer, and the whitening
# amplifies the small differences. The most is seen in the view of outlines: 3e-4 in 10,000 circles.
TOLERANCE = 1e-3
# Smaller ones are not worth a node in the graph.
_LARGE_TABLE = 1024


def save_checkpoint(model: ScoredAutoencoder, path: Path) -> None:
    """Writes all weights and buffers under their PyTorch names. The manifest describes the modules to load them into.

    A large tensor is stored in half precision if that does not change any of its values.
    """
    state = {
        name: tensor.half() if _fits_half(tensor.numpy()) else tensor for name, tensor in model.state_dict().items()
    }
    path.write_bytes(save({name: tensor.contiguous() for name, tensor in state.items()}))


def load_checkpoint(path: Path, architecture: Architecture, score: Architecture) -> ScoredAutoencoder:
    """The model of an artifact, ready to be inspected or trained further.

    Args:
        path: The artifact's `autoencoder.safetensors`.
        architecture: The network's entry in the manifest.
        score: The score's entry in the manifest.

    Raises:
        RuntimeError: The two do not belong together; PyTorch names the tensors that differ.
    """
    scorer: Scorer = Views(**score.arguments) if score.name == "views" else LossScore()
    model = ScoredAutoencoder(build(architecture), scorer)
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    return model.eval()


def export_graph(model: ScoredAutoencoder) -> bytes:
    """The ONNX graph: `image` (N, 1, 28, 28) -> `reconstruction`, `loss`, `score`, `views`, for any N.

    The same weights always give the same bytes, without a trace of where they were made.
    """
    example = torch.full((2, 1, SIDE, SIDE), 0.5)  # a batch of 1 would be taken for a constant
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)  # it warns that torchvision is absent
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter deprecates parts of itself
            program = torch.onnx.export(
                model.eval(),
                (example,),
                input_names=["image"],
                output_names=list(Verdict._fields),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        registration.setLevel(level)
    if program is None:
        raise AssertionError("torch.onnx.export returns a program with dynamo=True")
    proto = _with_half_tables(_without_traces(program.model_proto))
    graph: bytes = proto.SerializeToString(deterministic=True)
    return graph


def check_agreement(model: ScoredAutoencoder, detector: Detector, images: NDArray[np.float32]) -> None:
    """Compares the PyTorch model with the exported graph, also on constant images, where variances are zero.

    Args:
        model: Loaded back from its checkpoint.
        detector: Around the graph, loaded back as well.
        images: (N, 28, 28), grey levels in [0, 1].

    Raises:
        TrainingError: An output differs by more than `TOLERANCE`, relative where it is above 1.
    """
    blank = np.ones((1, SIDE, SIDE), np.float32)
    images = np.concatenate([images, blank, 0 * blank, 0.5 * blank])
    ours = score_images(model, torch.from_numpy(images).unsqueeze(1))
    theirs = detector.run(images)
    for name, expected, found in zip(Verdict._fields, ours, theirs, strict=True):
        wanted = expected.numpy().reshape(found.shape)
        difference = np.abs(wanted - found) / np.maximum(1, np.abs(wanted))
        if not (difference <= TOLERANCE).all():
            raise TrainingError(
                f"The exported graph and the PyTorch model disagree: {name} differs by up to {difference.max():.2g}."
            )


def _without_traces(proto: ModelProto) -> ModelProto:
    """Removes the stack traces and source paths that the exporter notes for debugging."""
    proto.ClearField("metadata_props")
    graph = proto.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    return proto


def _with_half_tables(proto: ModelProto) -> ModelProto:
    """Stores tables that half precision can hold in it; ONNX Runtime widens them once, when it loads the graph."""
    graph, casts = proto.graph, []
    for table in graph.initializer:
        values = numpy_helper.to_array(table)
        if _fits_half(values):
            name = table.name
            table.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(helper.make_node("Cast", [table.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    graph.ClearField("node")
    graph.node.extend(nodes)
    return proto


def _fits_half(values: NDArray[np.generic]) -> bool:
    """Whether rounding to half precision changes nothing, and saves something."""
    if values.dtype != np.float32 or values.size < _LARGE_TABLE:
        return False
    with np.errstate(over="ignore"):
        return bool((values.astype(np.float16).astype(np.float32) == values).all())
