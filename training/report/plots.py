"""The report's charts, in one style: wide as a phone, labelled, and readable without colour vision."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray
from PIL import Image

from app.detection.artifact import View
from training.fitting.evaluate import share_refused
from training.report.judgements import Judgements

# Blue and orange of Okabe and Ito, which differ in lightness too; shapes, dashes and hatching say the same again.
NORMAL, ANOMALY, INK = "#0072b2", "#d55e00", "#222222"
_WIDTH_INCHES = 4.6
_COLOURS = 48
_STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "hatch.linewidth": 0.7,
}


def style() -> Any:
    """A context in which figures are drawn and saved, whatever the machine's own matplotlib settings are."""
    return mpl.rc_context({**mpl.rcParamsDefault, **_STYLE})


def png(figure: Figure) -> bytes:
    """A small palette PNG; equal figures give equal bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as picture:
        return palette_png(picture)


def palette_png(picture: Image.Image, colours: int = _COLOURS) -> bytes:
    """Without the notes that libraries leave in a file."""
    buffer = BytesIO()
    few = picture.convert("RGB").quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def loss_curve(epoch_losses: Sequence[float]) -> Figure:
    figure, axes = _plot("Training", "epoch (one pass over the training images)", "mean training loss (log scale)")
    few = len(epoch_losses) <= 40
    axes.plot(range(1, len(epoch_losses) + 1), epoch_losses, marker="o" if few else "", markersize=3, color=NORMAL)
    axes.set_yscale("log")
    _plain_powers(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def score_histogram(judgements: Judgements, logarithmic: bool) -> Figure:
    """Scores of unseen normal images, in all variants, and of all drawn anomalies, with the threshold.

    Args:
        judgements: What was judged.
        logarithmic: For scores that are above 0, and span several powers of ten.
    """
    scale = "score (log scale; higher is odder)" if logarithmic else "score (higher is odder)"
    figure, axes = _plot("Scores of unseen images", scale, "share of images")
    groups = [("normal, all variants", _scores(judgements.variants), NORMAL, "")]
    if judgements.families:
        groups.append(("anomalies", _scores(judgements.families), ANOMALY, "////"))
    bins = _bins([judgements.threshold, *(scores for _, scores, _, _ in groups)], logarithmic)
    for label, scores, colour, hatch in groups:
        # What is beyond every number (a blank image) counts in the last bar.
        shown = np.clip(np.nan_to_num(scores, nan=np.inf, posinf=bins[-1]), bins[0], bins[-1])
        share = np.full(len(shown), 1 / len(shown))
        axes.hist(shown, bins.tolist(), weights=share, color=colour, alpha=0.35, hatch=hatch, label=label)
        axes.hist(shown, bins.tolist(), weights=share, color=colour, histtype="step")
    axes.axvline(judgements.threshold, color=INK, linestyle="--", label=f"threshold {judgements.threshold:.3g}")
    if logarithmic:
        axes.set_xscale("log")
        _plain_powers(axes.xaxis)
    axes.yaxis.set_major_formatter(_percent)
    axes.legend()
    return figure


def roc(judgements: Judgements, worst: str, target: float) -> Figure:
    """Detection against false positives for the images as they are and for the variant that is refused most."""
    title = "Every possible threshold (ROC)"
    figure, axes = _plot(title, "false-positive rate (log scale)", "anomalies found, all families")
    odd = _scores(judgements.families)
    first = next(iter(judgements.variants))
    for name, colour, dashes in dict.fromkeys([(first, NORMAL, "-"), (worst, ANOMALY, "--")]):
        if name == first and dashes == "--":
            continue
        normal = judgements.variants[name]
        thresholds = np.sort(np.nan_to_num(normal.scores, nan=np.inf))[::-1]
        rates = np.arange(1, len(thresholds) + 1) / len(thresholds)
        found = 1 - np.searchsorted(np.sort(np.nan_to_num(odd, nan=np.inf)), thresholds, side="left") / len(odd)
        axes.step(rates, found, where="pre", color=colour, linestyle=dashes, label=f"normal images: {name}")
        refused = normal.refused(judgements.threshold).mean()
        at_threshold = share_refused(odd, judgements.threshold)
        least = 0.5 / len(thresholds)
        label = "at the threshold" if name == first else None
        axes.plot(max(refused, least), at_threshold, "o", color=colour, markeredgecolor=INK, label=label)
    axes.axvline(target, color=INK, linestyle=":", label=f"target {_percent(target)}")
    axes.set_xscale("log")
    axes.yaxis.set_major_formatter(_percent)
    axes.xaxis.set_major_formatter(_percent)
    axes.legend(loc="best")
    return figure


def variant_rates(rates: Mapping[str, Mapping[str, Any]], target: float) -> Figure:
    """Each variant's false-positive rate with its interval, and the target."""
    figure, axes = _bars("Normal images refused, by variant", "false-positive rate, with 95% interval", len(rates))
    values = [rate["false_positive_rate"] for rate in rates.values()]
    _intervals(axes, list(rates), values, [rate["false_positive_rate_interval"] for rate in rates.values()], NORMAL)
    axes.axvline(target, color=INK, linestyle="--", label=f"target {_percent(target)}")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(_percent)
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, -0.12 * 20 / max(len(rates), 7)))
    return figure


