"""`python -m benchmarks.detection.regions [ARTIFACT]`: what is refused of circles by their radius, in every kind.

The promise is about all circles together; those that nearly touch the edge of the picture are one in ninety, and could
be refused often without breaking it. Prints the table for an artifact; that of the committed one is kept in
benchmarks/detection/regions.md.
"""

import sys
from pathlib import Path

import numpy as np

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.detection.images import Preprocessing
from app.detection.shown import LOSSLESS_OWN
from testing.artifacts import DEFAULT_ARTIFACT
from training.data.circles import LEAST_CENTRE, MOST_CENTRE, Circle, draw_circles
from training.data.dataset import decode_variants
from training.data.variants import parse_variants
from training.fitting.calibrate import run_in_batches
from training.fitting.evaluate import share_refused, wilson_interval

RESULTS = Path(__file__).with_suffix(".md")
RANGES = ((0.03, 0.05), (0.05, 0.4), (0.4, 0.45), (0.45, 0.465), (0.465, 0.47))
CIRCLES = 300
SEED = 777


def circles(least: float, most: float) -> list[Circle]:
    """Circles with a radius in a range, and centres as in the tutorial."""
    generator = np.random.default_rng([SEED, int(1000 * least)])
    centres = generator.uniform(LEAST_CENTRE, MOST_CENTRE, (CIRCLES, 2))
    radii = generator.uniform(least, most, CIRCLES)
    return [Circle(float(x), float(y), float(radius)) for (x, y), radius in zip(centres, radii, strict=True)]


def row(detector: Detector, least: float, most: float) -> str:
    variants = parse_variants("default").of_one_size().variants
    sent = decode_variants(draw_circles(circles(least, most)), variants, Preprocessing(), SEED)
    rates = {}
    for variant, images in zip(variants, sent, strict=True):
        shown = variant.shown or LOSSLESS_OWN
        scores, _ = run_in_batches(detector, images, shown)
        rates[variant.name] = share_refused(scores, detector.artifact.manifest.thresholds[shown])
    worst = max(rates, key=lambda name: rates[name])
    low, high = wilson_interval(round(rates[worst] * CIRCLES), CIRCLES)
    mean = float(np.mean(list(rates.values())))
    return (
        f"| {least:g} to {most:g} | {next(iter(rates.values())):.1%} | {mean:.2%} | "
        f"{rates[worst]:.1%} ({low:.1%} to {high:.1%}), {worst} |"
    )


def report(artifact: Path) -> str:
    detector = Detector(load_artifact(artifact))
    lines = [
        "# What is refused of circles, by their radius",
        "",
        f"Written by `python -m benchmarks.detection.regions`: the artifact {artifact.name}, "
        f"{detector.artifact.version}; {CIRCLES} circles in each range and kind of sending; 1% is promised.",
        "",
        "| radius | refused as originals | mean of all kinds | worst kind (95% interval) |",
        "|---|---:|---:|---|",
        *(row(detector, least, most) for least, most in RANGES),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    text = report(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ARTIFACT)
    print(text)
    if len(sys.argv) == 1:
        RESULTS.write_text(text)
