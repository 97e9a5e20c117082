"""What other decoders make of the normal files: as /v1/gate and /v1/authz judge them, with GATE_FORWARD=original."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.detection.detector import Detector
from app.detection.images import Preprocessing
from app.detection.readings import may_be_read_differently, other_readings
from app.errors import Refusal
from training.data.dataset import FORMATS, MAX_IMAGE_PIXELS, Original, read
from training.fitting.calibrate import FileClass, run_in_batches
from training.fitting.evaluate import refused

# The share of normal files that are refused, from which on somebody should be told.
_MUCH = 0.1


def describe_other_decoders(
    detector: Detector,
    originals: Sequence[Original],
    files: FileClass,
    thresholds: Mapping[str, float],
    preprocessing: Preprocessing,
) -> dict[str, Any]:
    """Judges normal files in every way in which other decoders read them, as the gate does in front of a classifier.

    Args:
        detector: Around the graph.
        originals: N normal files, which `preprocessing` decodes.
        files: The class of all, or of each.
        thresholds: The largest score accepted of each class.
        preprocessing: Of the artifact.

    Returns:
        `images`: N; `read_differently`: so many of them show another picture to another decoder; `refused`: so many of
        those have an odd one among these pictures; `words`: for people, or "" where there is nothing to tell.
    """
    differ = odd = 0
    names = [files] * len(originals) if isinstance(files, str) else files
    for original, name in zip(originals, names, strict=True):
        data = read(original)
        if not may_be_read_differently(data):
            continue
        try:
            readings = other_readings(data, preprocessing, MAX_IMAGE_PIXELS, FORMATS)
        except Refusal:  # the gate would answer with it
            differ, odd = differ + 1, odd + 1
            continue
        if readings:
            scores, _ = run_in_batches(detector, np.stack(readings), name)
            differ, odd = differ + 1, odd + bool(refused(scores, thresholds[name]).any())
    words = _words(len(originals), differ, odd) if odd > _MUCH * len(originals) else ""
    return {"images": len(originals), "read_differently": differ, "refused": odd, "words": words}


def _words(count: int, differ: int, odd: int) -> str:
    return (
        f"WARNING: of {count:,} normal files {differ:,} show another picture to other decoders (they are transparent, "
        f"animated or of 16 bits), and {odd:,} of these are odd. In front of a classifier the gate refuses "
        "them, unless it sends on what it judged: set GATE_FORWARD=judged."
    )
