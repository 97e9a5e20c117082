"""Admits requests and judges their images, with limits on the number of requests and on the time of each."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Self, TypeVar

import numpy as np
from starlette.types import Receive, Scope

from app.detection.detector import MOST_AT_ONCE, Detection, Detector
from app.detection.images import DecodedImage
from app.detection.shown import OF_ARRAYS, Shown
from app.errors import NotReady, Overloaded, Refusal
from app.judging.decoding import Decoder, Pixels
from app.judging.queues import DetectionQueue, Patience
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import span, traced

T = TypeVar("T")
# A file as it came, or the pixels where pixels came.
Content = bytes | Pixels


class Judgement(NamedTuple):
    """A detection, with what is needed to explain it.

    Attributes:
        image: The (28, 28) input of the network, grey levels in [0, 1].
        detection: The result.
        detector: The detector that judged. It is the same for all images of one request, even if an artifact is
            reloaded meanwhile.
        shown: What the image's file shows of how it was sent.
    """

    image: Pixels
    detection: Detection
    detector: Detector
    shown: Shown = OF_ARRAYS


class Judge:
    """The judge of one app: holds the current detector and the limits, and admits requests.

    Attributes:
        metrics: Counts judged images.
        decoder: Decodes files; its threads also run other blocking work.
        waiting: Number of admitted requests that are not finished yet.
        draining: Whether the service is about to stop: it still answers, but is no longer ready.
        on_judged: Called with each judgement, the content that was judged and the request's scope. It runs in the event
            loop, so it must return at once.
    """

    def __init__(self, settings: Settings, metrics: Metrics | None = None) -> None:
        """
        Args:
            settings: The bounds.
            metrics: By default one of its own.
        """
        self.metrics = metrics or Metrics()
        self._timeout_seconds = settings.request_timeout_seconds
        self._max_waiting = settings.max_waiting
        self._queue: DetectionQueue | None = None
        self.decoder = Decoder(settings)
        self.waiting = 0
        self.draining = False
        self.on_judged: Callable[[Judgement, Content, Scope], None] | None = None

    @property
    def detector(self) -> Detector:
        """The detector that judges from now on.

        Raises:
            NotReady: None is loaded yet.
        """
        return self._current_queue().detector

    def current_detector(self) -> Detector | None:
        """The same, or None if none is loaded yet."""
        return None if self._queue is None else self._queue.detector

    def use(self, detector: Detector) -> None:
        """Judges with `detector` from the next request on; requests in flight keep the one that they began with."""
        self._queue = DetectionQueue(detector)
        self.metrics.use(detector)

    def check_ready(self) -> None:
        """Raises unless the service is ready for requests.

        Raises:
            NotReady: No artifact is loaded yet, or the service is shutting down.
        """
        if self.draining:
            raise NotReady("The service is shutting down.")
        self._current_queue()

    def close(self) -> None:
        """Takes no more work."""
        self.decoder.close()

    def admit(self, receive: Receive, scope: Scope | None = None, reduces: bool = True) -> "Admission":
        """Returns a context manager that counts the request, whose body is complete, among those in flight.

        Args:
            receive: The request's; tells when its client goes away.
            scope: The request's; `on_judged` finds its id and its route there.
            reduces: Whether a large JPEG may be judged at a fraction of its size (`OpenedImage`).

        Raises:
            NotReady: No artifact is loaded.
            Overloaded: The limit `max_waiting` is reached.
        """
        if self.waiting >= self._max_waiting:
            raise Overloaded(f"{self._max_waiting} requests are in flight or waiting; try again.")
        patience = Patience(self._timeout_seconds, receive)
        return Admission(self, self._current_queue(), patience, scope or {}, reduces)

    def count_waiting(self, more: int) -> None:
        """Counts one more admitted request, or one less; `Admission` calls it."""
        self.waiting += more
        self.metrics.waiting(self.waiting)

    def _current_queue(self) -> DetectionQueue:
        if self._queue is None:
            raise NotReady("The artifact is not loaded yet.")
        return self._queue


class Admission:
    """One admitted request, with its detector and its deadline. A context manager, at whose end its images are counted.

    Every method that uses a thread may also raise `DeadlineExceeded`, or `ClientDisconnect` if the client went away.
    The work is then not started, or its result is discarded.

    Attributes:
        detector: The detector for all images of this request.
    """

    def __init__(self, judge: Judge, queue: DetectionQueue, patience: Patience, scope: Scope, reduces: bool) -> None:
        self.detector = queue.detector
        self._judge = judge
        self._queue = queue
        self._decoder = judge.decoder
        self._patience = patience
        self._scope = scope
        self._reduces = reduces
        self._judged: list[tuple[Judgement, Content, bool]] = []

    def __enter__(self) -> Self:
        self._judge.count_waiting(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._judge.count_waiting(-1)
        for judgement, content, for_drift in self._judged:
            self._tell(judgement, content, for_drift)

    async def judge(self, data: bytes, for_drift: bool = True) -> Judgement:
        """Judges one file.

        Args:
            data: The file.
            for_drift: False for somebody who tries it on the page: no evidence of what clients send.

        Raises:
            Refusal: What opening and decoding it raise.
        """
        preprocessing = self.detector.artifact.preprocessing
        image = await self._decoder.decode(data, preprocessing, self._patience, self._reduces)
        with span("network"):
            detection = await self._queue.detect(image)
        judgement = Judgement(image.pixels, detection, self.detector, image.shown)
        self._judged.append((judgement, data, for_drift))
        return judgement

    async def judge_all(self, files: Sequence[bytes]) -> list[Judgement | Refusal]:
        """Judges several files, each to the same numbers as `judge` does.

        Returns:
            In order, a judgement, or the refusal of a file that cannot be judged.
        """
        preprocessing = self.detector.artifact.preprocessing
        decoded = await self._decoder.decode_all(files, preprocessing, self._patience, self._reduces)
        usable = [(one, file) for one, file in zip(decoded, files, strict=True) if not isinstance(one, Refusal)]
        judgements = iter(await self._judge_decoded([image for image, _ in usable], [file for _, file in usable]))
        results = [one if isinstance(one, Refusal) else next(judgements) for one in decoded]
        for result in results:
            if isinstance(result, Refusal):
                self._judge.metrics.refused(result.slug)
        return results

    async def judge_pixels(self, images: Sequence[Pixels]) -> list[Judgement]:
        """Judges images that need no decoding, each to the same numbers as a PNG of it.

        Args:
            images: (28, 28) each, grey levels in [0, 1].
        """
        return await self._judge_decoded([DecodedImage(pixels, OF_ARRAYS) for pixels in images], images)

    async def detect(self, images: Sequence[DecodedImage]) -> list[Detection]:
        """Judges further readings of images that were judged already; none of these is counted."""
        return list(await asyncio.gather(*map(self._queue.detect, images)))

    def revise(self, judgement: Judgement, final: Judgement) -> None:
        """Lets another judgement of the same image count in the place of `judgement`."""
        position = next(number for number, judged in enumerate(self._judged) if judged[0] is judgement)
        self._judged[position] = (final, *self._judged[position][1:])

    async def run(self, work: Callable[[], T]) -> T:
        """Runs other blocking work of this request, such as parsing, in a thread."""
        return await self._decoder.run(work, self._patience)

    async def run_heavy(self, work: Callable[[], T]) -> T:
        """Runs blocking work that may take as much memory as the largest decode, when no other such work runs."""
        return await self._patience.run(self._decoder.heavy, work)

    @traced("network")
    async def _judge_decoded(self, images: Sequence[DecodedImage], contents: Sequence[Content]) -> list[Judgement]:
        if len(images) <= MOST_AT_ONCE:
            # A small number of images shares a batch with images of other requests.
            detections = await asyncio.gather(*map(self._queue.detect, images))
        else:
            # A large number runs in a thread, since it would block the event loop for too long.
            pixels = np.stack([image.pixels for image in images])
            shown = [image.shown for image in images]
            detections = await self.run(partial(self.detector.detect, pixels, shown))
        judgements = [
            Judgement(image.pixels, detection, self.detector, image.shown)
            for image, detection in zip(images, detections, strict=True)
        ]
        self._judged += [(judgement, content, True) for judgement, content in zip(judgements, contents, strict=True)]
        return judgements

    def _tell(self, judgement: Judgement, content: Content, for_drift: bool = True) -> None:
        self._judge.metrics.judged(judgement.detection, self.detector, for_drift)
        # What somebody tries on the page is no evidence of what clients send, and the page says that it is not kept.
        if for_drift and self._judge.on_judged is not None:
            self._judge.on_judged(judgement, content, self._scope)
