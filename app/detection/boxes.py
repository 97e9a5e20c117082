"""Walks through the boxes of which AVIF and HEIC files consist (ISO base media file format, ISO/IEC 14496-12)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from app.errors import UndecodableImage

# More than any picture has at one level.
_MAX_BOXES = 2**15


class Box(NamedTuple):
    """A box of some data: its type, where its content starts, and where it ends, which may lie behind the data."""

    kind: bytes
    start: int
    end: int


def read_boxes(data: bytes, start: int = 0) -> Iterator[Box]:
    """The boxes from `start` to the end of the data; up to seven bytes at the end, too few for a box, are passed over.

    Raises:
        UndecodableImage: Behind a box that is shorter than its own header, or than which no picture has more.
    """
    for _ in range(_MAX_BOXES):
        if len(data) - start < 8:
            return
        size, kind = struct.unpack_from(">I4s", data, start)
        content = start + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, content)
            content += 8
        elif size == 0 and kind == b"mdat":  # it goes on to the end
            size = len(data) - start
        yield Box(kind, content, start + size)
        if size < content - start:
            break
        start += size
    raise UndecodableImage("The boxes of the file have no end, or announce another length than they have.")
