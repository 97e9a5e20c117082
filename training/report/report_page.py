"""The report as one HTML file that opens alone: pictures embedded, no script, nothing from elsewhere."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from training.report.facts import Facts, render
from training.report.pictures import Picture


@dataclass(frozen=True, slots=True)
class Section:
    """Pictures that belong together, under the name of their PNG file, and how many stand in its rows."""

    name: str
    pictures: list[Picture]
    columns: int


def report_page(facts: Facts, charts: Mapping[str, bytes], sections: Mapping[str, Section]) -> str:
    """
    Args:
        facts: What is said.
        charts: PNG files by name.
        sections: Small pictures by name.

    Returns:
        HTML.
    """
    return render(
        "report.html",
        facts=facts,
        charts={name: _data_uri(png) for name, png in charts.items()},
        sections={
            name: [(picture, _data_uri(picture.png())) for picture in section.pictures]
            for name, section in sections.items()
        },
    )


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
