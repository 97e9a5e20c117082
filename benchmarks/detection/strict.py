"""Part 2: circles sent as they were drawn, nothing else permitted; trained by the public command line."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from benchmarks.detection.measures import measure, score_of
from benchmarks.detection.pictures import Scale

COUNTS = (4_000, 10_000)


def run(scale: Scale) -> dict[str, Any]:
    """With the default number of circles, and with the number that the first study used."""
    return {f"{count:,} circles": _run(count, scale) for count in ((scale.train,) if scale.quick else COUNTS)}


def _run(count: int, scale: Scale) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "strict"
        quick = ["--epochs", "2"] if scale.quick else []
        subprocess.run(
            [sys.executable, "-m", "training", "--variants", "none", "--count", str(count), "--output", output, *quick],
            check=True,
        )
        artifact = load_artifact(output)
    return measure(score_of(Detector(artifact)), artifact.manifest.threshold, scale)
