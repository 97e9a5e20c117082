"""Parses image files before they are decoded: format, size, orientation, and the data to give to the decoder.

Decoders are most vulnerable while they parse headers: a few kilobytes of EXIF entries that reference each other expand
to gigabytes, millions of empty chunks hold the GIL for seconds, and a frame is allocated before its size is checked.
So PNG chunks, JPEG segments in front of the pixels and GIF extensions that the pixels do not need are dropped, and the
directory of a TIFF is rewritten. WebP, BMP, AVIF and HEIC files are passed on whole. (AVIF headers are read by libavif,
see `app.detection.avif`.) Loops over chunks, segments and blocks have an upper bound, and no pixels are decoded, so
small files can be parsed in the event loop.
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from app.detection.avif import read_avif
from app.detection.bmp import read_bmp_header
from app.detection.exif import MAX_EXIF_BYTES, is_raw_profile, read_orientation, read_raw_profile
from app.detection.heic import read_heic
from app.detection.known_formats import known_format, refusal_words
from app.detection.tiff import read_tiff
from app.errors import UndecodableImage, UnsupportedFormat
from app.settings import ACCEPTED_FORMATS

# Encoders write PNG data in pieces of 8 KiB or more: 32 MiB are some 4,000 chunks.
_MAX_PNG_CHUNKS = 2**14
# A 16 MB colour profile takes 255 segments, extended XMP about a hundred.
_MAX_JPEG_SEGMENTS = 4096
# Bytes that are skipped between two segments; some cameras write a few there.
_MAX_JPEG_JUNK = 2**10
# Quantisation and Huffman tables of any real file take less than 10 KiB.
_MAX_JPEG_TABLE_BYTES = 2**16
# The longest progressive scripts in use have some 20 scans. Each scan may cost as much as a whole decode.
_MAX_JPEG_SCANS = 64
# Limits both the extensions in front of the first frame and the sub-blocks (of up to 255 bytes) of each extension.
_MAX_GIF_BLOCKS = 2**14
_MAX_WEBP_CHUNKS = 4096

# A regular expression search holds the GIL until it returns, so it never gets more than this many bytes at once.
_WINDOW = 2**16

# Peak memory: two canvases of the animation decoder, a copy of one canvas as bytes, and Pillow's image (4 each).
_WEBP_BYTES_PER_PIXEL = 16
# Peak memory: the decoder's planes of up to 16 bits, twice; its RGBA output; a copy of that as bytes; Pillow's image.
_AVIF_BYTES_PER_PIXEL = 24
# Peak memory: libheif's planes of 16 bits, twice; its RGBA output; Pillow's image. The most measured is 20.4.
_HEIC_BYTES_PER_PIXEL = 24
# Peak memory: Pillow's image (4) and one strip in libtiff, which may be a whole 16-bit RGBA picture (8).
_TIFF_BYTES_PER_PIXEL = 12


class ImageHeader(NamedTuple):
    """A parsed file: what is known before decoding, and the encoded data that the decoder needs.

    Attributes:
        format: PNG, JPEG, WEBP, BMP, GIF, AVIF, TIFF or HEIC.
        width, height: In pixels, before the orientation is applied. For a GIF this is the canvas, enlarged if the
            first frame does not fit on it.
        pixels: The encoded data to decode: the file without unneeded parts, or, for a plain PNG, only its compressed
            rows.
        bytes_per_pixel: Upper bound on the memory that decoding takes for each pixel, besides the grayscale result.
        orientation: EXIF orientation, 1 (upright) to 8.
        frame: GIF only: (left, top, right, bottom) of the first frame. The rest of the canvas is transparent.
        plain_mode: Pillow's mode of a plain PNG (8 bits, no palette, not interlaced, no transparent colour), else "".
        transparent_color: The three samples of the transparent colour of a 16-bit RGB PNG, if it has one.
    """

    format: str
    width: int
    height: int
    pixels: bytes
    bytes_per_pixel: float
    orientation: int = 1
    frame: tuple[int, int, int, int] | None = None
    plain_mode: str = ""
    transparent_color: tuple[int, ...] = ()


def read_image_header(data: bytes, formats: tuple[str, ...] = ACCEPTED_FORMATS) -> ImageHeader:
    """Parses a file. Its format is recognised by its first bytes; file name and content type are not considered.

    Args:
        data: A whole file.
        formats: The accepted ones, by the names in `app.detection.known_formats`.

    Raises:
        UnsupportedFormat: Not an accepted format.
        UndecodableImage: An accepted format whose structure is damaged, or of a kind that no browser shows.
        TooManyPixels: A run-length coded BMP that would take seconds to expand.
    """
    name = known_format(data)
    if name is None or name not in formats:
        raise UnsupportedFormat(refusal_words(name, formats, is_empty=not data))
    try:
        return _READERS[name](data)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("The file ends within its header.") from error


# --- PNG

_PNG_PIXEL_CHUNKS = (b"PLTE", b"IDAT")
_PNG_BYTES_PER_PIXEL = {0: 1, 2: 4, 3: 1, 4: 4, 6: 4}  # by colour type, as Pillow stores them
# The end of the header (depth, colour type, compression, filter, interlacing) -> Pillow's mode.
_PNG_PLAIN_MODES = {
    b"\x08\x00\0\0\0": "L",
    b"\x08\x02\0\0\0": "RGB",
    b"\x08\x04\0\0\0": "LA",
    b"\x08\x06\0\0\0": "RGBA",
}


def _open_png(data: bytes) -> ImageHeader:
    length, kind, width, height, depth, color = struct.unpack_from(">I4sIIBB", data, 8)
    if length != 13 or kind != b"IHDR":
        raise UndecodableImage("The PNG file does not begin with its header.")
    view, orientation, position = memoryview(data), 1, 33
    raw_profile, transparent_color = b"", ()
    kept: list[bytes | memoryview] = [view[:33]]
    rows: list[memoryview] = []
    for _ in range(_MAX_PNG_CHUNKS):
        if position + 8 > len(data):
            break  # the end of the file; whether the pixels are complete is checked when they are decoded
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if kind in _PNG_PIXEL_CHUNKS:
            kept.append(view[position:end])
            if kind == b"IDAT":
                rows.append(view[position + 8 : end - 4])
        elif kind == b"tRNS" and (depth, color) == (16, 2):  # Pillow compares the high bytes alone
            transparent_color = struct.unpack_from(">3H", data, position + 8)
        elif kind == b"tRNS":
            kept.append(_png_transparency(data[position + 8 : end - 4], depth, color))
        elif is_raw_profile(kind, data[position + 8 : min(end, position + 40)]):
            raw_profile = kind + data[position + 8 : min(end - 4, position + 4 * MAX_EXIF_BYTES)]
        elif kind == b"eXIf":
            orientation = read_orientation(data[position + 8 : min(end, position + MAX_EXIF_BYTES)])
        elif kind == b"IEND":
            break
        position = end
    else:
        raise UndecodableImage(f"The PNG file has more than {_MAX_PNG_CHUNKS} chunks.")
    if raw_profile and orientation == 1:
        orientation = read_raw_profile(raw_profile[:4], raw_profile[4:])
    bytes_per_pixel = _png_bytes_per_pixel(depth, color, bool(transparent_color))
    plain_mode = _PNG_PLAIN_MODES.get(data[24:29], "")
    if plain_mode and len(kept) == 1 + len(rows) and struct.pack(">I", zlib.crc32(view[12:29])) == view[29:33]:
        return ImageHeader("PNG", width, height, b"".join(rows), bytes_per_pixel, orientation, plain_mode=plain_mode)
    if position <= len(data):  # else the decoder would take what is appended for the missing pixels
        kept.append(b"\0\0\0\0IEND\xaeB`\x82")
    pixels = b"".join(kept)
    return ImageHeader("PNG", width, height, pixels, bytes_per_pixel, orientation, transparent_color=transparent_color)


def _png_bytes_per_pixel(depth: int, color: int, has_transparent_color: bool) -> int:
    size = 2 if (depth, color) == (16, 0) else _PNG_BYTES_PER_PIXEL.get(color, 4)
    return 2 * size if has_transparent_color else size


def _png_transparency(key: bytes, depth: int, color: int) -> bytes:
    """Rebuilds a tRNS chunk so that Pillow compares it correctly: as 8-bit levels, except for 16-bit grayscale.

    Not called for 16-bit RGB; see `ImageHeader.transparent_color`.
    """
    levels = list(struct.unpack_from(f">{len(key) // 2}H", key))
    if color == 0 and depth in (2, 4):
        key = struct.pack(">H", (levels[0] & (2**depth - 1)) * 255 // (2**depth - 1))
    elif color == 2:
        key = struct.pack(">3H", *(level & 255 for level in levels[:3]))
    body = b"tRNS" + key
    return struct.pack(">I", len(key)) + body + struct.pack(">I", zlib.crc32(body))


# --- JPEG

# `\xff+` instead of `\xff` would take quadratic time on a long run of 0xFF bytes.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_JPEG_MARKER_AMONG_PIXELS = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_SOS, _EOI, _EXIF = 0xDA, 0xD9, 0xE1
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_FRAMES_REFUSED = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Huffman and quantisation tables, restart interval; JFIF and Adobe, which tell the colour space.
_KEPT = frozenset((0xC4, 0xDB, 0xDD, 0xE0, 0xEE, *_FRAMES))
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def _open_jpeg(data: bytes) -> ImageHeader:
    view, position = memoryview(data), 2
    kept: list[bytes | memoryview] = [view[:2]]
    kept_bytes, orientation, frame_at, progressive = 0, 1, 0, False
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(data, position, position + _MAX_JPEG_JUNK)
        if found is None or found[1][0] == _EOI:
            break
        marker, start, position = found[1][0], found.start(), found.end()
        if marker in _WITHOUT_LENGTH:
            continue
        if marker in _FRAMES_REFUSED:
            raise UndecodableImage("Arithmetic-coded, lossless and hierarchical JPEGs are not accepted.")
        end = position + max(2, _length(data, position))
        if marker == _SOS and frame_at:
            kept.append(view[start:])
            height, width, components = struct.unpack_from(">HHB", data, frame_at + 5)
            several = progressive or data[position + 2] < components
            if several:
                _check_scans(data, end)
            # The decoder holds two bytes of each component, if it cannot go line by line.
            held = 2 * components if several else 0
            return ImageHeader("JPEG", width, height, b"".join(kept), held, orientation)
        if marker in _FRAMES:
            frame_at, progressive = start, marker == _PROGRESSIVE
        if marker in _KEPT:
            kept.append(view[start:end])
            kept_bytes += end - start
            if kept_bytes > _MAX_JPEG_TABLE_BYTES:
                break
        elif marker == _EXIF and orientation == 1:
            orientation = read_orientation(data[position + 2 : end])
        position = end
    raise UndecodableImage("The JPEG file has no picture, or more in front of it than any picture needs.")


def _length(data: bytes, position: int) -> int:
    (length,) = struct.unpack_from(">H", data, position)
    return int(length)


def _check_scans(data: bytes, position: int) -> None:
    """Raises if a JPEG has too many scans.

    Args:
        data: The whole file.
        position: Where the entropy-coded data of the first scan begins.
    """
    if data.count(b"\xff\xda", position) < _MAX_JPEG_SCANS:
        return  # the common case; the byte pair also occurs outside of scan headers, so larger counts are checked below
    scans = 1
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _marker_among_pixels(data, position)
        if found is None or found[1][0] == _EOI:
            return
        scans += found[1][0] == _SOS
        if scans > _MAX_JPEG_SCANS:
            break
        position = found.end() + (0 if found[1][0] in _WITHOUT_LENGTH else _length(data, found.end()))
    raise UndecodableImage(f"The JPEG file has more than {_MAX_JPEG_SCANS} scans.")


def _marker_among_pixels(data: bytes, position: int) -> re.Match[bytes] | None:
    while position < len(data):
        found = _JPEG_MARKER_AMONG_PIXELS.search(data, position, position + _WINDOW + 1)
        if found is not None:
            return found
        position += _WINDOW
    return None


# --- GIF


def _open_gif(data: bytes) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + ((6 << (flags & 7)) if flags & 128 else 0)
    header, control = data[:position], b""
    for _ in range(_MAX_GIF_BLOCKS):
        kind = data[position]
        if kind == 0x2C:
            break
        if kind == 0x3B:
            raise UndecodableImage("The GIF file has no frame.")
        if kind == 0x21 and data[position + 1 : position + 3] == b"\xf9\x04":
            # Without its disposal method, for which Pillow would allocate before the size is checked.
            control = b"\x21\xf9\x04" + bytes((data[position + 3] & 1,)) + data[position + 4 : position + 8]
        position = _end_of_gif_extension(data, position + 2) if kind == 0x21 else position + 1
    else:
        raise _too_many_gif_blocks()
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", data, position + 1)
    frame = (left, top, left + frame_width, top + frame_height)
    pixels = b"".join((header, control, memoryview(data)[position:]))
    return ImageHeader("GIF", max(width, frame[2]), max(height, frame[3]), pixels, 1, frame=frame)


def _end_of_gif_extension(data: bytes, position: int) -> int:
    for _ in range(_MAX_GIF_BLOCKS):
        if not data[position]:
            return position + 1
        position += 1 + data[position]
    raise _too_many_gif_blocks()


def _too_many_gif_blocks() -> UndecodableImage:
    return UndecodableImage("The GIF file has more in front of its first frame than any picture needs.")


# --- WebP


def _open_webp(data: bytes) -> ImageHeader:
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        orientation = read_orientation(_webp_exif(data)) if flags & 8 else 1
        return ImageHeader("WEBP", width, height, data, _WEBP_BYTES_PER_PIXEL, orientation)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return ImageHeader("WEBP", width & 0x3FFF, height & 0x3FFF, data, _WEBP_BYTES_PER_PIXEL)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return ImageHeader("WEBP", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, data, _WEBP_BYTES_PER_PIXEL)
    raise UndecodableImage("The WebP file does not begin with a picture.")


def _webp_exif(data: bytes) -> bytes:
    position = 12
    for _ in range(_MAX_WEBP_CHUNKS):
        if position + 8 > len(data):
            break
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + min(length, MAX_EXIF_BYTES)]
        position += 8 + length + (length & 1)
    return b""


# --- BMP


def _open_bmp(data: bytes) -> ImageHeader:
    bmp = read_bmp_header(data)
    bytes_per_pixel = 2 if bmp.run_lengths else 1 if bmp.depth <= 8 else 5
    return ImageHeader("BMP", bmp.width, bmp.height, data, bytes_per_pixel)


# --- AVIF, HEIC and TIFF


def _open_avif(data: bytes) -> ImageHeader:
    avif = read_avif(data)
    return ImageHeader("AVIF", avif.width, avif.height, data, _AVIF_BYTES_PER_PIXEL, avif.orientation)


def _open_heic(data: bytes) -> ImageHeader:
    heic = read_heic(data)
    return ImageHeader("HEIC", heic.width, heic.height, data, _HEIC_BYTES_PER_PIXEL)


def _open_tiff(data: bytes) -> ImageHeader:
    tiff = read_tiff(data)
    return ImageHeader("TIFF", tiff.width, tiff.height, tiff.pixels, _TIFF_BYTES_PER_PIXEL, tiff.orientation)


_READERS: dict[str, Callable[[bytes], ImageHeader]] = {
    "PNG": _open_png,
    "JPEG": _open_jpeg,
    "WebP": _open_webp,
    "BMP": _open_bmp,
    "GIF": _open_gif,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
    "TIFF": _open_tiff,
}
