"""Near-copies in a folder: shots of a burst, frames of a video, one picture saved twice.

A near-copy of a training image in the calibration part makes the threshold too low, since the network knows it already:
with 200 scenes of 5 shots, split by file, up to 23% of new images were refused where 1% was promised
(`python -m benchmarks.detection.copies`). So images of one scene have to stay in one part, and to count once.

What is near depends on the folder: two drawn circles lie nearer to each other than two shots of one written digit. Two
signs are taken, and both are relative to how near images of this folder lie anyway:

- Distance. Around an image of an m-dimensional cloud, the number of others within a share u of the distance to the k-th
  neighbour is about k * u^m (Levina and Bickel, "Maximum likelihood estimation of intrinsic dimension", NIPS 2004).
  Pairs are joined, nearest first, while the images that are left, one of each scene, let no more such pairs be expected
  by chance than the share `CHANCE_NEAR` of the scenes, and of the joined pairs.
- Order. Files that follow each other by name show one scene if each is among the nearest to the other: a stranger is
  the r-th nearest of n images, or nearer, with probability r / n. At most `CHANCE_FOLLOWING` of them may be chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANCE_NEAR, CHANCE_FOLLOWING = 0.03, 0.015
# Neighbours by which the spread of the images is judged: the distance of the first sets the scale, the way to the
# second the dimension.
INNER, OUTER = 10, 40
# Fewer scenes say too little about chance; `CHANCE_NEAR` is lowered in proportion.
_ENOUGH_SCENES = 150
_LEAST_SCENES = 12
# A scene holds at most this share of the images: what is larger is a chain of images that are all alike.
_LARGEST_SHARE, _LARGEST_SCENE = 0.1, 20
_JOINED_NEIGHBOURS = 12
_TRIED_CUTS = 90
_SAMPLED_SCENES = 400
_BLOCK_ROWS = 512
_LEAST_DISTANCE = 1e-4  # less than a grey level of 8 bits in one pixel of 784

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The nearest images of each, nearest first, each image itself among them.

    Attributes:
        rows: (N, K) which.
        distances: (N, K) root mean square of the difference of the grey levels.
    """

    rows: Rows
    distances: NDArray[np.float32]


def find_scenes(images: NDArray[np.float32], following: Rows) -> Rows:
    """Which images are near-copies of each other. Time and memory grow with N squared, and with N.

    Args:
        images: (N, 28, 28), grey levels in [0, 1].
        following: (M, 2) rows of files that follow each other by name, in one folder.

    Returns:
        (N,) the scene of each image: the first row that shows it. Without near-copies 0 to N - 1.
    """
    scenes = _Scenes(len(images))
    if len(images) < 3 * _LEAST_SCENES:
        return scenes.rows()
    neighbours = nearest(images, images, OUTER)
    for pair in [*_near_pairs(images, neighbours), *_following_pairs(images, following)]:
        scenes.join(*pair)
    return scenes.rows()


