"""One upload -> one judgement: small files decoded in place, others in threads; bounded in number, time and memory."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive

from app.detection.detector import MOST_AT_ONCE, Detection, Detector
from app.detection.images import OpenedImage, Preprocessing, decode_image, open_image, to_grayscale
from app.errors import DeadlineExceeded, NotReady, Overloaded, Refusal
from app.judging.queues import DetectionQueue, Lane, while_connected
from app.settings import Settings, usable_cores
from app.telemetry.metrics import Metrics

T = TypeVar("T")
Pixels = NDArray[np.float32]

# Up to these sizes a decode takes less time than handing it to a thread and back.
_IN_PLACE_BYTES = 16 * 2**10
_IN_PLACE_PIXELS = 256 * 256
# With one core for each process a thread gains nothing; but the event loop should not stand still for long: an ordinary
# JPEG of this size takes 3 ms, other formats several times as much.
_IN_PLACE_JPEG_BYTES = 256 * 2**10
_IN_PLACE_JPEG_PIXELS = 2**20
# A decode that takes more memory than this waits until no other such decode runs; lighter ones pass it.
_HEAVY_BYTES = 48 * 2**20
_LIGHT_THREADS = 2
# A batch gives its thread back after this long and queues again, so that single images need not wait for all of it.
_SLICE_SECONDS = 0.05


class Judgement(NamedTuple):
    """A detection, with what is needed to explain it.

    Attributes:
        image: (28, 28), what the network saw, grey levels in [0, 1].
        detection: What it made of it.
        detector: Which artifact judged; two requests may meet two, one request never does.
    """

    image: Pixels
    detection: Detection
    detector: Detector


class Judge:
    """Judges uploads for one app.

    Attributes:
        waiting: Requests admitted at this moment, in work or waiting.
        draining: The service is about to stop: it still answers, but is not ready.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        """
        Args:
            settings: The bounds.
            metrics: Counts what is judged.
        """
        self.metrics = metrics or Metrics()
        self.max_pixels = settings.max_image_pixels
        self.timeout_seconds = settings.request_timeout_seconds
        self._has_spare_core = usable_cores() > settings.workers
        self._max_waiting = settings.max_waiting
        self._queue: DetectionQueue | None = None
        self.light = Lane("decode", _LIGHT_THREADS)
        self.heavy = Lane("decode-large", 1)
        self.waiting = 0
        self.draining = False

    @property
    def detector(self) -> Detector:
        """The detector that judges from now on.

        Raises:
            NotReady: None is loaded yet.
        """
        return self._current_queue().detector

    @property
    def loaded(self) -> bool:
        return self._queue is not None

    def use(self, detector: Detector) -> None:
        """Judges with `detector` from the next request on; those in work keep the one that they began with."""
        self._queue = DetectionQueue(detector)
        self.metrics.use(detector)

    @property
    def in_place_bytes(self) -> int:
        """Larger files are not even opened in the event loop."""
        return _IN_PLACE_BYTES if self._has_spare_core else _IN_PLACE_JPEG_BYTES

    def decodes_in_place(self, image: OpenedImage, size: int) -> bool:
        """Whether decoding a file of `size` bytes takes so little time that a thread is not worth it."""
        pixels = image.width * image.height
        if pixels <= _IN_PLACE_PIXELS and size <= _IN_PLACE_BYTES:
            return True
        return not self._has_spare_core and image.is_streamed and pixels <= _IN_PLACE_JPEG_PIXELS

    def close(self) -> None:
        self.light.close()
        self.heavy.close()

    def admit(self, receive: Receive) -> "Turn":
        """For as long as a request, whose body is complete, is in work or waits for it, in a `with`.

        Args:
            receive: The request's; tells when its client goes away.

        Raises:
            NotReady: No artifact is loaded.
            Overloaded: As many as are accepted are there already.
        """
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} requests are in work or waiting; try again.")
        return Turn(self, self._current_queue(), receive)

    def count_waiting(self, more: int) -> None:
        """One more request is admitted, or one is done; `Turn` says so."""
        self.waiting += more
        self.metrics.waiting(self.waiting)

    def _current_queue(self) -> DetectionQueue:
        if self._queue is None:
            raise NotReady("The artifact is not loaded yet.")
        return self._queue


