"""Part II of the tutorial: variational autoencoders, dense and convolutional."""

import numpy as np

from docs.tutorial.page import Page
from docs.tutorial.plain import SEVEN
from training.data.dataset import Part
from training.model.autoencoders import Autoencoder, VariationalAutoencoder
from training.plan import FitSettings
from training.tutorial import figures, measures
from training.tutorial.lesson import (
    Lesson,
    decode_latents,
    fit_network,
    latent_distribution,
    new_network,
    redraw_images,
)

# Standard deviations of the latent's prior.
PLACES = (-2.0, -1.0, 0.0, 1.0, 2.0)
PIXELS = 784


def show_variational(page: Page, lesson: Lesson, part: Part, plain: Autoencoder) -> None:
    """The dense and the convolutional network, the order of their latents, and the scale of their losses."""
    dense, dense_losses = _fitted("vae", lesson, part, 3e-4)
    convolutional, convolutional_losses = _fitted("cvae", lesson, part, 1e-3)
    means, deviations = latent_distribution(dense, part.images)
    page.state(
        plateau_sum=PIXELS * measures.mean_image_loss(part.images),
        plateau_entropy=PIXELS * measures.mean_image_entropy(part.images),
        totals={"variational": dense_losses[-1], "convolutional VAE": convolutional_losses[-1]},
        divergences={"variational": _divergence(dense, part), "convolutional VAE": _divergence(convolutional, part)},
        vae_mean_spread=float(means.std()),
        vae_deviation=float(np.median(deviations)),
    )
    _show_order(page, part, plain, dense, convolutional)
    _show_drawings(page, part, dense, convolutional)


def _fitted(model: str, lesson: Lesson, part: Part, learning_rate: float) -> tuple[VariationalAutoencoder, list[float]]:
    network = new_network(model, lesson.seed, loss="bce")
    assert isinstance(network, VariationalAutoencoder)
    settings = FitSettings(learning_rate=learning_rate, loss="bce")
    return network, fit_network(network, part.images, lesson.variational_epochs, lesson.seed, settings)


def _show_order(
    page: Page, part: Part, plain: Autoencoder, dense: VariationalAutoencoder, convolutional: VariationalAutoencoder
) -> None:
    names = {"plain": plain, "variational": dense, "convolutional VAE": convolutional}
    latents = {name: redraw_images(network, part.images).latents[:, 0] for name, network in names.items()}
    page.draw("latents-radius", figures.latent_radius(part.radii, latents))
    radii = np.array(part.radii)
    page.state(
        orders={
            name: (
                measures.rank_correlation(radii, values),
                measures.rank_correlation(radii[radii < 0.25], values[radii < 0.25]),
            )
            for name, values in latents.items()
        },
        losses={
            name: float(measures.image_losses(part.images, redraw_images(network, part.images).reconstructions).mean())
            for name, network in names.items()
        },
    )


def _show_drawings(
    page: Page, part: Part, dense: VariationalAutoencoder, convolutional: VariationalAutoencoder
) -> None:
    rows = {
        "dense": list(decode_latents(dense, PLACES)),
        "convolutional": list(decode_latents(convolutional, PLACES)),
    }
    page.draw("variational-drawings", figures.image_rows(rows, [f"{place:g}" for place in PLACES]))
    seven = [
        redraw_images(network, part.images[SEVEN : SEVEN + 1]).reconstructions[0] for network in (dense, convolutional)
    ]
    page.draw(
        "seven-variational",
        figures.image_rows({"": [part.images[SEVEN], *seven]}, ["image 7", "dense", "convolutional"]),
    )


def _divergence(network: VariationalAutoencoder, part: Part) -> float:
    """Mean Kullback-Leibler divergence of the images' latents from a standard normal, in nats."""
    means, deviations = latent_distribution(network, part.images)
    each = (np.square(means) + np.square(deviations) - 1 - 2 * np.log(deviations)).sum(axis=1) / 2
    return float(each.mean())
