"""Reads the size and orientation of AVIF files, and decodes them.

Pillow's `AvifImageFile` also parses the EXIF block, and a small crafted block makes that parser allocate gigabytes.
This module calls Pillow's libavif binding directly, which reports the orientation without parsing EXIF.
"""

from collections.abc import Iterator
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


def avif_frames(data: bytes, most: int) -> Iterator[Image.Image]:
    """The still image, then the frames of the animation, of a file that has both; readers take either.

    Args:
        data: A file that `read_avif` reads.
        most: Frames of the animation; one more follows if there are more.

    Raises:
        UndecodableImage: One of both cannot be read, or they differ in size or orientation.
        OSError, RuntimeError, ValueError: The pixels are damaged.
    """
    expected = read_avif(data)
    for brand in (b"avif", b"avis"):
        # By the major brand libavif chooses what it reads.
        alone = data[:8] + brand + data[12:]
        if read_avif(alone) != expected:
            raise UndecodableImage("The still image and the animation of the AVIF file differ in size or orientation.")
        decoder = _decoder(alone)
        _, count, mode, *_ = decoder.get_info()
        for number in range(min(count, most + 1)):
            pixels, *_ = decoder.get_frame(number)
            yield Image.frombytes(mode, (expected.width, expected.height), pixels)


def _decoder(data: bytes):  # type: ignore[no-untyped-def]  # `_avif` is a C extension without type stubs
    try:
        from PIL import _avif  # not above: builds of Pillow may lack it
    except ImportError as error:
        raise UndecodableImage("This build of Pillow does not read AVIF.") from error
    try:
        return _avif.AvifDecoder(data, "auto", 1)
    except (ValueError, RuntimeError, SyntaxError, OSError) as error:
        raise UndecodableImage("The AVIF file is damaged or ends early.") from error
