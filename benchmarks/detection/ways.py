"""Exact ways of sending that people use: within the permitted kinds, where the gate promises, and outside of them."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from app.detection.images import open_image
from app.detection.shown import Shown, class_of
from training.data import sending
from training.data.sending import Filter, encoded, resized
from training.data.variants import Sent, Variant

Generator = np.random.Generator
OWN_SIZE = (100, 100)


def _way(name: str, apply: Callable[[Image.Image, Generator], Sent]) -> Variant:
    """With the class that a circle's file has when it is sent so."""
    sent = apply(Image.new("L", OWN_SIZE, 255), np.random.default_rng(0))
    shown = open_image(sent, 10**7).shown if isinstance(sent, bytes) else Shown("PNG", *sent.size)
    return Variant(name, name, apply, class_of(shown, OWN_SIZE))


def _png(side: int, resample: Filter = Filter.BICUBIC) -> Variant:
    return _way(f"PNG {side} px, {resample.name.lower()}", lambda image, rng: resized(image, side, resample))


def _jpeg(side: int, quality: int) -> Variant:
    return _way(
        f"JPEG {side} px, q{quality}", lambda image, rng: encoded(resized(image, side), "JPEG", quality=quality)
    )


def _moved(share: float) -> Variant:
    def apply(image: Image.Image, rng: Generator) -> Sent:
        right, down = rng.uniform(-share, share, 2)
        return sending.placed(image, 0, 1, (right, down))

    return _way(f"moved by up to {share:.1%}", apply)


def _lit(name: str, paper: float, ink: float, gamma: float) -> Variant:
    return _way(name, lambda image, rng: sending.relit(image, paper, ink, gamma))


ORIGINAL = _way("original", lambda image, rng: image)
PNG_50, BOX_28 = _png(50), _png(28, Filter.BOX)
JPEG_75, JPEG_28 = _jpeg(100, 75), _jpeg(28, 85)
TURNED = _way("turned by up to 5 degrees", lambda image, rng: sending.placed(image, rng.uniform(-5, 5), 1, (0, 0)))
BLURRED = _way("blur 1", lambda image, rng: sending.blurred(image, 1))
# An anomaly is sent in these, which stand for all.
FOR_ANOMALIES = (ORIGINAL, PNG_50, JPEG_28, BOX_28, TURNED, BLURRED, JPEG_75)

WITHIN = (
    *FOR_ANOMALIES,
    *(_png(side) for side in (64, 130, 280, 1000)),
    *(_png(side, Filter.BOX) for side in (32, 36, 40, 45, 72)),
    *(_png(28, resample) for resample in (Filter.BILINEAR, Filter.BICUBIC, Filter.LANCZOS)),
    _way("28 px, Lanczos in floats", lambda image, rng: sending.resized_in_floats(image, 28, Filter.LANCZOS)),
    _way("32 px, bicubic in floats", lambda image, rng: sending.resized_in_floats(image, 32, Filter.BICUBIC)),
    _way("28 px, OpenCV area", lambda image, rng: sending.resized_like_opencv(image, 28, "area")),
    _way("280 px, then 28 by box", lambda image, rng: resized(resized(image, 280), 28, Filter.BOX)),
    *(_jpeg(side, quality) for side, quality in ((100, 60), (100, 95), (280, 75), (50, 75), (28, 90), (28, 95))),
    _way("WebP q80", lambda image, rng: encoded(image, "WEBP", quality=80)),
    _way(
        "JPEG 224 px with a cast",
        lambda image, rng: encoded(sending.tinted(resized(image, 224), (0.99, 1, 0.97)), "JPEG", quality=85),
    ),
    _lit("paper 254", 254 / 255, 1, 1),
    _lit("paper 248", 248 / 255, 1, 1),
    _lit("ink 92%", 1, 0.92, 1),
    _lit("gamma 1.08", 1, 1, 1.08),
    _moved(0.015),
    _way("scaled to 98%", lambda image, rng: sending.placed(image, 0, 0.98, (0, 0))),
    _way("noise 1", lambda image, rng: sending.noisy(image, 1, rng)),
    _way("noise 2.5", lambda image, rng: sending.noisy(image, 2.5, rng)),
    _way("alpha", lambda image, rng: encoded(image.convert("RGBA"), "PNG")),
    _way("palette of 64", lambda image, rng: encoded(image.quantize(64), "PNG")),
)
OUTSIDE = (
    _way("28 px, cv2.resize's default", lambda image, rng: sending.resized_like_opencv(image, 28, "linear")),
    _png(28, Filter.NEAREST),
    _jpeg(100, 30),
    _jpeg(28, 60),
    _lit("paper 235", 235 / 255, 1, 1),
    _lit("ink 80%", 1, 0.8, 1),
    _moved(0.05),
    _way("turned by up to 10 degrees", lambda image, rng: sending.placed(image, rng.uniform(-10, 10), 1, (0, 0))),
    _way("noise 8", lambda image, rng: sending.noisy(image, 8, rng)),
    _way("blur 2", lambda image, rng: sending.blurred(image, 2)),
    _way("border of 5%", lambda image, rng: sending.bordered(image, 0.05, 255, "all")),
    _way("mirrored", lambda image, rng: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
)
