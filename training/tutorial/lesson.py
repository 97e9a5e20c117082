"""The tutorial's networks, fitted to the tutorial's circles, and what can be asked of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.detection.images import SIDE
from training.data.circles import Circle, random_circles
from training.data.dataset import Part, circle_dataset
from training.fitting.fit import fit
from training.model.autoencoders import Autoencoder, VariationalAutoencoder, build, describe
from training.plan import FitSettings


@dataclass(frozen=True, slots=True)
class Lesson:
    """How much is drawn and fitted.

    Attributes:
        seed: Of circles, weights and shuffling.
        circles: Circles to train on.
        epochs: Of plain autoencoders.
        variational_epochs: Of variational autoencoders.
        calibration_circles: Circles that set the artifact's threshold.
        test_circles: Circles that nothing was fitted to.
        family_images: Drawn anomalies of each family.
    """

    seed: int
    circles: int = 1000
    epochs: int = 10
    variational_epochs: int = 12
    calibration_circles: int = 2000
    test_circles: int = 1000
    family_images: int = 100


# Chosen because its run shows what the article's run shows; the page says among which.
FULL = Lesson(seed=25)
# The same in a few seconds, for tests: its networks have learnt next to nothing.
BRIEF = Lesson(25, 64, 1, 1, calibration_circles=99, test_circles=40, family_images=2)


@dataclass(frozen=True, slots=True)
class Redrawn:
    """What a network makes of images.

    Attributes:
        latents: (N, latent_size).
        reconstructions: (N, 28, 28), as they leave the decoder: not clipped to [0, 1].
    """

    latents: NDArray[np.float32]
    reconstructions: NDArray[np.float32]


def train_circles(lesson: Lesson) -> Part:
    """The circles that the lesson's networks are fitted to."""
    return circle_dataset(lesson.circles, lesson.seed, 1, 1, "tutorial").train


def circle_places(lesson: Lesson) -> list[Circle]:
    """Centre and radius of each of `train_circles`."""
    return random_circles(lesson.circles, np.random.default_rng(np.random.SeedSequence(lesson.seed).spawn(3)[0]))


def fit_network(
    network: Autoencoder, images: NDArray[np.float32], epochs: int, seed: int, settings: FitSettings | None = None
) -> list[float]:
    """Fits in place, as `python -m training` does.

    Args:
        network: With fresh weights.
        images: (N, 28, 28), grey levels in [0, 1].
        epochs: Passes over them.
        seed: Of shuffling, damage and samples.
        settings: Everything but the epochs; the tutorial's by default.

    Returns:
        The mean training loss of each epoch.
    """
    chosen = settings or FitSettings()
    levels = (images * 255).round().astype(np.uint8)
    return fit(network, levels, FitSettings(epochs, chosen.batch_size, chosen.learning_rate, loss=chosen.loss), seed)


def new_network(model: str, seed: int, latent_size: int = 1, loss: str = "mse") -> Autoencoder:
    """One of the tutorial's networks with fresh weights.

    Args:
        model: "ae", "vae" or "cvae".
        seed: Of the weights.
        latent_size: Width of the bottleneck.
        loss: "bce" ends the network in a sigmoid.
    """
    return build(describe(model, latent_size, loss), seed)


def redraw_images(network: Autoencoder, images: NDArray[np.float32]) -> Redrawn:
    """Encodes and decodes (N, 28, 28) images."""
    network.eval()
    with torch.inference_mode():
        latents = network.encode(torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1))
        reconstructions = network.decode(latents)
    return Redrawn(latents.numpy(), reconstructions.reshape(-1, SIDE, SIDE).numpy())


def decode_latents(network: Autoencoder, latents: Sequence[float]) -> NDArray[np.float32]:
    """(n, 28, 28): what a network with one latent draws at each of n places."""
    network.eval()
    with torch.inference_mode():
        drawn = network.decode(torch.tensor(latents, dtype=torch.float32).unsqueeze(1))
    return drawn.reshape(-1, SIDE, SIDE).numpy()


def latent_distribution(
    network: VariationalAutoencoder, images: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Means and standard deviations of the latents of (N, 28, 28) images, (N, latent_size) each."""
    network.eval()
    with torch.inference_mode():
        mean, log_variance = network.distribution(torch.from_numpy(images).unsqueeze(1))
    return mean.numpy(), (log_variance / 2).exp().numpy()


def layer_table(network: nn.Module, inputs: Tensor) -> list[tuple[str, str, int]]:
    """Every layer that a batch passes: what it is, the shape that leaves it, and its number of parameters.

    Args:
        network: Such as an encoder.
        inputs: A batch; its first dimension is written as N.
    """
    rows: list[tuple[str, str, int]] = []

    def note(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        shape = ", ".join(["N", *(str(size) for size in output.shape[1:])])
        rows.append((str(layer), f"({shape})", sum(weights.numel() for weights in layer.parameters())))

    hooks = [layer.register_forward_hook(note) for layer in network.modules() if not list(layer.children())]
    with torch.inference_mode():
        network(inputs)
    for hook in hooks:
        hook.remove()
    return rows
