"""The report of a run: report.json, plots in one style, and a model card, for people who did not train it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from app.detector import Detector
from training.autoencoders import Autoencoder
from training.calibrate import run_in_batches

NORMAL, ANOMALY, INK = "#2a6f97", "#d1495b", "#333333"
_STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "axes.axisbelow": True,
    "image.cmap": "gray",
}
# The latents that the tutorial redraws.
TUTORIAL_LATENTS = (-3.0, -0.5, 0.0, 0.9, 3.0)
_PICTURES = 8


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run knows at its end.

    Attributes:
        manifest: The manifest's fields.
        epoch_losses: Mean training loss of each epoch.
        test_images: (N, 28, 28), normal.
        test_radii: Of circles; empty otherwise.
        anomalies: (M, 28, 28) for each family.
    """

    manifest: dict[str, Any]
    epoch_losses: Sequence[float]
    test_images: NDArray[np.float32]
    test_radii: Sequence[float]
    anomalies: Mapping[str, NDArray[np.float32]]


def write_report(folder: Path, findings: Findings, autoencoder: Autoencoder, detector: Detector) -> None:
    """Fills `folder`, which is made; the same findings always give the same bytes."""
    folder.mkdir(parents=True)
    manifest = findings.manifest
    numbers = {
        "name": manifest["name"],
        "promise": manifest["promise"].model_dump(),
        "threshold": manifest["threshold"],
        "evaluation": manifest["evaluation"],
        "data": manifest["data"],
        "training": manifest["training"],
        "epoch_losses": list(findings.epoch_losses),
    }
    (folder / "report.json").write_text(json.dumps(numbers, indent=2) + "\n")
    (folder / "model_card.md").write_text(model_card(findings))
    with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE}):
        _save(_loss_curve(findings.epoch_losses), folder / "losses.png")
        _save(_score_histogram(findings, detector), folder / "scores.png")
        _save(_redrawings(findings, detector), folder / "reconstructions.png")
        latents = _encode(autoencoder, findings.test_images)
        if latents.shape[1] == 1:
            _save(_latent_histogram(latents[:, 0]), folder / "latent_histogram.png")
            _save(_latent_walk(autoencoder), folder / "latent_reconstructions.png")
            if findings.test_radii:
                _save(_latent_against_radius(latents[:, 0], findings.test_radii), folder / "latent_radius.png")


def model_card(findings: Findings) -> str:
    """Markdown: what it was trained on, what it accepts, what it promises and what it misses."""
    manifest = findings.manifest
    evaluation, data = manifest["evaluation"], manifest["data"]
    rows = [
        f"| {name} | {family['auroc']:.3f} | {family['detection_rate']:.3f} "
        f"({family['detection_rate_interval'][0]:.3f} to {family['detection_rate_interval'][1]:.3f}) |"
        for name, family in evaluation["families"].items()
    ]
    weak = [name for name, family in evaluation["families"].items() if family["detection_rate"] < 0.5]
    low, high = evaluation["false_positive_rate_interval"]
    lines = [
        f"# Model card: {manifest['name']}",
        "",
        "Judges whether an image is like those that it was trained on. It does not say what is in an image.",
        "",
        "## Trained on",
        f"{data['train']} images ({data['kind']}), decoded to 28x28 grey levels; another {data['calibration']} set "
        f"the threshold, and another {data['test']} gave the figures below. Fingerprint of all of them: "
        f"`{data['fingerprint']}`.",
        "",
        "## Promise",
        manifest["promise"].words,
        f"Seen on the test images: {evaluation['false_positive_rate']:.2%} (95% interval {low:.2%} to {high:.2%}).",
        "",
        "It holds for images that come from where the training images came from; once they change, train anew.",
        "",
        "## What it finds",
        f"Drawn anomalies, {evaluation['images_per_family']} of each family; intervals at 95%.",
        "",
        "| family | AUROC | detection rate |",
        "|---|---|---|",
        *rows,
        "",
        "## What it misses",
        f"More than half of: {', '.join(weak)}." if weak else "No family above more than half of the time.",
        "Differences that 28x28 pixels do not show cannot be seen at all.",
    ]
    return "\n".join(lines) + "\n"


