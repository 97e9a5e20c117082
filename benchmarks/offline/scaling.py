"""`make bench-scaling`: how the cost of scoring files grows with their number and with cores.

    python -m benchmarks.offline.scaling [--images 1000 10000 100000 1000000] [--workers 1 2] [--output PLACE]

Runs `python -m app score` itself, on pictures of circles, 100x100 as PNG. A thousand of them are files; more images are
further names (hard links) of these, which the command cannot tell from files, so that a million take no disk. They come
from the page cache: the figures are of decoding and scoring, not of a disk or a network. Writes OUTPUT.md
and OUTPUT.png.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from training.data.circles import Canvas, random_circles

FILES = 1000
_SAMPLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the command, from its start to its end."""

    images: int
    workers: int
    seconds: float
    peak_megabytes: float

    @property
    def per_second(self) -> float:
        return self.images / self.seconds


def draw(folder: Path) -> list[Path]:
    """`FILES` files."""
    folder.mkdir()
    canvas = Canvas()
    files = []
    for number, circle in enumerate(random_circles(FILES, np.random.default_rng(0))):
        files.append(folder / f"{number:04}.png")
        canvas.draw(circle).save(files[-1])
    return files


def name(files: list[Path], folder: Path, images: int) -> None:
    """Gives `images` names to the files, a thousand a folder."""
    for number in range(images):
        parent = folder / f"{number // FILES:06}"
        if number % FILES == 0:
            parent.mkdir(parents=True)
        os.link(files[number % FILES], parent / f"{number:09}.png")


def measure(folder: Path, images: int, workers: int) -> Run:
    """Scores a folder.

    Raises:
        SystemExit: The command failed, or gave another number of rows.
    """
    output = folder.with_suffix(".csv")
    command = [sys.executable, "-m", "app", "score", str(folder), "--workers", str(workers), "--output", str(output)]
    started, peak = time.perf_counter(), 0.0
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while process.poll() is None:
            peak = max(peak, memory_of_group(process.pid))
            time.sleep(_SAMPLE_SECONDS)
    seconds = time.perf_counter() - started
    with output.open() as rows:
        found = sum(1 for _ in rows) - 1
    output.unlink()
    if process.returncode or found != images:
        raise SystemExit(f"{command} ended with {process.returncode} and {found} rows.")
    return Run(images, workers, seconds, peak)


def memory_of_group(leader: int) -> float:
    """MB of a process and all that it started, what they share counted once (PSS)."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) == leader:
                lines = (folder / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, ValueError):
            continue  # it has ended meanwhile
    return total / 1000


def table(runs: list[Run]) -> str:
    """As Markdown, with the estimate below it."""
    lines = ["| images | processes | seconds | images/s | peak MB |", "|---:|---:|---:|---:|---:|"]
    lines += [
        f"| {run.images:,} | {run.workers} | {run.seconds:.1f} | {run.per_second:,.0f} | {run.peak_megabytes:.0f} |"
        for run in runs
    ]
    return "\n".join(lines) + "\n\n" + estimate(runs)


def estimate(runs: list[Run]) -> str:
    """Core-hours for a thousand million images, from the largest run with the most processes."""
    run = max(runs, key=lambda one: (one.images, one.workers))
    core_hours = 1e9 / run.per_second * run.workers / 3600
    return (
        f"**For 10^9 images: about {core_hours:,.0f} core-hours**, from {run.images:,} images on {run.workers} cores. "
        "It assumes images as small as these (a photograph of 12 megapixels takes far longer to decode), storage that "
        "delivers them as fast as they are scored, cores like these, and a cost per image that their number no longer "
        "changes, as in the last rows above. What is repeated after a machine is lost is not in it.\n"
    )


def plot(runs: list[Run], path: Path) -> None:
    """Speed and memory over the number of images, one line for each number of processes."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    speed, memory = figure.subplots(1, 2)
    for workers in sorted({run.workers for run in runs}):
        mine = [run for run in runs if run.workers == workers]
        images = [run.images for run in mine]
        speed.plot(images, [run.per_second for run in mine], "o-", label=f"{workers} process(es)")
        memory.plot(images, [run.peak_megabytes for run in mine], "o-", label=f"{workers} process(es)")
    for axes, title in ((speed, "images a second"), (memory, "peak memory, MB")):
        axes.set(xscale="log", xlabel="images", title=title)
        axes.set_ylim(bottom=0)
        axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/scaling"))
    arguments = parser.parse_args()
    mpl.use("Agg")
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        files = draw(Path(scratch) / "files")
        for images in tqdm(arguments.images, unit="size"):
            folder = Path(scratch) / str(images)
            name(files, folder, images)
            runs += [measure(folder, images, workers) for workers in arguments.workers]
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    text = f"# Scoring files: what more of them cost\n\nMade by `make bench-scaling` on {machine}.\n\n{table(runs)}"
    arguments.output.with_suffix(".md").write_text(text)
    plot(runs, arguments.output.with_suffix(".png"))
    print(table(runs))


if __name__ == "__main__":
    main()
