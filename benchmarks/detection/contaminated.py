"""`python -m benchmarks.detection.contaminated`: what other pictures among the normal ones cost, and whether they show.

A folder of written digits (those that scikit-learn ships) with 2% of other pictures is trained by the public command
line, and again without them. Writes benchmarks/detection/contaminated.md.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from app.detection.artifact import load_artifact
from benchmarks.detection.fresh import photograph
from benchmarks.detection.pictures import png
from training.data.anomalies import FAMILIES
from training.data.folder import folder_dataset
from training.fitting.evaluate import wilson_interval

RESULTS = Path(__file__).with_suffix(".md")
DIGITS, OTHERS, SEEDS, NEW = 800, 16, 5, 300
SIDE = 84
# Pictures that come into a folder by mistake: signs, shapes, photographs, blanks, and scans gone wrong.
_STRANGERS = ("letters", "symbols", "duck", "smiley", "grey", "coarse noise", "parallel lines")


def digits(rows: np.ndarray[Any, np.dtype[np.int64]]) -> list[bytes]:
    """PNG files of 84x84 pixels, dark on white."""
    levels = 255 - load_digits().images[rows] * 255 / 16
    pictures = (Image.fromarray(own.astype(np.uint8)) for own in levels)
    return [png(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for picture in pictures]


def others(generator: np.random.Generator, count: int) -> list[bytes]:
    """As many other pictures, each kind in turn."""
    makers = [FAMILIES[name] for name in _STRANGERS] + [photograph]
    return [png(makers[row % len(makers)](generator).resize((SIDE, SIDE))) for row in range(count)]


def fill(folder: Path, names: str, files: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, content in enumerate(files):
        (folder / f"{names}-{row:04}.png").write_bytes(content)


def listed(seed: int, scratch: Path) -> tuple[int, int]:
    """How many other pictures are among the files that are named first, and how many there are."""
    generator = np.random.default_rng(seed)
    folder = scratch / f"listed-{seed}"
    fill(folder, "digit", digits(generator.permutation(len(load_digits().images))[:DIGITS]))
    fill(folder, "other", others(generator, OTHERS))
    oddest = folder_dataset(folder, seed, 0.01, tell=lambda line: None).oddest
    return sum(file.name.startswith("other") for file in oddest), OTHERS


def trained(folder: Path, output: Path, anomalies: Path) -> tuple[dict[str, Any], str]:
    """The evaluation of a training by the command line, and what it printed."""
    command = [sys.executable, "-m", "training", "--data", str(folder), "--output", str(output)]
    run = subprocess.run([*command, "--anomalies", str(anomalies)], check=True, capture_output=True, text=True)
    return load_artifact(output).manifest.evaluation, run.stdout


def row(name: str, evaluation: dict[str, Any]) -> str:
    own = evaluation["own_anomalies"]
    made = next(rates for rates in evaluation["at_rates"] if rates["rate"] == 0.01)["found"]
    low, high = own["detection_rate_interval"]
    cells = [
        name,
        f"{evaluation['false_positive_rate']:.2%}",
        f"{own['detection_rate']:.1%} ({low:.1%} to {high:.1%})",
        f"{made['drawn']:.1%}",
        f"{made['made_up']:.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


def report(scratch: Path) -> str:
    found = [listed(seed, scratch) for seed in range(SEEDS)]
    hits, total = (sum(column) for column in zip(*found, strict=True))
    low, high = wilson_interval(hits, total)
    generator = np.random.default_rng(0)
    order = generator.permutation(len(load_digits().images))
    fill(scratch / "clean", "digit", digits(order[:DIGITS]))
    fill(scratch / "mixed", "digit", digits(order[:DIGITS]))
    fill(scratch / "mixed", "other", others(generator, OTHERS))
    fill(scratch / "anomalies", "other", others(np.random.default_rng(99), NEW))
    mixed, printed = trained(scratch / "mixed", scratch / "mixed-artifact", scratch / "anomalies")
    clean, _ = trained(scratch / "clean", scratch / "clean-artifact", scratch / "anomalies")
    told = [line for line in printed.splitlines() if "without" in line or line.startswith("The threshold is")]
    return "\n".join(
        [
            "# Other pictures among the normal ones",
            "",
            "Written by `python -m benchmarks.detection.contaminated`: "
            f"{DIGITS} written digits and {OTHERS} other pictures (signs, shapes, photographs, blanks, noise), 1% "
            "promised.",
            "",
            f"**Shown:** {hits} of {total} other pictures ({hits / total:.0%}, 95% interval {low:.0%} to {high:.0%}; "
            f"{SEEDS} folders) are among the 30 files that training lists first.",
            "",
            "**Cost:** the same folder with and without them, trained by the command line; found are other pictures "
            f"of the same kinds ({NEW} that no training saw), drawn shapes and textures, and made-up pictures.",
            "",
            "| folder | refused of unseen digits | such pictures found | drawn | made up |",
            "|---|---:|---:|---:|---:|",
            row("with 2% other pictures", mixed),
            row("without them", clean),
            "",
            "What the training of the mixed folder prints of the threshold:",
            "",
            "```",
            *told,
            "```",
            "",
        ]
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        RESULTS.write_text(report(Path(scratch)))
