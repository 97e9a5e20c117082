"""One upload -> one judgement: small images in place, others in threads; bounded in number, time and memory."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from starlette.types import Receive

from app.detector import Detection, Detector
from app.errors import DeadlineExceeded, NotReady, Overloaded, Refusal
from app.images import OpenedImage, open_image, to_grayscale
from app.lanes import Lane, while_connected
from app.metrics import Metrics
from app.settings import Settings

T = TypeVar("T")

# Up to these sizes a decode takes less time than handing it to a thread and back.
_IN_PLACE_BYTES = 16 * 2**10
_IN_PLACE_PIXELS = 256 * 256
# A decode that takes more memory than this waits until no other such decode runs; lighter ones pass it.
_HEAVY_BYTES = 48 * 2**20
_LIGHT_THREADS = 2
# A batch gives its thread back after this long and queues again, so that single images need not wait for all of it.
_SLICE_SECONDS = 0.05


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
        self._max_waiting = settings.max_waiting
        self._detector: Detector | None = None
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
        if self._detector is None:
            raise NotReady("The artifact is not loaded yet.")
        return self._detector

    @property
    def loaded(self) -> bool:
        return self._detector is not None

    def use(self, detector: Detector) -> None:
        """Judges with `detector` from the next request on; those in work keep the one that they began with."""
        self._detector = detector
        self.metrics.use(detector)

    def close(self) -> None:
        self.light.close()
        self.heavy.close()

    @contextmanager
    def admit(self, receive: Receive) -> Iterator["Turn"]:
        """For as long as a request, whose body is complete, is in work or waits for it.

        Args:
            receive: The request's; tells when its client goes away.

        Raises:
            NotReady: No artifact is loaded.
            Overloaded: As many as are accepted are there already.
        """
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} requests are in work or waiting; try again.")
        turn = Turn(self, self.detector, receive)
        self.waiting += 1
        self.metrics.waiting(self.waiting)
        try:
            yield turn
        finally:
            self.waiting -= 1
            self.metrics.waiting(self.waiting)


class Turn:
    """One admitted request: its detector, from first to last, and its deadline.

    Every method raises, besides what it names, `DeadlineExceeded`, and `ClientDisconnect` when the client went away
    while the request waited; its work is then not started, or its result thrown away.
    """

    def __init__(self, judge: Judge, detector: Detector, receive: Receive) -> None:
        self.detector = detector
        self._judge = judge
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + judge.timeout_seconds

    async def judge(self, data: bytes) -> Judgement:
        """Judges one file.

        Raises:
            Refusal: What opening and decoding it raise.
        """
        judgement = await self._judge_file(data)
        self.count([judgement])
        return judgement

    async def _judge_file(self, data: bytes) -> Judgement:
        if len(data) <= _IN_PLACE_BYTES:
            image = open_image(data, self._judge.max_pixels)
            if image.width * image.height <= _IN_PLACE_PIXELS:
                return _judge_opened(image, self.detector)
        judgement = await self.run(partial(_judge_if_light, data, self._judge.max_pixels, self.detector))
        return judgement or await self._judge_heavy(data)

    async def judge_all(self, files: Sequence[bytes]) -> list[Judgement | Refusal]:
        """Judges several files, each by itself and so exactly as `judge` does.

        Returns:
            In order, a judgement, or the refusal of a file that cannot be judged.
        """
        results: list[Judgement | Refusal] = []
        while len(results) < len(files):
            rest = files[len(results) :]
            done = await self.run(partial(_judge_slice, rest, self._judge.max_pixels, self.detector))
            results += done
            if not done:
                results.append(await self._judge_heavy_or_refuse(rest[0]))
        self.count(results)
        return results

    async def judge_pixels(self, images: NDArray[np.float32]) -> list[Judgement]:
        """Judges images that need no decoding, each by itself as above.

        Args:
            images: (N, 28, 28), grey levels in [0, 1].
        """
        judge = partial(_judge_pixels, images, self.detector)
        judgements = judge() if len(images) == 1 else await self.run(judge)
        self.count(judgements)
        return judgements

    def count(self, results: Sequence[Judgement | Refusal]) -> None:
        """Tells the metrics; `judge` and `judge_all` do so themselves."""
        for result in results:
            if isinstance(result, Refusal):
                self._judge.metrics.refused(result.slug)
            else:
                self._judge.metrics.judged(result.detection, result.detector)

    async def _judge_heavy_or_refuse(self, data: bytes) -> Judgement | Refusal:
        try:
            return await self._judge_heavy(data)
        except Refusal as refusal:
            if refusal.status >= 500:
                raise
            return refusal

    async def _judge_heavy(self, data: bytes) -> Judgement:
        # Opened again, for an opened image that waits would keep its copy of the file all the while.
        return await self.run(partial(_judge, data, self._judge.max_pixels, self.detector), heavy=True)

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


def _judge_opened(image: OpenedImage, detector: Detector) -> Judgement:
    pixels = to_grayscale(image, detector.artifact.preprocessing)
    return Judgement(pixels, detector.detect(pixels[np.newaxis])[0], detector)


def _judge_pixels(images: NDArray[np.float32], detector: Detector) -> list[Judgement]:
    return [Judgement(pixels, detector.detect(pixels[np.newaxis])[0], detector) for pixels in images]


def _judge(data: bytes, max_pixels: int, detector: Detector) -> Judgement:
    return _judge_opened(open_image(data, max_pixels), detector)


def _judge_if_light(data: bytes, max_pixels: int, detector: Detector) -> Judgement | None:
    """A judgement, or none if decoding takes so much memory that the image has to wait its turn."""
    image = open_image(data, max_pixels)
    return None if image.memory_bytes > _HEAVY_BYTES else _judge_opened(image, detector)


def _judge_slice(files: Sequence[bytes], max_pixels: int, detector: Detector) -> list[Judgement | Refusal]:
    """Judges files from the first on, until the time is up or one comes that has to wait its turn: none if the first.

    The network sees one image at a time: for a batch a runtime may add up in another order than for one image,
    and with the last bits a score next to the threshold could fall on its other side.
    """
    done: list[Judgement | Refusal] = []
    end = perf_counter() + _SLICE_SECONDS
    for data in files:
        try:
            judgement = _judge_if_light(data, max_pixels, detector)
        except Refusal as refusal:
            done.append(refusal)
        else:
            if judgement is None:
                break
            done.append(judgement)
        if perf_counter() > end:
            break
    return done
