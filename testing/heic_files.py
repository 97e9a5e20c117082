"""HEIC files put together by code, of pictures that pillow-heif encodes; also files that no camera writes."""

import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

import pillow_heif
from PIL import Image


class Item(NamedTuple):
    """An item of a file: its type, its bytes, its properties as whole boxes, and whether it is hidden."""

    kind: bytes
    data: bytes
    properties: tuple[bytes, ...] = ()
    hidden: bool = False


# Type, source, and targets; items are numbered from 1.
Reference = tuple[bytes, int, Sequence[int]]


def encoded_heic(image: Image.Image, further: Sequence[Image.Image] = (), **options: Any) -> bytes:
    """A file as pillow-heif writes it; the options are those of its `save`."""
    file = pillow_heif.from_pillow(image)
    for one in further:
        file.add_from_pillow(one)
    buffer = BytesIO()
    file.save(buffer, **{"quality": 90, **options})
    return buffer.getvalue()


def coded(image: Image.Image, size: tuple[int, int] | None = None, hidden: bool = False) -> Item:
    """A picture of at least 64x64 pixels as an item, which may announce another size."""
    data = encoded_heic(image)
    start = data.index(b"hvcC") - 4
    settings = data[start : start + int.from_bytes(data[start : start + 4], "big")]
    return Item(b"hvc1", data[data.index(b"mdat") + 4 :], (settings, ispe(*(size or image.size))), hidden)


def grid(rows: int, columns: int, width: int, height: int, *properties: bytes) -> Item:
    """A picture made of tiles."""
    return Item(
        b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height), (ispe(width, height), *properties)
    )


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def ispe(width: int, height: int) -> bytes:
    return box(b"ispe", struct.pack(">III", 0, width, height))


def irot(quarters: int) -> bytes:
    return box(b"irot", bytes((quarters,)))


def clap(width: int, height: int, way_right: tuple[int, int] = (0, 1), way_down: tuple[int, int] = (0, 1)) -> bytes:
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, *way_right, *way_down))


def heic(
    items: Sequence[Item],
    references: Sequence[Reference] = (),
    picture: int = 1,
    places: Sequence[tuple[int, int]] | None = None,
    extents: int = 1,
    more: bytes = b"",
) -> bytes:
    """A file of items.

    Args:
        places: Of each item where it lies within their bytes, and its length; by default one behind the other.
        extents: How often each item's place is written down.
        more: Further boxes of the list.
    """
    if places is None:
        ends = [sum(len(item.data) for item in items[: number + 1]) for number in range(len(items))]
        places = [(end - len(item.data), len(item.data)) for end, item in zip(ends, items, strict=True)]
    beginning = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    length = len(beginning) + len(_meta(items, references, picture, places, extents, more)) + 8
    moved = [(start + length, size) for start, size in places]
    content = b"".join(item.data for item in items)
    return beginning + _meta(items, references, picture, moved, extents, more) + box(b"mdat", content)


def _meta(
    items: Sequence[Item],
    references: Sequence[Reference],
    picture: int,
    places: Sequence[tuple[int, int]],
    extents: int,
    more: bytes,
) -> bytes:
    numbers = range(1, len(items) + 1)
    infe = [
        box(b"infe", bytes((2, 0, 0, item.hidden)), struct.pack(">HH4sB", number, 0, item.kind, 0))
        for number, item in zip(numbers, items, strict=True)
    ]
    iloc = [
        struct.pack(">HHH", number, 0, extents) + struct.pack(">II", *place) * extents
        for number, place in zip(numbers, places, strict=True)
    ]
    properties = [one for item in items for one in item.properties]
    ipma, index = [], 1
    for number, item in zip(numbers, items, strict=True):
        count = len(item.properties)
        ipma.append(struct.pack(f">HB{count}H", number, count, *range(index, index + count)))
        index += count
    iref = [
        box(kind, struct.pack(f">HH{len(targets)}H", source, len(targets), *targets))
        for kind, source, targets in references
    ]
    return box(
        b"meta",
        bytes(4),
        box(b"hdlr", bytes(8), b"pict", bytes(13)),
        box(b"pitm", bytes(4), struct.pack(">H", picture)),
        box(b"iloc", bytes(4), b"\x44\0", struct.pack(">H", len(items)), *iloc),
        box(b"iinf", bytes(4), struct.pack(">H", len(items)), *infe),
        box(b"iref", bytes(4), *iref),
        box(
            b"iprp",
            box(b"ipco", *properties),
            box(b"ipma", bytes((0, 0, 0, 1)), struct.pack(">I", len(items)), *ipma),
        ),
        more,
    )
