"""Whether the training images cover what normal images may be, so that another normal image is nearly one of them."""

import torch
from torch import Tensor

from training.model.scores import Redrawing
from training.model.views import Measured, Views

# How far a held-out image is from the nearest training image, as a share of the distance between two of them. Circles
# have .005 (9,000 of them) to .015 (1,000), since three numbers tell all of one; written ones .14, other digits .31 to
# .39, a class of clothes .24 to .34, with 4,000 images each.
_COVERED = 0.06
_MOST_ROWS, _MOST_HELD_OUT = 10_000, 500


def is_covered(views: Views, fitted: Redrawing, held_out: Redrawing) -> bool:
    """
    Args:
        views: Their measurements are fitted.
        fitted: (n,) originals that the network was fitted on.
        held_out: (m,) other originals.
    """
    some, others = _pictures(views, fitted, _MOST_ROWS), _pictures(views, held_out, _MOST_HELD_OUT)
    if len(others) < 2:
        return False
    nearest = torch.cdist(others, some).amin(dim=1).median()
    apart = torch.pdist(others).median()
    return bool(nearest < _COVERED * apart)


def _pictures(views: Views, redrawing: Redrawing, most: int) -> Tensor:
    some = slice(None, None, 1 + len(redrawing.images) // most)
    measured: Measured = views.measurements(
        redrawing.images[some], redrawing.reconstructions[some], redrawing.losses[some]
    )
    return measured.pictures
