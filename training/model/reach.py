"""How far normal images reach that lie where an image lies: some are harder to redraw than others, through no fault."""

import torch
from torch import Tensor, nn

# The views that are judged beside their neighbours: redrawn badly, unlike normal structure, unlike normal levels.
VIEWS = 3


class UsualReach(nn.Module):
    """The 98% quantile of three views of normal images with a given latent; it is subtracted before they are scaled.

    Without it, one threshold for all lets easy images pass whatever they are and refuses difficult ones often: of
    circles that nearly touch the edge of the picture 6% were refused where 1% was promised, of small ones none.
    """

    weights: Tensor
    offset: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, hidden: int) -> None:
        """
        Args:
            hidden: Width of the layer that it reads, the last hidden one of `training.model.views.ExpectedErrors`.
        """
        super().__init__()
        self.register_buffer("weights", torch.zeros(hidden, VIEWS))
        self.register_buffer("offset", torch.zeros(VIEWS))
        # What normal images were seen to reach: an unusual latent excuses no more than that.
        self.register_buffer("least", torch.zeros(VIEWS))
        self.register_buffer("most", torch.zeros(VIEWS))

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, hidden) -> (N, 3)"""
        reach = hidden @ self.weights + self.offset
        return torch.minimum(torch.maximum(reach, self.least), self.most)
