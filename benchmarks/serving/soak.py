"""A real server under a mix of good, bad and large images: does it stay up, and does it stay the same size?

    python -m benchmarks.serving.soak [--seconds 1200] [--artifact model_artifacts/circles] [--clients 4]

It keeps images, asks a candidate besides, and forwards a third of the requests to a classifier. Counts answers by
status, and samples memory and file descriptors of the server. Fails when an answer is a 5xx, or when memory or
descriptors grow after the first fifth of the run. Writes benchmarks/results/soak.json.
"""

import argparse
import asyncio
import collections
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import httpx2
from PIL import Image

from benchmarks.serving.gate import free_port, running_classifier
from testing import hostile_files as make
from testing.artifacts import DEFAULT_ARTIFACT
from testing.paths import ROOT
from testing.servers import Server

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
SAMPLES = 60
# Of the requests, what goes through the gate to a classifier.
FORWARDED = 1 / 3
_PATHS = ("/v1/predict", "/v1/gate/predict")
# So little that old images are let go all the time.
KEPT_BYTES = 20 * make.MIB
# The contract: a run of hostile files leaves less than this behind.
GROWTH_BYTES = 150 * make.MIB
_LARGE = (
    *(
        "PNG RGBA",
        "PNG grey 16 bit",
        "PNG palette + transparency",
        "JPEG baseline noise",
        "JPEG 64 scans",
        "WebP canvas",
    ),
    *("WebP of one color", "PNG compressed text", "PNG EXIF bomb", "PNG 9000x9000", "PNG empty chunks", "JPEG padding"),
    *("JPEG EXIF segments", "GIF frame that is disposed of", "GIF comments", "BMP run lengths, small"),
)


def mix() -> list[tuple[int, str, bytes]]:
    """(weight, kind, file): mostly small images that belong, some photographs, broken ones, and the worst."""
    small = make.small_files()
    photograph = make.save(make.noise("RGB", 400, 300).resize((4000, 3000)), "JPEG", quality=80)
    files = [(20, "small", data) for data in small.values()]
    files += [(4, "photograph", photograph)]
    files += [(3, "broken", data[: len(data) * part // 5]) for data in small.values() for part in (1, 2, 4)]
    files += [(3, "no image", data) for data in (b"", b"hello", bytes(100_000), b"%PDF-1.7" + bytes(5000))]
    files += [(10, "circle", (ROOT / "docs" / "circle.png").read_bytes())]
    files += [(10, "small", make.save(Image.new("L", (28, 28), 255), "PNG"))]
    return files + [(1, "hostile", make.LARGE[name]()) for name in _LARGE]


async def soak(server: Server, seconds: float, clients: int) -> dict[str, object]:
    files = mix()
    weights = [weight for weight, _, _ in files]
    answers: collections.Counter[str] = collections.Counter()
    slowest: dict[str, float] = {}
    end = time.monotonic() + seconds

    async def client(seed: int) -> None:
        chance = random.Random(seed)
        async with httpx2.AsyncClient(base_url=server.url, timeout=120) as http:
            while time.monotonic() < end:
                _, kind, data = chance.choices(files, weights)[0]
                started = time.monotonic()
                body = {"content": data} if chance.random() < 0.5 else {"files": {"file": ("image", data)}}
                forwarded = chance.random() < FORWARDED
                kind = f"{kind}, forwarded" if forwarded else kind
                try:
                    outcome = str((await http.post(_PATHS[forwarded], **body)).status_code)
                except httpx2.TransportError as error:
                    outcome = f"{type(error).__name__}"
                slowest[kind] = max(slowest.get(kind, 0), time.monotonic() - started)
                answers[f"{kind} {outcome}"] += 1

    samples = []

    async def watch() -> None:
        while time.monotonic() < end:
            samples.append(sample(server.process.pid))
            await asyncio.sleep(seconds / SAMPLES)

    await asyncio.gather(watch(), *(client(seed) for seed in range(clients)))
    await asyncio.sleep(1)
    samples.append(sample(server.process.pid))
    return {
        "seconds": seconds,
        "answers": dict(sorted(answers.items())),
        "slowest_seconds": {kind: round(value, 2) for kind, value in slowest.items()},
        "samples": samples,
    }


def sample(pid: int) -> dict[str, int]:
    """Memory and open descriptors of a process, now."""
    status = Path(f"/proc/{pid}/status").read_text()
    resident = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return {"resident_bytes": resident, "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir()))}


def faults(report: dict[str, object]) -> list[str]:
    """What the run shows to be wrong; nothing, if all is well."""
    answers, samples = report["answers"], report["samples"]
    assert isinstance(answers, dict)
    assert isinstance(samples, list)
    found = [f"{count} answers of {answer}" for answer, count in answers.items() if answer.split()[-1][0] not in "24"]
    settled = samples[len(samples) // 5]
    growth = samples[-1]["resident_bytes"] - settled["resident_bytes"]
    if growth > GROWTH_BYTES:
        found.append(f"memory grew by {growth / make.MIB:.0f} MiB")
    if samples[-1]["descriptors"] > settled["descriptors"]:
        found.append(f"descriptors grew from {settled['descriptors']} to {samples[-1]['descriptors']}")
    return found


def print_report(report: dict[str, object]) -> None:
    answers, samples = report["answers"], report["samples"]
    assert isinstance(answers, dict)
    assert isinstance(samples, list)
    assert isinstance(report["kept_bytes"], int)
    by_status: collections.Counter[str] = collections.Counter()
    for answer, count in answers.items():
        by_status[answer.split()[-1]] += count
        print(f"{answer:20} {count:8}")
    print(f"by status: {dict(sorted(by_status.items()))}; slowest, seconds: {report['slowest_seconds']}")
    shown = [samples[len(samples) * part // 5] for part in range(5)] + [samples[-1]]
    print("memory, MiB:", [one["resident_bytes"] // make.MIB for one in shown], "over time, the last one at rest")
    print("descriptors:", [one["descriptors"] for one in shown])
    print(f"kept images at the end, MiB: {report['kept_bytes'] / make.MIB:.1f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1200)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--artifact", type=Path, default=DEFAULT_ARTIFACT)
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as folder, running_classifier(port) as classifier:
        kept = {"keep_folder": folder, "keep_sample": 0.1, "keep_bytes": KEPT_BYTES}
        with Server(
            artifact=arguments.artifact, candidate=arguments.artifact, classifier_url=classifier, **kept
        ) as server:
            server.url  # noqa: B018  waits until it listens
            report = asyncio.run(soak(server, arguments.seconds, arguments.clients))
        report["kept_bytes"] = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    found = faults(report)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**report, "faults": found}, indent=1) + "\n")
    print_report(report)
    print("\n".join(found) or "no faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