def _save(figure: Figure, path: Path) -> None:
    # Without the version that matplotlib notes, so that equal pictures are equal files.
    figure.savefig(path, format="png", metadata={"Software": None})


def _plot(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3))
    axes = figure.add_subplot(title=title, xlabel=across, ylabel=up)
    return figure, axes


def _loss_curve(epoch_losses: Sequence[float]) -> Figure:
    figure, axes = _plot("Training", "epoch", "mean loss")
    axes.plot(range(1, len(epoch_losses) + 1), epoch_losses, marker="o", markersize=3, color=NORMAL)
    axes.set_yscale("log")
    return figure


def _score_histogram(findings: Findings, detector: Detector) -> Figure:
    figure, axes = _plot("Scores of unseen images", "score", "share of images")
    normal, _ = run_in_batches(detector, findings.test_images)
    groups = [(normal, NORMAL, "normal")]
    if findings.anomalies:
        odd, _ = run_in_batches(detector, np.concatenate(list(findings.anomalies.values())))
        groups.append((odd, ANOMALY, "drawn anomalies"))
    lowest = max(1e-9, min(float(scores.min()) for scores, _, _ in groups))
    highest = max(lowest * 10, *(float(scores.max()) for scores, _, _ in groups))
    bins = np.geomspace(lowest, highest, 60)
    for scores, colour, label in groups:
        axes.hist(
            scores, bins.tolist(), weights=np.full(len(scores), 1 / len(scores)), color=colour, alpha=0.6, label=label
        )
    axes.axvline(findings.manifest["threshold"], color=INK, linestyle="--", label="threshold")
    axes.set_xscale("log")
    axes.legend(frameon=False)
    return figure


def _redrawings(findings: Findings, detector: Detector) -> Figure:
    """Two rows of normal images and two of anomalies: the image, and what was redrawn, framed by the verdict."""
    families = list(findings.anomalies.items())[:_PICTURES]
    groups = [("normal", findings.test_images[:_PICTURES])]
    if families:
        groups.append(("anomalies", np.stack([images[0] for _, images in families])))
    figure = Figure(figsize=(_PICTURES, 2 * len(groups) + 0.5))
    grid = figure.subplots(2 * len(groups), _PICTURES, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, (name, images) in enumerate(groups):
        reconstructions, _, scores, _ = detector.run(images)
        for column in range(len(images)):
            refused = not (scores[column] <= findings.manifest["threshold"])
            _show(grid[2 * row, column], images[column])
            _show(grid[2 * row + 1, column], reconstructions[column])
            caption = families[column][0] if name == "anomalies" else name
            grid[2 * row, column].set_title(caption, fontsize=8)
            grid[2 * row + 1, column].set_title(
                "refused" if refused else "accepted", fontsize=8, color=ANOMALY if refused else NORMAL
            )
    return figure


def _show(axes: Axes, image: NDArray[np.float32]) -> None:
    axes.imshow(image, vmin=0, vmax=1)


def _encode(autoencoder: Autoencoder, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        latents: NDArray[np.float32] = autoencoder.encode(torch.from_numpy(images).unsqueeze(1)).numpy()
    return latents


def _latent_histogram(latents: NDArray[np.float32]) -> Figure:
    figure, axes = _plot("Latent of unseen images", "latent", "images")
    axes.hist(latents, bins=40, color=NORMAL)
    return figure


def _latent_against_radius(latents: NDArray[np.float32], radii: Sequence[float]) -> Figure:
    figure, axes = _plot("What the latent encodes", "radius of the circle", "latent")
    axes.scatter(radii, latents, s=4, color=NORMAL)
    return figure


def _latent_walk(autoencoder: Autoencoder) -> Figure:
    latents = torch.tensor(TUTORIAL_LATENTS).unsqueeze(1)  # (5, 1)
    with torch.inference_mode():
        pictures = autoencoder.decode(latents).clamp(0, 1).numpy()  # (5, 1, 28, 28)
    figure = Figure(figsize=(len(TUTORIAL_LATENTS) * 1.2, 1.6))
    panels = figure.subplots(1, len(TUTORIAL_LATENTS))
    for axes, latent, picture in zip(panels, TUTORIAL_LATENTS, pictures, strict=True):
        axes.set_axis_off()
        axes.set_title(f"{latent:g}")
        _show(axes, picture[0])
    return figure
