"""Part II of the tutorial: variational autoencoders, dense and convolutional."""

import numpy as np

from docs.tutorial.page import Page
from docs.tutorial.plain import SEVEN
from training.data.dataset import Part
from training.model.autoencoders import Autoencoder, VariationalAutoencoder
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
    dense = _fitted("vae", lesson, part, lesson.variational_epochs)
    convolutional = _fitted("cvae", lesson, part, lesson.variational_epochs)
    _show_scale(page, lesson, part, dense)
    _show_order(page, part, plain, dense, convolutional)
    _show_drawings(page, part, dense, convolutional)


def _fitted(
    model: str, lesson: Lesson, part: Part, epochs: int, divergence_weight: float = 1.0
) -> VariationalAutoencoder:
    network = new_network(model, lesson.seed)
    assert isinstance(network, VariationalAutoencoder)
    network.divergence_weight = divergence_weight
    fit_network(network, part.images, epochs, lesson.seed)
    return network


def _show_scale(page: Page, lesson: Lesson, part: Part, dense: VariationalAutoencoder) -> None:
    """What a sum and a mean over pixels weigh beside the divergence, and what a mean does to the latent."""
    averaged = _fitted("vae", lesson, part, lesson.epochs, divergence_weight=PIXELS)
    drawn = redraw_images(dense, part.images)
    pixel_mean = float(measures.image_losses(part.images, drawn.reconstructions).mean())
    collapsed = redraw_images(averaged, part.images)
    means, deviations = latent_distribution(dense, part.images)
    page.state(
        vae_pixel_sum=PIXELS * pixel_mean,
        vae_pixel_mean=pixel_mean,
        vae_divergence=_divergence(dense, part),
        vae_mean_spread=float(means.std()),
        vae_deviation=float(np.median(deviations)),
        averaged_divergence=_divergence(averaged, part),
        averaged_mean_spread=float(collapsed.latents.std()),
        averaged_drawing_spread=float(collapsed.reconstructions.std(axis=0).mean()),
        dense_drawing_spread=float(drawn.reconstructions.std(axis=0).mean()),
    )


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
