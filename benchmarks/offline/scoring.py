"""`python -m app score` beside merely decoding the same files, or beside `--engine ray`, with the same cores.

    python -m benchmarks.offline.scoring [--quick] [--ray]    (`make bench-scoring`, `make bench-ray`)

Alternating rounds; both are timed as whole commands, their start included. Writes `benchmarks/results/scoring.json`, or
`scoring-ray.json`.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.decoding.pictures import CAMERA, WEB, encoded, photograph
from testing.paths import ROOT

RESULTS = ROOT / "benchmarks" / "results"
SMALL = (28, 28)
# Size -> (different pictures, files): the files are links to the pictures.
FULL = {WEB: (40, 10_000), (1600, 1200): (10, 2_500), CAMERA: (4, 400)}
QUICK = {WEB: (10, 3_000), CAMERA: (2, 100)}
FULL_RAY = {SMALL: (1000, 20_000), WEB: (40, 2_000)}
QUICK_RAY = {SMALL: (100, 10_000)}

Commands = dict[str, Sequence[str]]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.offline.scoring", description="Time scoring beside decoding."
    )
    parser.add_argument("--quick", action="store_true", help="fewer files and rounds; printed, not saved")
    parser.add_argument("--ray", action="store_true", help="beside --engine ray instead of decoding")
    arguments = parser.parse_args()
    sizes = (QUICK_RAY if arguments.quick else FULL_RAY) if arguments.ray else (QUICK if arguments.quick else FULL)
    compare = compare_with_ray if arguments.ray else compare_with_decoding
    results = {}
    for (width, height), (pictures, files) in sizes.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "files"
            image_format = "PNG" if (width, height) == SMALL else "JPEG"
            fill(folder, (width, height), image_format, pictures, files)
            results[f"{width}x{height} {image_format}"] = compare(folder, files, quick=arguments.quick)
    print(json.dumps(results, indent=1))
    if not arguments.quick:
        path = RESULTS / ("scoring-ray.json" if arguments.ray else "scoring.json")
        path.write_text(json.dumps({"cores": os.cpu_count(), **results}, indent=1) + "\n")


def fill(folder: Path, size: tuple[int, int], image_format: str, pictures: int, files: int) -> None:
    """`files` names for `pictures` different photographs."""
    folder.mkdir()
    for number in range(files):
        path = folder / f"{number:06}.{image_format.lower()}"
        if number < pictures:
            path.write_bytes(encoded(photograph(*size, seed=number), image_format))
        else:
            path.hardlink_to(folder / f"{number % pictures:06}.{image_format.lower()}")


def compare_with_decoding(folder: Path, files: int, quick: bool) -> dict[str, float]:
    """Files a second of both, and the median over the rounds of one by the other."""
    commands: Commands = {
        "scored": ["app", "score", str(folder), "--output", os.devnull],
        "decoded": ["benchmarks.decoding.decoding", str(folder)],
    }
    seconds = time_alternating(commands, rounds=2 if quick else 5)
    shares = [decoded / scored for scored, decoded in zip(seconds["scored"], seconds["decoded"], strict=True)]
    rates = {f"{name}_a_second": round(files / statistics.median(taken), 1) for name, taken in seconds.items()}
    return {"files": files, **rates, "share": round(statistics.median(shares), 3)}


def compare_with_ray(folder: Path, files: int, quick: bool) -> dict[str, float]:
    """Seconds of both, and of Ray when every row is there already: what it takes to start, to look, and to stop."""
    output = folder.with_name("rows")
    by_ray = ["app", "score", "--engine", "ray", str(folder), str(output)]
    commands: Commands = {
        "local": ["app", "score", str(folder), "--output", os.devnull],
        "ray": by_ray,
        "ray_with_nothing_to_do": by_ray,
    }
    prepare = {"ray": lambda: shutil.rmtree(output, ignore_errors=True)}
    seconds = time_alternating(commands, rounds=1 if quick else 3, prepare=prepare)
    return {
        "files": files,
        **{f"{name}_seconds": round(statistics.median(taken), 1) for name, taken in seconds.items()},
    }


def time_alternating(
    commands: Commands, rounds: int, prepare: dict[str, Callable[[], object]] | None = None
) -> dict[str, list[float]]:
    """Seconds of each command, round by round, in turning order."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(rounds):
        for name in list(commands)[:: -1 if number % 2 else 1]:
            (prepare or {}).get(name, lambda: None)()
            started = time.perf_counter()
            subprocess.run([sys.executable, "-m", *commands[name]], cwd=ROOT, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
