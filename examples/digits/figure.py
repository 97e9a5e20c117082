"""The picture of the result: what the classifier alone says, and what becomes of the same image behind the gate."""

from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

if TYPE_CHECKING:
    from examples.digits.__main__ import Shown

_GREEN, _RED = "#1a7f37", "#c0262d"


def draw_figure(results: "list[tuple[Image.Image, Shown]]", path: Path) -> None:
    """One row of unseen digits, one of each digit's first, and one of drawings, the first of each kind."""
    digits = {one.name: (picture, one) for picture, one in reversed(results) if one.truth is not None}
    odd = {one.name: (picture, one) for picture, one in reversed(results) if one.truth is None}
    rows = [[digits[str(digit)] for digit in (0, 2, 3, 5, 7, 8)], list(reversed(odd.values()))[:6]]
    figure, axes = plt.subplots(2, 6, figsize=(9.6, 4.7), dpi=100)
    for axes_row, row in zip(axes, rows, strict=True):
        for axis, (picture, one) in zip(axes_row, row, strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
            axis.set_xticks([])
            axis.set_yticks([])
            color = _GREEN if one.passed else _RED
            for spine in axis.spines.values():
                spine.set_color(color)
                spine.set_linewidth(2)
            axis.set_title(f"alone: {one.digit} ({one.confidence:.0%})", fontsize=9)
            axis.set_xlabel("gate: passes" if one.passed else "gate: refused", fontsize=9, color=color)
    figure.tight_layout(h_pad=1.5)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
