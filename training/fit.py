"""The training loop: fits an autoencoder to the training images, and to nothing else."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Generator, Tensor
from tqdm import tqdm

from training.autoencoders import Autoencoder, DenoisingAutoencoder, VariationalAutoencoder
from training.errors import TrainingError

# Standard deviation of the noise that a denoising autoencoder learns to remove, in grey levels of [0, 1].
_MOST_NOISE = 0.2


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit; the defaults are the tutorial's.

    Attributes:
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Adam's.
        loss: "mse", or "bce" for a network that ends in a sigmoid.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 3e-4
    loss: Literal["mse", "bce"] = "mse"


def fit(autoencoder: Autoencoder, images: NDArray[np.float32], settings: FitSettings, seed: int) -> list[float]:
    """Fits in place, with a progress bar and, as the tutorial prints it, one line an epoch.

    Args:
        autoencoder: Fresh weights, or a checkpoint's to go on from.
        images: (N, 28, 28), grey levels in [0, 1].
        settings: How long and how.
        seed: Of shuffling, of noise and of what a variational encoder samples.

    Returns:
        The mean training loss of each epoch.

    Raises:
        TrainingError: The loss is no longer a number.
    """
    generator = Generator().manual_seed(seed)
    # All images lie in memory, and a batch is one indexing: a DataLoader would collate it image by image.
    targets = torch.from_numpy(images).unsqueeze(1)  # (N, 1, 28, 28)
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=settings.learning_rate, fused=True)
    autoencoder.train()
    epoch_losses = []
    with tqdm(total=settings.epochs * len(targets), unit="image", leave=False) as bar:
        for epoch in range(1, settings.epochs + 1):
            batch_losses = []
            order = torch.randperm(len(targets), generator=generator)
            for indices in torch.split(order, settings.batch_size):
                loss = objective(autoencoder, targets[indices], settings.loss, generator)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                batch_losses.append(loss.detach())
                bar.update(len(indices))
            epoch_losses.append(torch.stack(batch_losses).mean().item())
            if not np.isfinite(epoch_losses[-1]):
                raise TrainingError(f"The loss of epoch {epoch} is not a number: lower --learning-rate.")
            bar.write(f"Epoch {epoch:03} | Loss >> {epoch_losses[-1]:.4f}")
    autoencoder.eval()
    return epoch_losses


def objective(autoencoder: Autoencoder, targets: Tensor, loss: str, generator: Generator) -> Tensor:
    """What is minimised for one batch.

    The mean over pixels, but for a variational autoencoder the sum over pixels plus the Kullback-Leibler divergence
    of the latent from a standard normal, averaged over images.

    Args:
        autoencoder: In training mode.
        targets: (N, 1, 28, 28), clean images.
        loss: "mse" or "bce".
        generator: Of noise and samples.

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
    inputs = _with_noise(targets, generator) if isinstance(autoencoder, DenoisingAutoencoder) else targets
    return _pixel_losses(autoencoder(inputs), targets, loss).mean()


def _pixel_losses(reconstructions: Tensor, targets: Tensor, loss: str) -> Tensor:
    if loss == "bce":
        return F.binary_cross_entropy(reconstructions, targets, reduction="none")
    return F.mse_loss(reconstructions, targets, reduction="none")


def _with_noise(images: Tensor, generator: Generator) -> Tensor:
    """Each image with its own amount of noise, from none on, so that clean images stay familiar."""
    amounts = _MOST_NOISE * torch.rand((len(images), 1, 1, 1), generator=generator)
    return images + amounts * torch.randn(images.shape, generator=generator)
