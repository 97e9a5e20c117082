"""`python -m benchmarks.detection`: measures part by part and writes detection.md."""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.detection import table
from benchmarks.detection.folders import FOLDERS
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
        for piece in _pieces(scale) if part == "folders" else [""]:
            _measure(part, piece, scale, path)
    text = table.render(_read(path))
    print(text)
    if not options.quick:
        table.insert(PAGE, text)


def _pieces(scale: Scale) -> list[str]:
    return list(FOLDERS)[:1] if scale.quick else list(FOLDERS)


def _measure(part: str, piece: str, scale: Scale, path: Path) -> None:
    """Runs a part, or one piece of it, and keeps what is found: what fails later, or is stopped, costs only itself."""
    print(f"-- {part} {piece}".rstrip(), flush=True)
    start, start_work = time.monotonic(), _work()
    found = partial(_runner(part), piece)(scale) if piece else _runner(part)(scale)
    found["minutes"] = round((time.monotonic() - start) / 60, 1)
    found["minutes_of_work"] = round((_work() - start_work) / 60, 1)
    # Read again: another part may have been run meanwhile.
    results = _read(path)
    results[part] = _with_piece(results.get(part, {}), piece, found) if piece else found
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=1) + "\n")


def _with_piece(before: dict[str, Any], piece: str, found: dict[str, Any]) -> dict[str, Any]:
    pieces = {name: own for name, own in {**before, piece: found}.items() if isinstance(own, dict)}
    times = ("minutes", "minutes_of_work")
    return {**pieces, **{time: round(sum(own.get(time, 0.0) for own in pieces.values()), 1) for time in times}}


def _work() -> float:
    """CPU seconds of this process and of those that it waited for."""
    return sum(os.times()[:4])


def _read(path: Path) -> dict[str, Any]:
    """What is known so far, in the order of the parts."""
    found = json.loads(path.read_text()) if path.exists() else {}
    return {part: found[part] for part in PARTS if part in found}


def _runner(part: str) -> Callable[..., dict[str, Any]]:
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
