"""What other decoders make of an image than this one does, and a plain PNG of which all make the same.

Decoders agree on nearly every file. Not on transparency (many drop it, and show the colours below it), on animations
(some show another frame first), on a GIF frame beside its canvas, on the lower half of 16 bits.
"""

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image, WebPImagePlugin

from app.detection.avif import avif_frames
from app.detection.heic import heic_thumbnails
from app.detection.image_headers import ImageHeader
from app.detection.images import (
    PIXELS_FOR_EACH,
    SIDE,
    UPRIGHT,
    OpenedImage,
    Preprocessing,
    decode_in_colors,
    open_image,
    open_pixels,
    to_large_grayscale,
)
from app.detection.tiff import other_tiffs
from app.errors import Refusal, UndecodableImage
from app.settings import ACCEPTED_FORMATS

# Of an animation; each is decoded and judged.
_MOST_FRAMES = 16
# Speed counts here, and these files go no further than the classifier.
_COMPRESSION = 1


def may_be_read_differently(data: bytes) -> bool:
    """Whether decoders may show different pixels; decided by the header, and with doubt in favour of it."""
    if data.startswith(b"\x89PNG"):
        # Depth 16; colour type with alpha; a chunk of transparency or of an animation.
        return data[24:25] == b"\x10" or data[25:26] in b"\x04\x06" or b"tRNS" in data or b"acTL" in data
    if data.startswith(b"RIFF"):
        is_plain = data[12:16] == b"VP8 " or (data[12:16] == b"VP8X" and not data[20] & 0x12)
        return not is_plain
    if data.startswith(b"BM"):
        return data[28:30] == b"\x20\x00"
    return not data.startswith(b"\xff\xd8\xff")


def other_readings(
    data: bytes, preprocessing: Preprocessing, max_pixels: int, formats: tuple[str, ...] = ACCEPTED_FORMATS
) -> list[NDArray[np.float32]]:
    """Decodes a file, which `decode_image` decodes, in the ways of other decoders.

    Returns:
        (28, 28) each, grey levels in [0, 1]; none where they would all be the same.

    Raises:
        UndecodableImage: One of these ways is not possible, or there are too many.
        TooManyPixels: A frame has more pixels than are accepted.
    """
    opened = open_image(data, max_pixels, formats)
    container = opened.container
    try:
        readings = [_seen(_upright(gray, container)) for gray in _grays(data, container, max_pixels)]
        if not readings:
            return []
        ours = _seen(to_large_grayscale(opened, preprocessing))
    except Refusal:
        raise
    except Exception as error:
        problem = UndecodableImage(f"The {container.format} file is damaged, where some decoders read it.")
        raise problem from error.with_traceback(None)
    return [one for one in readings if not np.array_equal(one, ours)]


def plain_png(
    data: bytes,
    preprocessing: Preprocessing,
    max_pixels: int,
    formats: tuple[str, ...] = ACCEPTED_FORMATS,
    size: tuple[int, int] | None = None,
) -> bytes:
    """Writes a file anew as every decoder reads it: PNG, 8 bits, grey or RGB, upright, opaque, without metadata.

    Args:
        data: A file that `decode_image` decodes.
        size: Width and height, for an average over areas; by default its own.

    Raises:
        UndecodableImage: The pixels are damaged or end early.
    """
    opened = open_image(data, max_pixels, formats)
    container = opened.container
    try:
        image = _upright(_opaque(container, preprocessing.background), container)
    except Exception as error:
        problem = UndecodableImage(f"The {container.format} file is damaged or ends early.")
        raise problem from error.with_traceback(None)
    if size is not None and image.size != size:
        image = image.resize(size, Image.Resampling.BOX)
    image.info = {}
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()


def _opaque(container: ImageHeader, background: int) -> Image.Image:
    """The first frame in mode L or RGB, as it is stored, transparent parts on the background."""
    image = decode_in_colors(container)
    if image.mode.startswith("I") or container.transparent_color:
        return to_large_grayscale(OpenedImage(container._replace(orientation=1)), Preprocessing(background))
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        return _on_background(image, background, mode)
    if container.frame in (None, (0, 0, *image.size)):
        return image.convert(mode)
    return _on_canvas(image.convert(mode).crop(container.frame), container, background)


def _grays(data: bytes, container: ImageHeader, max_pixels: int) -> Iterator[Image.Image]:
    """Each way of reading a file in mode L, as it is stored."""
    image = decode_in_colors(container)
    if image.mode.startswith("I"):
        yield from _eight_bits(np.asarray(image))
    elif image.has_transparency_data and not _is_opaque(image):
        yield _without_transparency(image)
        yield from (_on_background(image, level, "L") for level in (0, 255))
    if container.format == "PNG":
        if not container.plain_mode:
            yield from _low_bytes(container)
        yield from _apng_frames(data, container, max_pixels)
    elif container.format in ("GIF", "WEBP"):
        yield from _further_frames(container)
    elif container.format == "AVIF" and b"moov" in data:
        yield from _avif_frames(data)
    elif container.format == "HEIC":
        yield from map(_on_white, heic_thumbnails(data))
    elif container.format == "TIFF":
        yield from _other_tiffs(data, container)
    if container.frame not in (None, (0, 0, *image.size)):
        frame = _without_transparency(image).crop(container.frame)
        yield frame
        yield from (_on_canvas(frame, container, level) for level in (0, 255))


