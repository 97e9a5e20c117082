"""The tutorial's circles: dark outlines on white, 100x100 pixels, drawn on one canvas that is used again and again."""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle as CirclePatch
from PIL import Image

from app.detection.images import Preprocessing

Reduction = Literal["tutorial", "smooth"]

# How the drawn 100x100 pixels become 28x28. The tutorial's readers got Pillow's default at the time, which takes single
# pixels. Smoothed lines are paler: a network then gains too little by learning more than the mean image.
REDUCTIONS: Mapping[Reduction, Preprocessing] = MappingProxyType(
    {"tutorial": Preprocessing(resize_filter="nearest"), "smooth": Preprocessing()}
)

LEAST_CENTRE, MOST_CENTRE = 0.5, 0.53
LEAST_RADIUS, MOST_RADIUS = 0.03, 0.47


@dataclass(frozen=True, slots=True)
class Circle:
    """One circle; `x`, `y` and `radius` in the units of matplotlib's empty axes, which run from 0 to 1."""

    x: float
    y: float
    radius: float


def random_circles(count: int, generator: np.random.Generator) -> list[Circle]:
    """The tutorial's distribution: centre 0.5 + U(0, 0.03) in x and in y, radius U(0.03, 0.47)."""
    centres = generator.uniform(LEAST_CENTRE, MOST_CENTRE, size=(count, 2))
    radii = generator.uniform(LEAST_RADIUS, MOST_RADIUS, size=count)
    return [Circle(float(x), float(y), float(radius)) for (x, y), radius in zip(centres, radii, strict=True)]


class Canvas:
    """Draws a circle exactly like `plt.figure(figsize=(1, 1))` with an unfilled `plt.Circle` and the axis turned off.

    Creating a figure for each circle would spend most of the time on invisible axes, ticks and fonts. Instead, one
    figure is laid out once, and only its background and the circle are drawn again (benchmarks/training/drawing.py).
    """

    def __init__(self) -> None:
        # The user's matplotlibrc must not change what a circle looks like.
        with mpl.rc_context(mpl.rcParamsDefault):
            self._figure = Figure(figsize=(1, 1))
            canvas = FigureCanvasAgg(self._figure)
            axes = self._figure.add_subplot()
            axes.set_axis_off()
            self._patch = CirclePatch((0.5, 0.5), 0.25, color="k", fill=False)
            axes.add_patch(self._patch)
            canvas.draw()  # type: ignore[no-untyped-call]  # lays the axes out, once
            self._renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]

    def draw(self, circle: Circle) -> Image.Image:
        """A 100x100 RGBA image, opaque."""
        self._patch.set_center((circle.x, circle.y))
        self._patch.set_radius(circle.radius)
        self._renderer.clear()
        self._figure.patch.draw(self._renderer)
        self._patch.draw(self._renderer)
        return Image.fromarray(np.array(self._renderer.buffer_rgba()))


def draw_circles(circles: list[Circle]) -> list[bytes]:
    """One PNG file for each circle: what a client would send."""
    canvas = Canvas()
    return [_to_png(canvas.draw(circle)) for circle in circles]


def _to_png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
