"""`python -m app score` beside merely decoding the same files, with the same cores (`make bench-scoring`).

Alternating rounds; both are timed as whole commands, their start included. Writes `benchmarks/results/scoring.json`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.pictures import CAMERA, WEB, encoded, photograph

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "scoring.json"
# Size -> (different pictures, files): the files are links to the pictures.
FULL = {WEB: (40, 10_000), (1600, 1200): (10, 2_500), CAMERA: (4, 400)}
QUICK = {WEB: (10, 3_000), CAMERA: (2, 100)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scoring", description="Time scoring beside decoding.")
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds; printed, not saved")
    quick = parser.parse_args().quick
    results = {}
    for (width, height), (pictures, files) in (QUICK if quick else FULL).items():
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), width, height, pictures, files)
            results[f"{width}x{height} JPEG"] = compare(folder, files, rounds=2 if quick else 5)
    print(json.dumps(results, indent=1))
    if not quick:
        RESULTS.write_text(json.dumps({"cores": os.cpu_count(), **results}, indent=1) + "\n")


def fill(folder: Path, width: int, height: int, pictures: int, files: int) -> None:
    """`files` names for `pictures` different photographs."""
    for number in range(files):
        path = folder / f"{number:06}.jpg"
        if number < pictures:
            path.write_bytes(encoded(photograph(width, height, seed=number)))
        else:
            path.hardlink_to(folder / f"{number % pictures:06}.jpg")


def compare(folder: str, files: int, rounds: int) -> dict[str, float]:
    """Files a second of both, and the median over the rounds of one by the other."""
    rates: dict[str, list[float]] = {"scored": [], "decoded": []}
    commands = {
        "scored": ["app", "score", folder, "--output", os.devnull],
        "decoded": ["benchmarks.decoding", folder],
    }
    for number in range(rounds):
        for name in list(commands)[:: -1 if number % 2 else 1]:
            rates[name].append(files / _seconds(commands[name]))
    shares = [scored / decoded for scored, decoded in zip(rates["scored"], rates["decoded"], strict=True)]
    medians = {f"{name}_a_second": round(statistics.median(values), 1) for name, values in rates.items()}
    return {"files": files, **medians, "share": round(statistics.median(shares), 3)}


def _seconds(module: Sequence[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
