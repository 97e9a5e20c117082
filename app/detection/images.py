"""Decodes untrusted image files to (28, 28) grayscale. Training and serving both use this code.

Decoding has two steps. `open_image` parses the header (`app.detection.image_headers`) and checks the limits;
`to_grayscale` decodes the pixels.
"""

import logging
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile

from app.detection.avif import decode_avif
from app.detection.bmp import read_bmp_header, without_run_lengths
from app.detection.heic import decode_heic
from app.detection.image_headers import ImageHeader, read_image_header
from app.detection.png_rows import check_rows, check_stream
from app.detection.shown import Shown
from app.errors import TooManyPixels, UndecodableImage, count_words
from app.settings import ACCEPTED_FORMATS

logger = logging.getLogger(__name__)

SIDE = 28
PIXELS = SIDE * SIDE
# Pillow allocates a pointer for each row: in a tall, narrow image the pointers would take more memory than the pixels.
MAX_SIDE = 65_535

# Pillow's `reducing_gap`. Images with at least twice this many pixels for each output pixel are first averaged in whole
# blocks, to no fewer than this many, and then filtered. This bounds the filter's memory and is faster; the result
# differs from filtering alone by a few grey levels at sharp edges.
PIXELS_FOR_EACH = 16
# A JPEG is decoded at an eighth, a quarter or half of its size, as long as no side has fewer pixels than this: that
# moves grey levels by less than 0.001 on average (benchmarks/decoding/reduction.py).
_DRAFT_SIDE = 4 * SIDE
# Marks rows that `_inflate` has not written. A real image rarely ends with a pixel of this colour.
_UNLIKELY_COLOR = (167, 92, 62, 217)
# The highest compression ratio of deflate.
_MOST_INFLATION = 1032
# Images in other modes are converted to grayscale in strips of at most this many pixels, so that no second full-size
# colour image is in memory.
_STRIP_PIXELS = 2**20

# Used instead of Image.open, which also searches JPEG files for further pictures and emits warnings.
_OPENERS: dict[str, type[ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
}
_OTHER_DECODERS = {"AVIF": decode_avif, "HEIC": decode_heic}

# The exceptions that Pillow's decoders normally raise for damaged files.
_USUAL_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST}

