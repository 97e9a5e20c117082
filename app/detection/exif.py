"""Reads the orientation tag from EXIF data, in the forms in which image files store it."""

import re
import struct
import zlib

MAX_EXIF_BYTES = 2**16
_MAX_EXIF_ENTRIES = 512
_ORIENTATION_TAG = 0x0112

# TIFF field type -> struct format of one value. The EXIF standard requires SHORT (3) for the orientation, but files
# with the other types exist, and Pillow, libvips and OpenCV accept them.
_LAYOUTS = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 11: "f", 12: "d"}

# ImageMagick's form of EXIF in a text chunk: a name, a length and the block as hexadecimal digits, on lines.
_RAW_PROFILE = re.compile(rb"Raw profile type exif\0", re.IGNORECASE)
_RAW_PROFILE_LINES = re.compile(rb"\s*exif\s+\d+\s+([0-9a-f\s]*)", re.IGNORECASE)
_MAX_RAW_PROFILE_BYTES = 3 * MAX_EXIF_BYTES


def read_orientation(exif: bytes) -> int:
    """The orientation in an EXIF block; 1 (upright) where there is none or the block is damaged.

    Only the first directory is read, and of it only this tag: a general reader can be made to allocate gigabytes.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    endian = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if endian is None:
        return 1
    try:
        (directory,) = struct.unpack_from(endian + "I", exif, 4)
        (entries,) = struct.unpack_from(endian + "H", exif, directory)
        for entry in range(min(entries, _MAX_EXIF_ENTRIES)):
            position = directory + 2 + 12 * entry
            (tag,) = struct.unpack_from(endian + "H", exif, position)
            if tag == _ORIENTATION_TAG:
                return _as_orientation(_first_number(exif, endian, position))
    except struct.error:
        pass
    return 1


def read_raw_profile(kind: bytes, chunk: bytes) -> int:
    """The orientation in a PNG text chunk that holds EXIF as ImageMagick writes it; 1 where there is none.

    Args:
        kind: The chunk's type: tEXt, zTXt (compressed) or iTXt (may be compressed).
        chunk: Its content. At most `_MAX_RAW_PROFILE_BYTES` of it are decompressed.
    """
    name = _RAW_PROFILE.match(chunk)
    if name is None:
        return 1
    text = chunk[name.end() : name.end() + _MAX_RAW_PROFILE_BYTES]
    try:
        if kind == b"zTXt":
            text = zlib.decompressobj().decompress(text[1:], _MAX_RAW_PROFILE_BYTES)
        elif kind == b"iTXt":
            flag, text = text[0], text[2:].split(b"\0", 2)[2]
            text = zlib.decompressobj().decompress(text, _MAX_RAW_PROFILE_BYTES) if flag else text
    except (zlib.error, IndexError):
        return 1
    lines = _RAW_PROFILE_LINES.match(text)
    digits = b"".join(lines[1].split()) if lines else b""
    return read_orientation(bytes.fromhex(digits[: len(digits) & ~1].decode()))


def is_raw_profile(kind: bytes, chunk_start: bytes) -> bool:
    """Whether a PNG chunk is text that may hold EXIF."""
    return kind in (b"tEXt", b"zTXt", b"iTXt") and _RAW_PROFILE.match(chunk_start) is not None


def _first_number(exif: bytes, endian: str, position: int) -> float:
    """The first number of the directory entry at `position`; 1 if its type has none.

    Raises:
        struct.error: It lies outside of the block.
    """
    _, kind, count = struct.unpack_from(endian + "HHI", exif, position)
    if kind not in _LAYOUTS or not count:
        return 1
    layout = endian + _LAYOUTS[kind]
    where = position + 8
    if struct.calcsize(layout) * count > 4:  # too long for the entry itself, which then says where it is
        (where,) = struct.unpack_from(endian + "I", exif, where)
    numerator, *denominator = struct.unpack_from(layout, exif, where)
    if not denominator:
        return float(numerator)
    return numerator / denominator[0] if denominator[0] else 1


def _as_orientation(number: float) -> int:
    return int(number) if number in range(1, 9) else 1
