"""LitServe as its documentation sets it up for throughput: batching on, the fast queue; PyTorch, or the ONNX graph."""

import sys
from collections.abc import Sequence
from typing import Any

import litserve
import numpy as np
import onnxruntime as ort
import torch
from fastapi import Request
from numpy.typing import NDArray
from PIL import Image

from app.detection.artifact import GRAPH
from benchmarks.serving.torch_model import artifact_folder, threshold, torch_model

# Of 1, 5 and 50 ms, the fastest at concurrency 16 that does not make a single client wait.
_BATCH_TIMEOUT_SECONDS = 0.001
_BATCH_SIZE = 16

Pixels = NDArray[np.float32]


class _Gate(litserve.LitAPI):
    """What both engines share."""

    def decode_request(self, request: Request) -> Pixels:
        picture = Image.open(request["file"].file).convert("L").resize((28, 28))
        return np.asarray(picture, dtype=np.float32)[np.newaxis] / 255

    def batch(self, inputs: Sequence[Pixels]) -> Pixels:
        return np.stack(inputs)  # (N, 1, 28, 28)

    def encode_response(self, output: tuple[Pixels, ...]) -> dict[str, Any]:
        reconstruction, loss, scores = output
        score = np.ravel(scores)[0]  # of the first class of files, where there are several
        return {
            "is_anomaly": bool(score > self.limit),
            "loss": float(loss),
            "score": float(score),
            "threshold": self.limit,
            "reconstruction": reconstruction[0].tolist(),
        }


class TorchGate(_Gate):
    def setup(self, device: str) -> None:
        self.limit = threshold()
        self.model = torch_model()

    def predict(self, batch: Pixels) -> list[tuple[Pixels, ...]]:
        with torch.inference_mode():
            verdict = self.model(torch.from_numpy(batch))
        return list(zip(*(part.numpy() for part in verdict[:3]), strict=True))


class OnnxGate(_Gate):
    def setup(self, device: str) -> None:
        self.limit = threshold()
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(str(artifact_folder() / GRAPH), options)

    def predict(self, batch: Pixels) -> list[tuple[Pixels, ...]]:
        return list(zip(*self.session.run(["reconstruction", "loss", "score"], {"image": batch}), strict=True))


if __name__ == "__main__":
    gate = {"torch": TorchGate, "onnx": OnnxGate}[sys.argv[1]]
    server = litserve.LitServer(
        gate(max_batch_size=_BATCH_SIZE, batch_timeout=_BATCH_TIMEOUT_SECONDS), accelerator="cpu", fast_queue=True
    )
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
