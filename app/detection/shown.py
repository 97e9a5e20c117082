"""What a file's bytes show of how it was sent: whether its format loses detail, and how many pixels it has.

An image that was compressed or shrunk before it was sent is redrawn worse through no fault of its own. Whoever sends
originals need not pay for that with a blinder gate: each class of files has scores and a threshold of its own.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LOSSY_FORMATS = frozenset({"JPEG", "WEBP", "AVIF", "HEIC"})
# The smaller side at which a class begins: what is smaller was resized by the client or nearly so, and between the
# second and the first the filter that brings it to 28 pixels still leaves traces of its own.
LARGE_SIDE, MEDIUM_SIDE = 90, 48

LOSSLESS_OWN = "lossless, of the training images' size"
LOSSLESS_LARGE = "lossless, 90 pixels and more"
LOSSLESS_MEDIUM = "lossless, 48 to 89 pixels"
LOSSLESS_SMALL = "lossless, below 48 pixels"
LOSSY_LARGE = "JPEG or WebP, 90 pixels and more"
LOSSY_MEDIUM = "JPEG or WebP, 48 to 89 pixels"
LOSSY_SMALL = "JPEG or WebP, below 48 pixels"
# In the order of the graph's scores.
CLASSES = (LOSSLESS_OWN, LOSSLESS_LARGE, LOSSLESS_MEDIUM, LOSSLESS_SMALL, LOSSY_LARGE, LOSSY_MEDIUM, LOSSY_SMALL)

Size = tuple[int, int]


class Shown(NamedTuple):
    """What the header of a file says of it: its format, such as "PNG", and its size in pixels."""

    image_format: str
    width: int
    height: int


# What reaches the gate as an array of 28x28 grey levels was resized without loss by the client.
OF_ARRAYS = Shown("", 28, 28)


def class_of(shown: Shown, own_size: Size | None = None) -> str:
    """The class of a file, one of `CLASSES`.

    Args:
        own_size: Width and height of the training images, if they were lossless, large, and all of one size.
    """
    image_format, width, height = shown
    lossy = image_format in _LOSSY_FORMATS
    if not lossy and (width, height) == own_size:
        return LOSSLESS_OWN
    side = min(width, height)
    return CLASSES[1 + 3 * lossy + (side < LARGE_SIDE) + (side < MEDIUM_SIDE)]


def class_thresholds(calibration: NDArray[np.float32], shown: Sequence[str], rank: int) -> Mapping[str, float]:
    """Of each class the largest of its variants' own conformal thresholds.

    Args:
        calibration: (variants, n), each row sorted.
        shown: The class of each variant; an empty one, of a variant whose images may be of any class, counts in all.
        rank: The rank-th smallest score of a variant is its own threshold.
    """
    own = calibration[:, rank - 1]
    return {name: max(float(own[row]) for row in rows) for name, rows in class_rows(shown).items()}


def class_rows(shown: Sequence[str]) -> Mapping[str, list[int]]:
    """For each class which variants count in it. Where none does, all do: nothing is promised then, but some must."""
    rows = {name: [row for row, own in enumerate(shown) if own in ("", name)] for name in CLASSES}
    return {name: own or list(range(len(shown))) for name, own in rows.items()}