class Turn:
    """One admitted request: its detector, from first to last, and its deadline.

    Whatever waits for a thread raises, besides what it names, `DeadlineExceeded`, and `ClientDisconnect` when the
    client went away meanwhile; the work is then not started, or its result thrown away. What is small enough to be
    done in place is done.
    """

    def __init__(self, judge: Judge, queue: DetectionQueue, receive: Receive) -> None:
        self.detector = queue.detector
        self._queue = queue
        self._judge = judge
        self._preprocessing = self.detector.artifact.preprocessing
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + judge.timeout_seconds

    def __enter__(self) -> Self:
        self._judge.count_waiting(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._judge.count_waiting(-1)

    async def judge(self, data: bytes) -> Judgement:
        """Judges one file.

        Raises:
            Refusal: What opening and decoding it raise.
        """
        pixels = await self._decode(data)
        judgement = Judgement(pixels, await self._queue.detect(pixels), self.detector)
        self.count([judgement])
        return judgement

    async def _decode(self, data: bytes) -> Pixels:
        if len(data) <= self._judge.in_place_bytes:
            image = open_image(data, self._judge.max_pixels)
            if self._judge.decodes_in_place(image, len(data)):
                return to_grayscale(image, self._preprocessing)
        light = partial(_decode_if_light, data, self._judge.max_pixels, self._preprocessing)
        pixels = await self.run(light)
        return await self._decode_heavy(data) if pixels is None else pixels

    async def judge_all(self, files: Sequence[bytes]) -> list[Judgement | Refusal]:
        """Judges several files, each to the same numbers as `judge` does.

        Returns:
            In order, a judgement, or the refusal of a file that cannot be judged.
        """
        decoded: list[Pixels | Refusal] = []
        while len(decoded) < len(files):
            rest = files[len(decoded) :]
            done = await self.run(partial(_decode_slice, rest, self._judge.max_pixels, self._preprocessing))
            decoded += done
            if not done:
                decoded.append(await self._decode_heavy_or_refuse(rest[0]))
        judgements = iter(await self._detect([one for one in decoded if not isinstance(one, Refusal)]))
        results = [one if isinstance(one, Refusal) else next(judgements) for one in decoded]
        self.count(results)
        return results

    async def judge_pixels(self, images: Pixels) -> list[Judgement]:
        """Judges images that need no decoding, each to the same numbers as above.

        Args:
            images: (N, 28, 28), grey levels in [0, 1].
        """
        judgements = await self._detect(list(images))
        self.count(judgements)
        return judgements

    async def _detect(self, images: Sequence[Pixels]) -> list[Judgement]:
        """Few of them go with what other requests have waiting; for many, the event loop would stand still too long."""
        if len(images) <= MOST_AT_ONCE:
            detections = await asyncio.gather(*map(self._queue.detect, images))
        else:
            detections = await self.run(partial(self.detector.detect, np.stack(images)))
        return [
            Judgement(pixels, detection, self.detector) for pixels, detection in zip(images, detections, strict=True)
        ]

    def count(self, results: Sequence[Judgement | Refusal]) -> None:
        """Tells the metrics; `judge` and `judge_all` do so themselves."""
        for result in results:
            if isinstance(result, Refusal):
                self._judge.metrics.refused(result.slug)
            else:
                self._judge.metrics.judged(result.detection, result.detector)

    async def _decode_heavy_or_refuse(self, data: bytes) -> Pixels | Refusal:
        try:
            return await self._decode_heavy(data)
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            return _to_keep(refusal)

    async def _decode_heavy(self, data: bytes) -> Pixels:
        # Opened again, for an opened image that waits would keep its copy of the file all the while.
        return await self.run(partial(decode_image, data, self._preprocessing, self._judge.max_pixels), heavy=True)

    async def run(self, work: Callable[[], T], heavy: bool = False) -> T:
        """Blocking work in a thread.

        Args:
            heavy: It takes much memory: one at a time.
        """
        lane = self._judge.heavy if heavy else self._judge.light
        try:
            async with asyncio.timeout_at(self._deadline), while_connected(self._receive):
                return await lane.run(work)
        except TimeoutError as error:
            seconds = self._judge.timeout_seconds
            raise DeadlineExceeded(f"No answer within {seconds:g} seconds; try again.") from error


def _to_keep(refusal: Refusal) -> Refusal:
    """Without its traceback, whose frames hold a copy of the file."""
    return refusal.with_traceback(None)


def _decode_if_light(data: bytes, max_pixels: int, preprocessing: Preprocessing) -> Pixels | None:
    """What the network sees, or none if decoding takes so much memory that the image has to wait its turn."""
    image = open_image(data, max_pixels)
    return None if image.memory_bytes > _HEAVY_BYTES else to_grayscale(image, preprocessing)


def _decode_slice(files: Sequence[bytes], max_pixels: int, preprocessing: Preprocessing) -> list[Pixels | Refusal]:
    """Decodes files from the first on, until time is up or one comes that has to wait its turn: none if the first."""
    done: list[Pixels | Refusal] = []
    end = perf_counter() + _SLICE_SECONDS
    for data in files:
        try:
            pixels = _decode_if_light(data, max_pixels, preprocessing)
        except Refusal as refusal:
            done.append(_to_keep(refusal))
        else:
            if pixels is None:
                break
            done.append(pixels)
        if perf_counter() > end:
            break
    return done
