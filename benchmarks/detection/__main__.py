"""`python -m benchmarks.detection`: measures part by part and writes detection.md."""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.detection import table
from benchmarks.detection.pictures import QUICK, Scale

BENCHMARKS = Path(__file__).parents[1]
RESULTS = BENCHMARKS / "results" / "detection.json"
QUICK_RESULTS = BENCHMARKS.parent / "build" / "detection-quick.json"
PAGE = BENCHMARKS / "detection" / "detection.md"
PARTS = (
    "circles", "timing", "folders", "clothes-one", "clothes-all", "mnist-one", "mnist-all", "strict", "tutorial", "pyod"
)  # fmt: skip


def main() -> None:
    options = _parser().parse_args()
    scale = QUICK if options.quick else Scale()
    path = QUICK_RESULTS if options.quick else RESULTS
    for part in () if options.table else options.only or PARTS:
        print(f"-- {part}", flush=True)
        start, start_work = time.monotonic(), _work()
        found = _runner(part)(scale)
        minutes = (time.monotonic() - start) / 60, (_work() - start_work) / 60
        # Read again: another part may have been run meanwhile.
        results = _read(path)
        results[part] = {**found, "minutes": round(minutes[0], 1), "minutes_of_work": round(minutes[1], 1)}
        path.parent.mkdir(parents=True, exist_ok=True)
        # After each part: a later one that fails, or is stopped, costs only itself.
        path.write_text(json.dumps(results, indent=1) + "\n")
    text = table.render(_read(path))
    print(text)
    if not options.quick:
        table.insert(PAGE, text)


def _work() -> float:
    """CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def _read(path: Path) -> dict[str, Any]:
    """What is known so far, in the order of the parts."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {part: found[part] for part in PARTS if part in found}


def _runner(part: str) -> Callable[[Scale], dict[str, Any]]:
    """Imported when needed: timing needs no PyTorch, and only one part needs PyOD."""
    from benchmarks.detection import circles, mnist, peers, real, strict, timing, tutorial

    return {
        "circles": circles.run,
        "timing": timing.run,
        "folders": real.run,
        "clothes-one": mnist.run_clothes_one,
        "clothes-all": mnist.run_clothes_all,
        "mnist-one": mnist.run_one,
        "mnist-all": mnist.run_all,
        "strict": strict.run,
        "tutorial": tutorial.run,
        "pyod": peers.run,
    }[part]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__)
    add = parser.add_argument
    add("--only", action="append", choices=PARTS, help="this part (may be given again); the others keep their results")
    add("--quick", action="store_true", help="a trial of the program: its figures mean nothing, and none is kept")
    add("--table", action="store_true", help="measure nothing, write the table anew from the results")
    return parser


if __name__ == "__main__":
    main()
