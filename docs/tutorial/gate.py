"""Beyond the article: the tutorial's network as a service, what its threshold lets through, and the gate's answer."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from app.detection.artifact import Artifact
from app.detection.detector import Detector
from app.detection.images import Preprocessing
from app.main import create_app
from app.settings import Settings
from docs.tutorial.page import Page
from docs.tutorial.plain import DUCK, SEVEN
from testing.servers import serving
from training.data.anomalies import FAMILIES
from training.data.dataset import Part, decode, read
from training.fitting.calibrate import run_in_batches
from training.report.plots import ANOMALY, NORMAL
from training.tutorial import figures, measures
from training.tutorial.lesson import Lesson

# Families of drawn anomalies, and what they are called on the page.
ODD = {
    "white": "blank paper",
    "faint circle 50%": "faint circle",
    "upright square": "square",
    "off-centre circle near": "off centre",
    "ellipse .6": "ellipse",
    "arc 180": "half a circle",
}


def ask(folder: Path, files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Serves an artifact on a free port of the loopback, and posts each file to `/v1/predict?explain=true`."""
    app = create_app(Settings(artifact=folder, log_level="error"))
    with serving(app) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
        answers = {}
        for name, content in files.items():
            response = client.post("/v1/predict?explain=true", files={"file": content})
            response.raise_for_status()
            answers[name] = response.json()
    return answers


def show_verdicts(
    page: Page, lesson: Lesson, part: Part, tutorial: tuple[Artifact, Path], gate: tuple[Artifact, Path]
) -> None:
    """The tutorial's artifact and the gate's own, over HTTP, with the same images."""
    drawn = {name: family_files(name, lesson.family_images) for name in ODD}
    files = {"circle 7": read(part.originals[SEVEN]), "duck": DUCK.read_bytes()}
    files |= {words: _typical(drawn[name]) for name, words in ODD.items()}
    by_tutorial, by_gate = ask(tutorial[1], files), ask(gate[1], files)
    detectors = [Detector(artifact) for artifact, _ in (tutorial, gate)]
    page.draw("verdicts", _verdicts(by_tutorial, by_gate))
    page.draw("losses", _losses(part, by_tutorial, detectors[0]))
    page.state(
        duck_answer=by_tutorial["duck"],
        seven_answer=by_tutorial["circle 7"],
        promise=tutorial[0].manifest.promise.words,
        false_positive_rate=tutorial[0].manifest.evaluation["false_positive_rate"],
        loss_radius=measures.rank_correlation(np.array(part.radii), _scores(detectors[0], list(part.originals))),
        rows=[
            _row(name, words, drawn[name], by_tutorial[words], by_gate[words], detectors) for name, words in ODD.items()
        ],
        blank_loss=by_tutorial["blank paper"]["loss"],
        threshold=by_tutorial["duck"]["threshold"],
    )


def family_files(name: str, count: int) -> list[bytes]:
    """The first `count` drawings of a family of anomalies, as PNG files."""
    generator, files = np.random.default_rng(20_000), []
    for _ in range(count):
        buffer = BytesIO()
        FAMILIES[name](generator).save(buffer, "PNG")
        files.append(buffer.getvalue())
    return files


def _typical(files: list[bytes]) -> bytes:
    """The file with the median amount of ink: the first drawing may be a dot of three pixels."""
    ink = decode(files, Preprocessing()).mean(axis=(1, 2))
    return files[int(np.argsort(ink)[len(files) // 2])]


def _row(
    name: str,
    words: str,
    files: list[bytes],
    by_tutorial: dict[str, Any],
    by_gate: dict[str, Any],
    detectors: list[Detector],
) -> dict[str, Any]:
    """One line of the page's table; `why` is the sentence of the gate's oddest view."""
    found = [float((_scores(detector, files) > detector.threshold).mean()) for detector in detectors]
    oddest = min(by_gate["reasons"], key=lambda reason: reason["p_value"])
    return {
        "words": words,
        "loss": by_tutorial["loss"],
        "found_by_loss": found[0],
        "found_by_gate": found[1],
        "why": oddest["sentence"],
    }


def _scores(detector: Detector, files: list[Any]) -> NDArray[np.float32]:
    images = decode(files, detector.artifact.preprocessing)
    return np.nan_to_num(run_in_batches(detector, images)[0], nan=np.inf)


def _verdicts(by_tutorial: dict[str, dict[str, Any]], by_gate: dict[str, dict[str, Any]]) -> Figure:
    """Each image, both reconstructions, and the verdicts below them."""
    rows = {
        "sent": [np.array(answer["image"]) for answer in by_tutorial.values()],
        "tutorial's\nnetwork": [np.array(answer["reconstruction"]) for answer in by_tutorial.values()],
        "the gate": [np.array(answer["reconstruction"]) for answer in by_gate.values()],
    }
    figure = figures.image_rows(rows, list(by_tutorial), between=0.3)
    panels = np.array(figure.axes).reshape(len(rows), -1)
    for line, answers in ((1, by_tutorial), (2, by_gate)):
        for axes, answer in zip(panels[line], answers.values(), strict=True):
            word, colour = ("refused", ANOMALY) if answer["is_anomaly"] else ("accepted", NORMAL)
            axes.set_xlabel(word, color=colour, fontsize=9.5, fontweight="bold", labelpad=3)
    return figure


def _losses(part: Part, by_tutorial: dict[str, dict[str, Any]], detector: Detector) -> Figure:
    losses = detector.run(part.images)[1]
    others = {name: by_tutorial[name]["loss"] for name in ("duck", "blank paper", "square")}
    return figures.loss_histogram(losses, detector.threshold, others)
