"""What is sent: three sizes of picture, each as the raw body and as a multipart form."""

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

from benchmarks.decoding.pictures import CAMERA, WEB, encoded, photograph
from training.data.circles import draw_circles, random_circles

RAW, MULTIPART = "raw", "multipart"
_BOUNDARY = "----a-boundary-that-no-picture-holds"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request.

    Attributes:
        picture: "28x28 PNG", "640x480 JPEG" or "12 MP JPEG".
        kind: RAW or MULTIPART.
        content_type: As in the header.
        body: The bytes.
        seconds: How long it is sent at a time: the slower to answer, the longer.
        most_at_once: It is not sent more often than this at once: the slowest would take seconds to answer.
    """

    picture: str
    kind: str
    content_type: str
    body: bytes
    seconds: float
    most_at_once: int

    def __str__(self) -> str:
        return f"{self.picture}, {self.kind}"


def workloads() -> list[Workload]:
    """All six; the pictures are the same in every run."""
    pictures = [
        ("28x28 PNG", "image/png", encoded(_small_circle(), "PNG"), 1.2, 64),
        ("640x480 JPEG", "image/jpeg", encoded(photograph(*WEB, seed=1)), 1.2, 64),
        ("12 MP JPEG", "image/jpeg", encoded(photograph(*CAMERA, seed=1)), 2.0, 16),
    ]
    return [
        workload
        for name, content_type, content, seconds, most in pictures
        for workload in (
            Workload(name, RAW, content_type, content, seconds, most),
            Workload(name, MULTIPART, f"multipart/form-data; boundary={_BOUNDARY}", _form(content), seconds, most),
        )
    ]


def _small_circle() -> Image.Image:
    drawn = draw_circles(random_circles(1, np.random.default_rng(1)))[0]
    return Image.open(BytesIO(drawn)).convert("L").resize((28, 28), Image.Resampling.BICUBIC)


def _form(content: bytes) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="picture"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return head.encode() + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
