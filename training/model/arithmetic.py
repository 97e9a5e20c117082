"""Sums and logarithms that give the same bits for an image alone and in any batch."""

import torch.nn.functional as F
from torch import Tensor

# ONNX Runtime computes bit-identical results for an image alone and in any batch if the graph follows two rules:
# - Sum rows with a matrix product. The summation order of a reduction depends on the row's alignment in memory.
# - Take logarithms of rows whose length is a multiple of sixteen. The remainder of a tensor that does not fill a vector
#   register is computed by different code.
# tests/training/test_views.py checks this.
_LANES = 16


def mean_of(values: Tensor) -> Tensor:
    """(N, ...) -> (N, 1)."""
    rows = values.flatten(1)
    return rows @ rows.new_full((rows.shape[1], 1), 1 / rows.shape[1])


def log_of(values: Tensor, least: float | tuple[float, ...]) -> Tensor:
    """(N, k) -> (N, k): log(max(values, 0) + least). `least` is one number, or one for each column."""
    columns = values.shape[1]
    padded = F.pad(values.clamp_min(0) + values.new_tensor(least), (0, -columns % _LANES), value=1.0)
    return padded.log()[:, :columns]