def _eight_bits(levels: NDArray[np.integer[Any]]) -> Iterator[Image.Image]:
    """What decoders make of grey levels of 16 bits that know 8: the lower half, the upper half, none above 255."""
    yield Image.fromarray((levels & 255).astype(np.uint8))
    yield Image.fromarray((levels.astype(np.uint32) >> 8).astype(np.uint8))
    if levels.min() < 255:  # else it is all white, which shows nothing
        yield Image.fromarray(np.minimum(levels, 255).astype(np.uint8))


def _other_tiffs(data: bytes, container: ImageHeader) -> Iterator[Image.Image]:
    yield from _low_bytes(container)
    for pixels in other_tiffs(data):
        image = decode_in_colors(container._replace(pixels=pixels))
        yield _without_transparency(image)
        if image.has_transparency_data:
            yield from (_on_background(image, level, "L") for level in (0, 255))


def _low_bytes(container: ImageHeader) -> Iterator[Image.Image]:
    """Of several samples of 16 bits, the halves that Pillow leaves out."""
    image = open_pixels(container, reduced=False)
    args = image.tile[0].args if image.tile else None
    mode, *others = args if isinstance(args, tuple) else [args or ""]
    samples, is_wide, order = mode.partition(";16")
    if is_wide and samples != "I":
        swapped = samples + (";16L" if order == "B" else ";16B")  # N, the machine's own order, is L
        image.tile = [tile._replace(args=(swapped, *others) if others else swapped) for tile in image.tile]
        image.load()
        yield _without_transparency(image)


def _further_frames(container: ImageHeader) -> Iterator[Image.Image]:
    """The frames of an animation behind the first one, as its viewers show them."""
    opener = GifImagePlugin.GifImageFile if container.format == "GIF" else WebPImagePlugin.WebPImageFile
    image = opener(BytesIO(container.pixels))
    for number in range(1, _MOST_FRAMES + 1):
        try:
            image.seek(number)
        except EOFError:
            return
        if image.size != (container.width, container.height):
            raise UndecodableImage("A frame of the animation is larger than its canvas.")
        yield _on_white(image)
    raise _too_many_frames()


def _avif_frames(data: bytes) -> Iterator[Image.Image]:
    for number, image in enumerate(avif_frames(data, _MOST_FRAMES)):
        if number > _MOST_FRAMES:  # the still image is none of them
            raise _too_many_frames()
        yield _on_white(image)


def _apng_frames(data: bytes, container: ImageHeader, max_pixels: int) -> Iterator[Image.Image]:
    """The frames that stand beside the default image, each made a file of its own."""
    shared, control = [], b""
    frames: list[tuple[bytes, list[bytes]]] = []
    for kind, content in _png_chunks(data):
        if kind in (b"PLTE", b"tRNS"):
            shared.append(_chunk(kind, content))
        elif kind == b"fcTL":
            control = content
        elif kind == b"fdAT":
            if not frames or frames[-1][0] != control:
                frames.append((control, []))
            frames[-1][1].append(content[4:])
    if len(frames) > _MOST_FRAMES:
        raise _too_many_frames()
    for control, pieces in frames:
        width, height, left, top = struct.unpack_from(">4I", control, 4)
        header = _chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29])
        rows = [_chunk(b"IDAT", piece) for piece in pieces]
        file = b"".join([data[:8], header, *shared, *rows, _chunk(b"IEND", b"")])
        gray = to_large_grayscale(open_image(file, max_pixels), Preprocessing())
        if gray.size == (container.width, container.height):
            yield gray
        else:
            frame = (left, top, left + width, top + height)
            yield _on_canvas(gray, container._replace(frame=frame), 255)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _without_transparency(image: Image.Image) -> Image.Image:
    if image.mode in ("RGBA", "LA", "PA"):
        return image.convert("RGB").convert("L")
    opaque = image.copy()
    opaque.info = {}
    if opaque.palette is not None and opaque.palette.mode == "RGBA":
        return opaque.convert("RGBA").convert("RGB").convert("L")
    return opaque.convert("L")


def _is_opaque(image: Image.Image) -> bool:
    """Whether an alpha channel hides nothing, as in most files that have one."""
    return image.mode in ("RGBA", "LA") and image.getchannel("A").getextrema()[0] == 255


def _on_white(image: Image.Image) -> Image.Image:
    return _on_background(image, 255, "L") if image.has_transparency_data else image.convert("L")


def _on_background(image: Image.Image, level: int, mode: str) -> Image.Image:
    with_alpha = image.convert("RGBA")
    canvas = Image.new(mode, image.size, level if mode == "L" else (level,) * 3)
    canvas.paste(with_alpha.convert(mode), mask=with_alpha.getchannel("A"))
    return canvas


def _on_canvas(frame: Image.Image, container: ImageHeader, level: int) -> Image.Image:
    canvas = Image.new(frame.mode, (container.width, container.height), level if frame.mode == "L" else (level,) * 3)
    assert container.frame is not None
    canvas.paste(frame, container.frame[:2])
    return canvas


def _upright(image: Image.Image, container: ImageHeader) -> Image.Image:
    return image.transpose(UPRIGHT[container.orientation]) if container.orientation in UPRIGHT else image


def _seen(gray: Image.Image) -> NDArray[np.float32]:
    if gray.size != (SIDE, SIDE):
        gray = gray.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=PIXELS_FOR_EACH)
    return np.asarray(gray, np.float32) / np.float32(255)


def _too_many_frames() -> UndecodableImage:
    return UndecodableImage(f"The animation has more than {_MOST_FRAMES} frames.")
