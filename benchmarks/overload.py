"""What a worker does when more comes than it can do: memory, probes, and who is answered.

    python -m benchmarks.overload [--kind jpeg|png|webp] [--requests 200]

Sends photographs all at once to a server of its own, with a probe every 50 ms beside them.
"""

import argparse
import asyncio
import collections
import os
import re
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

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


async def probe(client: httpx2.AsyncClient, seconds: list[float]) -> None:
    while True:
        started = time.perf_counter()
        response = await client.get("/livez")
        assert response.status_code == 200
        seconds.append(time.perf_counter() - started)
        await asyncio.sleep(0.05)


async def load(url: str, image: bytes, requests: int) -> None:
    limits = httpx2.Limits(max_connections=None)
    seconds: dict[int, list[float]] = collections.defaultdict(list)
    probes: list[float] = []

    async def send(client: httpx2.AsyncClient) -> None:
        started = time.perf_counter()
        response = await client.post("/v1/predict?reconstruction=none", content=image)
        seconds[response.status_code].append(time.perf_counter() - started)

    async with (
        httpx2.AsyncClient(base_url=url, timeout=120, limits=limits) as client,
        httpx2.AsyncClient(base_url=url, timeout=120) as prober,
    ):
        probing = asyncio.create_task(probe(prober, probes))
        await asyncio.gather(*(send(client) for _ in range(requests)))
        probing.cancel()
    for status, taken in sorted(seconds.items()):
        print(f"{len(taken):4} x {status}: median {np.median(taken):.2f} s, longest {max(taken):.2f} s")
    print(f"{len(probes)} probes: median {np.median(probes) * 1000:.0f} ms, longest {max(probes) * 1000:.0f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=_SIZES, default="jpeg")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    image = photograph(arguments.kind)
    print(f"{arguments.kind} of {len(image) / 1e6:.1f} MB, {_SIZES[arguments.kind]}")
    command = [sys.executable, "-m", "app", "serve", "--port", "0"]
    environment = {**os.environ, "GATE_LOG_LEVEL": "info"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        url = next(match.group() for line in server.stderr if (match := re.search(r"http://\S+", line)))
        asyncio.get_event_loop_policy()
        try:
            httpx2.post(f"{url}/v1/predict", content=image)
            before = memory(server.pid, "VmRSS")
            for _ in range(arguments.rounds):
                asyncio.run(load(url, image, arguments.requests))
                print(
                    f"memory: {before:.0f} MB before, peak +{memory(server.pid, 'VmHWM') - before:.0f} MB, "
                    f"afterwards +{memory(server.pid, 'VmRSS') - before:.0f} MB"
                )
        finally:
            server.terminate()
            server.stderr.read()


if __name__ == "__main__":
    main()
