"""Reads TIFF files and rewrites their directory, so that Pillow and libtiff see only the tags needed for the pixels.

A directory may reference the same bytes under hundreds of tags, each of which a general reader copies, and may point to
further directories. Only the first directory is kept, and the number and size of its entries are limited.
"""

import struct
from typing import NamedTuple

from app.detection.exif import read_orientation
from app.errors import UndecodableImage

_MAX_ENTRIES = 512
# Enough for the offsets, or the byte counts, of 65,535 strips as LONG.
_MAX_VALUE_BYTES = 2**18
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4}  # BYTE, ASCII, SHORT, LONG: what the tags below may have
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 259, 262, 277, 339
# Fill order, strips, planes, fax options, predictor, palette, tiles, extra samples, JPEG tables, subsampling, range.
_KEPT = frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT)) | frozenset(
    (266, 273, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 347, 530, 531)
)
_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # none, fax, LZW, JPEG, deflate, PackBits, deflate
_WHITE_IS_ZERO, _LAST_KNOWN_PHOTOMETRIC = 0, 6
_UNSIGNED = 1


class Tiff(NamedTuple):
    """A file whose directory was accepted.

    Attributes:
        width, height: In pixels, as stored.
        orientation: 1 (upright) to 8.
        pixels: The file with a directory at its end that has nothing but what makes pixels.
    """

    width: int
    height: int
    orientation: int
    pixels: bytes


def read_tiff(data: bytes) -> Tiff:
    """Reads the first directory, and rewrites the file with a directory of the needed tags only.

    Raises:
        UndecodableImage: The directory is damaged, or the kind of picture is not accepted.
        struct.error: The file ends within the directory.
    """
    endian = "<" if data.startswith(b"II") else ">"
    (directory,) = struct.unpack_from(endian + "I", data, 4)
    (count,) = struct.unpack_from(endian + "H", data, directory)
    entries: dict[int, bytes] = {}
    for position in range(directory + 2, directory + 2 + 12 * min(count, _MAX_ENTRIES), 12):
        tag, kind, values = struct.unpack_from(endian + "HHI", data, position)
        if tag in _KEPT and kind in _TYPE_BYTES | {7: 1}:
            if values * _TYPE_BYTES.get(kind, 1) > _MAX_VALUE_BYTES:
                raise UndecodableImage("The TIFF file has more strips or tiles than any picture needs.")
            entries[tag] = data[position : position + 12]
    if _WIDTH not in entries or _HEIGHT not in entries:
        raise UndecodableImage("The TIFF file does not say how large its picture is.")
    first = {tag: _first_value(data, entry, endian) for tag, entry in entries.items()}
    _check_kind(first)
    orientation = read_orientation(data[:4] + struct.pack(endian + "I", 8) + data[directory : directory + 6146])
    made = struct.pack(endian + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    # An even place, as the standard asks for.
    body = data[8:] + bytes(len(data) % 2)
    pixels = data[:4] + struct.pack(endian + "I", 8 + len(body)) + body + made
    return Tiff(first[_WIDTH], first[_HEIGHT], orientation, pixels)


def _first_value(data: bytes, entry: bytes, endian: str) -> int:
    _, kind, count = struct.unpack_from(endian + "HHI", entry)
    layout = endian + {1: "B", 3: "H", 4: "I"}.get(kind, "B")
    source, position = entry, 8
    if count * _TYPE_BYTES.get(kind, 1) > 4:
        (position,) = struct.unpack_from(endian + "I", entry, 8)
        source = data
    return int(struct.unpack_from(layout, source, position)[0]) if count else 0


def _check_kind(first: dict[int, int]) -> None:
    bits, photometric = first.get(_BITS, 1), first.get(_PHOTOMETRIC, _WHITE_IS_ZERO)
    compression, sample_format = first.get(_COMPRESSION, 1), first.get(_SAMPLE_FORMAT, _UNSIGNED)
    if compression not in _COMPRESSIONS:
        kind = f"compression {compression}"
    elif sample_format != _UNSIGNED or bits not in (1, 2, 4, 8, 16):
        kind = "samples that are signed, floating-point or not of 1, 2, 4, 8 or 16 bits"
    elif photometric > _LAST_KNOWN_PHOTOMETRIC or (photometric, bits) == (_WHITE_IS_ZERO, 16):
        kind = f"photometric interpretation {photometric} with {bits} bits"
    else:
        return
    raise UndecodableImage(f"TIFF files with {kind} are not accepted; save the image as PNG.")
