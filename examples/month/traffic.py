"""What a month's clients send: circles, some odd pictures, and circles from a new camera."""

from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from app.detection.artifact import Artifact
from app.detection.detector import Detector
from app.detection.images import decode_opened, open_image
from training.data.circles import draw_circles, random_circles

_SIDE = 100
_ODD_SHARE = 0.04
# Of the new camera's circles, what the artifact in force should refuse for the month to be worth playing.
_LEAST_REFUSED, _MOST_REFUSED = 0.1, 0.6
_TRIED = 60


class Sent(NamedTuple):
    """One picture, and whether it belongs."""

    content: bytes
    belongs: bool


class Camera:
    """Takes the pictures of a day.

    Attributes:
        darkening: How much darker the corners come out than the middle, in [0, 1].
    """

    def __init__(self, seed: int, darkening: float = 0.0) -> None:
        self.darkening = darkening
        self._random = np.random.default_rng(seed)

    def take(self, count: int) -> Iterator[Sent]:
        """So many pictures, of which one in twenty-five does not belong."""
        circles = iter(draw_circles(random_circles(count, self._random)))
        for _ in range(count):
            belongs = bool(self._random.random() > _ODD_SHARE)
            content = next(circles) if belongs else self._odd()
            yield Sent(self._develop(content), belongs)

    def _odd(self) -> bytes:
        picture = Image.new("L", (_SIDE, _SIDE), 255)
        pen = ImageDraw.Draw(picture)
        left, top = (int(one) for one in self._random.integers(8, 45, 2))
        side = int(self._random.integers(18, 45))
        box = (left, top, left + side, top + side)
        if self._random.random() < 0.5:
            pen.rectangle(box, outline=0)
        else:
            pen.line(box, fill=0, width=2)
            pen.line((left + side, top, left, top + side), fill=0, width=2)
        return _encoded(picture)

    def _develop(self, content: bytes) -> bytes:
        if not self.darkening:
            return content
        levels = np.asarray(Image.open(BytesIO(content)).convert("L"), np.float32)
        away = np.linspace(-1, 1, levels.shape[0], dtype=np.float32) ** 2
        levels = levels * (1 - self.darkening * (away[:, None] + away[None, :]) / 2)
        return _encoded(Image.fromarray(levels.round().astype(np.uint8)))


def new_camera(artifact: Artifact, seed: int) -> Camera:
    """A camera whose circles the artifact refuses far more often than it promises.

    Raises:
        SystemExit: There is none: the artifact takes every camera.
    """
    detector = Detector(artifact)
    for darkening in np.geomspace(0.003, 0.9, 60):
        camera = Camera(seed, float(darkening))
        circles = [one.content for one in camera.take(_TRIED) if one.belongs]
        images = [decode_opened(open_image(one, 10**6), artifact.preprocessing) for one in circles]
        judged = detector.detect(np.stack([one.pixels for one in images]), [one.shown for one in images])
        refused = float(np.mean([one.is_anomaly for one in judged]))
        if _LEAST_REFUSED <= refused <= _MOST_REFUSED:
            return Camera(seed + 1, float(darkening))
    raise SystemExit("No camera of this example is refused as often as it should be.")


def _encoded(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
