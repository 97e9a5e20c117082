"""Thread pools with cancellable queues, the queue that batches images for the network, and client disconnects."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from app.detection.detector import MOST_AT_ONCE, Detection, Detector
from app.detection.images import DecodedImage
from app.errors import DeadlineExceeded

T = TypeVar("T")

_LONGEST_SECONDS = 0.005


class Lane:
    """A fixed number of threads, with a first-in, first-out queue in the event loop.

    The executor's own queue is not used: there, a cancelled work item, and the upload it references, stays in memory
    until a thread gets to it. Here a caller that is cancelled while it waits leaves nothing behind.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._free = asyncio.Semaphore(threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread.

        Cancelled while waiting, the work is not started. Cancelled later, the work cannot be stopped: its thread, and
        so its place in the lane, stays taken until it ends.
        """
        await self._free.acquire()
        try:
            running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        except RuntimeError:  # the threads are shut down
            self._free.release()
            raise
        running.add_done_callback(lambda _: self._free.release())
        # Shielded: cancelling the future would mark it as done, and release the slot while its thread is still busy.
        return await asyncio.shield(running)

    def close(self) -> None:
        """Takes no more work; what runs goes on, and the interpreter waits for it at its exit."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Patience:
    """Runs a request's work in threads until the request's deadline passes or its client disconnects."""

    def __init__(self, seconds: float, receive: Receive) -> None:
        """
        Args:
            seconds: Time until the deadline, from now.
            receive: The request's ASGI receive; its body must have been read completely.
        """
        self._seconds = seconds
        self._receive = receive
        self._deadline = asyncio.get_running_loop().time() + seconds

    async def run(self, lane: Lane, work: Callable[[], T]) -> T:
        """Runs blocking work in a thread of `lane`.

        Raises:
            DeadlineExceeded: The time is up.
            ClientDisconnect: The client went away.
        """
        try:
            async with asyncio.timeout_at(self._deadline), while_connected(self._receive):
                return await lane.run(work)
        except TimeoutError as error:
            raise DeadlineExceeded(f"No answer within {self._seconds:g} seconds; try again.") from error


class DetectionQueue:
    """Collects images for one detector and runs them through its network as a batch.

    A network of this size spends most of its time reading weights from memory, and a batch reads them only once
    (measured in benchmarks/serving.md). The results are bit-identical to those of single images. There is no timer: a
    batch starts after an iteration of the event loop that adds no image, so that a single image waits for one iteration
    only. It also starts if it is full, or if its first image has waited for `_LONGEST_SECONDS`.
    """

    def __init__(self, detector: Detector) -> None:
        self.detector = detector
        self._seen = 0
        self._since = 0.0
        self._waiting: list[tuple[DecodedImage, asyncio.Future[Detection]]] = []

    async def detect(self, image: DecodedImage) -> Detection:
        """Judges one image; a caller that is cancelled leaves the queue."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            self._since = loop.time()
            loop.call_soon(self._detect_when_complete)
        detection: asyncio.Future[Detection] = loop.create_future()
        self._waiting.append((image, detection))
        return await detection

    def _detect_when_complete(self) -> None:
        loop = asyncio.get_running_loop()
        if self._seen < len(self._waiting) < MOST_AT_ONCE and loop.time() - self._since < _LONGEST_SECONDS:
            self._seen = len(self._waiting)
            loop.call_soon(self._detect_when_complete)
            return
        taken, self._waiting, self._seen = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:], 0
        if self._waiting:
            loop.call_soon(self._detect_when_complete)
        wanted = [(image, detection) for image, detection in taken if not detection.done()]
        if not wanted:
            return
        try:
            # Not np.stack(), which takes four times as long.
            images = np.array([image.pixels for image, _ in wanted])
            found = self.detector.detect(images, [image.shown for image, _ in wanted])
            results = list(zip(wanted, found, strict=True))
        except Exception as error:  # fail every request of the batch; otherwise their futures would never complete
            for _, detection in wanted:
                failure = RuntimeError("The network failed.")
                failure.__cause__ = error
                detection.set_exception(failure)
        else:
            for (_, detection), result in results:
                detection.set_result(result)


@asynccontextmanager
async def while_connected(receive: Receive) -> AsyncIterator[None]:
    """Cancels the body of the `async with` block as soon as the client disconnects.

    Args:
        receive: The request's ASGI receive; its body must have been read completely.

    Raises:
        ClientDisconnect: The client disconnected.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientDisconnect from None
        raise
    finally:
        watcher.cancel()
