"""Takes the place of a drawing on its paper out of the picture before the network sees it.

Where normal images have an even border, what lies on the paper has a centre of gravity. The picture is moved, by
fractions of a pixel too, until that lies where it lies in training images on average, within bounds; how far it had to
be moved gets a view of its own. The movement is a product with an orthogonal matrix for each axis, which shifts the
phases of a Fourier series, so nothing is blurred, and it can be undone.
"""

import math

import torch
from torch import Tensor, nn

from app.detection.images import PIXELS, SIDE

# Lighter traces than this, in grey levels in [0, 1], are noise or what compression leaves.
_LEAST_INK = 0.08
# How many pixels further than the training images' own centres a drawing is followed, and the least that these vary.
_MARGIN, _LEAST_RANGE = 1.5, 0.25
_WAVES = SIDE // 2 + 2  # with one of no height, which makes sixteen of them: see the rules in training.model.arithmetic


class Place(nn.Module):
    """Finds how far a drawing lies from its usual place, and moves it there and back."""

    grid: Tensor
    waves: Tensor
    shifts: Tensor
    centre: Tensor
    usual_range: Tensor
    is_followed: Tensor

    def __init__(self) -> None:
        super().__init__()
        places = torch.arange(SIDE, dtype=torch.float32) - (SIDE - 1) / 2
        rows, columns = torch.meshgrid(places, places, indexing="ij")
        grid = torch.stack([columns.flatten(), rows.flatten(), torch.ones(PIXELS)], dim=1)
        self.register_buffer("grid", grid, persistent=False)  # (784, 3)
        frequencies = 2 * math.pi / SIDE * torch.arange(_WAVES)
        # The highest wave has one phase alone: moved, a part of it would be lost.
        frequencies[SIDE // 2 :] = 0
        # (2, 32): the phases of a shift to the right and down.
        self.register_buffer("waves", frequencies.repeat(2)[None], persistent=False)
        self.register_buffer("shifts", _shift_matrices(), persistent=False)
        self.register_buffer("centre", torch.zeros(2))
        self.register_buffer("usual_range", torch.full((2,), _LEAST_RANGE))
        self.register_buffer("is_followed", torch.zeros(1))

    def fit(self, images: Tensor, background: float) -> None:
        """
        Args:
            images: (N, 1, 28, 28) normal images as originals, with an even border of this level.
            background: In [0, 1].
        """
        self.is_followed.fill_(1.0)
        centres = self._centres(images, background)
        self.centre.copy_(centres.mean(dim=0))
        ranges = torch.quantile((centres - self.centre).abs(), 0.999, dim=0)
        self.usual_range.copy_(ranges.clamp_min(_LEAST_RANGE))

    def forward(self, images: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: (N, 1, 28, 28) in the usual light.
            background: A level in [0, 1].

        Returns:
            The same, moved, where levels may leave [0, 1]; and how far each lay to the right and down of its usual
            place, (N, 2) in pixels.
        """
        away = self.is_followed * (self._centres(images, background) - self.centre)
        return self._moved(images, -self._bounded(away)), away

    def undo(self, images: Tensor, away: Tensor) -> Tensor:
        """Moves (N, 1, 28, 28) back to where each was found."""
        return self._moved(images, self._bounded(away))

    def oddity(self, away: Tensor) -> Tensor:
        """(N, 2) -> (N, 1), how far a place is from the usual one, as a share of how far those of normal images are."""
        return (away.abs() / self.usual_range).amax(dim=1, keepdim=True)

    def _centres(self, images: Tensor, background: Tensor | float) -> Tensor:
        """(N, 2), right and down of the middle; what has no ink counts as being in its usual place."""
        ink = ((images - background).abs() - _LEAST_INK).clamp_min(0).flatten(1)
        moments = ink @ self.grid  # (N, 3)
        weight = moments[:, 2:]
        return (moments[:, :2] + 1e-3 * self.centre) / (weight + 1e-3)

    def _bounded(self, away: Tensor) -> Tensor:
        most = self.usual_range + _MARGIN
        return torch.minimum(torch.maximum(away, -most), most)

    def _moved(self, images: Tensor, right_and_down: Tensor) -> Tensor:
        angles = right_and_down.repeat_interleave(_WAVES, dim=1) * self.waves  # (N, 32)
        cosines, sines = angles.cos(), angles.sin()
        phases = torch.cat([cosines, sines], dim=1).reshape(-1, 2, 2, _WAVES).transpose(1, 2).flatten(2)
        matrices = (phases @ self.shifts).reshape(-1, 2, SIDE, SIDE)
        across, down = matrices[:, 0:1], matrices[:, 1:2]
        return down @ images @ across.transpose(2, 3)


def _shift_matrices() -> Tensor:
    """(32, 784): cosines and sines of the phases of a shift -> the matrix that shifts a column of 28 numbers by it."""
    steps = torch.arange(SIDE)[:, None] - torch.arange(SIDE)[None]
    frequencies = torch.arange(_WAVES)[:, None, None]
    heights = torch.full((_WAVES, 1, 1), 2.0)
    heights[0] = heights[SIDE // 2] = 1.0
    heights[SIDE // 2 + 1] = 0.0
    angles = 2 * math.pi / SIDE * frequencies * steps
    cosines = (heights * angles.cos() / SIDE).reshape(_WAVES, PIXELS)
    sines = (heights * angles.sin() / SIDE).reshape(_WAVES, PIXELS)
    return torch.cat([cosines, sines])
