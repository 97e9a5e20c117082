"""Pictures made by code, as dense in detail as photographs: what they cost to decode is what photographs cost."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CAMERA = (4000, 3000)  # 12 megapixels
WEB = (640, 480)


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Colour, with detail at every scale (a spectrum falling as 1/f, as photographs' do), edges, and sensor noise.

    At JPEG quality 85 it takes 1.5 to 2.5 bits a pixel, which is what cameras write.
    """
    random = np.random.default_rng(seed)
    levels = np.zeros((height, width, 3), np.float32)
    side = 4
    while side < max(width, height):
        levels += _patches(random, (width, height), side) * (4 / side) ** 0.7
        side *= 4
    levels = (levels - levels.min()) / np.ptp(levels) * 255
    image = Image.fromarray(levels.astype(np.uint8))
    _draw_edges(ImageDraw.Draw(image), random, width, height)
    noise = random.integers(-9, 10, (height, width, 1), np.int16)
    return Image.fromarray(np.clip(np.asarray(image, np.int16) + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, image_format: str = "JPEG", **options: Any) -> bytes:
    """The file; JPEGs as cameras write them: quality 85, halved colour."""
    buffer = BytesIO()
    image.save(buffer, image_format, **({"quality": 85, **options} if image_format == "JPEG" else options))
    return buffer.getvalue()


def _patches(random: np.random.Generator, size: tuple[int, int], side: int) -> NDArray[np.float32]:
    """Noise of side x side patches, smoothly enlarged: (height, width, 3)."""
    small = random.integers(0, 256, (side, side, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC), np.float32)


def _draw_edges(draw: ImageDraw.ImageDraw, random: np.random.Generator, width: int, height: int) -> None:
    for _ in range(12):
        x, y = random.uniform(0, width), random.uniform(0, height)
        radius = random.uniform(0.02, 0.12) * width
        color = tuple(int(level) for level in random.integers(0, 256, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
