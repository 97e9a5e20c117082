"""Part 1: the default artifact as it is committed, through the serving decoder and `app.detection.detector`."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle as CirclePatch
from PIL import Image, ImageFilter

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from benchmarks.detection.measures import Score, measure, rate, refused, score_of
from benchmarks.detection.pictures import SEED, WHITE_PAPER, Scale, circles, kept, png
from testing.artifacts import DEFAULT_ARTIFACT
from training.data.circles import Circle, random_circles
from training.data.dataset import decode_variants
from training.data.variants import DEFAULT_VARIANTS, Filter, Variant, resized, rotated

UNLISTED_COUNT = 1000


def run(scale: Scale) -> dict[str, Any]:
    artifact = load_artifact(DEFAULT_ARTIFACT)
    score = score_of(Detector(artifact))
    threshold = artifact.manifest.threshold
    return {
        "artifact": artifact.version,
        **measure(score, threshold, scale),
        "rendered": _rendered(score, threshold, scale),
        "unlisted": _unlisted(score, threshold, scale),
    }


def _rendered(score: Score, threshold: float, scale: Scale) -> dict[str, Any]:
    """Circles that matplotlib draws at another resolution, rather than drawn at 100 pixels and enlarged."""
    ways = [DEFAULT_VARIANTS["original"], DEFAULT_VARIANTS["jpeg-28"], DEFAULT_VARIANTS["box-28"]]
    rates = {}
    for dots in (50, 280, 1000):
        count = min(scale.test, 1500 if dots < 1000 else 500)
        images = kept(
            f"rendered-{dots}",
            scale,
            lambda dots=dots, count=count: decode_variants(_draw(count, dots), ways, WHITE_PAPER, SEED),  # type: ignore[misc]
        )
        for way, own in zip(ways, images, strict=True):
            rates[f"rendered at {dots} px, {way.name}"] = rate(refused(score(own), threshold))
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


Edit = Callable[[Image.Image, np.random.Generator], Image.Image]


def _as_png(name: str, edit: Edit) -> Variant:
    return Variant(name, "", lambda image, rng: png(edit(image, rng)))


def _as_jpeg(name: str, side: int, quality: int) -> Variant:
    def apply(image: Image.Image, rng: np.random.Generator) -> bytes:
        buffer = BytesIO()
        resized(image, side).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()

    return Variant(name, "", apply)


UNLISTED = (
    _as_png("PNG of 64x64 pixels", lambda image, rng: resized(image, 64)),
    _as_png("PNG of 35x35 pixels", lambda image, rng: resized(image, 35)),
    _as_png("PNG of 20x20 pixels", lambda image, rng: resized(image, 20)),
    _as_jpeg("JPEG q85, 100x100", 100, 85),
    _as_jpeg("JPEG q30, 100x100", 100, 30),
    _as_jpeg("JPEG q90, 28x28", 28, 90),
    _as_jpeg("JPEG q50, 28x28", 28, 50),
    _as_png("turned by up to 2 degrees", lambda image, rng: rotated(resized(image, 100), rng.uniform(-2, 2))),
    _as_png("turned by up to 10 degrees", lambda image, rng: rotated(resized(image, 100), rng.uniform(-10, 10))),
    _as_png("blur of radius 0.7", lambda image, rng: resized(image, 100).filter(ImageFilter.GaussianBlur(0.7))),
    _as_png("blur of radius 2", lambda image, rng: resized(image, 100).filter(ImageFilter.GaussianBlur(2))),
    _as_png("28x28, Hamming filter", lambda image, rng: resized(image, 28, Filter.HAMMING)),
    _as_png("28x28, nearest pixel", lambda image, rng: resized(image, 28, Filter.NEAREST)),
    _as_png("mirrored", lambda image, rng: image.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
)


def _unlisted(score: Score, threshold: float, scale: Scale) -> dict[str, Any]:
    """Ways of sending that nothing is promised for."""
    originals = circles(min(scale.test, UNLISTED_COUNT), 6)
    images = kept("unlisted", scale, lambda: decode_variants(originals, UNLISTED, WHITE_PAPER, SEED))
    return {way.name: rate(refused(score(own), threshold)) for way, own in zip(UNLISTED, images, strict=True)}
