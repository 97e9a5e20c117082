"""The figures of the tutorial page: rows of small images, and plots, in the style of the training report."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.report.plots import ANOMALY, INK, NORMAL

_TILE_INCHES = 1.02
_CAPTION_INCHES = 0.34


def image_rows(
    rows: Mapping[str, Sequence[NDArray[np.float32]]],
    captions: Sequence[str] = (),
    notes: Sequence[str] = (),
    between: float = 0.08,
) -> Figure:
    """Named rows of 28x28 images, with a caption above each column and a note below it.

    Args:
        rows: The name of each row, and its images; grey levels outside [0, 1] are shown as black or white.
        captions: One for each column.
        notes: One for each column, below the last row.
        between: The space between two rows, as a share of an image's height.
    """
    columns = max(len(images) for images in rows.values())
    heights = _TILE_INCHES * (len(rows) + between * (len(rows) - 1))
    above, below = (_CAPTION_INCHES if captions else 0.08), (_CAPTION_INCHES if notes or between > 0.2 else 0.08)
    left = 0.3 + 0.085 * max(len(line) for name in rows for line in name.split("\n")) if any(rows) else 0.08
    figure = _loose_figure(left + 1.08 * _TILE_INCHES * columns, heights + above + below)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left / width, below / height, 1 - 0.08 / width, 1 - above / height, 0.08, between)
    for line, (name, images) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(line, images, strict=True):
            show_image(axes, image)
        middle = (line[0].get_position().y0 + line[0].get_position().y1) / 2
        figure.text(0.1 / width, middle, name, va="center", color=INK)
    for axes, caption in zip(panels[0], captions, strict=False):
        axes.set_title(caption, fontsize=9.5, fontweight="normal", loc="center", color=INK, pad=4)
    for axes, note in zip(panels[-1], notes, strict=False):
        axes.set_xlabel(note, fontsize=9, color=INK, labelpad=4)
    return figure


def image_grid(images: NDArray[np.float32], columns: int) -> Figure:
    """(N, 28, 28) images in lines of `columns`, which divides N, without words."""
    lines = len(images) // columns
    figure = _loose_figure(0.7 * columns, 0.7 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.99, 0.08, 0.08)
    for axes, image in zip(panels.ravel(), images, strict=True):
        show_image(axes, image)
    return figure


def show_image(axes: Axes, image: NDArray[np.float32]) -> None:
    """One 28x28 image, its pixels as squares, in a thin frame."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for side in ("top", "right", "bottom", "left"):
        axes.spines[side].set(visible=True, color="#bbbbbb")


def epoch_losses(measured: Sequence[float], article: Mapping[int, float], plateau: float) -> Figure:
    """Our loss of each epoch beside the four that the article prints, and the loss of the mean image."""
    figure, axes = _plot("Mean training loss of each epoch", "epoch", "loss (log scale)")
    epochs = range(1, len(measured) + 1)
    axes.plot(epochs, measured, marker="o", markersize=4, color=NORMAL, label="this run")
    axes.plot(list(article), list(article.values()), "D", markersize=6, color=ANOMALY, label="printed in the article")
    axes.axhline(plateau, color=INK, linestyle="--", linewidth=1, label=f"the mean image alone: {plateau:.4f}")
    axes.set_yscale("log")
    ticks = (0.01, 0.02, 0.05, 0.1, 0.2)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_xticks(list(epochs))
    axes.legend()
    return figure


def latent_histogram(latents: NDArray[np.float32]) -> Figure:
    """How often each value of a single latent occurs."""
    figure, axes = _plot("The latent of every training circle", "latent", "circles")
    axes.hist(latents, bins=60, color=NORMAL)
    return figure


def latent_radius(radii: Sequence[float], latents: Mapping[str, NDArray[np.float32]]) -> Figure:
    """Single latents against the radius: one panel for each network."""
    figure = Figure(figsize=(4.6 if len(latents) == 1 else 2.9 * len(latents), 3.1))
    panels = figure.subplots(1, len(latents), squeeze=False)[0]
    for axes, (name, values) in zip(panels, latents.items(), strict=True):
        axes.scatter(radii, values, s=5, color=NORMAL, edgecolors="none")
        axes.set(title=name, xlabel="radius (share of the width)")
    panels[0].set_ylabel("latent")
    return figure


def loss_histogram(losses: NDArray[np.float32], threshold: float, others: Mapping[str, float]) -> Figure:
    """The losses of circles, the threshold that they set, and the losses of single other images."""
    figure, axes = _plot("Losses of circles and of other images", "loss (log scale)", "circles")
    reach = [float(losses.min()), float(losses.max()), threshold, *others.values()]
    low, high = 0.8 * min(reach), 1.6 * max(reach)
    axes.hist(losses, np.geomspace(low, high, 70).tolist(), color=NORMAL, alpha=0.6, label=f"{len(losses)} circles")
    axes.axvline(threshold, color=INK, linestyle="--", linewidth=1, label=f"threshold {threshold:.4f}")
    heights = np.linspace(0.9, 0.45, max(len(others), 2))
    for (name, loss), height in zip(sorted(others.items(), key=lambda item: item[1]), heights, strict=False):
        axes.axvline(loss, 0, height, color=ANOMALY, linewidth=1.5)
        axes.text(loss * 1.03, height, name, color=ANOMALY, transform=axes.get_xaxis_transform(), va="top")
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.legend(loc="upper right")
    return figure


def grey_levels(levels: Mapping[str, NDArray[np.float32]]) -> Figure:
    """How often each grey level occurs among the pixels of several sets of images."""
    figure, axes = _plot(
        "Grey levels of the pixels", "grey level (0 is ink, 1 is paper)", "share of pixels (log scale)"
    )
    colours = dict(zip(levels, (INK, NORMAL, ANOMALY), strict=False))
    for (name, pixels), dashes in zip(levels.items(), (":", "-", "--"), strict=False):
        share = np.full(pixels.size, 1 / pixels.size)
        axes.hist(
            pixels.ravel().clip(0, 1),
            np.linspace(0, 1, 41).tolist(),
            weights=share,
            histtype="step",
            color=colours[name],
            linestyle=dashes,
            linewidth=1.4,
            label=name,
        )
    axes.set_yscale("log")
    axes.legend(loc="upper left")
    return figure


def _loose_figure(width_inches: float, height_inches: float) -> Figure:
    """A figure whose panels stay where they are put."""
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        return Figure(figsize=(width_inches, height_inches))


def _plot(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, 3.1))
    return figure, figure.add_subplot(title=title, xlabel=across, ylabel=up)