def nearest(images: NDArray[np.float32], others: NDArray[np.float32], count: int) -> Neighbours:
    """The `count` + 1 nearest of `others` to each image; an image that is among them is its own nearest."""
    count = min(count + 1, len(others))
    rows, squares = [], []
    for block in _squared_distances(images, others):
        near = np.argpartition(block, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(block, near, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        rows.append(np.take_along_axis(near, order, axis=1))
        squares.append(np.take_along_axis(found, order, axis=1))
    return Neighbours(np.concatenate(rows), np.sqrt(np.concatenate(squares)))


def _squared_distances(images: NDArray[np.float32], others: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """(up to 512, others) mean squares of the difference, block by block of the images."""
    left, right = images.reshape(len(images), -1), others.reshape(len(others), -1)
    lengths = np.square(right).sum(axis=1)
    for start in range(0, len(left), _BLOCK_ROWS):
        block = left[start : start + _BLOCK_ROWS]
        squares = np.square(block).sum(axis=1)[:, None] + lengths - 2 * block @ right.T
        yield np.clip(squares, 0, None) / left.shape[1]


class _Scenes:
    """Disjoint sets of rows, each named by its first."""

    def __init__(self, count: int) -> None:
        self._first = list(range(count))
        self._sizes = [1] * count
        self.largest = 1

    def find(self, row: int) -> int:
        while self._first[row] != row:
            self._first[row] = self._first[self._first[row]]
            row = self._first[row]
        return row

    def join(self, one: int, other: int) -> int | None:
        """The first row that is now no longer the name of a scene; None if both were one already."""
        first, second = sorted((self.find(one), self.find(other)))
        if first == second:
            return None
        self._first[second] = first
        self._sizes[first] += self._sizes[second]
        self.largest = max(self.largest, self._sizes[first])
        return second

    def rows(self) -> Rows:
        return np.array([self.find(row) for row in range(len(self._first))], np.int64)


def _near_pairs(images: NDArray[np.float32], neighbours: Neighbours) -> Sequence[tuple[int, int]]:
    """The pairs that distance alone joins."""
    count = len(images)
    scale = np.maximum(neighbours.distances[:, min(OUTER, count // 4)], _LEAST_DISTANCE)
    pairs, gaps = _nearest_first(neighbours, scale)
    scenes, joins, names = _Scenes(count), [], []
    for row in range(len(gaps)):
        name = scenes.join(*pairs[row])
        if scenes.largest > max(_LARGEST_SCENE, _LARGEST_SHARE * count):
            break
        if name is not None:
            joins.append(row)
            names.append(name)
    for tried in _cuts(count, len(joins)):
        alone = np.delete(np.arange(count), names[:tried])
        allowed = CHANCE_NEAR * min(1, len(alone) / _ENOUGH_SCENES) * min(len(alone), tried)
        if _chance_pairs(images, alone, gaps[joins[tried - 1]] * scale) <= allowed:
            return [pairs[row] for row in joins[:tried]]
    return []


def _nearest_first(
    neighbours: Neighbours, scale: NDArray[np.float32]
) -> tuple[list[tuple[int, int]], NDArray[np.float32]]:
    """Pairs of neighbours, and how near they lie relative to the scale around both, ascending."""
    kept = slice(0, _JOINED_NEIGHBOURS + 1)
    right = neighbours.rows[:, kept].ravel()
    left = np.repeat(np.arange(len(scale)), len(right) // len(scale))
    gaps = neighbours.distances[:, kept].ravel() / np.sqrt(scale[left] * scale[right])
    order = np.argsort(gaps, kind="stable")
    order = order[left[order] != right[order]]
    return list(zip(left[order].tolist(), right[order].tolist(), strict=True)), gaps[order]


def _cuts(count: int, joins: int) -> list[int]:
    """How many joins to try, the most first: finely where few scenes remain, and where few are joined."""
    many = count - np.geomspace(_LEAST_SCENES, count, _TRIED_CUTS).astype(int)
    few = np.geomspace(1, count, _TRIED_CUTS // 2).astype(int)
    tried = np.unique(np.concatenate((many, few)))
    cuts: list[int] = tried[(tried > 0) & (tried <= joins)][::-1].tolist()
    return cuts


def _chance_pairs(images: NDArray[np.float32], alone: Rows, cuts: NDArray[np.float32]) -> float:
    """How many pairs of distinct scenes are expected to lie nearer than `cuts`.

    Args:
        images: All (N, 28, 28).
        alone: One row of each scene.
        cuts: (N,) the distance around each image.
    """
    outer = min(OUTER, len(alone) // 3)
    inner = max(2, min(INNER, outer // 3))
    sample = alone[:: max(1, len(alone) // _SAMPLED_SCENES)]
    distances = np.maximum(nearest(images[sample], images[alone], outer).distances, _LEAST_DISTANCE)
    growth = float(np.mean(np.log(distances[:, outer] / distances[:, inner])))
    dimension = np.log(outer / inner) / max(growth, _LEAST_DISTANCE)
    within = inner * np.power(cuts[sample] / distances[:, inner], dimension)
    return float(len(alone) * within.mean() / 2)


def _following_pairs(images: NDArray[np.float32], following: Rows) -> Sequence[tuple[int, int]]:
    """The pairs that follow each other by name, and are nearer to each other than chance explains."""
    if not len(following):
        return []
    count = len(images)
    ranks = np.maximum(_ranks(images, following), _ranks(images, following[:, ::-1]))
    ordered = np.sort(ranks)
    by_chance = len(ranks) * ordered / (count - 1)
    fair = np.flatnonzero(by_chance <= CHANCE_FOLLOWING * np.searchsorted(ordered, ordered, side="right"))
    for end in ordered[fair][::-1]:
        pairs = following[ranks <= end].tolist()
        scenes = _Scenes(count)
        for pair in pairs:
            scenes.join(*pair)
        if scenes.largest <= max(_LARGEST_SCENE, _LARGEST_SHARE * count):
            return [(one, other) for one, other in pairs]
    return []


def _ranks(images: NDArray[np.float32], pairs: Rows) -> Rows:
    """(M,) how many images are at least as near to the first of a pair as its second is, which counts as well."""
    ranks = []
    start = 0
    for block in _squared_distances(images[pairs[:, 0]], images):
        second = pairs[start : start + len(block), 1]
        ranks.append((block <= block[np.arange(len(block)), second][:, None]).sum(axis=1) - 1)
        start += len(block)
    return np.maximum(np.concatenate(ranks).astype(np.int64), 1)
