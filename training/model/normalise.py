"""What is taken out of a picture before the network sees it, and judged by itself: its light and its place."""

from typing import NamedTuple

from torch import Tensor, nn

from training.model.paper import Paper
from training.model.place import Place


class Normalised(NamedTuple):
    """A picture in the usual light and at the usual place.

    Attributes:
        images: (N, 1, 28, 28); levels may leave [0, 1] a little.
        paper: (N, 1), the paper's light as a share of the usual; 1 where normal images have no paper.
        away: (N, 2), how many pixels the drawing lay to the right and down of the usual place.
    """

    images: Tensor
    paper: Tensor
    away: Tensor


class Normalisation(nn.Module):
    """Light first, then place; neither is touched where the borders of normal images are not even."""

    def __init__(self) -> None:
        super().__init__()
        self.paper = Paper()
        self.place = Place()

    def fit(self, images: Tensor) -> None:
        """
        Args:
            images: (N, 1, 28, 28) normal images as originals.
        """
        self.paper.fit(images)
        if self.paper.is_even > 0:
            self.place.fit(self.paper(images)[0], float(self.paper.background()))

    def forward(self, images: Tensor) -> Normalised:
        """(N, 1, 28, 28) as decoded."""
        relit, paper = self.paper(images)
        moved, away = self.place(relit, self.paper.background())
        return Normalised(moved, paper, away)

    def undo(self, images: Tensor, normalised: Normalised) -> Tensor:
        """Brings (N, 1, 28, 28) back to the light and the place in which each was found, clipped to [0, 1]."""
        return self.paper.undo(self.place.undo(images, normalised.away).clamp(0.0, 1.0), normalised.paper)
