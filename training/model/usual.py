"""Two plain views that need no network: grey levels where normal images never have them, and the kind of picture.

Both are fitted on few numbers, so that they hold where a folder is too small or too varied for the others.
"""

import torch
from torch import Tensor, nn

from app.detection.images import PIXELS

# Added to the spread of a pixel, in grey levels in [0, 1]: where normal images are all alike, less is no difference.
_LEAST_SPREAD = 0.05
# Of the measurements (`training.model.views.Measurements`): the contrast, both edge measures, and the mean level.
_PLAIN = (3, 4, 5, 7)
_LEAST_VARIANCE = 1e-4


class UsualLevels(nn.Module):
    """How far the level of each pixel is from its mean over normal images, in units of its spread."""

    weights: Tensor
    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weights", torch.ones(PIXELS))
        self.register_buffer("offsets", torch.zeros(PIXELS))

    def fit(self, images: Tensor) -> None:
        """
        Args:
            images: (N, 1, 28, 28) normal images in all variants, as the network sees them.
        """
        pixels = images.flatten(1)
        self.weights.copy_((1 / (pixels.std(dim=0) + _LEAST_SPREAD)).half())
        self.offsets.copy_((pixels.mean(dim=0) * self.weights).half())

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 1), the mean of the squares over all pixels."""
        away = images.flatten(1) * self.weights - self.offsets
        return (away * away) @ away.new_full((PIXELS, 1), 1 / PIXELS)


class UsualStatistics(nn.Module):
    """Mahalanobis distance of contrast, edges and mean level together from those of normal images."""

    whitening: Tensor
    offsets: Tensor

    def __init__(self, measurements: int) -> None:
        """
        Args:
            measurements: How many are given; the others count for nothing.
        """
        super().__init__()
        self.register_buffer("whitening", torch.zeros(measurements, len(_PLAIN)))
        self.register_buffer("offsets", torch.zeros(len(_PLAIN)))

    def fit(self, measurements: Tensor) -> None:
        """
        Args:
            measurements: (N, measurements) of normal images in all variants.
        """
        plain = measurements[:, list(_PLAIN)].double()
        covariance = torch.cov(plain.T) + _LEAST_VARIANCE * torch.eye(len(_PLAIN), dtype=torch.float64)
        whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
        self.whitening.zero_()
        self.whitening[list(_PLAIN)] = whitening.float()
        self.offsets.copy_(plain.mean(dim=0) @ whitening)

    def forward(self, measurements: Tensor) -> Tensor:
        """(N, measurements) -> (N, 1) squared distances."""
        white = measurements @ self.whitening - self.offsets
        return (white * white) @ white.new_ones((len(_PLAIN), 1))
