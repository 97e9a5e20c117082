"""A small digit classifier behind HTTP, as any other: POST an image, get {"digit": 3, "confidence": 0.99}."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image
from sklearn.neural_network import MLPClassifier

from examples.digits.pictures import digit_pictures, split


def features(picture: Image.Image) -> np.ndarray[Any, Any]:
    """(64,), ink of 8x8 pixels in [0, 1]: what scikit-learn's digits are."""
    small = picture.convert("L").resize((8, 8), Image.Resampling.BOX)
    return 1 - np.asarray(small, dtype=np.float64).ravel() / 255


def train() -> MLPClassifier:
    pictures, labels = digit_pictures()
    training, _ = split()
    network = MLPClassifier((64,), max_iter=1000, random_state=0)
    return network.fit(np.stack([features(picture) for picture in pictures[training]]), labels[training])


class Handler(BaseHTTPRequestHandler):
    """Answers with the likeliest digit, for there is no other answer that a digit classifier has."""

    network: MLPClassifier
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with Image.open(BytesIO(body)) as picture:
            probabilities = self.network.predict_proba(features(picture)[np.newaxis])[0]
        answer = {"digit": int(probabilities.argmax()), "confidence": round(float(probabilities.max()), 4)}
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Quiet: the gate in front logs each request."""


if __name__ == "__main__":
    host, port = sys.argv[1:]
    Handler.network = train()
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
