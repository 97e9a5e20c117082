"""Torch modules that compute the score from an image and its reconstruction. They are exported with the network."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from app.detection.artifact import Architecture, View
from app.detection.images import PIXELS
from training.model.autoencoders import Autoencoder
from training.model.normalise import Normalisation, Normalised


class Redrawing(NamedTuple):
    """The inputs of a score: images and what the network makes of them.

    Attributes:
        images: (N, 1, 28, 28), grey levels in [0, 1]; normalised, if the scorer normalises.
        reconstructions: The same shape, clipped to [0, 1] unless the images are normalised.
        latents: (N, latent_size).
        losses: (N,), mean squared errors.
        paper: (N, 1), see `training.model.normalise.Normalised`.
        away: (N, 2), likewise.
    """

    images: Tensor
    reconstructions: Tensor
    latents: Tensor
    losses: Tensor
    paper: Tensor
    away: Tensor


class Verdict(NamedTuple):
    """The outputs of the exported graph, in order. (The verdict itself, score > threshold, is made by `Detector`.)

    Attributes:
        reconstruction: (N, 1, 28, 28), in [0, 1].
        loss: (N,), mean squared error of what is returned.
        score: (N,), or (N, classes) for each class of files: what the threshold is compared with; higher is odder.
        views: (N, views) or (N, classes, views), the values behind the score.
    """

    reconstruction: Tensor
    loss: Tensor
    score: Tensor
    views: Tensor


class Scorer(nn.Module):
    """What turns a redrawing into a score; whatever it learns is in its state, saved and exported with the network.

    Attributes:
        views: What each of its values means, in order.
        normalisation: What is taken out of the images before the network sees them; None leaves them as they are.
    """

    views: tuple[View, ...]
    # Without a default, which would hide the module of this name in a subclass.
    normalisation: Normalisation | None

    @property
    def columns(self) -> int:
        """How many scores it gives an image: one for each class of files, or one for all."""
        return 1

    @property
    def description(self) -> Architecture:
        """What the manifest records, to build it again."""
        raise NotImplementedError

    def forward(self, redrawing: Redrawing) -> tuple[Tensor, Tensor]:
        """Scores (N,), higher is odder, and the values behind them (N, views); or both for each class of files."""
        raise NotImplementedError


class LossScore(Scorer):
    """The tutorial's score: the loss itself. It has nothing to fit."""

    normalisation = None
    views = (
        View(
            name="loss",
            meaning="Mean squared error between the image and its redrawing, over the 784 pixels.",
            odd="Redrawn worse than normal images are.",
            normal="Redrawn as well as normal images are.",
        ),
    )

    @property
    def description(self) -> Architecture:
        return Architecture(name="loss", arguments={})

    def forward(self, redrawing: Redrawing) -> tuple[Tensor, Tensor]:
        return redrawing.losses, redrawing.losses.unsqueeze(1)


class ScoredAutoencoder(nn.Module):
    """Everything between pixels and numbers: what is exported, and what serves.

    A score that is fitted keeps what it learnt in buffers, so that one checkpoint holds network and score.
    """

    def __init__(self, autoencoder: Autoencoder, scorer: Scorer) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scorer = scorer

    def forward(self, images: Tensor) -> Verdict:
        """
        Args:
            images: (N, 1, 28, 28), grey levels in [0, 1].
        """
        normalisation = self.scorer.normalisation
        redrawing = redraw(self.autoencoder, images, normalisation)
        score, views = self.scorer(redrawing)
        if normalisation is None:
            return Verdict(redrawing.reconstructions, redrawing.losses, score, views)
        found = Normalised(redrawing.images, redrawing.paper, redrawing.away)
        returned = normalisation.undo(redrawing.reconstructions, found)
        return Verdict(returned, reconstruction_loss(images, returned), score, views)


def redraw(autoencoder: Autoencoder, images: Tensor, normalisation: Normalisation | None = None) -> Redrawing:
    """What the network makes of (N, 1, 28, 28) images, as it is judged."""
    if normalisation is None:
        one = images.new_ones((images.shape[0], 1))
        normalised = Normalised(images, one, torch.cat([0 * one, 0 * one], dim=1))
    else:
        normalised = normalisation(images)
    latents = autoencoder.encode(normalised.images)
    reconstructions = autoencoder.decode(latents)
    if normalisation is None:
        reconstructions = reconstructions.clamp(0.0, 1.0)
    losses = reconstruction_loss(normalised.images, reconstructions)
    return Redrawing(normalised.images, reconstructions, latents, losses, normalised.paper, normalised.away)


def reconstruction_loss(images: Tensor, reconstructions: Tensor) -> Tensor:
    """Mean squared error of each image over its 784 pixels.

    Args:
        images: (N, 1, 28, 28), grey levels in [0, 1].
        reconstructions: The same shape.

    Returns:
        (N,) losses; 0 is a perfect reconstruction.
    """
    residuals = (images - reconstructions).flatten(1)
    # As a matrix product: see the rules in `training.model.arithmetic`.
    return ((residuals * residuals) @ residuals.new_full((PIXELS, 1), 1 / PIXELS)).squeeze(1)


def score_images(model: ScoredAutoencoder, images: Tensor, batch_size: int = 256) -> Verdict:
    """The PyTorch side of `app.detection.detector.Detector.run`, in batches; leaves the model in eval."""
    model.eval()
    with torch.inference_mode():
        verdicts = [model(batch) for batch in torch.split(images, batch_size)]
    return Verdict(*(torch.cat(parts) for parts in zip(*verdicts, strict=True)))
