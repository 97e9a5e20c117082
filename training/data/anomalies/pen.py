"""Drawing functions for the anomalies, based on matplotlib's Agg renderer, which also draws the normal circles."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform
from numpy.typing import NDArray
from PIL import Image

Family = Callable[[np.random.Generator], Image.Image]
Points = NDArray[np.float64]  # (P, 2) x and y in pixels of the 100x100 image

SIDE = 100
LINE_WIDTH = 1.39  # one point at 100 dots an inch
WHITE = 255
ASPECT = 77 / 77.5  # the tutorial's axes are a little wider than high, and so are its circles


def blank_sheet(level: int = WHITE) -> Image.Image:
    """An empty sheet."""
    return Image.new("L", (SIDE, SIDE), level)


def lay_ink(sheet: Image.Image, points: Points, ink: int, width: float, filled: bool) -> None:
    """Draws a path with Agg, like the normal circles, so that anomalies do not differ by their antialiasing."""
    renderer: Any = RendererAgg(SIDE, SIDE, 100)  # type: ignore[no-untyped-call]
    context = renderer.new_gc()
    context.set_linewidth(width * 72 / 100)  # in points
    closed = np.allclose(points[0], points[-1])
    upward = np.array([0, SIDE * (1 + ASPECT) / 2]) + np.asarray(points) * [1, -ASPECT]
    renderer.draw_path(context, Path(upward, closed=closed), IdentityTransform(), (0, 0, 0) if filled else None)
    coverage = np.asarray(renderer.buffer_rgba())[..., 3]
    sheet.paste(ink, mask=Image.fromarray(coverage))


def stroke(sheet: Image.Image, points: Points, width: float = LINE_WIDTH, ink: int = 0) -> None:
    """Draws a line through the points, closed if the last equals the first; the width is in pixels."""
    lay_ink(sheet, points, ink, width, filled=False)


def fill(sheet: Image.Image, points: Points, ink: int = 0) -> None:
    lay_ink(sheet, points, ink, 0.0, filled=True)


def drawn(*lines: Points, width: float = LINE_WIDTH, ink: int = 0, paper: int = WHITE) -> Image.Image:
    sheet = blank_sheet(paper)
    for line in lines:
        stroke(sheet, line, width, ink)
    return sheet


def picture_of(pixels: NDArray[np.float64]) -> Image.Image:
    """(H, W) grey levels 0-255, any size, to a 100x100 image."""
    image = Image.fromarray(np.clip(np.asarray(pixels, dtype=np.float64), 0, 255).round().astype(np.uint8))
    return image if image.size == (SIDE, SIDE) else image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def random_centre(rng: np.random.Generator) -> Points:
    """A centre as the tutorial draws it."""
    return np.array([51.25 + rng.uniform(0, 2.3), 50.5 - rng.uniform(0, 2.3)])


def random_radius(rng: np.random.Generator, least: float = 8.0, most: float = 36.4) -> float:
    return float(rng.uniform(least, most))


def arc(
    centre: Points,
    radius: float,
    start: float = 0.0,
    degrees: float = 360.0,
    ratio: float = 1.0,
    tilt: float = 0.0,
) -> Points:
    """An elliptic arc; ratio is the second axis over the first, tilt turns the first axis (degrees)."""
    angles = np.radians(np.linspace(start, start + degrees, max(8, round(degrees))))
    x, y = radius * np.cos(angles), radius * ratio * np.sin(angles)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return np.stack([c * x - s * y, s * x + c * y], axis=1) + centre


def polygon(centre: Points, radius: float, corners: int, turn: float) -> Points:
    angles = np.radians(turn) + np.linspace(0, 2 * np.pi, corners + 1)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius + centre


def star(centre: Points, radius: float, points: int, turn: float, inner: float = 0.4) -> Points:
    angles = np.radians(turn) + np.linspace(0, 2 * np.pi, 2 * points + 1)
    radii = np.where(np.arange(2 * points + 1) % 2 == 0, radius, inner * radius)
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1) + centre
