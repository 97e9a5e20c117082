"""The page of `python -m app compare`: the images whose verdict changes, in one file that opens alone."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.detection.artifact import Artifact
from app.errors import Refusal
from app.keeping.record import Kept
from app.offline.rows import Scored, Scorer

# More would make the page heavy; rows.csv has them all.
_MOST_SHOWN = 300
_PAGE = Path(__file__).parent / "comparison.html"


class Changed(NamedTuple):
    """One image with two verdicts.

    Attributes:
        file: Where it is.
        change: "newly refused" or "newly admitted".
        pair: Both judgements.
    """

    file: str
    change: str
    pair: tuple[Scored, Scored]


class ComparisonPage:
    """Writes the page for two artifacts."""

    def __init__(self, artifacts: tuple[Artifact, Artifact], scorers: Sequence[Scorer]) -> None:
        """
        Args:
            artifacts: The old one and the new one.
            scorers: Theirs.
        """
        self._artifacts = artifacts
        self._scorers = scorers

    def html(
        self, parts: Sequence[tuple[str, list[str]]], changed: Sequence[Changed], records: Mapping[str, Kept]
    ) -> str:
        """The whole page.

        Args:
            parts: Headings, each with its lines of counts.
            changed: The images to show, the first 300 of them.
            records: What is known of kept images, by file.
        """
        counts = "".join(
            f"<section><h2>{escape(heading)}</h2><pre>{escape(chr(10).join(lines))}</pre></section>"
            for heading, lines in parts
        )
        names = " and ".join(f"{one.manifest.name} {one.version}" for one in self._artifacts)
        shown = "".join(self._figure(one, records.get(one.file)) for one in changed[:_MOST_SHOWN])
        more = (
            f"<p>The first {_MOST_SHOWN} of {len(changed)}; rows.csv has all.</p>" if len(changed) > _MOST_SHOWN else ""
        )
        return Template(_PAGE.read_text(encoding="utf-8")).substitute(
            names=escape(names), counts=counts, more=more, shown=shown or "<p>No verdict changes.</p>"
        )

    def _figure(self, one: Changed, record: Kept | None) -> str:
        try:
            image = self._scorers[0].image(one.file)
        except (OSError, Refusal):  # it has changed since
            return ""
        pictures = [("what the network saw", image.pixels)]
        for name, scorer in zip(("old redraws", "new redraws"), self._scorers, strict=True):
            pictures.append((name, scorer.detect([image])[0].reconstruction))
        tiles = "".join(
            f'<div><img alt="{name}" src="{_png(pixels)}"><small>{name}</small></div>' for name, pixels in pictures
        )
        words = "".join(f"<li>{line}</li>" for line in map(self._judgement, ("old", "new"), self._artifacts, one.pair))
        label = {"normal": "labelled: belongs", "anomaly": "labelled: does not belong"}.get(
            record.label or "" if record else ""
        )
        said = f"<li>{label}</li>" if label else ""
        kind = "anomaly" if one.change == "newly refused" else "normal"
        return (
            f'<figure><div class="tiles">{tiles}</div><figcaption><b class="{kind}">{one.change}</b> '
            f"{escape(one.pair[0].row.path)}<ul>{words}{said}</ul></figcaption></figure>"
        )

    def _judgement(self, name: str, artifact: Artifact, scored: Scored) -> str:
        row = scored.row
        score = "not a number" if row.score is None else f"{row.score:.4g}"
        sentences = (
            [view.odd for view in artifact.manifest.views if view.name in scored.reasons] if row.is_anomaly else []
        )
        verdict = "refuses it" if row.is_anomaly else "admits it"
        text = f"{name} {verdict}: score {score}, threshold {scored.threshold:.4g}, p-value {row.p_value:.3g}."
        return escape(" ".join([text, *sentences]))


def _png(pixels: NDArray[np.float32]) -> str:
    buffer = BytesIO()
    levels = (np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8)
    Image.fromarray(levels).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
