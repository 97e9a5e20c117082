"""The report's little pictures: an image, its reconstruction and the error side by side, as small palette PNGs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from app.detection.detector import Detector
from app.detection.images import SIDE
from training.report.judgements import Judged
from training.report.plots import palette_png

# One palette for all: grey levels, then errors from none (white) to half of the grey range and more (dark).
_LEVELS = 32
_ERROR_MAP = "Oranges"
_CAPTION_PIXELS = 15
_SCALE = 2
_GAP = 12


@dataclass(frozen=True, slots=True)
class Picture:
    """One small picture.

    Attributes:
        caption: A few words below it.
        detail: The rest of what is to be said: verdict, score.
        right: Whether the verdict is right; None where there is none.
        pixels: (28, 28 * tiles), indices into the palette.
    """

    caption: str
    detail: str
    right: bool | None
    pixels: NDArray[np.uint8]

    def png(self) -> bytes:
        buffer = BytesIO()
        self._image().save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    def _image(self) -> Image.Image:
        image = Image.fromarray(self.pixels)
        image.putpalette(_palette())
        return image


def judged_pictures(
    judged: Judged, rows: Sequence[int], captions: Sequence[str], detector: Detector, threshold: float, normal: bool
) -> list[Picture]:
    """Image, reconstruction and absolute error of chosen rows, of normal images or of anomalies."""
    words = {True: "refused", False: "accepted"} if normal else {True: "found", False: "missed"}
    chosen = judged.images[list(rows)]
    reconstructions = detector.run(chosen)[0]
    pictures = []
    for row, caption, image, drawing in zip(rows, captions, chosen, reconstructions, strict=True):
        score = float(judged.scores[row])
        refused = not (score <= threshold)
        score_words = f"{score:.{3 if abs(score) >= 0.1 else 2}g}" if math.isfinite(score) else "beyond all"
        tiles = [_grey(image), _grey(drawing), _error(image, drawing)]
        detail = f"{words[refused]}, score {score_words}"
        pictures.append(Picture(caption, detail, refused != normal, np.concatenate(tiles, axis=1)))
    return pictures


def drawn_pictures(drawings: NDArray[np.float32], captions: Sequence[str]) -> list[Picture]:
    """Decoded latents (N, 28, 28), one tile each."""
    return [Picture(caption, "", None, _grey(drawing)) for drawing, caption in zip(drawings, captions, strict=True)]


def sheet(pictures: Sequence[Picture], columns: int) -> bytes:
    """All of them in one captioned PNG, row by row."""
    width = max(picture.pixels.shape[1] for picture in pictures) * _SCALE
    height = SIDE * _SCALE
    cell_width, cell_height = max(width, 110) + _GAP, height + 2 * _CAPTION_PIXELS + _GAP
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    paper = Image.new("RGB", (columns * cell_width + _GAP, rows * cell_height + _GAP), "white")
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(12)
    for number, picture in enumerate(pictures):
        left = _GAP + number % columns * cell_width
        top = _GAP + number // columns * cell_height
        tiles = picture._image().convert("RGB")
        size = (tiles.width * _SCALE, height)
        paper.paste(tiles.resize(size, Image.Resampling.NEAREST), (left, top))
        draw.rectangle((left - 1, top - 1, left + size[0], top + size[1]), outline="#bbbbbb")
        draw.text((left, top + height + 2), picture.caption, "#222222", font)
        draw.text((left, top + height + 2 + _CAPTION_PIXELS), picture.detail, "#666666", font)
    return palette_png(paper, 64)


def _grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(image, 0, 1) * (_LEVELS - 1)).round().astype(np.uint8)


def _error(image: NDArray[np.float32], drawing: NDArray[np.float32]) -> NDArray[np.uint8]:
    return _LEVELS + _grey(2 * np.abs(image - drawing))


def _palette() -> list[int]:
    steps = np.linspace(0, 1, _LEVELS)
    greys = np.repeat(steps[:, None], 3, axis=1)
    errors = mpl.colormaps[_ERROR_MAP](steps)[:, :3]
    errors[0] = 1
    return [int(level) for level in (np.concatenate([greys, errors]) * 255).round().ravel()]
