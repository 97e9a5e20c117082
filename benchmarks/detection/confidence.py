"""`python -m benchmarks.detection.confidence`: how often the true false-positive rate exceeds what was promised.

Scores are drawn evenly from 0 to 1, so that the true rate of a threshold is known: what lies above it. (Of any
continuous score the ranks are the same.) Writes benchmarks/detection/confidence.md.
"""

from pathlib import Path

import numpy as np
from scipy.stats import beta

from app.detection.promise import least_calibration_size, make_promise

RESULTS = Path(__file__).with_suffix(".md")
DRAWS = 1_000
RATES = (0.05, 0.01)
CONFIDENCE = 0.95


def exceeding(size: int, rate: float, confidence: float | None) -> tuple[float, float, float]:
    """The share of calibration sets whose true rate exceeds the promised one, drawn and exactly; the mean true rate."""
    rank = make_promise(size, rate, confidence=confidence).rank
    generator = np.random.default_rng([size, rank])
    thresholds = np.sort(generator.random((DRAWS, size)), axis=1)[:, rank - 1]
    exactly = float(beta.sf(rate, size + 1 - rank, rank))
    return float((1 - thresholds > rate).mean()), exactly, float((1 - thresholds).mean())


def report() -> str:
    lines = [
        "# How often the true rate exceeds the promise",
        "",
        f"Written by `python -m benchmarks.detection.confidence`: {DRAWS:,} calibration sets of each size. By default "
        f"the rate holds on average over such sets; `--confidence {CONFIDENCE}` lets at most {1 - CONFIDENCE:.0%} of "
        "them exceed it.",
        "",
        "| calibration images | promised | sets above it, default | exactly | mean rate | "
        f"sets above it, `--confidence {CONFIDENCE}` | exactly | mean rate |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        least = least_calibration_size(rate, CONFIDENCE)
        for size in (least, 2 * least, 2_000):
            cells = [f"{share:.2%}" for how in (None, CONFIDENCE) for share in exceeding(size, rate, how)]
            lines.append(f"| {size:,} | {rate:.0%} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RESULTS.write_text(report())
