"""How far features lie from those of normal images: Mahalanobis distances to the nearest of a few Gaussians."""

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from training.model.arithmetic import log_of

# The triangular whitening matrix is split into this many groups of columns. More groups skip more of its zeros, but
# take more operations.
WHITENING_PIECES = 3


class WhiteColumns(nn.Module):
    """Columns `start` to `end` of the whitening matrices of all Gaussians.

    The matrices are upper triangular, so only the first `end` rows of these columns are stored.
    """

    whitening: Tensor
    offsets: Tensor
    own: Tensor

    def __init__(self, start: int, end: int, gaussians: int) -> None:
        super().__init__()
        self.start, self.end = start, end
        columns = end - start
        self.register_buffer("whitening", torch.zeros(end, gaussians * columns))
        self.register_buffer("offsets", torch.zeros(gaussians * columns))
        # (gaussians * columns, gaussians): which columns are whose.
        self.register_buffer("own", torch.eye(gaussians).repeat_interleave(columns, dim=0), persistent=False)

    def set_whitening(self, whitening: Tensor, mean: Tensor) -> None:
        """See `NearestGaussian.set_whitening`."""
        self.whitening.copy_(whitening[: self.end, self.start : self.end])
        self.offsets.copy_(-mean[: self.end] @ self.whitening)

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, size) -> (N, gaussians): the part of the squared distances that these columns contribute."""
        white = features[:, : self.end] @ self.whitening + self.offsets  # (N, gaussians * columns)
        return (white * white) @ self.own


class NearestGaussian(nn.Module):
    """A few Gaussians, each fitted on one variant; of those that its class permits, the nearest judges an image.

    What a small JPEG may look like is no excuse for an original, and the class of a file shows which of them it is.
    """

    typical: Tensor
    spread: Tensor
    forbidden: Tensor

    def __init__(self, size: int, gaussians: int, classes: int = 1) -> None:
        super().__init__()
        self.size = size
        ends = [size * piece // WHITENING_PIECES for piece in range(1, WHITENING_PIECES + 1)]
        self.pieces = nn.ModuleList(WhiteColumns(start, end, gaussians) for start, end in pairwise([0, *ends]))
        self.register_buffer("typical", torch.zeros(gaussians))
        self.register_buffer("spread", torch.ones(gaussians))
        # (classes, gaussians): 0 where a Gaussian may explain images of a class, else more than any distance.
        self.register_buffer("forbidden", torch.zeros(classes, gaussians))

    def set_whitening(self, whitening: Tensor, mean: Tensor) -> None:
        """Sets the upper triangular whitening (size, size) and the mean (size,). Only for a single Gaussian."""
        for piece in cast(Iterable[WhiteColumns], self.pieces):
            piece.set_whitening(whitening, mean)

    def distances(self, features: Tensor) -> Tensor:
        """Features (N, size) -> (N, gaussians) logarithms of the squared Mahalanobis distances.

        Scaled for each: 0 is the median of its own variant on held-out images, 1 the 99% quantile.
        """
        squares = sum(piece(features) for piece in self.pieces)
        scaled: Tensor = (log_of(squares, 1e-3) - self.typical) / self.spread
        return scaled

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, size) -> (N, classes), the distance to the nearest Gaussian that each class permits."""
        return (self.distances(features)[:, None, :] + self.forbidden).amin(dim=2)
