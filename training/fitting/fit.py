"""The training loop: fits an autoencoder to the training images, and to nothing else."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR
from tqdm import tqdm

from app.detection.images import SIDE
from training.errors import TrainingError
from training.model.autoencoders import Autoencoder, DenoisingAutoencoder, VariationalAutoencoder
from training.plan import FitSettings

# The approximate maximum of epochs whose loss is printed.
_MOST_LINES = 50


def use_one_thread() -> None:
    """Networks of this size gain nothing from a second thread, and on a busy machine lose ten times as much."""
    torch.set_num_threads(1)


def fit(
    autoencoder: Autoencoder, images: NDArray[np.uint8] | NDArray[np.float16], settings: FitSettings, seed: int
) -> list[float]:
    """Fits the autoencoder in place. Shows a progress bar, and prints the loss of at most about `_MOST_LINES` epochs.

    Args:
        autoencoder: Fresh weights, or a checkpoint's to go on from.
        images: (N, 28, 28), grey levels 0 to 255; or half-precision numbers about in [0, 1].
        settings: How long and how.
        seed: Seed for shuffling, for damaging inputs and for the samples of a variational autoencoder.

    Returns:
        The mean training loss of each epoch.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    generator = Generator().manual_seed(seed)
    # All images lie in memory, and a batch is one indexing: a DataLoader would collate it image by image.
    targets = torch.from_numpy(images).unsqueeze(1)  # (N, 1, 28, 28)
    epochs = settings.epochs_for(len(targets))
    optimizer, schedule = _optimizer(autoencoder, settings, epochs * math.ceil(len(targets) / settings.batch_size))
    autoencoder.train()
    epoch_losses = []
    with tqdm(total=epochs * len(targets), unit="image", leave=False, disable=None) as bar:
        for epoch in range(1, epochs + 1):
            batch_losses = []
            order = torch.randperm(len(targets), generator=generator)
            for indices in torch.split(order, settings.batch_size):
                loss = objective(autoencoder, to_grey_levels(targets[indices]), settings.loss, generator)
                _descend(loss, optimizer, schedule)
                batch_losses.append(loss.detach())
                bar.update(len(indices))
            epoch_losses.append(torch.stack(batch_losses).mean().item())
            if not np.isfinite(epoch_losses[-1]):
                raise TrainingError(f"The loss of epoch {epoch} is not a number: lower --learning-rate.")
            if (epoch - 1) % math.ceil(epochs / _MOST_LINES) == 0 or epoch == epochs:
                bar.write(f"Epoch {epoch:03} | Loss >> {epoch_losses[-1]:.4f}")
    autoencoder.eval()
    return epoch_losses


def _descend(loss: Tensor, optimizer: Optimizer, schedule: LRScheduler) -> None:
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    schedule.step()


def to_grey_levels(images: Tensor) -> Tensor:
    """Bytes 0 to 255 -> the grey levels in [0, 1] that the serving decoder gives for them, to the last bit.

    What is no bytes is in grey levels already.
    """
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def objective(autoencoder: Autoencoder, targets: Tensor, loss: str, generator: Generator) -> Tensor:
    """What is minimised for one batch.

    This is the mean loss over pixels. For a variational autoencoder it is the sum over pixels plus the Kullback-Leibler
    divergence of the latent from a standard normal distribution, averaged over images.

    Args:
        autoencoder: In training mode.
        targets: (N, 1, 28, 28), clean images.
        loss: "mse" or "bce".
        generator: Of damage and samples.

    Returns:
        A scalar.
    """
    if isinstance(autoencoder, VariationalAutoencoder):
        mean, log_variance = autoencoder.distribution(targets)  # (N, latent) each
        noise = torch.randn(mean.shape, generator=generator)
        reconstructions = autoencoder.decode(mean + noise * (log_variance / 2).exp())
        pixels = _pixel_losses(reconstructions, targets, loss).sum(dim=(1, 2, 3))  # (N,)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2  # (N,)
        return (pixels + divergence).mean()
    inputs = damaged(targets, generator) if isinstance(autoencoder, DenoisingAutoencoder) else targets
    return _pixel_losses(autoencoder(inputs), targets, loss).mean()


def _pixel_losses(reconstructions: Tensor, targets: Tensor, loss: str) -> Tensor:
    if loss == "bce":
        return F.binary_cross_entropy(reconstructions, targets, reduction="none")
    return F.mse_loss(reconstructions, targets, reduction="none")


def _optimizer(autoencoder: Autoencoder, settings: FitSettings, steps: int) -> tuple[Optimizer, LRScheduler]:
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=settings.learning_rate, fused=True)
    if settings.one_cycle:
        return optimizer, OneCycleLR(optimizer, settings.learning_rate, total_steps=steps, pct_start=0.05)
    return optimizer, ConstantLR(optimizer, factor=1.0)


def damaged(images: Tensor, generator: Generator) -> Tensor:
    """What a denoising autoencoder is shown: noise on half of the images, and up to two rectangles on each, filled
    with one grey level or with a part of another image.

    Args:
        images: (N, 1, 28, 28), grey levels in [0, 1].
        generator: Of all of it.

    Returns:
        The same shape; levels may leave [0, 1].
    """
    count = len(images)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    noisy = uniform(count, 1, 1, 1) < 0.5
    strength = 0.3 * uniform(count, 1, 1, 1).square() * noisy
    result = images + strength * torch.randn(images.shape, generator=generator)
    places = torch.arange(SIDE, dtype=images.dtype)
    for _ in range(2):
        centre, half = SIDE * uniform(count, 2, 1), 2 + 5 * uniform(count, 2, 1)
        inside = ((places - centre).abs() < half).float() * (uniform(count, 1, 1) < 0.4)  # (N, 2, 28): rows, columns
        rectangle = (inside[:, 0, :, None] * inside[:, 1, None, :]).unsqueeze(1)  # (N, 1, 28, 28)
        others = images[torch.randperm(count, generator=generator)]
        filling = torch.where(uniform(count, 1, 1, 1) < 0.5, others, uniform(count, 1, 1, 1))
        result = result * (1 - rectangle) + filling * rectangle
    return result
