"""Bytes from a stranger -> one (28, 28) grayscale image, the same way in training and in serving.

Format by its first bytes, size from the header, and only then pixels: nothing is decoded before both are accepted.
"""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.errors import TooManyPixels, UndecodableImage, UnsupportedFormat

SIDE = 28
PIXELS = SIDE * SIDE
ACCEPTED_FORMATS = ("PNG", "JPEG", "WebP", "BMP", "GIF")

# A reduced JPEG keeps at least this many pixels a side, eight for each of ours: at that size the difference from a
# full decode is below one grey level of 255 on average (benchmarks/README.md).
_DRAFT_SIDE = 8 * SIDE

# What Pillow's decoders raise on a bad file; struct, index and type errors come from damaged metadata.
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)

_ORIENTATION_TAG = 0x0112
# EXIF orientation -> what makes the picture upright, as numpy operations on (height, width).
_UPRIGHT = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1, :],
    5: lambda pixels: pixels.T,
    6: lambda pixels: pixels.T[:, ::-1],
    7: lambda pixels: pixels.T[::-1, ::-1],
    8: lambda pixels: pixels.T[::-1, :],
}


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pixels become the network's input; written to the manifest, so that serving does what training did.

    Attributes:
        background: Grey level, 0 to 255, on which transparent images are composited.
        resize_filter: The one filter that brings an image to 28x28; an image of that size is left alone.
    """

    background: int = 255
    resize_filter: Literal["bicubic"] = "bicubic"


def sniff_format(data: bytes) -> str:
    """The accepted format that `data` begins like.

    Raises:
        UnsupportedFormat: It is none of them, whatever its name or content type says.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    raise UnsupportedFormat(f"The file is not one of {', '.join(ACCEPTED_FORMATS)}, judged by its first bytes.")


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Reads the header alone.

    Args:
        data: A whole file.
        max_pixels: The most pixels (width x height) that may be decoded later.

    Raises:
        UnsupportedFormat: Not an accepted format.
        TooManyPixels: The header announces more than `max_pixels`.
        UndecodableImage: The header is damaged.
    """
    image_format = sniff_format(data)
    try:
        image = Image.open(BytesIO(data), formats=(image_format,))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixels(f"The image has more than the {max_pixels} pixels that are accepted.") from error
    except _DECODER_ERRORS as error:
        raise UndecodableImage(f"The {image_format} header cannot be read.") from error
    width, height = image.size
    if width * height > max_pixels:
        raise TooManyPixels(f"The image has {width} x {height} pixels; at most {max_pixels} are accepted.")
    if width < 1 or height < 1:
        raise UndecodableImage(f"The {image_format} header announces an image without pixels.")
    return image


def to_grayscale(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Decodes an opened image to what the network sees.

    Returns:
        (28, 28), grey levels in [0, 1], upright, transparent parts on the background.

    Raises:
        UndecodableImage: The pixels are damaged or end early.
    """
    try:
        orientation = _orientation(image)
        if image.format == "JPEG":
            image.draft("L", (_DRAFT_SIDE, _DRAFT_SIDE))
        gray = _flatten(image, preprocessing.background)
        if gray.size != (SIDE, SIDE):
            gray = gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=None)
    except _DECODER_ERRORS as error:
        raise UndecodableImage(f"The {image.format} file is damaged or ends early.") from error
    pixels = np.asarray(gray, dtype=np.float32) / np.float32(255)
    upright = _UPRIGHT.get(orientation)
    # Turned at 28x28, where it costs nothing: the filter is symmetric, so the order does not matter.
    return pixels if upright is None else np.ascontiguousarray(upright(pixels))


def decode_image(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> NDArray[np.float32]:
    """Both steps at once: a whole file -> (28, 28) grey levels in [0, 1]. Raises what the two steps raise."""
    return to_grayscale(open_image(data, max_pixels), preprocessing)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none or the metadata is damaged: the pixels still count."""
    if image.format not in ("JPEG", "PNG", "WEBP") or not ("exif" in image.info or "xmp" in image.info):
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _DECODER_ERRORS:
        return 1


def _flatten(image: Image.Image, background: int) -> Image.Image:
    """Any mode -> mode L: 16 bit scaled, palettes looked up, transparent parts on the background."""
    image.load()
    transparent = image.has_transparency_data
    if image.mode.startswith("I"):
        return _from_16_bit(image, background)
    if not transparent:
        return image if image.mode == "L" else image.convert("L")
    with_alpha = image.convert("RGBA")
    gray, alpha = with_alpha.convert("L"), with_alpha.getchannel("A")
    return Image.composite(gray, Image.new("L", gray.size, background), alpha)


def _from_16_bit(image: Image.Image, background: int) -> Image.Image:
    # Pillow's own convert("L") clips every level above 255 to white.
    levels = np.asarray(image)
    gray = ((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    key = image.info.get("transparency")
    if isinstance(key, int):
        gray[levels == key] = background
    return Image.fromarray(gray)
