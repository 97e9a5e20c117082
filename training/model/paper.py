"""Takes the light of the paper out of a picture before the network sees it.

Where normal images have an even border, its level is the paper's (or the dark background's), and a scanner's or a
camera's light moves it without changing what is drawn. Every level is then divided by how far the paper is from what it
was in training, within bounds; how far that is gets a view of its own.
"""

import torch
from torch import Tensor, nn

from app.detection.images import PIXELS, SIDE

# The darkest paper that is brought back, as a share of the usual light.
_LEAST_LIGHT = 0.85
# A border is even, and the same in all images, if it keeps within this of its level; in grey levels in [0, 1].
_EVEN = 0.02


class Paper(nn.Module):
    """Measures the paper's level at the border, and divides by it."""

    border: Tensor
    usual: Tensor
    is_dark: Tensor
    is_even: Tensor

    def __init__(self) -> None:
        super().__init__()
        border = torch.ones(SIDE, SIDE)
        border[1:-1, 1:-1] = 0
        self.register_buffer("border", (border / border.sum()).reshape(PIXELS, 1), persistent=False)
        self.register_buffer("usual", torch.ones(1))
        self.register_buffer("is_dark", torch.zeros(1))
        # 1 where normal images have a paper, 0 where their borders differ and nothing must be changed.
        self.register_buffer("is_even", torch.zeros(1))

    def fit(self, images: Tensor) -> None:
        """
        Args:
            images: (N, 1, 28, 28) normal images as originals.
        """
        pixels = images.flatten(1)
        rim = pixels[:, self.border[:, 0] > 0]
        level = rim.mean()
        unevenness = (rim - level).abs().mean(dim=1)
        self.is_dark.fill_(float(level < 0.5))
        self.usual.fill_(float((level - self.is_dark).abs()))
        self.is_even.fill_(float(torch.quantile(unevenness, 0.99) <= _EVEN))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """
        Args:
            images: (N, 1, 28, 28) as decoded.

        Returns:
            The same in the usual light; and the paper's light (N, 1) as a share of the usual, 1 where there is none.
        """
        found = self._turned(images.flatten(1) @ self.border) / self.usual
        found = 1 + self.is_even * (found - 1)  # (N, 1)
        bright = self._turned(images) / self._bounded(found)
        return self._turned(bright).clamp(0.0, 1.0), found

    def undo(self, images: Tensor, found: Tensor) -> Tensor:
        """Brings (N, 1, 28, 28) in the usual light back to that in which each was found."""
        return self._turned(self._turned(images) * self._bounded(found)).clamp(0.0, 1.0)

    def background(self) -> Tensor:
        """The usual level of the paper, (1,), in [0, 1]."""
        return self._turned(self.usual)

    def _turned(self, levels: Tensor) -> Tensor:
        """Negative where the background is dark; its own inverse."""
        return self.is_dark + (1 - 2 * self.is_dark) * levels

    def _bounded(self, found: Tensor) -> Tensor:
        """(N, 1) -> (N, 1, 1, 1)"""
        return found.clamp(_LEAST_LIGHT, 1 / _LEAST_LIGHT)[:, :, None, None]