# EXIF orientation -> what makes the picture upright.
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# EXIF orientations that swap width and height, that put the first stored column on the right side, and that put the
# first stored row at the bottom.
_ON_THEIR_SIDE, _FROM_THE_RIGHT, _FROM_BELOW = (5, 6, 7, 8), (2, 3, 6, 7), (3, 4, 7, 8)


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How pixels become the network's input; written to the manifest, so that serving does what training did.

    Attributes:
        background: Grey level, 0 to 255, on which transparent images are composited.
        resize_filter: The one filter that brings an image to 28x28; an image of that size is left alone. "nearest"
            takes single pixels and smooths nothing, as the tutorial's pictures were made.
    """

    background: int = 255
    resize_filter: Literal["bicubic", "nearest"] = "bicubic"


class DecodedImage(NamedTuple):
    """What a detector needs of a file.

    Attributes:
        pixels: (28, 28), grey levels in [0, 1].
        shown: What the file's header says of how it was sent.
    """

    pixels: NDArray[np.float32]
    shown: Shown


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """A file whose header was accepted; nothing is decoded yet.

    Attributes:
        container: Its header, and its pixels as they are stored.
        reduces: Whether a large JPEG is decoded at a fraction of its size. Each pixel is then the average of some that
            are not clipped to black and white first, so that a JPEG can be made that shows others another picture.
    """

    container: ImageHeader
    reduces: bool = True

    @property
    def width(self) -> int:
        return self.container.width

    @property
    def height(self) -> int:
        return self.container.height

    @property
    def shown(self) -> Shown:
        """What the header says of how the file was sent."""
        return Shown(self.container.format, self.width, self.height)

    @property
    def is_reduced(self) -> bool:
        """Whether fewer pixels are decoded than there are, which may show another picture (`reduces`)."""
        return self.container.format == "JPEG" and _jpeg_scale(self) > 1

    @property
    def is_streamed(self) -> bool:
        """Whether this is a JPEG that is decoded row by row, without a full-size buffer: the fastest kind of file."""
        return self.container.format == "JPEG" and not self.container.bytes_per_pixel

    @property
    def memory_bytes(self) -> int:
        """Estimate of the peak memory that decoding takes, besides the file itself."""
        container = self.container
        pixels = container.width * container.height
        decoded = pixels // _jpeg_scale(self) ** 2 * 4 if container.format == "JPEG" else pixels
        strip = 24 * min(decoded, _STRIP_PIXELS)
        return len(container.pixels) + decoded + strip + int(pixels * container.bytes_per_pixel)


def open_image(
    data: bytes, max_pixels: int, formats: tuple[str, ...] = ACCEPTED_FORMATS, reduces: bool = True
) -> OpenedImage:
    """Parses a file's header and checks its size. No pixels are decoded, whatever size the header announces.

    Args:
        data: A whole file.
        max_pixels: The most pixels (width x height) that may be decoded later.
        formats: The accepted ones.
        reduces: As in `OpenedImage`.

    Raises:
        UnsupportedFormat: Not an accepted format.
        TooManyPixels: The header announces more than `max_pixels`, or a side of more than `MAX_SIDE`.
        UndecodableImage: The header is damaged.
    """
    container = read_image_header(data, formats)
    width, height = container.width, container.height
    if width < 1 or height < 1:
        raise UndecodableImage(f"The {container.format} header announces an image without pixels.")
    if width * height > max_pixels:
        has, may = count_words(width * height), count_words(max_pixels)
        if has == may:
            has, may = f"{width * height:,}", f"{max_pixels:,}"
        raise TooManyPixels(f"The image has {width:,} x {height:,} pixels, {has}; at most {may} are accepted.")
    if max(width, height) > MAX_SIDE:
        raise TooManyPixels(f"The image has {width:,} x {height:,} pixels; at most {MAX_SIDE:,} a side are accepted.")
    return OpenedImage(container, reduces)


def to_grayscale(image: OpenedImage, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Decodes an opened image to what the network sees.

    Returns:
        (28, 28), grey levels in [0, 1], upright, transparent parts on the background.

    Raises:
        UndecodableImage: The pixels are damaged or end early.
    """
    gray = to_large_grayscale(image, preprocessing)
    covered = None if gray.size == (SIDE, SIDE) else _covered(image, gray)
    return to_small(gray, covered, preprocessing.resize_filter)


def to_small(
    gray: Image.Image, covered: tuple[float, float, float, float] | None = None, resize_filter: str = "bicubic"
) -> NDArray[np.float32]:
    """The last step of `to_grayscale`: an image of mode L -> (28, 28), grey levels in [0, 1].

    Args:
        gray: Of any size.
        covered: The part of it that is the picture, as left, top, right, bottom; None for all.
        resize_filter: As in `Preprocessing`.
    """
    if gray.size != (SIDE, SIDE):
        # Pillow ignores the gap for "nearest", which would otherwise smooth large images.
        gray = gray.resize((SIDE, SIDE), _FILTERS[resize_filter], box=covered, reducing_gap=PIXELS_FOR_EACH)
    # Not np.asarray(gray), which asks Pillow for a description of the picture first and takes twice as long.
    levels = np.frombuffer(gray.tobytes(), np.uint8).reshape(SIDE, SIDE)
    return levels.astype(np.float32) / np.float32(255)


