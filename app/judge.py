"""One upload -> one judgement: small images in place, large ones in a fixed pool of threads, all bounded."""

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.detector import Detection, Detector
from app.errors import DeadlineExceeded, NotReady, Overloaded, Refusal
from app.images import open_image, to_grayscale
from app.settings import Settings

# Up to these sizes a decode takes less time than handing it to a thread and back.
_IN_PLACE_BYTES = 16 * 2**10
_IN_PLACE_PIXELS = 256 * 256
_POOL_THREADS = 2


@dataclass(frozen=True, slots=True)
class Judgement:
    """A detection, with what is needed to explain it.

    Attributes:
        image: (28, 28), what the network saw, grey levels in [0, 1].
        detection: What it made of it.
        detector: Which artifact judged; two requests may meet two, one request never does.
    """

    image: NDArray[np.float32]
    detection: Detection
    detector: Detector


class Judge:
    """Judges uploads for one app."""

    def __init__(self, settings: Settings) -> None:
        self._max_pixels = settings.max_image_pixels
        self._max_waiting = settings.max_waiting
        self._timeout_seconds = settings.request_timeout_seconds
        self._detector: Detector | None = None
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="decode")
        self.waiting = 0
        self.draining = False

    @property
    def detector(self) -> Detector:
        """The detector that judges from now on.

        Raises:
            NotReady: None is loaded yet.
        """
        if self._detector is None:
            raise NotReady("The artifact is not loaded yet.")
        return self._detector

    def use(self, detector: Detector) -> None:
        """Judges with `detector` from the next request on."""
        self._detector = detector

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    async def judge(self, data: bytes) -> Judgement:
        """Judges one file.

        Raises:
            Refusal: What the decoding raises; `NotReady`, `Overloaded`, `DeadlineExceeded`.
        """
        detector = self.detector
        with self._admit():
            image = await self._decode(data, detector)
            return Judgement(image, detector.detect(image[np.newaxis])[0], detector)

    async def judge_all(self, files: Sequence[bytes]) -> list[Judgement | Refusal]:
        """Judges several files with one detector; a file that cannot be judged gives its refusal, in its place.

        Raises:
            Refusal: `NotReady`, `Overloaded` or `DeadlineExceeded`, which concern the whole request.
        """
        detector = self.detector
        with self._admit():
            images = [await self._decode_or_refuse(data, detector) for data in files]
            usable = [image for image in images if not isinstance(image, Refusal)]
            detections = iter(detector.detect(np.stack(usable)) if usable else [])
            return [
                image if isinstance(image, Refusal) else Judgement(image, next(detections), detector)
                for image in images
            ]

    @contextmanager
    def _admit(self) -> Iterator[None]:
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"More than {self._max_waiting} requests are in work or waiting; try again.")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def _decode_or_refuse(self, data: bytes, detector: Detector) -> NDArray[np.float32] | Refusal:
        try:
            return await self._decode(data, detector)
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            return refusal

    async def _decode(self, data: bytes, detector: Detector) -> NDArray[np.float32]:
        if len(data) <= _IN_PLACE_BYTES:
            image = open_image(data, self._max_pixels)
            if image.width * image.height <= _IN_PLACE_PIXELS:
                return to_grayscale(image, detector.artifact.preprocessing)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await loop.run_in_executor(self._pool, self._decode_in_pool, data, detector)
        except TimeoutError as error:
            raise DeadlineExceeded(f"No answer within {self._timeout_seconds:g} seconds; try again.") from error

    def _decode_in_pool(self, data: bytes, detector: Detector) -> NDArray[np.float32]:
        return to_grayscale(open_image(data, self._max_pixels), detector.artifact.preprocessing)
