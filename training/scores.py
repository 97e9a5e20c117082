"""From an image and its redrawing to the numbers of a verdict: torch modules that are exported with the network."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.artifact import View
from training.autoencoders import Autoencoder


class Redrawing(NamedTuple):
    """What a score may look at.

    Attributes:
        images: (N, 1, 28, 28), grey levels in [0, 1].
        reconstructions: The same shape, clipped to [0, 1].
        latents: (N, latent_size).
        losses: (N,), mean squared errors.
    """

    images: Tensor
    reconstructions: Tensor
    latents: Tensor
    losses: Tensor


class Verdict(NamedTuple):
    """The outputs of the exported graph, in its order.

    Attributes:
        reconstruction: (N, 1, 28, 28), in [0, 1].
        loss: (N,), mean squared error of what is returned.
        score: (N,), what the threshold is compared with; higher is odder.
        views: (N, views), the values behind the score.
    """

    reconstruction: Tensor
    loss: Tensor
    score: Tensor
    views: Tensor


class LossScore(nn.Module):
    """The tutorial's score: the loss itself. It has nothing to fit."""

    views = (
        View(
            name="loss",
            meaning="Mean squared error between the image and its redrawing, over the 784 pixels.",
            odd="Redrawn worse than normal images are.",
            normal="Redrawn as well as normal images are.",
        ),
    )

    def forward(self, redrawing: Redrawing) -> tuple[Tensor, Tensor]:
        """Scores (N,) and the views behind them (N, 1)."""
        return redrawing.losses, redrawing.losses.unsqueeze(1)


class ScoredAutoencoder(nn.Module):
    """Everything between pixels and numbers: what is exported, and what serves.

    A score that is fitted keeps what it learnt in buffers, so that one checkpoint holds network and score.
    """

    def __init__(self, autoencoder: Autoencoder, scorer: LossScore) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scorer = scorer

    def forward(self, images: Tensor) -> Verdict:
        """
        Args:
            images: (N, 1, 28, 28), grey levels in [0, 1].
        """
        latents = self.autoencoder.encode(images)
        reconstructions = self.autoencoder.decode(latents).clamp(0.0, 1.0)
        losses = reconstruction_loss(images, reconstructions)
        score, views = self.scorer(Redrawing(images, reconstructions, latents, losses))
        return Verdict(reconstructions, losses, score, views)


def reconstruction_loss(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared error of each image over its 784 pixels.

    Args:
        images: (N, 1, 28, 28), grey levels in [0, 1].
        reconstructions: The same shape.

    Returns:
        (N,) losses; 0 is a perfect reconstruction.
    """
    return (images - reconstructions).square().mean(dim=(1, 2, 3))


def score_images(model: ScoredAutoencoder, images: Tensor, batch_size: int = 256) -> Verdict:
    """The PyTorch side of `app.detector.Detector.run`, in batches and without gradients; leaves the model in eval."""
    model.eval()
    with torch.inference_mode():
        verdicts = [model(batch) for batch in torch.split(images, batch_size)]
    return Verdict(*(torch.cat(parts) for parts in zip(*verdicts, strict=True)))
