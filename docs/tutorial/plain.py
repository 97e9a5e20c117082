"""Part I of the tutorial: the plain autoencoder, from the data set to the duck."""

import json
from pathlib import Path

import numpy as np
import torch

from app.detection.artifact import CHECKPOINT, Artifact
from app.detection.images import decode_image
from docs.tutorial.page import HERE, Page
from training.data.circles import REDUCTIONS
from training.data.dataset import Part, decode
from training.model.autoencoders import Autoencoder
from training.model.export import load_checkpoint
from training.plan import FitSettings, Plan
from training.run import train
from training.tutorial import figures, measures
from training.tutorial.lesson import (
    Lesson,
    circle_places,
    decode_latents,
    fit_network,
    layer_table,
    new_network,
    redraw_images,
)

# What the article prints, by epoch, and where it looks in the latent.
ARTICLE_LOSSES = {1: 0.1535, 2: 0.0220, 9: 0.0117, 10: 0.0109}
ARTICLE_LATENTS = (-3.0, -0.5, 0.0, 0.9, 3.0)
SEVEN = 7
DUCK = HERE.parent / "duck.png"


def train_artifact(lesson: Lesson, folder: Path) -> Artifact:
    """What `python -m training --model ae --seed SEED` leaves in `folder`."""
    plan = Plan(
        output=folder,
        name="circles-ae",
        model="ae",
        latent_size=1,
        fit=FitSettings(epochs=lesson.epochs),
        seed=lesson.seed,
        count=lesson.circles,
        circles="tutorial",
        calibration_count=lesson.calibration_circles,
        test_count=lesson.test_circles,
        family_count=lesson.family_images,
    )
    return train(plan)


def load_network(artifact: Artifact, folder: Path) -> tuple[Autoencoder, list[float]]:
    """The artifact's network, and the loss of each epoch of its training."""
    manifest = artifact.manifest
    network = load_checkpoint(folder / CHECKPOINT, manifest.architecture, manifest.score).autoencoder
    losses: list[float] = json.loads((folder / "report" / "report.json").read_text())["epoch_losses"]
    return network, losses


def describe_data(page: Page, lesson: Lesson, part: Part) -> None:
    """The data set, and what a network must beat: the mean image."""
    rows = np.argsort(part.radii)[np.linspace(0, len(part.radii) - 1, 6).astype(int)]
    softened = decode(part.originals, REDUCTIONS["smooth"])
    page.draw("circles", figures.image_grid(part.images[:24], 12))
    pair = {
        "nearest": [part.images[row] for row in rows],
        "bicubic": [softened[row] for row in rows],
    }
    captions = [f"radius {part.radii[row]:.2f}" for row in rows]
    page.draw("nearest-and-bicubic", figures.image_rows(pair, captions))
    page.state(
        lesson=lesson,
        mean_image_loss=measures.mean_image_loss(part.images),
        smooth_mean_image_loss=measures.mean_image_loss(softened),
        seven=circle_places(lesson)[SEVEN],
        torch_version=torch.__version__,
    )


def show_untrained(page: Page, lesson: Lesson, part: Part) -> None:
    """The layers, and what image 7 becomes before any training."""
    network = new_network("ae", lesson.seed)
    image = part.images[SEVEN : SEVEN + 1]
    redrawn = redraw_images(network, image)
    batch = torch.from_numpy(image).unsqueeze(1)
    drawing = redrawn.reconstructions[0]
    page.draw("seven-untrained", figures.image_rows({"": [image[0], drawing]}, ["image 7", "untrained"]))
    page.state(
        encoder_layers=layer_table(network.encoder, batch),
        decoder_layers=layer_table(network.decoder, network.encode(batch).detach()),
        parameters=sum(weights.numel() for weights in network.parameters()),
        untrained_latent=float(redrawn.latents[0, 0]),
        untrained_lowest=float(drawing.min()),
        untrained_highest=float(drawing.max()),
        untrained_negative=float((drawing < 0).mean()),
        untrained_loss=float(measures.image_losses(image, redrawn.reconstructions)[0]),
    )


