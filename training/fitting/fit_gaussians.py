"""Fits the Gaussians of `training.model.gaussians`: as many as the variants of a class of files need."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from training.fitting.scaling import median_and_reach, rounded
from training.model.gaussians import NearestGaussian

# Added to a covariance, relative to its mean variance.
REGULARISATION = 3e-4
# A variant's own covariance counts as n / (n + this), that of all variants as the rest.
SHRINKAGE_IMAGES = 50
MOST_GAUSSIANS = 12
_FORBIDDEN = 1e3


def fit_gaussians(train: Tensor, held_out: Tensor, rows: Sequence[Sequence[int]]) -> NearestGaussian:
    """For each class as many Gaussians as its variants need, in all up to `MOST_GAUSSIANS`.

    A class begins with the original's. Then each in turn adds that of its variant which is explained worst.

    Args:
        train: (variants, n, features).
        held_out: (variants, m, features), which choose and scale.
        rows: The variants of each class.
    """
    common = torch.stack([torch.cov(features.T) for features in train]).mean(dim=0)
    own = [_fit_gaussian(features, others, common) for features, others in zip(train, held_out, strict=True)]
    flat = held_out.flatten(0, 1)
    distances = torch.stack([gaussian.distances(flat)[:, 0] for gaussian in own]).reshape(len(own), len(own), -1)
    chosen = [[0] for _ in rows]  # by class
    used = [0]
    while len(used) < MOST_GAUSSIANS:
        worst = [_worst_explained(distances, mine, its) for mine, its in zip(chosen, rows, strict=True)]
        reach, number = max((reach, number) for number, (reach, _) in enumerate(worst))
        if reach <= 1:
            break
        added = worst[number][1]
        chosen[number].append(added)
        used = list(dict.fromkeys([*used, added]))
    together = joined([own[index] for index in used], len(rows))
    for number, mine in enumerate(chosen):
        together.forbidden[number] = torch.tensor([0.0 if index in mine else _FORBIDDEN for index in used])
    return together


def _worst_explained(distances: Tensor, chosen: Sequence[int], rows: Sequence[int]) -> tuple[float, int]:
    """How far the worst of the variants `rows` reaches that has no Gaussian of its own yet, and which it is.

    Args:
        distances: (gaussians, variants, m)
    """
    open_rows = [row for row in rows if row not in chosen]
    if not open_rows:
        return -math.inf, 0
    nearest = distances[list(chosen)][:, open_rows].amin(dim=0)  # (open rows, m)
    reach, place = torch.quantile(nearest, 0.99, dim=1).max(dim=0)
    return float(reach), open_rows[int(place)]


def joined(singles: Sequence[NearestGaussian], classes: int = 1) -> NearestGaussian:
    """Several, each of one Gaussian, as one that permits all of them in each class."""
    together = NearestGaussian(singles[0].size, len(singles), classes)
    states = [single.state_dict() for single in singles]
    for name, buffer in together.state_dict().items():
        if name != "forbidden":
            buffer.copy_(torch.cat([state[name] for state in states], dim=-1))
    return together


def _fit_gaussian(features: Tensor, held_out: Tensor, common: Tensor) -> NearestGaussian:
    """One variant's Gaussian.

    Args:
        features: (n, features) of training images.
        held_out: (m, features) of others, which set its scale.
        common: (features, features), the covariance of all variants, which fills in where n images say little.
    """
    count, size = features.shape
    weight = count / (count + SHRINKAGE_IMAGES)
    covariance = (weight * torch.cov(features.T) + (1 - weight) * common).double()
    covariance += REGULARISATION * covariance.trace() / size * torch.eye(size, dtype=torch.float64)
    gaussian = NearestGaussian(size, 1)
    whitening = torch.linalg.inv(torch.linalg.cholesky(covariance)).T.float()
    gaussian.set_whitening(rounded(whitening), features.mean(dim=0))
    typical, spread = median_and_reach(gaussian.distances(held_out)[:, 0])
    gaussian.typical.fill_(typical)
    gaussian.spread.fill_(spread)
    return gaussian
