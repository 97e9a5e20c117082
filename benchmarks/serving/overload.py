"""What a worker does when more comes than it can do: memory, probes, and who is answered.

    python -m benchmarks.serving.overload [--kind jpeg|png|webp] [--requests 200]

Sends photographs all at once to a server of its own, with a probe every 50 ms beside them.
"""

import argparse
import asyncio
import collections
import re
import subprocess
import sys
import tempfile
import time
from io import BytesIO
from multiprocessing import Queue, get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import IO

import httpx2
import numpy as np
from PIL import Image

_SIZES = {"jpeg": (4000, 3000), "png": (5000, 5000), "webp": (4000, 3000)}


def photograph(kind: str) -> bytes:
    """Smooth colours under noise: it compresses about as a photograph does."""
    width, height = _SIZES[kind]
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).resize((width, height))
    noise = random.integers(0, 16 if kind != "png" else 2, (height, width, 3), np.uint8)
    pixels = np.asarray(coarse) // 16 * 15 + noise
    buffer = BytesIO()
    options = {"jpeg": {"quality": 90}, "png": {"compress_level": 1}, "webp": {"method": 0}}[kind]
    Image.fromarray(pixels).save(buffer, kind.upper(), **options)
    return buffer.getvalue()


def memory(pid: int, field: str) -> float:
    """`VmRSS` or `VmHWM` (the peak) of a process, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"{field}:\s+(\d+) kB", status)
    assert match
    return int(match.group(1)) / 1000


def probe(url: str, stop: Event, results: "Queue[list[float]]") -> None:
    """In a process of its own, so that it measures the server and not the client beside it."""
    seconds = []
    with httpx2.Client(base_url=url, timeout=120) as client:
        while not stop.wait(0.05):
            started = time.perf_counter()
            assert client.get("/livez").status_code == 200
            seconds.append(time.perf_counter() - started)
    results.put(seconds)


async def send_all(url: str, image: bytes, requests: int) -> dict[str, list[float]]:
    """Seconds to the answers, by status."""
    seconds: dict[str, list[float]] = collections.defaultdict(list)

    async def send(client: httpx2.AsyncClient) -> None:
        started = time.perf_counter()
        try:
            response = await client.post("/v1/predict?reconstruction=none", content=image)
            outcome = str(response.status_code)
        except httpx2.HTTPError as error:
            outcome = type(error).__name__
        seconds[outcome].append(time.perf_counter() - started)

    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        await asyncio.gather(*(send(client) for _ in range(requests)))
    return seconds


def load(url: str, image: bytes, requests: int) -> None:
    stop, results = get_context("spawn").Event(), get_context("spawn").Queue()
    probing = get_context("spawn").Process(target=probe, args=(url, stop, results))
    probing.start()
    time.sleep(2)
    outcomes = asyncio.run(send_all(url, image, requests))
    stop.set()
    probes = results.get()
    probing.join()
    for outcome, taken in sorted(outcomes.items()):
        print(f"{len(taken):4} x {outcome}: median {np.median(taken):.2f} s, longest {max(taken):.2f} s")
    print(f"{len(probes):4} probes: median {np.median(probes) * 1000:.0f} ms, longest {max(probes) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=_SIZES, default="jpeg")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    image = photograph(arguments.kind)
    print(f"{arguments.kind} of {len(image) / 1e6:.1f} MB, {_SIZES[arguments.kind]}")
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([sys.executable, "-m", "app", "serve", "--port", "0"], stderr=log, text=True)
        try:
            url = wait_for_address(log)
            httpx2.post(f"{url}/v1/predict", content=image, timeout=60)
            before = memory(server.pid, "VmRSS")
            for _ in range(arguments.rounds):
                load(url, image, arguments.requests)
                peak, after = memory(server.pid, "VmHWM") - before, memory(server.pid, "VmRSS") - before
                print(f"     memory: {before:.0f} MB before, peak +{peak:.0f} MB, afterwards +{after:.0f} MB")
        finally:
            server.terminate()
            print(f"     exit code {server.wait()}")


def wait_for_address(log: IO[str]) -> str:
    while True:
        log.seek(0)
        if match := re.search(r"http://\S+", log.read()):
            return match.group()
        time.sleep(0.1)


if __name__ == "__main__":
    main()
