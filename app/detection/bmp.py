"""Checks BMP headers, and expands run-length coded BMP files.

Pillow cannot expand run lengths that skip pixels, and its errors do not say which kind of BMP it does not support.
"""

import struct
from typing import NamedTuple

from app.errors import TooManyPixels, UndecodableImage

_HEADERS = (40, 52, 56, 64, 108, 124)
_DEPTHS = (1, 4, 8, 16, 24, 32)
_MAX_COLORS = 4096
# Run lengths are expanded in Python: a million pixels take one or two seconds.
_MAX_RUN_LENGTH_PIXELS = 2**20
_MAX_RUN_LENGTH_BYTES = 2**20
# Red, green and blue of the layouts that Pillow reads, by bits a pixel.
_MASKS = {
    16: ((0xF800, 0x7E0, 0x1F), (0x7C00, 0x3E0, 0x1F)),
    24: ((0xFF0000, 0xFF00, 0xFF),),
    32: (
        (0xFF0000, 0xFF00, 0xFF),
        (0xFF000000, 0xFF0000, 0xFF00),
        (0xFF000000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000),
        (0, 0, 0),
    ),
}
_UNCOMPRESSED, _RLE8, _RLE4, _BITFIELDS = range(4)
_END_OF_LINE, _END_OF_BITMAP, _DELTA = range(3)


class BmpHeader(NamedTuple):
    """What the header says.

    Attributes:
        width, height: In pixels.
        depth: Bits of a pixel.
        run_lengths: 0, or the bits of an index in run-length coded rows, 8 or 4.
    """

    width: int
    height: int
    depth: int
    run_lengths: int = 0


def read_bmp_header(data: bytes) -> BmpHeader:
    """Reads the header.

    Raises:
        UndecodableImage: A kind that is not accepted.
        TooManyPixels: A run-length coded file that would take seconds to expand.
        struct.error: The file ends within its header.
    """
    (header_size,) = struct.unpack_from("<I", data, 14)
    if header_size == 12:
        width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
        compression = colors = 0
    elif header_size not in _HEADERS:
        raise UndecodableImage("The BMP file has an unknown kind of header.")
    else:
        width, height, _, depth, compression = struct.unpack_from("<IIHHI", data, 18)
        (colors,) = struct.unpack_from("<I", data, 46)
        if data[25] == 0xFF:  # rows from top to bottom: the height is negative
            height = 2**32 - height
    if colors > _MAX_COLORS:
        raise UndecodableImage(f"The BMP file announces a palette of {colors} colours.")
    if compression not in (_UNCOMPRESSED, _RLE8, _RLE4, _BITFIELDS) or depth not in _DEPTHS:
        raise UndecodableImage(
            f"BMP files of {depth} bits a pixel and compression {compression} are not accepted; save the image as PNG."
        )
    if compression == _BITFIELDS and struct.unpack_from("<3I", data, 54) not in _MASKS.get(depth, ()):
        raise UndecodableImage("The BMP file keeps its colours under bit masks that are not accepted; save it as PNG.")
    run_lengths = {_RLE8: 8, _RLE4: 4}.get(compression, 0)
    if run_lengths:
        _check_run_lengths(BmpHeader(width, height, depth, run_lengths), len(data))
    return BmpHeader(width, height, depth, run_lengths)


def _check_run_lengths(header: BmpHeader, size: int) -> None:
    if header.depth != header.run_lengths:
        raise UndecodableImage(
            f"The BMP file has {header.depth} bits a pixel and run lengths for {header.run_lengths}; save it as PNG."
        )
    if header.width * header.height > _MAX_RUN_LENGTH_PIXELS or size > _MAX_RUN_LENGTH_BYTES:
        raise TooManyPixels(
            f"A run-length coded BMP may have {_MAX_RUN_LENGTH_PIXELS:,} pixels and {_MAX_RUN_LENGTH_BYTES:,} bytes; "
            "send it uncompressed or as PNG."
        )


def without_run_lengths(data: bytes, header: BmpHeader) -> bytes:
    """The same picture as an uncompressed BMP of 8 bits a pixel; files of other kinds are returned as they are.

    Raises:
        ValueError: The rows end before the picture does, or the palette does.
    """
    if not header.run_lengths:
        return data
    (offset, header_size) = struct.unpack_from("<II", data, 10)
    (colors,) = struct.unpack_from("<I", data, 46)
    colors = min(colors or 2**header.run_lengths, 2**header.run_lengths)
    palette = data[14 + header_size : 14 + header_size + 4 * colors]
    if len(palette) < 4 * colors:
        raise ValueError("the palette ends early")
    rows = _expand(data, offset, header)
    stride = -(-header.width // 4) * 4
    pixels = b"".join(bytes(row).ljust(stride, b"\0") for row in rows)
    start = 54 + len(palette)
    info = struct.pack("<IIIHHIIIIII", 40, *struct.unpack_from("<II", data, 18), 1, 8, 0, len(pixels), 0, 0, colors, 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + palette + pixels


def _expand(data: bytes, position: int, header: BmpHeader) -> list[bytearray]:
    """Run lengths -> `height` rows of `width` palette indices, in the order of the file.

    Skipped pixels (after a delta, or an early end of line or of bitmap) get index 0, as in OpenCV and Pillow. Runs are
    cut off at the end of a row.

    Raises:
        ValueError: The data ends before the last row does, without saying that the bitmap ends.
    """
    width, height, four_bits = header.width, header.height, header.run_lengths == 4
    rows = [bytearray(width) for _ in range(height)]
    column = row = 0
    while row < height and not (row == height - 1 and column >= width):
        if position + 2 > len(data):
            raise ValueError("the run lengths end early")
        count, value = data[position], data[position + 1]
        position += 2
        if count:
            run = _pairs(bytes((value,)) * ((count + 1) // 2))[:count] if four_bits else bytes((value,)) * count
        elif value == _END_OF_LINE:
            column, row = 0, row + 1
            continue
        elif value == _END_OF_BITMAP:
            break
        elif value == _DELTA:
            right, down = data[position], data[position + 1]
            column, row, position = column + right, row + down, position + 2
            continue
        else:
            size = (value + 1) // 2 if four_bits else value
            run = _pairs(data[position : position + size])[:value] if four_bits else data[position : position + size]
            if len(run) < value:
                raise ValueError("the run lengths end early")
            position += size + (size & 1)
        rows[row][column : column + len(run)] = run[: max(0, width - column)]
        column += len(run)
    return rows


def _pairs(packed: bytes) -> bytes:
    """Two indices of each byte, the high one first."""
    return bytes(index for byte in packed for index in (byte >> 4, byte & 15))
