"""Checks that a PNG has all the rows that its header announces.

If the compressed stream ends properly, Pillow accepts it even if rows are missing, and leaves them black. libpng, and
with it OpenCV, libvips and browsers, treat such a file as damaged.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator

# (left, top, columns apart, rows apart) of the seven passes of an interlaced picture.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PIECE_BYTES = 2**18


def check_rows(png: bytes) -> None:
    """Expands the pixels of a PNG without keeping them.

    Args:
        png: A whole file that begins with its header, as `app.detection.image_headers` leaves it.

    Raises:
        ValueError: The stream has fewer bytes than the rows that the header announces.
        zlib.error: The stream is damaged.
    """
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
    check_stream(_data_of_chunks(png), _bytes_of_rows(width, height, depth * _SAMPLES.get(color, 4), interlaced))


def check_stream(pieces: Iterable[bytes | memoryview], expected_bytes: int) -> None:
    """Inflates a stream that comes in pieces, without keeping the result, until `expected_bytes` are reached.

    Raises:
        ValueError: The stream has fewer bytes.
        zlib.error: The stream is damaged.
    """
    inflater = zlib.decompressobj()
    for piece in pieces:
        rest: bytes | memoryview = piece
        while len(rest) and not inflater.eof:
            expected_bytes -= len(inflater.decompress(rest, _PIECE_BYTES))
            if expected_bytes <= 0:
                return
            rest = inflater.unconsumed_tail
    raise ValueError("fewer rows than announced")


def _bytes_of_rows(width: int, height: int, bits: int, interlaced: int) -> int:
    """Returns the size of the inflated rows in bytes, with one filter byte for each row."""
    if not interlaced:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, across, down in _PASSES:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _data_of_chunks(png: bytes) -> Iterator[memoryview]:
    view, position = memoryview(png), 33
    while position + 8 <= len(png):
        length, kind = struct.unpack_from(">I4s", png, position)
        if kind == b"IDAT":
            yield view[position + 8 : position + 8 + length]
        position += 12 + length
