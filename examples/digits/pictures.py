"""Real handwritten digits that ship with scikit-learn, as image files, and drawings that are no digits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

SIDE = 64
_UNSEEN = 500


def digit_pictures() -> tuple[list[Image.Image], list[int]]:
    """All 1,797 of them, dark on white, 64x64, in a shuffled order that is always the same; and what they show."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    ink = digits.images[order] / 16  # (1797, 8, 8), 1 is full ink
    grey = (255 * (1 - ink)).round().astype(np.uint8)
    pictures = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC) for image in grey]
    return pictures, digits.target[order].tolist()


def split() -> tuple[slice, slice]:
    """Which digits gate and classifier are trained on, and which neither has seen."""
    return slice(_UNSEEN, None), slice(0, _UNSEEN)


def write_training_folder(folder: Path) -> None:
    """One folder a digit, as people keep such pictures."""
    pictures, labels = digit_pictures()
    training, _ = split()
    for index, (picture, label) in enumerate(zip(pictures[training], labels[training], strict=True)):
        path = folder / str(label) / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)


def odd_pictures() -> dict[str, list[Image.Image]]:
    """Ten drawings of each kind, each at another size and place; the first of each is in the middle."""
    random = np.random.default_rng(1)
    return {name: [_drawn(draw, random, index) for index in range(10)] for name, draw in _KINDS.items()}


def _drawn(draw: "Callable[[_Pen], None]", random: np.random.Generator, index: int) -> Image.Image:
    large = Image.new("L", (4 * SIDE, 4 * SIDE), 255)
    scale, x, y = (1.0, 0.0, 0.0) if index == 0 else (random.uniform(0.75, 1), *random.uniform(-0.06, 0.06, 2))
    draw(_Pen(ImageDraw.Draw(large), 4 * SIDE, scale, x, y))
    return large.resize((SIDE, SIDE), Image.Resampling.BOX)


class _Pen:
    """Draws in units of the picture's width, scaled and shifted."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int, scale: float, x: float, y: float) -> None:
        self._draw, self._side, self._scale, self._x, self._y = draw, side, scale, x, y

    def _points(self, *values: float) -> list[float]:
        shifts = [self._x, self._y] * (len(values) // 2)
        return [
            self._side * (0.5 + (value - 0.5) * self._scale + shift)
            for value, shift in zip(values, shifts, strict=True)
        ]

    def ellipse(self, *box: float, grey: int = 0) -> None:
        self._draw.ellipse(self._points(*box), fill=grey)

    def polygon(self, *points: float, grey: int = 0) -> None:
        self._draw.polygon(self._points(*points), fill=grey)

    def line(self, *points: float, width: float = 0.08) -> None:
        self._draw.line(self._points(*points), fill=0, width=int(self._side * self._scale * width), joint="curve")

    def arc(self, box: tuple[float, float, float, float], start: float, end: float, width: float = 0.06) -> None:
        self._draw.arc(self._points(*box), start, end, fill=0, width=int(self._side * self._scale * width))


def _duck(pen: _Pen) -> None:
    pen.ellipse(0.18, 0.45, 0.85, 0.85)
    pen.polygon(0.18, 0.45, 0.30, 0.75, 0.5, 0.55)
    pen.ellipse(0.52, 0.15, 0.82, 0.45)
    pen.polygon(0.60, 0.40, 0.78, 0.40, 0.78, 0.55, 0.60, 0.55)
    pen.polygon(0.78, 0.24, 0.97, 0.31, 0.78, 0.38, grey=110)
    pen.ellipse(0.68, 0.23, 0.74, 0.29, grey=255)
    pen.arc((0.32, 0.5, 0.62, 0.72), 20, 160, width=0.02)


def _house(pen: _Pen) -> None:
    pen.polygon(0.1, 0.5, 0.5, 0.1, 0.9, 0.5)
    pen.polygon(0.2, 0.5, 0.8, 0.5, 0.8, 0.9, 0.2, 0.9, grey=120)
    pen.polygon(0.42, 0.62, 0.58, 0.62, 0.58, 0.9, 0.42, 0.9)


def _tree(pen: _Pen) -> None:
    pen.ellipse(0.2, 0.08, 0.8, 0.62, grey=90)
    pen.polygon(0.44, 0.55, 0.56, 0.55, 0.6, 0.92, 0.4, 0.92)


def _star(pen: _Pen) -> None:
    angles = np.pi * (np.arange(10) / 5 - 0.5)
    radii = np.where(np.arange(10) % 2, 0.18, 0.44)
    points = np.stack([0.5 + radii * np.cos(angles), 0.5 + radii * np.sin(angles)], axis=1)
    pen.polygon(*points.ravel().tolist())


def _fish(pen: _Pen) -> None:
    pen.ellipse(0.1, 0.3, 0.72, 0.7)
    pen.polygon(0.65, 0.5, 0.93, 0.25, 0.93, 0.75)
    pen.ellipse(0.22, 0.42, 0.29, 0.49, grey=255)


def _face(pen: _Pen) -> None:
    pen.arc((0.1, 0.1, 0.9, 0.9), 0, 360)
    pen.ellipse(0.3, 0.32, 0.4, 0.45)
    pen.ellipse(0.6, 0.32, 0.7, 0.45)
    pen.arc((0.28, 0.35, 0.72, 0.75), 20, 160)


def _letter(pen: _Pen) -> None:
    pen.line(0.15, 0.9, 0.5, 0.1, 0.85, 0.9)
    pen.line(0.3, 0.62, 0.7, 0.62)


def _crossing(pen: _Pen) -> None:
    for place in (0.2, 0.5, 0.8):
        pen.line(place, 0.05, place, 0.95, width=0.05)
        pen.line(0.05, place, 0.95, place, width=0.05)


_KINDS = {
    "duck": _duck,
    "house": _house,
    "tree": _tree,
    "star": _star,
    "fish": _fish,
    "face": _face,
    "letter A": _letter,
    "grid": _crossing,
}
