"""Pictures made by code."""

from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw


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


def circle_picture(side: int = 100) -> bytes:
    image = Image.new("L", (side, side), 255)
    ImageDraw.Draw(image).ellipse((side * 0.2, side * 0.2, side * 0.8, side * 0.8), outline=0, width=max(1, side // 72))
    return encoded(image)
