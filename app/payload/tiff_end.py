"""Finds the end of a TIFF file: the last byte that one of its directories names."""

import struct

import numpy as np
from numpy.typing import NDArray

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_SHORT, _LONG, _IFD = 3, 4, 13
# Tags of places, each with the tag of the lengths of what stands there: strips, tiles, a JPEG preview.
_PLACES = {273: 279, 324: 325, 513: 514}
# Tags of further directories: of other sizes, EXIF, GPS, interoperability.
_DIRECTORIES = (330, 34665, 34853, 40965)
# Directories may be empty, and refer to each other and to the same bytes, so all of them together are bounded: the
# directories, their entries, and the places of further ones.
_MOST_ENTRIES = 2**15
_MOST_VALUE_BYTES = 2**22


def tiff_end(data: bytes) -> int:
    """Returns the position after the last byte that belongs to the file, or -1 if that cannot be known.

    Raises:
        struct.error: The file ends within a directory.
    """
    file = _File(data)
    (first,) = struct.unpack_from(file.endian + "I", data, 4)
    ahead, seen = [first], {0}
    while ahead:
        position = ahead.pop()
        if position not in seen:
            seen.add(position)
            further = file.add_directory(position)
            if further is None:
                return -1
            ahead += further
    return file.end


class _File:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.endian = "<" if data.startswith(b"II") else ">"
        self.end = 8
        self._entries_left = _MOST_ENTRIES
        self._value_bytes_left = _MOST_VALUE_BYTES

    def add_directory(self, position: int) -> list[int] | None:
        """Moves the end behind a directory and what it names.

        Returns:
            The positions of further directories; None if the bounds are reached, or a length is missing.
        """
        (count,) = struct.unpack_from(self.endian + "H", self._data, position)
        self._entries_left -= 1 + count
        if self._entries_left < 0:
            return None
        (following,) = struct.unpack_from(self.endian + "I", self._data, position + 2 + 12 * count)
        self.end = max(self.end, position + 6 + 12 * count)
        values: dict[int, NDArray[np.int64]] = {}
        for entry in range(position + 2, position + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(self.endian + "HHI", self._data, entry)
            place = self._place(entry, kind, length)
            if tag in _DIRECTORIES or tag in _PLACES or tag in _PLACES.values():
                read = self._integers(place, kind, length)
                if read is None:
                    return None
                values[tag] = read
        for tag, lengths in _PLACES.items():
            if tag in values:
                if lengths not in values or len(values[tag]) != len(values[lengths]):
                    return None
                self.end = max(self.end, int((values[tag] + values[lengths]).max(initial=0)))
        further = [values[tag] for tag in _DIRECTORIES if tag in values]
        self._entries_left -= sum(map(len, further))
        if self._entries_left < 0:
            return None
        return [following, *(int(one) for places in further for one in places)]

    def _place(self, entry: int, kind: int, length: int) -> int:
        """Where the values of an entry stand; the end moves behind them."""
        size = _TYPE_BYTES.get(kind, 0) * length
        if size <= 4:
            return entry + 8
        (place,) = struct.unpack_from(self.endian + "I", self._data, entry + 8)
        self.end = max(self.end, place + size)
        return int(place)

    def _integers(self, place: int, kind: int, length: int) -> NDArray[np.int64] | None:
        size = _TYPE_BYTES.get(kind, 0) * length
        self._value_bytes_left -= size
        if kind not in (_SHORT, _LONG, _IFD) or self._value_bytes_left < 0 or place + size > len(self._data):
            return None
        layout = f"{self.endian}u{_TYPE_BYTES[kind]}"
        return np.frombuffer(self._data, layout, length, place).astype(np.int64)
