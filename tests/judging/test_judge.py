import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.errors import DeadlineExceeded, Overloaded, Refusal
from app.judging.judge import Judge, Judgement
from app.judging.queues import Lane
from app.main import create_app
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.pictures import encoded, picture


async def stay() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


def noise(side: int, seed: int = 0, mode: str = "L", image_format: str = "PNG") -> bytes:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, *channels), np.uint8)
    return encoded(Image.fromarray(pixels), image_format)


def judge_of(detector: Detector, **settings: Any) -> Judge:
    judge = Judge(Settings(**settings))
    judge.use(detector)
    return judge


@asynccontextmanager
async def occupied(lane: Lane) -> AsyncIterator[threading.Event]:
    """Fills a lane with work until the event is set, at the latest at the end."""
    release = threading.Event()
    tasks = [asyncio.create_task(lane.run(lambda: release.wait(5))) for _ in range(3)]
    await asyncio.sleep(0)
    yield release
    release.set()
    await asyncio.gather(*tasks)


def test_more_requests_than_may_wait_are_refused_at_once(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector, max_waiting=2)
        with judge.admit(stay), judge.admit(stay):
            assert judge.waiting == 2
            with pytest.raises(Overloaded), judge.admit(stay):
                pass
        assert judge.waiting == 0

    asyncio.run(scenario())


def test_a_request_past_its_deadline_is_given_up_and_its_image_is_not_decoded(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector, request_timeout_seconds=0.05)
        async with occupied(judge.decoder.light):
            with judge.admit(stay) as turn, pytest.raises(DeadlineExceeded):
                await turn.judge(noise(300))
        judge.close()

    asyncio.run(scenario())


def test_the_deadline_counts_from_admission_and_not_from_each_step(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector, request_timeout_seconds=0.1)
        with judge.admit(stay) as turn:
            await asyncio.sleep(0.11)
            with pytest.raises(DeadlineExceeded):
                await turn.run(lambda: None)
        judge.close()

    asyncio.run(scenario())


def test_images_of_every_size_give_what_the_detector_gives(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector)
        # In place, small in bytes but not in pixels, in the light lane, and in the heavy lane.
        files = [picture(28), picture(1000), noise(300), picture(3000, "RGBA")]
        with judge.admit(stay) as turn:
            alone = [await turn.judge(data) for data in files]
            together = await turn.judge_all(files)
        for one, other in zip(alone, together, strict=True):
            assert isinstance(other, Judgement)
            assert one.detection.score == other.detection.score
            assert (one.image == other.image).all()
        judge.close()

    asyncio.run(scenario())


def test_large_decodes_take_turns_while_small_ones_pass(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector)
        async with occupied(judge.decoder.heavy) as release:
            with judge.admit(stay) as large, judge.admit(stay) as small:
                waiting = asyncio.create_task(large.judge(picture(3000, "RGBA")))
                await small.judge(noise(300))
                await asyncio.sleep(0.05)
                assert not waiting.done()
                release.set()
                await waiting
        judge.close()

    asyncio.run(scenario())


def test_on_one_core_an_ordinary_jpeg_needs_no_thread(tiny_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector)
        async with occupied(judge.decoder.light) as release:
            with judge.admit(stay) as turn:
                await asyncio.wait_for(turn.judge(noise(400, image_format="JPEG")), 2)
            with judge.admit(stay) as one, judge.admit(stay) as other:
                large = asyncio.create_task(one.judge(noise(400)))
                heavy_for_its_pixels = asyncio.create_task(other.judge(noise(150)))  # 22 KB
                await asyncio.sleep(0.05)
                assert not large.done()
                assert not heavy_for_its_pixels.done()
                release.set()
                await asyncio.gather(large, heavy_for_its_pixels)
        judge.close()

    monkeypatch.setattr("app.judging.decoding.usable_cores", lambda: 1)
    asyncio.run(scenario())


def test_a_file_of_a_batch_that_cannot_be_judged_gives_its_refusal_in_its_place(tiny_detector: Detector) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector)
        broken_large = picture(3000, "RGBA")[:-200]
        with judge.admit(stay) as turn:
            results = await turn.judge_all([picture(), b"text", noise(300)[:5000], broken_large, picture()])
        kinds = [result.status if isinstance(result, Refusal) else 200 for result in results]
        assert kinds == [200, 415, 422, 422, 200]
        judge.close()

    asyncio.run(scenario())


def test_a_request_keeps_its_artifact_when_another_is_loaded_meanwhile(tiny_detector: Detector, tmp_path: Path) -> None:
    async def scenario() -> None:
        judge = judge_of(tiny_detector)
        other = Detector(load_artifact(write_tiny_artifact(tmp_path / "other", threshold=0.25)))
        async with occupied(judge.decoder.light) as release:
            with judge.admit(stay) as turn:
                batch = asyncio.create_task(turn.judge_all([picture(), noise(300)]))
                await asyncio.sleep(0)
                judge.use(other)
                release.set()
                results = await batch
        assert {one.detector for one in results if isinstance(one, Judgement)} == {tiny_detector}
        with judge.admit(stay) as turn:
            assert (await turn.judge(picture())).detector is other
        judge.close()

    asyncio.run(scenario())


def test_500_concurrent_requests_get_each_their_own_answer(tiny_artifact: Path) -> None:
    # Every image has a grey level, and so a score, of its own: rows that change places would show.
    files = [picture(side=28 if i % 2 else 300, level=i % 250, width=28 + i) for i in range(500)]

    async def scenario() -> None:
        app = create_app(Settings(artifact=tiny_artifact, log_level="error"))
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app=app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://gate", timeout=30) as client:
                sequential = [(await client.post("/v1/predict", content=data)).json() for data in files]
                concurrent = await asyncio.gather(*(client.post("/v1/predict", content=data) for data in files))
        assert [response.json() for response in concurrent] == sequential
        assert len({answer["score"] for answer in sequential}) == 250

    asyncio.run(scenario())


def test_an_image_scores_the_same_alone_and_in_a_batch(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    files = [noise(28, seed) for seed in range(20)] + [noise(300, seed) for seed in range(5)]
    alone = [client.post("/v1/predict", content=data).json() for data in files]
    batch = client.post("/v1/predict/batch", files=[("files", data) for data in files]).json()["results"]
    assert batch == alone


def test_overload_is_answered_with_retry_after(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_waiting=1)
    client.app.state.judge.waiting = 1
    response = client.post("/v1/predict", content=picture())
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "urn:imagegate:overloaded"
    assert client.get("/livez").status_code == client.get("/readyz").status_code == 200
