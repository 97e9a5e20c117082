"""False positives by region: a promise that holds on average may be kept by refusing one sort of normal image often."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.fitting.evaluate import wilson_interval

# Circles by radius, in axes units. The last ones nearly touch the edge of the picture.
RADII = (0.03, 0.1, 0.2, 0.3, 0.4, 0.45, 0.465, 0.47)
# Other images by how unusual their latent is: shares of the images, from the middle outwards.
_SHARES = (0.5, 0.4, 0.1)
_WORDS = ("the half nearest to the middle", "the next 40%", "the outermost tenth")

Mask = NDArray[np.bool_]


def by_radius(radii: Sequence[float]) -> dict[str, Mask]:
    """(N,) masks of circles by their radius."""
    own = np.asarray(radii)
    return {f"radius {low:g} to {high:g}": (low <= own) & (own < high) for low, high in pairwise(RADII)}


def by_latent(latents: NDArray[np.float32]) -> dict[str, Mask]:
    """(N,) masks of images by how far their latent (N, latent_size) lies from the mean, in standard deviations."""
    away = np.square((latents - latents.mean(axis=0)) / (latents.std(axis=0) + 1e-6)).sum(axis=1)
    ranks = np.argsort(np.argsort(away, kind="stable"), kind="stable")
    ends = np.cumsum((0, *_SHARES)) * len(away)
    return {
        words: (low <= ranks) & (ranks < high) for words, low, high in zip(_WORDS, ends[:-1], ends[1:], strict=True)
    }


def refused_by_region(regions: Mapping[str, Mask], refused: Mapping[str, Mask]) -> list[dict[str, Any]]:
    """What is refused of the images of each region.

    Args:
        regions: (N,) masks.
        refused: By variant, the original first, (N,) verdicts.

    Returns:
        By region, those without images left out: its images; the rate of the originals and its 95% interval; the mean
        rate of all variants; and the worst of them, named, with its rate.
    """
    table = []
    for name, mask in regions.items():
        count = int(mask.sum())
        if not count:
            continue
        rates = {variant: float(verdicts[mask].mean()) for variant, verdicts in refused.items()}
        worst = max(rates, key=lambda variant: rates[variant])
        original = next(iter(rates.values()))
        table.append(
            {
                "region": name,
                "images": count,
                "original": round(original, 4),
                "original_interval": [round(end, 4) for end in wilson_interval(round(original * count), count)],
                "mean": round(float(np.mean(list(rates.values()))), 4),
                "worst": round(rates[worst], 4),
                "worst_variant": worst,
            }
        )
    return table
