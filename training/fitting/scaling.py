"""What several fits share: the scale of a view, and the precision in which tables are stored."""

import torch
from torch import Tensor, nn


def median_and_reach(values: Tensor, quantile: float = 0.99) -> tuple[Tensor, Tensor]:
    """The median of (N,) values, and the difference between a high quantile and the median."""
    typical, high = torch.quantile(values, torch.tensor([0.5, quantile]))
    return typical, (high - typical).clamp_min(1e-3)


def round_weights(module: nn.Module) -> None:
    """Brings every weight to the nearest number of half precision."""
    for parameter in module.parameters():
        parameter.copy_(rounded(parameter))


def rounded(values: Tensor) -> Tensor:
    return values.half().float()
