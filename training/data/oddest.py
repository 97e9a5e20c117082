"""The oddest files of a folder: what a person should look at first, since one of them may decide the threshold.

A network is no judge of its own training images: it has learnt the odd ones as well. So each image is compared with the
images of other scenes alone, whichever part of the split they are in: how far its nearest neighbours lie. They are
compared as they are and at the same contrast: by grey levels alone a faint stranger lies nearer to all than they lie to
each other, and of 16 strangers among 800 digits 6 to 9 were listed (`python -m benchmarks.detection.contaminated`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.copies import Rows, nearest

NEIGHBOURS = 5
LISTED = 30
_LEAST_CONTRAST = 0.5  # root of the squared deviations of all 784 pixels; fainter images stay fainter
_LEAST_SCALE = 1e-2  # root mean square of a difference: of 2.5 in 255 grey levels, or a hundredth of the contrast
_SPARE = 25  # neighbours that are looked up beyond those, since some are of the same scene


@dataclass(frozen=True, slots=True)
class OddFile:
    """One file that differs from all others.

    Attributes:
        name: Its path within the folder.
        image: (28, 28), grey levels in [0, 1].
        oddness: How far its neighbours lie: 0 as those of the image in the middle, 1 as those that 5% exceed, or
            farther in a folder whose images are nearly all alike.
    """

    name: str
    image: NDArray[np.float32]
    oddness: float


def oddest(images: NDArray[np.float32], scenes: Rows, names: Sequence[str]) -> tuple[OddFile, ...]:
    """At most `LISTED` files, the oddest first, one of each scene.

    Args:
        images: (N, 28, 28), grey levels in [0, 1].
        scenes: (N,) which scene each image shows.
        names: N names.
    """
    odd = oddness(images, scenes)
    listed: dict[int, OddFile] = {}
    for row in np.argsort(-odd, kind="stable").tolist():
        listed.setdefault(int(scenes[row]), OddFile(names[row], images[row], round(float(odd[row]), 2)))
        if len(listed) == LISTED:
            break
    return tuple(listed.values())


def oddness(images: NDArray[np.float32], scenes: Rows) -> NDArray[np.float64]:
    """(N,) by how much the nearest images of other scenes lie farther than usual, as they are or at equal contrast."""
    flat = images.reshape(len(images), -1)
    around = flat - flat.mean(axis=1, keepdims=True)
    even = around / np.maximum(np.linalg.norm(around, axis=1, keepdims=True), _LEAST_CONTRAST)
    even *= np.float32(np.sqrt(flat.shape[1]))  # a root mean square deviation of one
    return np.maximum(_scaled(_reach(images, scenes)), _scaled(_reach(even.reshape(images.shape), scenes)))


def _reach(images: NDArray[np.float32], scenes: Rows) -> NDArray[np.float64]:
    """(N,) mean distances to the nearest images of other scenes."""
    found = nearest(images, images, NEIGHBOURS + _SPARE)
    other = scenes[found.rows] != scenes[:, None]
    # The nearest of other scenes; where one scene fills the list, its farthest images stand for them.
    order = np.argsort(~other, axis=1, kind="stable")[:, :NEIGHBOURS]
    return np.asarray(np.take_along_axis(found.distances, order, axis=1).mean(axis=1), np.float64)


def _scaled(reach: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least scale keeps a few odd images, and rounding, of nearly uniform folders from becoming huge numbers."""
    middle, high = np.quantile(reach, [0.5, 0.95])
    return np.asarray((reach - middle) / max(high - middle, 0.05 * middle, _LEAST_SCALE), np.float64)
