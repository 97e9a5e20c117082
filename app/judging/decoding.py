"""Decodes files: small ones in the event loop, others in threads, and memory-heavy ones one at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from app.detection.images import DecodedImage, OpenedImage, Preprocessing, decode_opened, open_image
from app.errors import Refusal
from app.judging.queues import Lane, Patience
from app.settings import Settings, usable_cores
from app.telemetry.tracing import traced

T = TypeVar("T")
# `open_image` with the bounds of the service.
Opening = Callable[[bytes], OpenedImage]
Pixels = NDArray[np.float32]

# Up to these sizes a decode takes less time than handing it to a thread and back.
_IN_PLACE_BYTES = 16 * 2**10
_IN_PLACE_PIXELS = 256 * 256
# If there is no spare core, a thread gains nothing, so larger files are decoded in the event loop too, but only JPEGs
# up to these sizes, which take 3 ms; other formats take several times as long.
_IN_PLACE_JPEG_BYTES = 256 * 2**10
_IN_PLACE_JPEG_PIXELS = 2**20
# Decodes that need more memory than this run one at a time, in a thread of their own; others do not wait for them.
_HEAVY_BYTES = 48 * 2**20
_LIGHT_THREADS = 2
# A batch releases its thread after this time and queues again, so that other requests do not wait for the whole batch.
_SLICE_SECONDS = 0.05


class Decoder:
    """Decodes the files of one app's requests, and decides in which thread each is decoded.

    Attributes:
        light: Threads for decodes up to `_HEAVY_BYTES` of memory, and for other blocking work.
        heavy: The single thread for decodes that take more.
    """

    def __init__(self, settings: Settings) -> None:
        """
        Args:
            settings: Uses `max_image_pixels`, `formats` and `workers` (to tell whether there is a spare core).
        """
        self._max_pixels = settings.max_image_pixels
        self._formats = settings.formats
        self._has_spare_core = usable_cores() > settings.workers
        self.light = Lane("decode", _LIGHT_THREADS)
        self.heavy = Lane("decode-large", 1)

    @traced("decode")
    async def decode(
        self, data: bytes, preprocessing: Preprocessing, patience: Patience, reduces: bool = True
    ) -> DecodedImage:
        """Decodes one file.

        Args:
            data: The file.
            preprocessing: Of the artifact.
            patience: Of the request.
            reduces: Whether a large JPEG may be decoded at a fraction of its size (`OpenedImage`).

        Raises:
            Refusal: What opening and decoding it raise.
            DeadlineExceeded: The deadline passed before the file was decoded in a thread.
            ClientDisconnect: The client went away.
        """
        opening = self._opening(reduces)
        image = self._opened_in_place(data, opening)
        if image is not None:
            return decode_opened(image, preprocessing)
        decoded = await self.run(partial(_decode_if_light, data, opening, preprocessing), patience)
        if decoded is not None:
            return decoded
        # Opens the file again: keeping the opened image while waiting would keep a copy of the file in memory.
        return await patience.run(self.heavy, partial(_decode, data, opening, preprocessing))

    @traced("decode")
    async def decode_all(
        self, files: Sequence[bytes], preprocessing: Preprocessing, patience: Patience, reduces: bool = True
    ) -> list[DecodedImage | Refusal]:
        """Decodes several files in threads, each to the same numbers as `decode` does.

        Returns:
            In order, the image, or the refusal of a file that cannot be decoded.
        """
        opening = self._opening(reduces)
        decoded: list[DecodedImage | Refusal] = []
        while len(decoded) < len(files):
            rest = files[len(decoded) :]
            done = await self.run(partial(_decode_slice, rest, opening, preprocessing), patience)
            decoded += done
            if not done:
                heavy = partial(_decode_or_refuse, rest[0], opening, preprocessing)
                decoded.append(await patience.run(self.heavy, heavy))
        return decoded

    async def run(self, work: Callable[[], T], patience: Patience) -> T:
        """Runs blocking work, such as decoding or parsing a large body, in one of the threads for light decodes."""
        return await patience.run(self.light, work)

    def close(self) -> None:
        """Takes no more work."""
        self.light.close()
        self.heavy.close()

    def _opening(self, reduces: bool) -> Opening:
        return partial(open_image, max_pixels=self._max_pixels, formats=self._formats, reduces=reduces)

    def _opened_in_place(self, data: bytes, opening: Opening) -> OpenedImage | None:
        """The opened file if decoding it takes so little time that a thread is not worth it, else None.

        Larger files are not even opened in the event loop.
        """
        if len(data) > (_IN_PLACE_BYTES if self._has_spare_core else _IN_PLACE_JPEG_BYTES):
            return None
        image = opening(data)
        pixels = image.width * image.height
        if pixels <= _IN_PLACE_PIXELS and len(data) <= _IN_PLACE_BYTES:
            return image
        is_quick = not self._has_spare_core and image.reduces and image.is_streamed and pixels <= _IN_PLACE_JPEG_PIXELS
        return image if is_quick else None


def _to_keep(refusal: Refusal) -> Refusal:
    """The refusal without its traceback, whose frames hold a copy of the file."""
    return refusal.with_traceback(None)


def _decode(data: bytes, opening: Opening, preprocessing: Preprocessing) -> DecodedImage:
    return decode_opened(opening(data), preprocessing)


def _decode_or_refuse(data: bytes, opening: Opening, preprocessing: Preprocessing) -> DecodedImage | Refusal:
    try:
        return _decode(data, opening, preprocessing)
    except Refusal as refusal:
        return _to_keep(refusal)


def _decode_if_light(data: bytes, opening: Opening, preprocessing: Preprocessing) -> DecodedImage | None:
    """Decodes a file, or returns None if that would take more than `_HEAVY_BYTES` of memory."""
    image = opening(data)
    return None if image.memory_bytes > _HEAVY_BYTES else decode_opened(image, preprocessing)


def _decode_slice(
    files: Sequence[bytes], opening: Opening, preprocessing: Preprocessing
) -> list[DecodedImage | Refusal]:
    """Decodes files in order, until `_SLICE_SECONDS` have passed or the next file is memory-heavy.

    Returns:
        The results of the files that were decoded; empty if the first file is memory-heavy.
    """
    done: list[DecodedImage | Refusal] = []
    end = perf_counter() + _SLICE_SECONDS
    for data in files:
        try:
            decoded = _decode_if_light(data, opening, preprocessing)
        except Refusal as refusal:
            done.append(_to_keep(refusal))
        else:
            if decoded is None:
                break
            done.append(decoded)
        if perf_counter() > end:
            break
    return done
