"""Part 1: the default artifact as it is committed, through the serving decoder and `app.detection.detector`."""

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle as CirclePatch
from PIL import Image

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from benchmarks.detection.measures import Margins, margins_of, measure, rate, score_of
from benchmarks.detection.pictures import SEED, WHITE_PAPER, Scale, circles, kept, png
from benchmarks.detection.ways import BOX_28, JPEG_28, OUTSIDE
from testing.artifacts import DEFAULT_ARTIFACT
from training.data.circles import Circle, random_circles
from training.data.dataset import decode_variants
from training.fitting.evaluate import refused

UNLISTED_COUNT = 1000


def run(scale: Scale) -> dict[str, Any]:
    artifact = load_artifact(DEFAULT_ARTIFACT)
    detector = Detector(artifact)
    margins = margins_of(detector)
    return {
        "artifact": artifact.version,
        **measure(score_of(detector), 0.0, scale, margins=margins),
        "rendered": _rendered(margins, scale),
        "unlisted": _unlisted(margins, scale),
    }


def _rendered(margins: Margins, scale: Scale) -> dict[str, Any]:
    """Circles that matplotlib draws at another resolution, rather than drawn at 100 pixels and enlarged."""
    ways = [JPEG_28, BOX_28]
    rates = {}
    for dots in (50, 280, 1000):
        count = min(scale.test, 1500 if dots < 1000 else 500)
        images = kept(
            f"rendered-{dots}",
            scale,
            lambda dots=dots, count=count: decode_variants(_draw(count, dots), ways, WHITE_PAPER, SEED),  # type: ignore[misc]
        )
        for way, own in zip(ways, images, strict=True):
            rates[f"rendered at {dots} px, {way.name}"] = rate(refused(margins(own, way.shown), 0.0))
    return rates


def _draw(count: int, dots: int) -> list[bytes]:
    """Files of dots x dots pixels."""
    figure = Figure(figsize=(1, 1), dpi=dots)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_axis_off()

    def file(circle: Circle) -> bytes:
        patch = axes.add_patch(CirclePatch((circle.x, circle.y), circle.radius, color="k", fill=False))
        canvas.draw()  # type: ignore[no-untyped-call]
        patch.remove()
        return png(Image.fromarray(np.array(canvas.buffer_rgba())))  # type: ignore[no-untyped-call]

    return [file(circle) for circle in random_circles(count, np.random.default_rng([SEED, 5, dots]))]


def _unlisted(margins: Margins, scale: Scale) -> dict[str, Any]:
    """Ways of sending that nothing is promised for."""
    originals = circles(min(scale.test, UNLISTED_COUNT), 6)
    images = kept("unlisted", scale, lambda: decode_variants(originals, OUTSIDE, WHITE_PAPER, SEED))
    sent = zip(OUTSIDE, images, strict=True)
    return {way.name: rate(refused(margins(own, way.shown), 0.0)) for way, own in sent}