def to_large_grayscale(image: OpenedImage, preprocessing: Preprocessing) -> Image.Image:
    """Decodes an opened image to mode L, upright, but does not resize it to 28x28.

    The result has the size of the stored image, except for a large JPEG, which is decoded at a fraction of its size.

    Raises:
        UndecodableImage: The pixels are damaged or end early.
    """
    container = image.container
    try:
        gray = _decode(image, preprocessing.background)
        if container.orientation in UPRIGHT:
            # Rotate before resizing: Pillow filters rows first and rounds the result, so rotating afterwards would
            # change grey levels by up to five.
            gray = gray.transpose(UPRIGHT[container.orientation])
    except Exception as error:
        # Catch everything: on damaged files Pillow also raises unexpected types, such as AssertionError (found by
        # fuzzing). An unhandled error would be a 500, which a proxy may be configured to treat as permission.
        if not isinstance(error, _USUAL_ERRORS):
            logger.warning("an image decoder failed in an unusual way", exc_info=error)
        # Drop the traceback: its frames would keep the decoded picture in memory as long as the exception exists.
        problem = UndecodableImage(f"The {container.format} file is damaged or ends early.")
        raise problem from error.with_traceback(None)
    return gray


def decode_opened(image: OpenedImage, preprocessing: Preprocessing) -> DecodedImage:
    """As `to_grayscale`, with what the file's bytes show. Raises what that raises."""
    return DecodedImage(to_grayscale(image, preprocessing), image.shown)


def decode_image(
    data: bytes, preprocessing: Preprocessing, max_pixels: int, formats: tuple[str, ...] = ACCEPTED_FORMATS
) -> NDArray[np.float32]:
    """Both steps at once: a whole file -> (28, 28) grey levels in [0, 1]. Raises what the two steps raise."""
    return to_grayscale(open_image(data, max_pixels, formats), preprocessing)


def _decode(opened: OpenedImage, background: int) -> Image.Image:
    """Decodes the first frame to mode L, composited on the background, not yet rotated."""
    container = opened.container
    if container.plain_mode:
        # Pillow's own inflating and unfiltering, without its reader of chunks: a third of the time for a small image.
        image = _inflate(container)
        return image if container.plain_mode == "L" else _flatten(image, background)
    if container.format in _OTHER_DECODERS:
        return _flatten(decode_in_colors(container), background)
    image = open_pixels(container, opened.reduces)
    if container.transparent_color:
        return _without_transparent_color(image, open_pixels(container), container.transparent_color, background)
    gray = _flatten(image, background)
    if container.frame in (None, (0, 0, *image.size)) or "transparency" in image.info:
        return gray
    canvas = Image.new("L", image.size, background)
    canvas.paste(gray.crop(container.frame), container.frame)
    return canvas


def decode_in_colors(container: ImageHeader) -> Image.Image:
    """Decodes the first frame, with its colours and its transparency, in its own size, as it is stored.

    Raises:
        Exception: Whatever Pillow raises for a damaged file.
    """
    if container.plain_mode:
        return _inflate(container)
    if container.format in _OTHER_DECODERS:
        return _OTHER_DECODERS[container.format](container.pixels, (container.width, container.height))
    image = open_pixels(container, reduced=False)
    image.load()
    return image


def open_pixels(container: ImageHeader, reduced: bool = True) -> ImageFile:
    """Pillow's reader of a format, in front of the pixels; a large JPEG comes reduced if that is allowed."""
    pixels = container.pixels
    if container.format == "PNG":
        check_rows(pixels)
    elif container.format == "BMP":
        pixels = without_run_lengths(pixels, read_bmp_header(pixels))
    image = _OPENERS[container.format](BytesIO(pixels))
    if image.size != (container.width, container.height):
        raise ValueError("the decoder sees another size than was accepted")
    if container.format == "JPEG" and reduced:
        # Only the size is reduced. `draft("L")`, which reads brightness alone, is a little quicker, but colours that
        # no screen can show are clipped when they are shown: a picture can be white in brightness and red to the eye.
        image.draft(image.mode, (_DRAFT_SIDE, _DRAFT_SIDE))
    elif container.format == "BMP" and image.mode == "RGBA":
        image.load()
        # A fully transparent bitmap is meant to be opaque: Windows, Photoshop and OpenCV ignore its alpha channel too.
        if image.getchannel("A").getextrema() == (0, 0):
            image.putalpha(255)
    return image


