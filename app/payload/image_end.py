"""Finds the end of an image file, to refuse data after it, which some readers use and others ignore."""

import struct

from app.detection.boxes import read_boxes
from app.errors import MalformedRequest, UndecodableImage
from app.payload.tiff_end import tiff_end

# The most chunks, segments or blocks that are walked through; more than `app.detection.image_headers` accepts.
_MAX_BLOCKS = 2**15
# Fewer zeros or ends of lines than this are padding, as some programs write it; Pillow fills up pages of a TIFF to a
# multiple of 16.
_PADDING = 16
# The boxes that an AVIF or HEIC file has at its top, once or several times. Another one is no part of the image.
_SINGLE_BOXES = frozenset((b"ftyp", b"meta", b"moov"))
_BOXES = frozenset((b"mdat", b"free", b"skip", b"uuid", b"wide")) | _SINGLE_BOXES


def check_image_end(data: bytes) -> None:
    """Raises if data follows the end of an image of a format that the service can accept. Other files pass.

    Raises:
        MalformedRequest: Data follows the end.
        UndecodableImage: The end cannot be found.
    """
    try:
        end = _end(data)
    except (struct.error, IndexError) as error:
        raise UndecodableImage("The image ends early.") from error
    if end is None or end == len(data):
        return
    if not 0 <= end < len(data):
        raise UndecodableImage("The image has no end, or announces another length than it has.")
    behind = len(data) - end
    if behind < _PADDING and not data[end:].strip(b"\0\r\n"):
        return
    raise MalformedRequest(
        f"{behind:,} {'byte stands' if behind == 1 else 'bytes stand'} behind the image's end, where motion photos, "
        "gain maps and notes of cameras are; the gate's setting GATE_FORWARD=judged leaves them out."
    )


def _end(data: bytes) -> int | None:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_end(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_end(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _gif_end(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size = int.from_bytes(data[4:8], "little")
        return size + 8 + (size & 1)
    if data.startswith(b"BM"):
        return _bmp_end(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return tiff_end(data)
    if data[4:8] == b"ftyp":
        return _boxes_end(data)
    return None


def _png_end(data: bytes) -> int:
    position = 8
    for _ in range(_MAX_BLOCKS):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + int(length)
        if kind == b"IEND":
            return position
    return -1


def _jpeg_end(data: bytes) -> int:
    """Returns the position after the first end marker that follows a scan. Entropy-coded data cannot contain it."""
    position = 2
    for _ in range(_MAX_BLOCKS):
        if data[position] != 0xFF:
            return -1
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker == 0xD9:
            return position + 2
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            (length,) = struct.unpack_from(">H", data, position + 2)
            position += 2 + length
            if marker == 0xDA:
                end = data.find(b"\xff\xd9", position)
                return end + 2 if end >= 0 else -1
    return -1


def _gif_end(data: bytes) -> int:
    position = 13 + ((6 << (data[10] & 7)) if data[10] & 128 else 0)
    for _ in range(_MAX_BLOCKS):
        kind = data[position]
        if kind == 0x3B:
            return position + 1
        if kind == 0x21:
            position = _end_of_blocks(data, position + 2)
        elif kind == 0x2C:
            flags = data[position + 9]
            position = _end_of_blocks(data, position + 11 + ((6 << (flags & 7)) if flags & 128 else 0))
        else:
            return -1
    return -1


def _end_of_blocks(data: bytes, position: int) -> int:
    for _ in range(len(data)):
        if not data[position]:
            break
        position += 1 + data[position]
    return position + 1


def _bmp_end(data: bytes) -> int:
    """By the file's own size, which has to agree with the rows of an uncompressed picture."""
    size, offset, header_size = struct.unpack_from("<I4xII", data, 2)
    if header_size == 12 or header_size > 108:  # the oldest and the newest, with a colour profile behind the rows
        return int(size)
    width, height, _, depth, compression = struct.unpack_from("<iiHHI", data, 18)
    rows_end = int(offset) + (abs(width) * depth + 31) // 32 * 4 * abs(height)
    return rows_end if compression in (0, 3) and rows_end < size else int(size)


def _boxes_end(data: bytes) -> int:
    """Returns the position after the last box, which may say that it goes on to the end of the file."""
    end = 0
    seen: set[bytes] = set()
    for box in read_boxes(data):
        if box.kind not in _BOXES or box.kind in seen & _SINGLE_BOXES:
            break
        seen.add(box.kind)
        end = box.end
    return end
