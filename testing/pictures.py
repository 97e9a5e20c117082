"""Pictures made by code."""

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

DUCK = np.full((28, 28), 255, np.uint8)
DUCK[8:20, 6:24] = 90


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def picture(
    side: int = 28, mode: str = "L", image_format: str = "PNG", level: int = 255, width: int | None = None
) -> bytes:
    """A file of one grey level."""
    colors: dict[str, Any] = {"L": level, "RGB": (level,) * 3, "RGBA": (level, level, level, 255)}
    return encoded(Image.new(mode, (width or side, side), colors[mode]), image_format)


def clipped_jpeg(side: int = 256) -> bytes:
    """A JPEG that is white wherever its pixels are averaged before they are clipped, with a square of 63% otherwise."""
    image = np.full((side, side), 160, np.uint8)
    square = image[side // 8 : side * 7 // 8, side // 8 : side * 7 // 8]
    square[:] = 128
    square[::2, ::2] = 255
    jpeg = bytearray(encoded(Image.fromarray(image), "JPEG", quality=100))
    start = jpeg.index(b"\xff\xdb") + 5
    # Four times as far from the middle grey: 160 becomes 256, and one pixel in four of the square 636.
    jpeg[start : start + 64] = bytes(4 * step for step in jpeg[start : start + 64])
    return bytes(jpeg)


def circle_picture(side: int = 100) -> bytes:
    image = Image.new("L", (side, side), 255)
    ImageDraw.Draw(image).ellipse((side * 0.2, side * 0.2, side * 0.8, side * 0.8), outline=0, width=max(1, side // 72))
    return encoded(image)


def thin_circle(radius: float) -> NDArray[np.uint8]:
    """(28, 28): a circle around the middle, whose line is one fourth as dark as black."""
    rows, columns = np.mgrid[:28, :28] + 0.5
    away = np.abs(np.hypot(rows - 14, columns - 14) - radius)
    levels: NDArray[np.uint8] = (255 * (1 - 0.25 * np.clip(1.2 - away, 0, 1))).astype(np.uint8)
    return levels


def drawing(side: int, mode: str = "L") -> Image.Image:
    """Something that no symmetry maps onto itself, with a soft and a hard edge."""
    image = Image.new("L", (side, side), 255)
    pen = ImageDraw.Draw(image)
    pen.ellipse((side * 0.1, side * 0.2, side * 0.6, side * 0.7), outline=0, width=max(1, side // 30))
    pen.rectangle((side * 0.7, side * 0.1, side * 0.9, side * 0.4), fill=90)
    return image.convert(mode)