def _without_transparent_color(high: ImageFile, low: ImageFile, color: tuple[int, ...], background: int) -> Image.Image:
    """A PNG of three 16-bit samples -> mode L, where exactly one colour is transparent.

    Args:
        high, low: Two readers of the same file. Pillow keeps only one byte of each 16-bit sample: the high byte, or,
            with the tile arguments set below, the low byte.
        color: The samples of the transparent colour.
        background: Grey level for pixels of that colour.
    """
    low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
    high.load()
    low.load()
    wanted = np.array(color)
    gray = Image.new("L", high.size)
    rows = max(1, _STRIP_PIXELS // high.width)
    for top in range(0, high.height, rows):
        box = (0, top, high.width, min(high.height, top + rows))
        strip = high.crop(box)
        transparent = (np.asarray(strip) == wanted >> 8) & (np.asarray(low.crop(box)) == wanted & 255)
        levels = np.where(transparent.all(axis=2), np.uint8(background), np.asarray(strip.convert("L")))
        gray.paste(Image.fromarray(levels), box)
    return gray


def _inflate(container: ImageHeader) -> Image.Image:
    size, mode = (container.width, container.height), container.plain_mode
    # Checked before the image is allocated: a file of fifty bytes may announce the largest accepted size.
    if len(container.pixels) * _MOST_INFLATION < container.height * (1 + container.width * len(mode)):
        raise ValueError("fewer rows than announced")
    # Missing rows keep this colour. If the last pixel has it, check_stream decides whether rows are really missing.
    unlikely = _UNLIKELY_COLOR[: len(mode)]
    image = Image.new(mode, size, unlikely if len(mode) > 1 else unlikely[0])
    image.frombytes(container.pixels, "zip", mode)
    if image.getpixel((size[0] - 1, size[1] - 1)) == (unlikely if len(mode) > 1 else unlikely[0]):
        check_stream([container.pixels], container.height * (1 + container.width * len(mode)))
    return image


def _jpeg_scale(image: OpenedImage) -> int:
    """Returns by how much Pillow's `draft` reduces a JPEG: 1, 2, 4 or 8, so that no side gets below `_DRAFT_SIDE`."""
    times = min(image.width, image.height) // _DRAFT_SIDE if image.reduces else 1
    return next((scale for scale in (8, 4, 2) if scale <= times), 1)


def _covered(image: OpenedImage, gray: Image.Image) -> tuple[float, float, float, float]:
    """Returns the part of the upright picture that real pixels cover, as (left, top, right, bottom).

    It is smaller than the picture if a JPEG's size is not a multiple of the reduction: 1001 pixels at a quarter give
    251 columns, of which the last is covered by a quarter only.
    """
    container = image.container
    scale = _jpeg_scale(image) if container.format == "JPEG" else 1
    width, height = container.width / scale, container.height / scale
    if container.orientation in _ON_THEIR_SIDE:
        width, height = height, width
    left = gray.width - width if container.orientation in _FROM_THE_RIGHT else 0
    top = gray.height - height if container.orientation in _FROM_BELOW else 0
    return left, top, left + width, top + height


def _flatten(image: Image.Image, background: int) -> Image.Image:
    """Any mode -> mode L: 16 bit scaled, palettes looked up, transparent parts on the background."""
    image.load()
    width, height = image.size
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if width * height <= _STRIP_PIXELS:
        return _flatten_strip(image, background)
    gray = Image.new("L", image.size)
    rows = max(1, _STRIP_PIXELS // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(height, top + rows)))
        gray.paste(_flatten_strip(strip, background), (0, top))
    return gray


def _flatten_strip(strip: Image.Image, background: int) -> Image.Image:
    if strip.mode.startswith("I"):
        return _from_16_bit(strip, background)
    if not strip.has_transparency_data:
        return strip.convert("L")
    with_alpha = strip.convert("RGBA")
    gray, alpha = with_alpha.convert("L"), with_alpha.getchannel("A")
    return Image.composite(gray, Image.new("L", gray.size, background), alpha)


def _from_16_bit(strip: Image.Image, background: int) -> Image.Image:
    # Pillow's own convert("L") clips every level above 255 to white.
    levels = np.asarray(strip)
    gray = ((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    key = strip.info.get("transparency")
    if isinstance(key, int):
        gray[levels == key] = background
    return Image.fromarray(gray)
