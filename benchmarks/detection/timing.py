"""Part 6: size of the default artifact, and time of its graph on one thread."""

import os
import platform
import time
from typing import Any

import numpy as np

from app.detection.artifact import CALIBRATION, CHECKPOINT, GRAPH, MANIFEST, VIEW_CALIBRATION, load_artifact
from app.detection.detector import Detector
from benchmarks.detection.circles import DEFAULT_ARTIFACT
from benchmarks.detection.pictures import Scale

_MORE_THAN_CACHES = 64 * 2**20  # bytes
SERVED = (MANIFEST, GRAPH, CHECKPOINT, CALIBRATION, VIEW_CALIBRATION)


def run(scale: Scale) -> dict[str, Any]:
    artifact = load_artifact(DEFAULT_ARTIFACT)
    detector = Detector(artifact)
    files = [path for path in DEFAULT_ARTIFACT.rglob("*") if path.is_file()]
    return {
        "artifact": artifact.version,
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "load": [round(load, 1) for load in os.getloadavg()],
        "bytes": {
            "in all": sum(path.stat().st_size for path in files),
            **{name: (DEFAULT_ARTIFACT / name).stat().st_size for name in SERVED},
        },
        "batch 1": _timed(detector, 1, 200 if scale.quick else 5000),
        "batch 1, weights not in the processor's caches": _timed(detector, 1, 20 if scale.quick else 300, cold=True),
        "batch 32": _timed(detector, 32, 20 if scale.quick else 1000),
    }


def _timed(detector: Detector, batch: int, repeats: int, cold: bool = False) -> dict[str, float]:
    """Milliseconds an image: by the clock, and of this thread's work, which other programs disturb less.

    Args:
        cold: Whether other memory is written before each run, as by a service that gets one request now and then.
    """
    other = np.zeros(_MORE_THAN_CACHES, np.uint8)
    images = np.random.default_rng(0).random((batch, 28, 28), dtype=np.float32)
    clock, work = [], []
    for _ in range(repeats):
        if cold:
            other += 1
        start, start_work = time.perf_counter(), time.thread_time()
        detector.run(images)
        work.append(time.thread_time() - start_work)
        clock.append(time.perf_counter() - start)
    return {
        "median": round(1e3 * float(np.median(clock)) / batch, 4),
        "fastest tenth": round(1e3 * float(np.quantile(clock, 0.1)) / batch, 4),
        "median of work": round(1e3 * float(np.median(work)) / batch, 4),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
