"""How near a picture lies to normal ones in the directions of its edges: histograms of gradients, and prototypes."""

import math

import torch
from torch import Tensor, nn

from app.detection.images import SIDE

DIRECTIONS, CELL = 9, 7
_CELLS = SIDE // CELL
_BLOCKS = _CELLS - 1
SIZE = DIRECTIONS * 4 * _BLOCKS**2
# A block whose edges are weaker than this, in grey levels a pixel, counts as the emptier the weaker they are.
_LEAST_EDGE = 0.05


class GradientHistograms(nn.Module):
    """Dalal and Triggs's histograms of oriented gradients, with smooth bins: cells of 7x7 pixels, blocks of 2x2."""

    differences: Tensor
    bins: Tensor
    pooling: Tensor
    blocks: Tensor
    same_block: Tensor

    def __init__(self) -> None:
        super().__init__()
        differences = torch.zeros(SIDE, SIDE)
        for place in range(1, SIDE - 1):
            differences[place - 1, place], differences[place + 1, place] = -1, 1
        self.register_buffer("differences", differences, persistent=False)
        self.register_buffer("bins", _bins(), persistent=False)  # (9, 9)
        cells = torch.kron(torch.eye(_CELLS), torch.ones(CELL, 1))  # (28, 4)
        self.register_buffer("pooling", torch.kron(cells, cells), persistent=False)  # (784, 16)
        rows = torch.zeros(_BLOCKS, _CELLS)
        for block in range(_BLOCKS):
            rows[block, block : block + 2] = 1
        # (16, 36): which four cells are in which block, each block's after the other's.
        owners = torch.kron(rows, rows)  # (9, 16)
        columns = [torch.eye(_CELLS**2)[:, owner > 0] for owner in owners]
        self.register_buffer("blocks", torch.cat(columns, dim=1), persistent=False)
        same = torch.eye(_BLOCKS**2).repeat_interleave(4, dim=0)  # (36, 9)
        self.register_buffer("same_block", same @ same.T, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 324), each block of length 1 or, where there is no edge, less."""
        across = (images @ self.differences).flatten(2)  # (N, 1, 784)
        down = (self.differences.T @ images).flatten(2)
        squares = across * across + down * down + 1e-6
        lengths = squares.sqrt()
        # Cosine and sine of twice the angle, of four times, and so on, each times the length: opposite directions count
        # as one, and each wave follows from the two before it.
        cos, sin = (across * across - down * down) / lengths, 2 * across * down / lengths
        twice = 2 * cos / lengths
        cos2, sin2 = twice * cos - lengths, twice * sin
        cos3, sin3 = twice * cos2 - cos, twice * sin2 - sin
        cos4, sin4 = twice * cos3 - cos2, twice * sin3 - sin2
        waves = torch.cat([lengths, cos, sin, cos2, sin2, cos3, sin3, cos4, sin4], dim=1)
        cells = self.bins @ (waves @ self.pooling) @ self.blocks  # (N, 9, 36)
        energy = self.same_block.new_ones((1, DIRECTIONS)) @ (cells * cells) @ self.same_block  # (N, 1, 36)
        return (cells / (energy + (_LEAST_EDGE * CELL) ** 2).sqrt()).flatten(1)


def _bins() -> Tensor:
    """(9, 9): what each wave contributes to the bin of each direction, which is ((1 + cos 2(a - direction)) / 2)^4.

    Cells add up before waves become bins: both are sums, and there are fewer cells than pixels.
    """
    shares = torch.tensor([35.0, 56.0, 28.0, 8.0, 1.0]) / 128
    angles = 2 * math.pi / DIRECTIONS * torch.arange(DIRECTIONS)
    columns = [shares[0].expand(DIRECTIONS)]
    for order in range(1, len(shares)):
        columns += [shares[order] * torch.cos(order * angles), shares[order] * torch.sin(order * angles)]
    return torch.stack(columns, dim=1)


class Prototypes(nn.Module):
    """Distance to the nearest of a few typical vectors."""

    centre: Tensor
    vectors: Tensor
    squares: Tensor

    def __init__(self, size: int, count: int) -> None:
        super().__init__()
        # Subtracted from everything first: a distance is the more exact, the shorter the vectors are.
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("vectors", torch.zeros(size, count))
        self.register_buffer("squares", torch.zeros(count))

    def set_vectors(self, vectors: Tensor) -> None:
        """(count, size); they are rounded to half precision."""
        self.centre.copy_(vectors.mean(dim=0))
        around = (vectors - self.centre).half().float()
        self.vectors.copy_(around.T)
        self.squares.copy_(around.square().sum(dim=1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, size) -> (N, 1) squared distances."""
        around = features - self.centre
        own = around * around
        lengths = own @ own.new_ones((own.shape[1], 1))
        return lengths + (self.squares - 2 * (around @ self.vectors)).amin(dim=1, keepdim=True)
