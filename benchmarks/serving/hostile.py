"""The most expensive files that the limits admit: `python -m benchmarks.serving.hostile`.

Each file is judged in a fresh process, by the code that serves. Peak memory is on top of the process before, the file
itself included in neither.
"""

import argparse
import ctypes
import json
import multiprocessing
import time
from pathlib import Path

from app.detection.images import OpenedImage, Preprocessing, open_image, to_grayscale
from app.errors import Refusal
from app.settings import Settings
from testing.hostile_files import LARGE

RESULTS = Path(__file__).parents[1] / "results" / "hostile.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="files whose name contains this")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, in place of the table")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("fork")
    rows = []
    for name, make in LARGE.items():
        if arguments.only.lower() in name.lower():
            data = make()
            with context.Pool(1) as pool:
                rows.append({"file": name, "bytes": len(data), **pool.apply(measure, (data,))})
            print(json.dumps(rows[-1]) if arguments.json else _line(rows[-1]), flush=True)
    if not arguments.only:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


def measure(data: bytes) -> dict[str, object]:
    """Judges one file in this process, which should do nothing else before or after."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what making the file left behind
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _memory_bytes("VmRSS")
    started = time.process_time()
    opened: OpenedImage | None = None
    open_seconds = 0.0
    try:
        opened = open_image(data, Settings.model_fields["max_image_pixels"].default)
        open_seconds = time.process_time() - started
        to_grayscale(opened, Preprocessing())
        answer = "200"
    except Refusal as refusal:
        answer = f"{refusal.status} {refusal.slug}"
    seconds = time.process_time() - started
    return {
        "answer": answer,
        "seconds": round(seconds, 3),
        "open_seconds": round(open_seconds or seconds, 3),
        "peak_bytes": _memory_bytes("VmHWM") - before,
        "estimated_bytes": opened.memory_bytes if opened else None,
    }


def _memory_bytes(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def _line(row: dict[str, object]) -> str:
    mebi = {name: f"{(row[name] or 0) / 2**20:.1f}" for name in ("bytes", "peak_bytes", "estimated_bytes")}  # type: ignore[operator]
    return (
        f"{row['file']:34} {mebi['bytes']:>6} MiB  {row['answer']:22} {row['seconds']:7.3f} s "
        f"(header {row['open_seconds']:.3f})  peak {mebi['peak_bytes']:>6} MiB, estimated {mebi['estimated_bytes']:>6}"
    )


if __name__ == "__main__":
    main()