def family_rates(rates: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Detection of the families given, the lowest on top."""
    names = sorted(rates, key=lambda name: (rates[name]["detection_rate"], name))
    figure, axes = _bars("Anomalies found, by family", "detection rate, with 95% interval", len(names))
    values = [rates[name]["detection_rate"] for name in names]
    axes.barh(range(len(names)), values, color=ANOMALY, alpha=0.3, height=0.7)
    _intervals(axes, names, values, [rates[name]["detection_rate_interval"] for name in names], ANOMALY)
    axes.set_xlim(0, 1.02)
    axes.xaxis.set_major_formatter(_percent)
    return figure


def deciding_views(judgements: Judgements, views: Sequence[View]) -> Figure:
    """How often each view is above the threshold for an anomaly, and how often no other view is."""
    figure, axes = _bars("Which view finds anomalies", "share of all anomalies", 2 * len(views))
    beyond = np.concatenate([family.beyond(judgements.threshold) for family in judgements.families.values()])
    alone = beyond & (beyond.sum(axis=1, keepdims=True) == 1)
    for shift, share, hatch, label in (
        (-0.2, beyond.mean(axis=0), "", "above the threshold"),
        (0.2, alone.mean(axis=0), "////", "and no other view is"),
    ):
        rows = np.arange(len(views)) + shift
        bars = axes.barh(
            rows, share, height=0.36, color=ANOMALY, alpha=0.75 if not hatch else 0.3, hatch=hatch, label=label
        )
        axes.bar_label(bars, [_percent(round(value, 2 if value >= 0.01 else 3)) for value in share], padding=3)
    axes.set_yticks(range(len(views)), [view.name.replace("_", " ").replace(" normal", "\nnormal") for view in views])
    axes.set_xlim(0, 1.12)
    axes.xaxis.set_major_formatter(_percent)
    axes.legend(loc="upper center", bbox_to_anchor=(0.35, -0.25), ncols=2)
    return figure


def latent_histogram(latents: NDArray[np.float32]) -> Figure:
    figure, axes = _plot("Latent of unseen normal images", "latent (no unit)", "images")
    axes.hist(latents, bins=40, color=NORMAL)
    return figure


def latent_against_radius(latents: NDArray[np.float32], radii: Sequence[float]) -> Figure:
    figure, axes = _plot("What the latent encodes", "radius of the circle (share of the image's width)", "latent")
    axes.scatter(radii, latents, s=6, color=NORMAL, edgecolors="none")
    return figure


def latent_map(places: NDArray[np.float32], shares: Sequence[float], radii: Sequence[float]) -> Figure:
    """Unseen normal images along the two directions in which their latents differ most.

    Args:
        places: (N, 2), in standard deviations.
        shares: Of the variance, along each direction.
        radii: (N,) of circles, or nothing.
    """
    figure, axes = _plot(
        "Latents of unseen normal images",
        f"first principal component ({shares[0]:.0%} of variance)",
        f"second ({shares[1]:.0%})",
    )
    if len(radii):
        dots = axes.scatter(places[:, 0], places[:, 1], s=9, c=list(radii), cmap="viridis", edgecolors="none")
        figure.colorbar(dots, label="radius (share of width)")
    else:
        axes.scatter(places[:, 0], places[:, 1], s=9, color=NORMAL, edgecolors="none")
    return figure


def _plain_powers(axis: Axis) -> None:
    """0.02, 0.05, 0.1 along a logarithmic axis, rather than powers of ten that crowd."""
    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 4, 6, 8)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _position: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _percent(share: float, _position: object = None) -> str:
    return f"{100 * share:.6g}%"


def _plot(title: str, across: str, up: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, 3.1))
    return figure, figure.add_subplot(title=title, xlabel=across, ylabel=up)


def _bars(title: str, across: str, rows: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_INCHES, 1.2 + 0.2 * max(rows, 3)))
    axes = figure.add_subplot(xlabel=across)
    # Above the names too, for which the axes leave a wide margin.
    figure.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    return figure, axes


def _intervals(
    axes: Axes, names: Sequence[str], values: Sequence[float], intervals: Sequence[Sequence[float]], colour: str
) -> None:
    middle, ends = np.array(values), np.array(intervals)
    spread = np.clip(np.stack([middle - ends[:, 0], ends[:, 1] - middle]), 0, None)
    axes.errorbar(values, range(len(names)), xerr=spread, fmt="o", markersize=4, color=colour, capsize=2, linewidth=1.2)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def _scores(groups: Mapping[str, Any]) -> NDArray[np.float32]:
    return np.concatenate([group.scores for group in groups.values()])


def _bins(values: Sequence[Any], logarithmic: bool) -> NDArray[np.float64]:
    every = np.concatenate([np.atleast_1d(value) for value in values])
    every = every[np.isfinite(every)]
    low, high = float(every.min()), float(every.max())
    if logarithmic:
        low = max(low, 1e-9)
        return np.geomspace(low, max(high, 2 * low), 70)
    return np.linspace(low, max(high, low + 1e-6), 70)
