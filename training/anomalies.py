"""Drawn families of anomalies, for evaluation only: nothing is fitted, tuned or calibrated on them.

A family is a function of a random generator that gives one 100x100 grayscale image.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Family = Callable[[np.random.Generator], Image.Image]

SIDE = 100
# Drawn four times too large and reduced: Pillow's own lines are not antialiased.
_ZOOM = 4
_LINE_WIDTH = 1.39  # the circles', in pixels


def blank(generator: np.random.Generator) -> Image.Image:
    """One grey level."""
    return Image.new("L", (SIDE, SIDE), int(generator.integers(0, 256)))


def noise(generator: np.random.Generator) -> Image.Image:
    """Squares of four pixels, each with its own grey level: finer noise averages out at 28x28."""
    squares = generator.integers(0, 256, (SIDE // 4, SIDE // 4)).astype(np.uint8)
    return Image.fromarray(squares).resize((SIDE, SIDE), Image.Resampling.NEAREST)


def faint_circle(generator: np.random.Generator) -> Image.Image:
    """A circle in light grey."""
    return _outline(_around(generator, corners=180), ink=int(generator.integers(190, 235)))


def filled_circle(generator: np.random.Generator) -> Image.Image:
    """A black disc."""
    return _outline(_around(generator, corners=180), filled=True)


def thick_circle(generator: np.random.Generator) -> Image.Image:
    """A circle with a line five times as wide."""
    return _outline(_around(generator, corners=180), width=5 * _LINE_WIDTH)


def ellipse(generator: np.random.Generator) -> Image.Image:
    """Half as high as wide, turned by any angle."""
    return _outline(_around(generator, corners=180, ratio=0.5))


def triangle(generator: np.random.Generator) -> Image.Image:
    """Equilateral, turned by any angle."""
    return _outline(_around(generator, corners=3))


def square(generator: np.random.Generator) -> Image.Image:
    """Turned by any angle."""
    return _outline(_around(generator, corners=4))


def star(generator: np.random.Generator) -> Image.Image:
    """Five points."""
    points = _around(generator, corners=10)
    centre = points.mean(axis=0)
    points[1::2] = centre + 0.4 * (points[1::2] - centre)
    return _outline(points)


def inverted_circle(generator: np.random.Generator) -> Image.Image:
    """White on black."""
    return Image.eval(_outline(_around(generator, corners=180)), lambda level: 255 - level)


def duck(generator: np.random.Generator) -> Image.Image:
    """A black duck that swims to the left or to the right."""
    outline = np.array(
        [
            (8, 38), (20, 31), (23, 22), (31, 17), (40, 19), (45, 27), (43, 37), (40, 45), (52, 48), (70, 47),
            (84, 40), (93, 42), (91, 58), (82, 71), (66, 79), (44, 79), (29, 72), (23, 60), (26, 48), (20, 42),
        ],
        np.float64,
    )  # fmt: skip
    if generator.random() < 0.5:
        outline[:, 0] = SIDE - outline[:, 0]
    scale = generator.uniform(0.7, 1.0)
    return _outline(SIDE / 2 + scale * (outline - SIDE / 2), filled=True)


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "blank": blank,
        "noise": noise,
        "faint circle": faint_circle,
        "filled circle": filled_circle,
        "thick circle": thick_circle,
        "inverted circle": inverted_circle,
        "ellipse": ellipse,
        "triangle": triangle,
        "square": square,
        "star": star,
        "duck": duck,
    }
)


def _around(generator: np.random.Generator, corners: int, ratio: float = 1.0) -> NDArray[np.float64]:
    """Corners of a polygon, (corners, 2) in pixels, about where circles lie and about as large."""
    centre = np.array([51.25, 48.0]) + generator.uniform(0, 2.3, 2)
    radius, turn = generator.uniform(8, 36), generator.uniform(0, 2 * np.pi)
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    flat = np.stack([np.cos(angles), ratio * np.sin(angles)], axis=1) * radius
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points: NDArray[np.float64] = flat @ rotation + centre
    return points


def _outline(
    points: NDArray[np.float64], ink: int = 0, width: float = _LINE_WIDTH, filled: bool = False
) -> Image.Image:
    sheet = Image.new("L", (SIDE * _ZOOM, SIDE * _ZOOM), 255)
    corners = [(float(x), float(y)) for x, y in points * _ZOOM]
    pen = ImageDraw.Draw(sheet)
    if filled:
        pen.polygon(corners, fill=ink)
    else:
        pen.line([*corners, *corners[:2]], fill=ink, width=round(width * _ZOOM), joint="curve")
    return sheet.reduce(_ZOOM)
