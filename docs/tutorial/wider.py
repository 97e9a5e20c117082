"""Wider bottlenecks: a latent of 50, and one with more dimensions than pixels, plain and denoising."""

import numpy as np

from app.detection.artifact import Architecture
from docs.tutorial.page import Page
from docs.tutorial.plain import SEVEN
from training.data.dataset import Part
from training.model.autoencoders import Autoencoder, build
from training.tutorial import figures, measures
from training.tutorial.lesson import Lesson, fit_network, new_network, redraw_images

WIDE, OVERCOMPLETE = 50, 1024
NOISE = 0.3


def widen(page: Page, lesson: Lesson, part: Part, network: Autoencoder) -> None:
    """A latent of 50 beside the latent of one."""
    wide = new_network("ae", lesson.seed, WIDE)
    fit_network(wide, part.images, lesson.epochs, lesson.seed)
    shown = [SEVEN, *np.argsort(part.radii)[[len(part.radii) // 5, len(part.radii) // 2, -len(part.radii) // 10]]]
    narrow_drawn, wide_drawn = (redraw_images(each, part.images).reconstructions for each in (network, wide))
    rows = {
        "circle": [part.images[row] for row in shown],
        "latent 1": [narrow_drawn[row] for row in shown],
        f"latent {WIDE}": [wide_drawn[row] for row in shown],
    }
    page.draw("latent-of-50", figures.image_rows(rows, [f"radius {part.radii[row]:.2f}" for row in shown]))
    page.state(wide_loss=float(measures.image_losses(part.images, wide_drawn).mean()), wide=WIDE)


def denoise(page: Page, lesson: Lesson, part: Part) -> None:
    """More latent dimensions than pixels: a plain network may copy, a denoising one may not."""
    plain = new_network("ae", lesson.seed, OVERCOMPLETE)
    architecture = Architecture(name="gate", arguments={"latent_size": OVERCOMPLETE, "width": 2048})
    denoising = build(architecture, lesson.seed)
    for each in (plain, denoising):
        fit_network(each, part.images, lesson.epochs, lesson.seed)
    noise = np.random.default_rng(lesson.seed).normal(0, NOISE, part.images.shape).astype(np.float32)
    noisy = part.images + noise
    by_plain, by_denoising = (redraw_images(each, noisy).reconstructions for each in (plain, denoising))
    shown = np.argsort(part.radii)[[len(part.radii) // 5, len(part.radii) // 2, -len(part.radii) // 10]]
    rows = {
        "noisy": [noisy[row] for row in shown],
        "plain": [by_plain[row] for row in shown],
        "denoising": [by_denoising[row] for row in shown],
    }
    page.draw("denoising", figures.image_rows(rows, [f"radius {part.radii[row]:.2f}" for row in shown]))
    clean = redraw_images(plain, part.images).reconstructions
    page.state(
        overcomplete=OVERCOMPLETE,
        noise=NOISE,
        noisy_loss=float(measures.image_losses(part.images, noisy).mean()),
        plain_clean_loss=float(measures.image_losses(part.images, clean).mean()),
        plain_noisy_loss=float(measures.image_losses(part.images, by_plain).mean()),
        denoised_loss=float(measures.image_losses(part.images, by_denoising).mean()),
    )
