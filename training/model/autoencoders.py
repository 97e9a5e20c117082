"""The networks: the tutorial's three, and the smaller one of the default gate.

All take images (N, 1, 28, 28) with grey levels in [0, 1], and have the same three methods: `encode` to (N, latent),
`decode` back, and `forward`, which does both.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from app.detection.artifact import Architecture
from app.detection.images import PIXELS, SIDE


class Autoencoder(nn.Module):
    """An encoder, a bottleneck of `latent_size` numbers, and a decoder."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def encode(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, latent_size), without chance: the same image always gives the same latent."""
        latents: Tensor = self.encoder(images)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """(N, latent_size) -> (N, 1, 28, 28); in [0, 1] only where the decoder ends in a sigmoid."""
        reconstructions: Tensor = self.decoder(latents)
        return reconstructions

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> reconstructions of the same shape."""
        return self.decode(self.encode(images))


class PlainAutoencoder(Autoencoder):
    """The tutorial's: two hidden layers of 2048 on either side; 11,612,945 parameters at latent size 1."""

    def __init__(self, latent_size: int = 1, sigmoid: bool = False) -> None:
        """
        Args:
            latent_size: Width of the bottleneck.
            sigmoid: End in a sigmoid, which binary cross-entropy needs.
        """
        super().__init__(
            nn.Sequential(*_hidden_layers(2048), nn.Linear(2048, latent_size)),  # (N, latent)
            _dense_decoder(latent_size, 2048, sigmoid),
        )


class VariationalAutoencoder(Autoencoder):
    """Encodes to a normal distribution: the body feeds one head for its mean and one for its log-variance."""

    def __init__(self, body: nn.Module, features: int, latent_size: int, decoder: nn.Module) -> None:
        super().__init__(body, decoder)
        self.mean = nn.Linear(features, latent_size)
        self.log_variance = nn.Linear(features, latent_size)

    def distribution(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 1, 28, 28) -> mean and log-variance of the latent, (N, latent_size) each."""
        features = self.encoder(images)
        return self.mean(features), self.log_variance(features)

    def encode(self, images: Tensor) -> Tensor:
        """The mean alone, so that a verdict is deterministic; only training samples."""
        latents: Tensor = self.mean(self.encoder(images))
        return latents


class DenseVariationalAutoencoder(VariationalAutoencoder):
    """The tutorial's VAE: the plain one's layers, with two heads."""

    def __init__(self, latent_size: int = 1, sigmoid: bool = False) -> None:
        super().__init__(
            nn.Sequential(*_hidden_layers(2048)), 2048, latent_size, _dense_decoder(latent_size, 2048, sigmoid)
        )


class ConvolutionalVariationalAutoencoder(VariationalAutoencoder):
    """The tutorial's convolutional VAE; it always ends in a sigmoid."""

    def __init__(self, latent_size: int = 1) -> None:
        body = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=1, padding=1),  # (N, 32, 28, 28)
            nn.LeakyReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),  # (N, 64, 14, 14)
            nn.LeakyReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),  # (N, 64, 7, 7)
            nn.LeakyReLU(),
            nn.Conv2d(64, 64, 3, stride=1, padding=1),  # (N, 64, 7, 7)
            nn.LeakyReLU(),
            nn.Flatten(),  # (N, 3136)
        )
        decoder = nn.Sequential(
            nn.Linear(latent_size, 64 * 7 * 7),  # (N, 3136)
            nn.Unflatten(1, (64, 7, 7)),  # (N, 64, 7, 7)
            nn.ConvTranspose2d(64, 64, 3, stride=1, padding=1),  # (N, 64, 7, 7)
            nn.LeakyReLU(),
            nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),  # (N, 64, 14, 14)
            nn.LeakyReLU(),
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),  # (N, 32, 28, 28)
            nn.LeakyReLU(),
            nn.ConvTranspose2d(32, 1, 3, stride=1, padding=1),  # (N, 1, 28, 28)
            nn.Sigmoid(),
        )
        super().__init__(body, 64 * 7 * 7, latent_size, decoder)


class DenoisingAutoencoder(Autoencoder):
    """The default gate's: narrow layers, a wider bottleneck; it learns to redraw clean images from damaged ones."""

    def __init__(self, latent_size: int = 32, width: int = 256, sigmoid: bool = False) -> None:
        """
        Args:
            latent_size: Width of the bottleneck.
            width: Width of the two hidden layers on either side.
            sigmoid: End in a sigmoid, which binary cross-entropy needs.
        """
        super().__init__(
            nn.Sequential(*_hidden_layers(width), nn.Linear(width, latent_size)),  # (N, latent)
            _dense_decoder(latent_size, width, sigmoid),
        )


ARCHITECTURES: dict[str, Callable[..., Autoencoder]] = {
    "gate": DenoisingAutoencoder,
    "ae": PlainAutoencoder,
    "vae": DenseVariationalAutoencoder,
    "cvae": ConvolutionalVariationalAutoencoder,
}


def describe(model: str, latent_size: int, loss: str) -> Architecture:
    """What the manifest records of a network, and all that `build` needs.

    Args:
        model: A name in `ARCHITECTURES`.
        latent_size: Width of the bottleneck.
        loss: "mse" or "bce", the training objective; the latter needs an output in [0, 1].
    """
    arguments: dict[str, Any] = {"latent_size": latent_size}
    if model != "cvae":
        arguments["sigmoid"] = loss == "bce"
    return Architecture(name=model, arguments=arguments)


def build(architecture: Architecture, seed: int = 0) -> Autoencoder:
    """A network with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[architecture.name](**architecture.arguments)


def _hidden_layers(width: int) -> list[nn.Module]:
    return [
        nn.Flatten(),  # (N, 784)
        nn.Linear(PIXELS, width),  # (N, width)
        nn.LeakyReLU(),
        nn.Linear(width, width),  # (N, width)
        nn.LeakyReLU(),
    ]


def _dense_decoder(latent_size: int, width: int, sigmoid: bool) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Linear(latent_size, width),  # (N, width)
        nn.LeakyReLU(),
        nn.Linear(width, width),  # (N, width)
        nn.LeakyReLU(),
        nn.Linear(width, PIXELS),  # (N, 784)
        nn.Unflatten(1, (1, SIDE, SIDE)),  # (N, 1, 28, 28)
    ]
    if sigmoid:
        layers.append(nn.Sigmoid())
    return nn.Sequential(*layers)
