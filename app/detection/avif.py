"""Reads the size and orientation of AVIF files, and decodes them.

Pillow's `AvifImageFile` also parses the EXIF block, and a small crafted block makes that parser allocate gigabytes.
This module calls Pillow's libavif binding directly, which reports the orientation without parsing EXIF.
"""

from typing import NamedTuple

from PIL import Image

from app.errors import UndecodableImage


class Avif(NamedTuple):
    """The size in pixels as stored, and the orientation in EXIF's numbering: 1 (upright) to 8."""

    width: int
    height: int
    orientation: int


def read_avif(data: bytes) -> Avif:
    """Reads the containers.

    Raises:
        UndecodableImage: They are damaged, or this build of Pillow does not read the format.
    """
    (width, height), _, _, _, _, orientation, _ = _decoder(data).get_info()
    return Avif(width, height, orientation if 1 <= orientation <= 8 else 1)


def decode_avif(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The first frame, not turned, in mode RGB or RGBA.

    Raises:
        OSError, RuntimeError, ValueError: The pixels are damaged.
    """
    decoder = _decoder(data)
    mode = decoder.get_info()[2]
    pixels, *_ = decoder.get_frame(0)
    return Image.frombytes(mode, size, pixels)


def _decoder(data: bytes):  # type: ignore[no-untyped-def]  # `_avif` is a C extension without type stubs
    try:
        from PIL import _avif  # not above: builds of Pillow may lack it
    except ImportError as error:
        raise UndecodableImage("This build of Pillow does not read AVIF.") from error
    try:
        return _avif.AvifDecoder(data, "auto", 1)
    except (ValueError, RuntimeError, SyntaxError, OSError) as error:
        raise UndecodableImage("The AVIF file is damaged or ends early.") from error
