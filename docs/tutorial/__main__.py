"""Makes the tutorial page anew: `docs/tutorial.md` and its pictures.

python -m docs.tutorial [--brief] [--output FOLDER]
"""

import argparse
import tempfile
from pathlib import Path

import torch

from app.detection.artifact import load_artifact
from docs.tutorial import gate, plain, variational, wider
from docs.tutorial.page import HERE, Page
from docs.tutorial.seeds import read_seeds
from training.report.plots import style
from training.tutorial.lesson import BRIEF, FULL, Lesson, train_circles

GATE = HERE.parent.parent / "model_artifacts" / "circles"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.tutorial", description=__doc__.partition("\n")[0])
    parser.add_argument("--brief", action="store_true", help="a few images and epochs: to see that it runs")
    parser.add_argument("--output", type=Path, default=HERE.parent, metavar="FOLDER", help="instead of docs/")
    options = parser.parse_args()
    # Sums over threads differ in their last digits from one run to the next.
    torch.set_num_threads(1)
    make_page(BRIEF if options.brief else FULL).write(options.output)


def make_page(lesson: Lesson) -> Page:
    """Runs every experiment of the page, in its order."""
    page = Page()
    circles = train_circles(lesson)
    with style(), tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "circles-ae"
        artifact = plain.train_artifact(lesson, folder)
        network, losses = plain.load_network(artifact, folder)
        plain.describe_data(page, lesson, circles)
        plain.show_untrained(page, lesson, circles)
        plain.show_training(page, circles, network, losses)
        plain.compare_losses(page, lesson, circles, network)
        plain.show_latents(page, circles, network)
        plain.show_duck(page, circles, network)
        wider.widen(page, lesson, circles, network)
        wider.denoise(page, lesson, circles)
        variational.show_variational(page, lesson, circles, network)
        gate.show_verdicts(page, lesson, circles, (artifact, folder), (load_artifact(GATE), GATE))
    page.state(seeds=read_seeds())
    return page


if __name__ == "__main__":
    main()
