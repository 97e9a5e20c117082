import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.requests import ClientDisconnect

from app.detection.detector import MOST_AT_ONCE, Detection, Detector
from app.detection.images import DecodedImage
from app.detection.shown import OF_ARRAYS, Shown
from app.judging.queues import DetectionQueue, Lane, while_connected


class Gate:
    """Work that tells when it starts, and ends when the test says so."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.release = threading.Event()

    def __call__(self) -> str:
        self.started.set()
        assert self.release.wait(5)
        return "done"


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def never() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_a_lane_does_no_more_at_once_than_it_has_threads() -> None:
    async def scenario() -> None:
        lane, first, second = Lane("test", 1), Gate(), Gate()
        tasks = [asyncio.create_task(lane.run(work)) for work in (first, second)]
        await wait_for(first.started)
        assert not second.started.is_set()
        first.release.set()
        await wait_for(second.started)
        second.release.set()
        assert await asyncio.gather(*tasks) == ["done", "done"]
        lane.close()

    run(scenario)


def test_work_that_nobody_waits_for_any_more_is_not_started() -> None:
    async def scenario() -> None:
        lane, first, dropped, last = Lane("test", 1), Gate(), Gate(), Gate()
        tasks = [asyncio.create_task(lane.run(work)) for work in (first, dropped, last)]
        await wait_for(first.started)
        tasks[1].cancel()
        first.release.set()
        await wait_for(last.started)
        last.release.set()
        assert [str(result) for result in await asyncio.gather(*tasks, return_exceptions=True)] == ["done", "", "done"]
        assert not dropped.started.is_set()
        lane.close()

    run(scenario)


def test_work_that_runs_keeps_its_place_until_it_ends_though_its_caller_gave_up() -> None:
    async def scenario() -> None:
        lane, abandoned, following = Lane("test", 1), Gate(), Gate()
        task = asyncio.create_task(lane.run(abandoned))
        await wait_for(abandoned.started)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        waiting = asyncio.create_task(lane.run(following))
        await asyncio.sleep(0.05)
        assert not following.started.is_set()
        abandoned.release.set()
        following.release.set()
        assert await waiting == "done"
        lane.close()

    run(scenario)


def test_what_the_work_raises_reaches_its_caller() -> None:
    async def scenario() -> None:
        lane = Lane("test", 1)
        with pytest.raises(ZeroDivisionError):
            await lane.run(lambda: 1 // 0)
        assert await lane.run(lambda: 1) == 1
        lane.close()

    run(scenario)


def test_a_client_that_goes_away_ends_the_wait() -> None:
    async def scenario() -> None:
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def wait() -> None:
            async with while_connected(receive):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        gone.set()
        with pytest.raises(ClientDisconnect):
            await task
        assert task.cancelling() == 0

    run(scenario)


def test_a_client_that_stays_is_not_noticed() -> None:
    async def scenario() -> None:
        async with while_connected(never):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)
        assert len(asyncio.all_tasks()) == 2, "the watch goes on after the work"

    run(scenario)


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def scenario() -> None:
        async def wait() -> None:
            async with while_connected(never):
                await asyncio.Event().wait()

        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(scenario)


def test_a_deadline_around_a_watched_wait_is_a_timeout() -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), while_connected(never):
                await asyncio.Event().wait()

    run(scenario)


def level(value: float) -> DecodedImage:
    return DecodedImage(np.full((28, 28), value, np.float32), OF_ARRAYS)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the network in each call."""
    sizes: list[int] = []
    detect = Detector.detect

    def counting(self: Detector, images: NDArray[np.float32], shown: Sequence[Shown] | None = None) -> list[Detection]:
        sizes.append(len(images))
        return detect(self, images, shown)

    monkeypatch.setattr(Detector, "detect", counting)
    return sizes


def test_images_that_come_within_the_same_turns_of_the_loop_are_judged_together(
    tiny_detector: Detector, batches: list[int]
) -> None:
    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)

        async def after(turns: int) -> Detection:
            for _ in range(turns):
                await asyncio.sleep(0)
            return await queue.detect(level(turns / 10))

        found = await asyncio.gather(*map(after, range(5)))
        expected = [tiny_detector.detect(level(turns / 10).pixels[np.newaxis])[0].loss for turns in range(5)]
        assert [detection.loss for detection in found] == expected

    run(scenario)
    assert batches == [5, 1, 1, 1, 1, 1]


def test_an_image_alone_is_judged_without_waiting_for_another(tiny_detector: Detector, batches: list[int]) -> None:
    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)
        for _ in range(3):
            assert (await queue.detect(level(1))).score == 0

    run(scenario)
    assert batches == [1, 1, 1]


def test_more_images_than_fit_one_batch_take_several(tiny_detector: Detector, batches: list[int]) -> None:
    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)
        count = 2 * MOST_AT_ONCE + 3
        found = await asyncio.gather(*(queue.detect(level(place / count)) for place in range(count)))
        losses = [detection.loss for detection in found]
        assert losses == sorted(losses, reverse=True)
        assert len(set(losses)) == count

    run(scenario)
    assert batches == [MOST_AT_ONCE, MOST_AT_ONCE, 3]


def test_images_that_trickle_in_do_not_hold_the_first_one_up(tiny_detector: Detector, batches: list[int]) -> None:
    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)
        waiting = []
        for _ in range(12):  # a turn for each, in which something else takes 2 milliseconds
            waiting.append(asyncio.create_task(queue.detect(level(1))))
            await asyncio.sleep(0)
            time.sleep(0.002)  # noqa: ASYNC251  # as a decode does
        await asyncio.gather(*waiting)

    run(scenario)
    assert max(batches) < 6
    assert sum(batches) == 12


def test_a_caller_that_went_away_takes_no_row(tiny_detector: Detector, batches: list[int]) -> None:
    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)
        staying, leaving = (asyncio.create_task(queue.detect(level(value))) for value in (1, 0))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).score == 0
        with pytest.raises(asyncio.CancelledError):
            await leaving

    run(scenario)
    assert batches == [1]


def test_what_goes_wrong_in_the_network_reaches_every_caller(
    tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Detector, images: NDArray[np.float32], shown: Sequence[Shown] | None = None) -> list[Detection]:
        raise RuntimeError("out of order")

    async def scenario() -> None:
        queue = DetectionQueue(tiny_detector)
        with monkeypatch.context() as patch:
            patch.setattr(Detector, "detect", broken)
            results = await asyncio.gather(*(queue.detect(level(1)) for _ in range(3)), return_exceptions=True)
        assert [str(result.__cause__) for result in results] == ["out of order"] * 3  # type: ignore[union-attr]
        assert (await queue.detect(level(1))).score == 0

    run(scenario)
