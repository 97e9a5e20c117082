"""Reads the list of a HEIC file's items: pictures, tiles, thumbnails, masks and metadata (ISO/IEC 23008-12).

Every loop is bounded by the bytes of the list, of which there are few, or by what libheif reads at the most.
"""

import struct
from dataclasses import dataclass

from app.detection.boxes import Box, read_boxes
from app.errors import UndecodableImage

# A camera's list takes some KiB, most of it colour profiles.
_MAX_LIST_BYTES = 2**20
# What may stand at the top level: the last two are what Samsung's cameras write behind the picture.
_AT_TOP = frozenset((b"ftyp", b"meta", b"mdat", b"free", b"skip", b"wide", b"uuid", b"sefd", b"mpvd"))
# libheif reads no more either.
_MAX_ITEMS, _MAX_EXTENTS = 1000, 32


@dataclass(frozen=True, slots=True)
class Reference:
    """That one item is made of others (dimg), or belongs to others (thmb, auxl, cdsc)."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """The list of a file.

    Attributes:
        picture: The number of the item that the file is shown by.
        kinds: Of each item its type.
        hidden: The items that are not for showing.
        references: Those between items.
        properties: Of each item its properties as (type, content), in the order in which they apply.
    """

    picture: int
    kinds: dict[int, bytes]
    hidden: frozenset[int]
    references: list[Reference]
    properties: dict[int, list[tuple[bytes, bytes]]]


def read_items(data: bytes) -> Items:
    """Reads the list of a whole file.

    Raises:
        UndecodableImage: It is damaged or too long, or items lie outside of the file, or several on the same bytes.
        struct.error, IndexError: It ends early.
    """
    found = _the_list(data)
    if found.end - found.start > _MAX_LIST_BYTES:
        raise UndecodableImage("The HEIC file's list of pictures is longer than any camera writes.")
    boxes = _contents(data[found.start : found.end], 4)
    parts = dict(boxes)
    if len(parts) < len(boxes) or not parts.keys() >= {b"pitm", b"iinf", b"iloc", b"iprp"}:
        raise UndecodableImage("The HEIC file's list of pictures lacks a part, or has one twice.")
    _check_places(parts[b"iloc"], len(data), len(parts.get(b"idat", b"")))
    kinds, hidden = _read_kinds(parts[b"iinf"])
    (picture,) = struct.unpack_from(">I" if parts[b"pitm"][0] else ">H", parts[b"pitm"], 4)
    references = _read_references(parts[b"iref"]) if b"iref" in parts else []
    return Items(picture, kinds, hidden, references, _read_properties(parts[b"iprp"]))


def _the_list(data: bytes) -> Box:
    """The one list of the file. Of two, libheif would take the other one, and an animation's it reads at any length."""
    boxes = list(read_boxes(data))
    kinds = [box.kind for box in boxes]
    if unknown := next((kind for kind in kinds if kind not in _AT_TOP), None):
        name = unknown.decode("latin-1")
        raise UndecodableImage(f"The HEIC file holds an animation, or parts that photographs do not have: {name!r}.")
    if kinds.count(b"meta") != 1 or kinds.count(b"ftyp") != 1:
        raise UndecodableImage("The HEIC file has no list of its pictures, or more than one.")
    return boxes[kinds.index(b"meta")]


def _contents(data: bytes, start: int = 0) -> list[tuple[bytes, bytes]]:
    """The boxes within a box, each as its type and its content."""
    boxes = list(read_boxes(data, start))
    if boxes and boxes[-1].end > len(data):
        raise UndecodableImage("The HEIC file's list of pictures ends early.")
    return [(box.kind, data[box.start : box.end]) for box in boxes]


def _read_kinds(iinf: bytes) -> tuple[dict[int, bytes], frozenset[int]]:
    entries = _contents(iinf, 8 if iinf[0] else 6)
    if len(entries) > _MAX_ITEMS:
        raise _too_many()
    kinds, hidden = {}, set()
    for _, entry in entries:
        if entry[0] < 2:
            raise UndecodableImage("The HEIC file has an item without a type.")
        number, kind = struct.unpack_from(">H2x4s" if entry[0] == 2 else ">I2x4s", entry, 4)
        kinds[number] = kind
        if entry[3] & 1:
            hidden.add(number)
    if len(kinds) < len(entries):
        raise UndecodableImage("The HEIC file has two items of one number.")
    return kinds, frozenset(hidden)


def _read_references(iref: bytes) -> list[Reference]:
    number, references = "I" if iref[0] else "H", []
    for kind, content in _contents(iref, 4):
        source, count = struct.unpack_from(f">{number}H", content)
        targets = struct.unpack_from(f">{count}{number}", content, struct.calcsize(f">{number}H"))
        references.append(Reference(kind, source, targets))
    return references


def _read_properties(iprp: bytes) -> dict[int, list[tuple[bytes, bytes]]]:
    boxes = _contents(iprp)
    known = [one for kind, content in boxes if kind == b"ipco" for one in _contents(content)]
    properties: dict[int, list[tuple[bytes, bytes]]] = {}
    for content in (content for kind, content in boxes if kind == b"ipma"):
        head = struct.Struct(">IB" if content[0] else ">HB")
        index, mask = ("H", 0x7FFF) if content[3] & 1 else ("B", 0x7F)
        (count,) = struct.unpack_from(">I", content, 4)
        if count > _MAX_ITEMS:
            raise _too_many()
        position = 8
        for _ in range(count):
            item, length = head.unpack_from(content, position)
            numbers = struct.unpack_from(f">{length}{index}", content, position + head.size)
            position += head.size + struct.calcsize(f">{length}{index}")
            properties.setdefault(item, []).extend(known[(one & mask) - 1] for one in numbers if one & mask)
    return properties


def _check_places(iloc: bytes, file_bytes: int, list_bytes: int) -> None:
    """Raises if items lie outside of the file, or take more bytes together than it has.

    Args:
        iloc: The box that says where each item lies.
        file_bytes: Length of the file.
        list_bytes: Length of the box `idat`, where small items may lie.
    """
    version, taken = iloc[0], 0
    offset, length, base, index = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    if version > 2:
        raise UndecodableImage("The HEIC file says in an unknown way where its pictures are.")
    head = struct.Struct((">H2x", ">HH2x", ">IH2x")[version])
    (count,) = struct.unpack_from(">I" if version == 2 else ">H", iloc, 6)
    position = 10 if version == 2 else 8
    if count > _MAX_ITEMS:
        raise _too_many()
    for _ in range(count):
        method = head.unpack_from(iloc, position)[-1] & 15 if version else 0
        start, position = _integer(iloc, position + head.size, base)
        extents, position = _integer(iloc, position, 2)
        if extents > _MAX_EXTENTS:
            raise _too_many()
        for _ in range(extents):
            place, position = _integer(iloc, position + index, offset)
            size, position = _integer(iloc, position, length)
            taken += size
            whole = list_bytes if method == 1 else file_bytes
            if method > 1 or start + place + size > whole or taken > file_bytes:
                raise UndecodableImage("The HEIC file ends early, or uses its bytes for several pictures.")


def _integer(data: bytes, position: int, size: int) -> tuple[int, int]:
    """An unsigned integer of `size` bytes, and the position behind it."""
    end = position + size
    if end > len(data):
        raise IndexError("the list of places ends early")
    return int.from_bytes(data[position:end], "big"), end


def _too_many() -> UndecodableImage:
    return UndecodableImage("The HEIC file's list of pictures is longer than any camera writes.")
