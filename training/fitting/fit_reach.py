"""Fits how far normal images reach given their latent: quantile regression, trusted as far as other images agree.

Only where the training images cover the normal ones (`training.fitting.coverage`). Elsewhere it would excuse odd
images, whose latents are odd as well: among trousers .90 of other clothes are found without it and .71 with it, among
written sevens .75 and .68 of other digits.
"""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from training.model.reach import VIEWS, UsualReach

QUANTILE = 0.98
# Of what is predicted for training images: beyond these the prediction is clipped.
_LEAST, _MOST = 0.05, 0.999
_STEPS, _BATCH_SIZE, _LEARNING_RATE = 1_500, 512, 3e-3
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
_MOST_ROWS = 200_000
# A prediction that leaves more than this of the loss on other images is none.
_CONFIRMED = 0.95


def fit_reach(hidden: Tensor, values: Tensor, other_hidden: Tensor, other_values: Tensor, seed: int) -> UsualReach:
    """
    Args:
        hidden: (N, hidden) of the training images, in all variants.
        values: (N, 3), the views of these.
        other_hidden: (M, hidden) of images that nothing was fitted on.
        other_values: (M, 3), of those.
        seed: Of the batches.
    """
    reach = UsualReach(hidden.shape[1])
    hidden, values = _some(hidden), _some(values)
    usual, scale = values.mean(dim=0), values.std(dim=0) + 1e-6
    layer = nn.Linear(hidden.shape[1], VIEWS)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    _descend(layer, hidden, (values - usual) / scale, Generator().manual_seed(seed))
    with torch.no_grad():
        trust = scale * _trust(layer(other_hidden), (other_values - usual) / scale)
        reach.weights.copy_(layer.weight.T * trust)
        reach.offset.copy_(layer.bias * trust)
        ends = torch.quantile(hidden @ reach.weights + reach.offset, torch.tensor([_LEAST, _MOST]), dim=0)
        reach.least.copy_(ends[0])
        reach.most.copy_(ends[1])
    return reach


def _some(rows: Tensor) -> Tensor:
    return rows[:: 1 + len(rows) // _MOST_ROWS]


def _descend(layer: nn.Linear, hidden: Tensor, values: Tensor, generator: Generator) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=_STEPS)
    for _ in range(_STEPS):
        chosen = torch.randint(len(hidden), (_BATCH_SIZE,), generator=generator)
        near = hidden[chosen] + 0.1 * torch.randn((_BATCH_SIZE, hidden.shape[1]), generator=generator)
        optimizer.zero_grad()
        _miss(values[chosen] - layer(near)).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def _trust(predicted: Tensor, values: Tensor) -> Tensor:
    """(3,) by which share of the prediction the views of other images are best described, up to a constant."""
    misses = []
    for weight in _WEIGHTS:
        left = values - weight * predicted
        misses.append(_miss(left - torch.quantile(left, QUANTILE, dim=0)))
    relative = torch.stack(misses) / misses[0]  # (weights, 3)
    best, places = relative.min(dim=0)
    return torch.tensor(_WEIGHTS)[places] * (best < _CONFIRMED)


def _miss(errors: Tensor) -> Tensor:
    """(N, 3) -> (3,), the loss whose least expected value is at the quantile."""
    return QUANTILE * F.relu(errors).mean(dim=0) + (1 - QUANTILE) * F.relu(-errors).mean(dim=0)