def compare_losses(page: Page, lesson: Lesson, part: Part, network: Autoencoder) -> None:
    """Binary cross-entropy with a sigmoid, in place of the mean squared error."""
    bce = new_network("ae", lesson.seed, loss="bce")
    fit_network(bce, part.images, lesson.epochs, lesson.seed, FitSettings(loss="bce"))
    by_mse, by_bce = (redraw_images(each, part.images).reconstructions for each in (network, bce))
    levels = {"circles": part.images, "redrawn, MSE": by_mse, "redrawn, BCE": by_bce}
    page.draw("mse-and-bce", figures.grey_levels(levels))
    page.state(
        bce_loss=float(measures.image_losses(part.images, by_bce).mean()),
        mse_loss=float(measures.image_losses(part.images, by_mse).mean()),
        bce_middle=measures.middle_share(by_bce),
        mse_middle=measures.middle_share(by_mse),
        circles_middle=measures.middle_share(part.images),
        mse_outside=float(((by_mse < 0) | (by_mse > 1)).mean()),
        bce_outside=float(((by_bce < 0) | (by_bce > 1)).mean()),
    )


def show_training(page: Page, part: Part, network: Autoencoder, losses: list[float]) -> None:
    """The losses by epoch, image 7 redrawn, and whether large circles are told from small ones."""
    plateau = measures.mean_image_loss(part.images)
    article = {epoch: loss for epoch, loss in ARTICLE_LOSSES.items() if epoch <= len(losses)}
    redrawn = redraw_images(network, part.images).reconstructions
    page.draw("training", figures.epoch_losses(losses, article, plateau))
    page.draw("seven-redrawn", figures.image_rows({"": [part.images[SEVEN], redrawn[SEVEN]]}, ["image 7", "redrawn"]))
    radii = np.array(part.radii)
    large, small = np.flatnonzero(radii > 0.25), np.flatnonzero(np.abs(radii - 0.1) < 0.03)
    partner = np.arange(len(radii))
    partner[large] = np.random.default_rng(0).choice(small, len(large))
    apart = measures.told_apart(part.images, redrawn, partner)[large]
    pairs = [int(np.abs(radii - radius).argmin()) for radius in (0.1, 0.2, 0.3, 0.4, 0.45)]
    rows = {"circle": [part.images[row] for row in pairs], "redrawn": [redrawn[row] for row in pairs]}
    page.draw("sizes-redrawn", figures.image_rows(rows, [f"radius {radii[row]:.2f}" for row in pairs]))
    page.state(
        epoch_losses=losses,
        article_losses=ARTICLE_LOSSES,
        told_apart=float(apart.mean()),
        seven_loss=float(measures.image_losses(part.images, redrawn)[SEVEN]),
    )


def show_latents(page: Page, part: Part, network: Autoencoder) -> None:
    """Histogram, latent against radius, and drawings along the latent."""
    latents = redraw_images(network, part.images).latents[:, 0]
    radii = np.array(part.radii)
    small, large = radii < 0.25, radii > 0.3
    page.draw("latent-histogram", figures.latent_histogram(latents))
    page.draw("latent-radius", figures.latent_radius(part.radii, {"The latent of every training circle": latents}))
    drawn = decode_latents(network, ARTICLE_LATENTS)
    page.draw("latent-drawings", figures.image_rows({"": list(drawn)}, [f"{z:g}" for z in ARTICLE_LATENTS]))
    page.state(
        latent_lowest=float(latents.min()),
        latent_highest=float(latents.max()),
        small_lowest=float(latents[small].min()),
        small_highest=float(latents[small].max()),
        small_share=float(small.mean()),
        large_rank=measures.rank_correlation(radii[large], latents[large]),
        small_rank=measures.rank_correlation(radii[small], latents[small]),
        all_rank=measures.rank_correlation(radii, latents),
    )


def show_duck(page: Page, part: Part, network: Autoencoder) -> None:
    """The duck, its reconstruction, and its loss among the circles'."""
    duck = decode_image(DUCK.read_bytes(), REDUCTIONS["tutorial"], 10**6)
    redrawn = redraw_images(network, np.stack([duck, *part.images]))
    losses = measures.image_losses(np.stack([duck, *part.images]), redrawn.reconstructions)
    page.draw(
        "duck-redrawn",
        figures.image_rows(
            {"": [duck, redrawn.reconstructions[0]]}, ["duck", "redrawn"], ["", f"loss {losses[0]:.4f}"]
        ),
    )
    page.state(
        duck_latent=float(redrawn.latents[0, 0]),
        duck_loss=float(losses[0]),
        worst_loss=float(losses[1:].max()),
        worst_radius=part.radii[int(losses[1:].argmax())],
        median_loss=float(np.median(losses[1:])),
    )
