"""The page while it is made: facts for its template, and pictures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from training.report.plots import palette_png

HERE = Path(__file__).parent


@dataclass(slots=True)
class Page:
    """Facts and pictures, in the order in which they were found.

    Attributes:
        facts: Numbers and tables under the names that `page.md.j2` uses.
        pictures: PNG files under their names, without ".png".
    """

    facts: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def state(self, **facts: Any) -> None:
        """Adds facts; a name is given once."""
        repeated = facts.keys() & self.facts.keys()
        if repeated:
            raise ValueError(f"stated twice: {sorted(repeated)}")
        self.facts |= facts

    def draw(self, name: str, figure: Figure) -> None:
        """Adds a picture, as a small palette PNG; equal figures give equal bytes."""
        buffer = BytesIO()
        figure.savefig(buffer, format="png")
        with Image.open(buffer) as picture:
            # More colours than a chart needs: greys of a reconstruction beside the colours of verdicts.
            self.pictures[name] = palette_png(picture, colours=160)

    def write(self, folder: Path) -> None:
        """Writes `tutorial.md` and `tutorial/*.png` below `folder`; earlier pictures there are removed."""
        pictures = folder / "tutorial"
        pictures.mkdir(parents=True, exist_ok=True)
        for old in pictures.glob("*.png"):
            old.unlink()
        for name, content in self.pictures.items():
            (pictures / f"{name}.png").write_bytes(content)
        (folder / "tutorial.md").write_text(render(self.facts))


def render(facts: Mapping[str, Any]) -> str:
    """The page's Markdown. Raises `jinja2.UndefinedError` for a fact that is missing."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=False,  # Markdown of our own
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["loss"] = lambda value: f"{value:.4f}"
    environment.filters["two"] = lambda value: f"{value:.2f}".replace("-0.00", "0.00")
    environment.filters["percent"] = lambda share: f"{100 * share:.1f}%"
    return environment.get_template("page.md.j2").render(**facts)
