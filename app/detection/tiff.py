"""Reads TIFF files and rewrites their directory, so that Pillow and libtiff see only the tags needed for the pixels.

A directory may reference the same bytes under hundreds of tags, each of which a general reader copies, and may point to
further directories. Only the first directory is kept, and the number and size of its entries are limited.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.detection.exif import read_orientation
from app.errors import UndecodableImage

_MAX_ENTRIES = 512
# Enough for the offsets, or the byte counts, of 65,535 strips as LONG.
_MAX_VALUE_BYTES = 2**18
# A regular expression search holds the GIL until it returns.
_MAX_DESCRIPTION_BYTES = 2**16
_HEADER_BYTES = 8
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 7: 1}  # BYTE, ASCII, SHORT, LONG, UNDEFINED: what the tags below may have
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT = 256, 257, 258, 259, 262, 277, 339
# Fill order, strips, planes, fax options, predictor, palette, tiles, extra samples, JPEG tables, subsampling, range.
_KEPT = frozenset((_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _SAMPLE_FORMAT)) | frozenset(
    (266, 273, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 338, 347, 530, 531)
)
# Words about the picture, its maker and its print: of the TIFF standard, EXIF, Adobe and Windows.
_ABOUT = frozenset((254, 255, 263, 264, 265, 269, 270, 271, 272, 274, 280, 281, 282, 283, 285, 286, 287, 288, 289))
_ABOUT |= {290, 291, 296, 297, 300, 301, 305, 306, 315, 316, 318, 319, 321, 332, 333, 334, 336, 337, 529, 532, 700}
_ABOUT |= {18246, 18249, 33432, 33434, 33437, 33723, 34377, 34665, 34675, 34853, 36867, 36868, 50341, 59932}
_ABOUT |= {40091, 40092, 40093, 40094, 40095}
_FURTHER, _DESCRIPTION, _ASCII = 330, 270, 2  # 330 names further directories
_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)  # none, fax, LZW, JPEG, deflate, PackBits, deflate
_WHITE_IS_ZERO, _LAST_KNOWN_PHOTOMETRIC = 0, 6
_BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 1, 2, 3, 5, 6
_UNSIGNED = 1
_UNSPECIFIED, _PREMULTIPLIED, _ALPHA = 0, 1, 2  # of extra samples
_APART = 2  # planes
_FAX = (2, 3, 4)
_JPEG, _PREDICTED = 7, (5, 8, 32946)  # LZW and deflate
_OFFSETS, _COUNTS, _ROWS, _PLANES, _PREDICTOR, _COLORS, _EXTRA = 273, 279, 278, 284, 317, 320, 338
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_SINGLES = (256, 257, 259, 262, 266, 277, 278, 284, 317, 322, 323)

# Descriptions by which tifffile and ImageJ know of further pictures behind the first one. tifffile describes single
# pictures so too, which pass.
_STACK = re.compile(rb"shape=|\{.*shape|(?:ImageJ|SCIFIO)=.*(?:images|frames|slices|channels)\s*=(?!1\n)", re.DOTALL)
_SINGLE = re.compile(rb'\{"shape": \[(\d{1,9}(?:, \d{1,9})*)\](?:, "axes": "[A-Z]+")?\}\0*')


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


class _Directory(NamedTuple):
    """The first directory: its place, every entry by its tag, and the first value of those that make pixels."""

    endian: str
    position: int
    entries: dict[int, bytes]
    first: dict[int, int]

    def count(self, tag: int) -> int:
        """How many values a tag has; 0 where it is missing."""
        entry = self.entries.get(tag)
        return int(struct.unpack_from(self.endian + "4xI", entry)[0]) if entry else 0


def read_tiff(data: bytes) -> Tiff:
    """Reads the first directory, and rewrites the file with a directory of the needed tags only.

    Raises:
        UndecodableImage: The directory is damaged or can be read in two ways, or the kind of picture is not accepted.
        struct.error: The file ends within the directory.
    """
    directory = _read_directory(data)
    first = directory.first
    _check_counts(directory)
    _check_kind(first)
    _check_places(data, directory)
    if first.get(_PHOTOMETRIC) == _PALETTE:
        _check_palette(data, directory)
    entries = data[directory.position : directory.position + 6146]
    orientation = read_orientation(data[:4] + struct.pack(directory.endian + "I", 8) + entries)
    return Tiff(first[_WIDTH], first[_HEIGHT], orientation, _rewritten(data, directory, {}))


def other_tiffs(data: bytes) -> Iterator[bytes]:
    """What readers show that pass over the meaning of samples, or take it differently: files rewritten for that.

    Args:
        data: A file that `read_tiff` accepts.

    Raises:
        UndecodableImage: Some readers find further pictures in the file.
    """
    directory = _read_directory(data)
    _check_alone(data, directory)
    photometric = directory.first.get(_PHOTOMETRIC, _WHITE_IS_ZERO)
    if photometric in (_WHITE_IS_ZERO, _PALETTE):
        yield _rewritten(data, directory, {_PHOTOMETRIC: _BLACK_IS_ZERO})
    elif photometric == _CMYK:
        yield _rewritten(data, directory, {_PHOTOMETRIC: _RGB, _EXTRA: _UNSPECIFIED})
    extra = directory.first.get(_EXTRA, _ALPHA)
    if extra != _ALPHA:
        yield _rewritten(data, directory, {_EXTRA: _ALPHA})
    if extra == _PREMULTIPLIED:
        yield _rewritten(data, directory, {_EXTRA: _UNSPECIFIED})


def _check_alone(data: bytes, directory: _Directory) -> None:
    """Raises if a reader may find another picture: in a further directory, under a tag of its own, behind the first."""
    end = directory.position + 2 + 12 * len(directory.entries)
    if any(data[end : end + 4]) or _FURTHER in directory.entries:
        kind = "further pages, which some readers show"
    elif unknown := directory.entries.keys() - _KEPT - _ABOUT:
        kind = f"tag {min(unknown)}, under which some readers look for further pictures"
    elif directory.count(_EXTRA) > 1:
        kind = "several extra samples, of which readers make different pictures"
    elif directory.first.get(_PLANES) == _APART:
        kind = "its colours apart, which some readers show as pictures of their own, and of which Pillow inverts none"
    elif directory.first.get(_COMPRESSION) in _FAX:
        kind = "the compression of a fax, of whose damaged lines readers make different pictures"
    elif _describes_others(data, directory):
        kind = "a description that tells some readers of further pictures"
    else:
        return
    raise UndecodableImage(
        f"The TIFF file has {kind}; the gate's setting GATE_FORWARD=judged sends a plain PNG instead."
    )


def _describes_others(data: bytes, directory: _Directory) -> bool:
    if _DESCRIPTION not in directory.entries:
        return False
    kind, count, place = struct.unpack(directory.endian + "2xHII", directory.entries[_DESCRIPTION])
    if kind != _ASCII or count > _MAX_DESCRIPTION_BYTES:
        return True
    if count <= 4:
        return False
    words = data[place : place + count].lstrip(b"\0 \t\r\n")
    single = _SINGLE.fullmatch(words)
    if single is None:
        return bool(_STACK.match(words))
    first = directory.first
    shape = [side for side in (first[_HEIGHT], first[_WIDTH], first.get(_SAMPLES, 1)) if side > 1]
    return [side for side in map(int, single[1].split(b", ")) if side > 1] != shape


def _read_directory(data: bytes) -> _Directory:
    endian = "<" if data.startswith(b"II") else ">"
    (position,) = struct.unpack_from(endian + "I", data, 4)
    (count,) = struct.unpack_from(endian + "H", data, position)
    if count > _MAX_ENTRIES:
        raise UndecodableImage(f"The TIFF file has more than {_MAX_ENTRIES} tags.")
    entries: dict[int, bytes] = {}
    for place in range(position + 2, position + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(endian + "HHI", data, place)
        if tag in entries:
            raise UndecodableImage(f"The TIFF file has tag {tag} twice; readers differ in which they take.")
        if tag in _KEPT:
            if kind not in _TYPE_BYTES:
                raise UndecodableImage(f"Tag {tag} of the TIFF file has a type that some readers do not know.")
            if values * _TYPE_BYTES[kind] > _MAX_VALUE_BYTES:
                raise UndecodableImage("The TIFF file has more strips or tiles than any picture needs.")
        entries[tag] = data[place : place + 12]
    if _WIDTH not in entries or _HEIGHT not in entries:
        raise UndecodableImage("The TIFF file does not say how large its picture is.")
    kept = {tag: entry for tag, entry in entries.items() if tag in _KEPT}
    first = {tag: _first_value(data, entry, endian) for tag, entry in kept.items()}
    return _Directory(endian, position, entries, first)


def _rewritten(data: bytes, directory: _Directory, changes: dict[int, int]) -> bytes:
    """The file with a directory of the tags that make pixels, some of which get another value, a SHORT."""
    endian = directory.endian
    entries = {tag: directory.entries[tag] for tag in directory.first}
    entries |= {tag: struct.pack(endian + "HHIHH", tag, 3, 1, value, 0) for tag, value in changes.items()}
    made = struct.pack(endian + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    # An even place, as the standard asks for.
    body = data[8:] + bytes(len(data) % 2)
    return data[:4] + struct.pack(endian + "I", 8 + len(body)) + body + made


def _first_value(data: bytes, entry: bytes, endian: str) -> int:
    (count,) = struct.unpack_from(endian + "4xI", entry)
    return _values(data, entry, endian, 1)[0] if count else 0


def _values(data: bytes, entry: bytes, endian: str, most: int) -> tuple[int, ...]:
    """The first values of an entry, at most so many."""
    _, kind, count = struct.unpack_from(endian + "HHI", entry)
    source, position = entry, 8
    if count * _TYPE_BYTES[kind] > 4:
        (position,) = struct.unpack_from(endian + "I", entry, 8)
        source = data
    letter = {3: "H", 4: "I"}.get(kind, "B")
    return struct.unpack_from(f"{endian}{min(count, most)}{letter}", source, position)


def _check_counts(directory: _Directory) -> None:
    """Raises if a tag has another number of values than it should have: some readers take the first, others none."""
    for tag in directory.first:
        count = directory.count(tag)
        if (tag in _SINGLES and count != 1) or (tag == _BITS and count not in (1, directory.first.get(_SAMPLES, 1))):
            raise UndecodableImage(f"Tag {tag} of the TIFF file has {count} values, which is not the number it takes.")


def _check_kind(first: dict[int, int]) -> None:
    bits, photometric = first.get(_BITS, 1), first.get(_PHOTOMETRIC, _WHITE_IS_ZERO)
    compression, sample_format = first.get(_COMPRESSION, 1), first.get(_SAMPLE_FORMAT, _UNSIGNED)
    if compression not in _COMPRESSIONS:
        kind = f"compression {compression}"
    elif sample_format != _UNSIGNED or bits not in (1, 2, 4, 8, 16):
        kind = "samples that are signed, floating-point or not of 1, 2, 4, 8 or 16 bits"
    elif photometric > _LAST_KNOWN_PHOTOMETRIC or (photometric, bits) == (_WHITE_IS_ZERO, 16):
        kind = f"photometric interpretation {photometric} with {bits} bits"
    elif photometric == _YCBCR and compression != _JPEG:
        kind = f"brightness and colour apart (YCbCr) in compression {compression}"
    elif first.get(_PREDICTOR, 1) != 1 and compression not in _PREDICTED:
        kind = f"differences of samples in compression {compression}"
    elif first.get(_PLANES, 1) not in (1, _APART):
        kind = f"planar configuration {first[_PLANES]}"
    else:
        return
    raise UndecodableImage(f"TIFF files with {kind} are not accepted; save the image as PNG.")


def _check_places(data: bytes, directory: _Directory) -> None:
    """Raises unless there are as many strips, or tiles, as the picture takes: readers differ in which they show."""
    first = directory.first
    width, height = first[_WIDTH], first[_HEIGHT]
    planes = first.get(_SAMPLES, 1) if first.get(_PLANES) == _APART else 1
    is_tiled = not first.keys().isdisjoint((_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS))
    if is_tiled and not first.keys().isdisjoint((_OFFSETS, _COUNTS)):
        raise UndecodableImage("The TIFF file has strips and tiles; readers differ in which they take.")
    if is_tiled:
        across, down, places = first.get(_TILE_WIDTH, 0), first.get(_TILE_HEIGHT, 0), _TILE_OFFSETS
    else:
        across, down, places = width, first.get(_ROWS, height), _OFFSETS
    if width < 1 or height < 1:
        return  # what opens the file says so
    if not across or not down or directory.count(places) != planes * -(-width // across) * -(-height // down):
        raise UndecodableImage("The TIFF file has more or fewer strips or tiles than its picture takes.")
    offsets = _values(data, directory.entries[places], directory.endian, _MAX_VALUE_BYTES)
    counts = directory.entries.get(_TILE_COUNTS if is_tiled else _COUNTS)
    is_empty = counts is not None and 0 in _values(data, counts, directory.endian, _MAX_VALUE_BYTES)
    if is_empty or min(offsets) < _HEADER_BYTES:
        raise UndecodableImage("The TIFF file has strips or tiles without a place or a length; some readers fill them.")


def _check_palette(data: bytes, directory: _Directory) -> None:
    """Raises if colours are missing, or are numbers below 256, which some readers take for 8 bits and others for 16."""
    bits = directory.first.get(_BITS, 1)
    _, kind, count, place = struct.unpack(directory.endian + "HHII", directory.entries.get(_COLORS, bytes(12)))
    if kind != 3 or count != 3 * 2**bits:
        raise UndecodableImage("The TIFF file has no palette, or one of too few or too many colours.")
    if 0 < max(struct.unpack_from(f"{directory.endian}{count}H", data, place)) < 256:
        raise UndecodableImage("The TIFF file has a palette of 8 bits where the format has 16.")
