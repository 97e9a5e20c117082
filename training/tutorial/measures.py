"""Numbers that say what a network has learnt about circles."""

import numpy as np
from numpy.typing import NDArray


def image_losses(images: NDArray[np.float32], reconstructions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N,) mean squared errors of (N, 28, 28) images over their 784 pixels; one reconstruction may serve all."""
    losses: NDArray[np.float32] = np.square(images - reconstructions).mean(axis=(1, 2))
    return losses


def mean_image_loss(images: NDArray[np.float32]) -> float:
    """The loss of a network that answers every image with the mean of all: the plateau that learning has to leave."""
    return float(image_losses(images, images.mean(axis=0)).mean())


def mean_image_entropy(images: NDArray[np.float32]) -> float:
    """The mean binary cross-entropy of a pixel, in nats, if every image is answered with the mean of all."""
    mean = images.mean(axis=0, dtype=np.float64).clip(1e-7, 1 - 1e-7)
    return float(-(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)).mean())


def rank_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Spearman's correlation of two rows of numbers without ties, in [-1, 1]."""
    first_ranks, second_ranks = (np.argsort(np.argsort(values)) for values in (first, second))
    return float(np.corrcoef(first_ranks, second_ranks)[0, 1])


def told_apart(
    images: NDArray[np.float32], reconstructions: NDArray[np.float32], others: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each image is redrawn better by its own reconstruction than by that of another image.

    Args:
        images: (N, 28, 28).
        reconstructions: (N, 28, 28).
        others: (N,) rows of the images to compare with.
    """
    return image_losses(images, reconstructions) < image_losses(images, reconstructions[others])


def middle_share(reconstructions: NDArray[np.float32], low: float = 0.25, high: float = 0.75) -> float:
    """The share of pixels whose grey level lies between `low` and `high`: neither paper nor ink."""
    return float(((reconstructions > low) & (reconstructions < high)).mean())
