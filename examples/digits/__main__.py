"""Trains a gate on digits, starts it in front of a digit classifier, and shows both real digits and drawings.

Writes build/digits/ (images, artifact, results.json) and docs/digits.png. An artifact that is there is used again.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import httpx2
from PIL import Image

from examples.digits.figure import draw_figure
from examples.digits.pictures import digit_pictures, odd_pictures, split, write_training_folder

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build" / "digits"
CONFIDENT = 0.9


@dataclass(frozen=True)
class Shown:
    """One picture, asked of the classifier alone and through the gate.

    Attributes:
        name: What it shows.
        truth: The digit; None if it is none.
        digit: The classifier's answer.
        confidence: Its probability, in [0, 1].
        passed: Whether the gate let it through.
        p_value: What the gate says of it.
    """

    name: str
    truth: int | None
    digit: int
    confidence: float
    passed: bool
    p_value: float

    @property
    def wrong(self) -> bool:
        return self.digit != self.truth


def main() -> None:
    artifact = BUILD / "gate"
    if not (artifact / "manifest.json").exists():
        write_training_folder(BUILD / "images")
        run("training", "--data", str(BUILD / "images"), "--output", str(artifact))
    with classifier_and_gate(artifact) as (classifier, gate), httpx2.Client() as client:
        pictures, shown = zip(*ask_all(client, classifier, gate), strict=True)
    (BUILD / "results.json").write_text(json.dumps([asdict(one) for one in shown], indent=1))
    print(summary(list(shown)))
    draw_figure(list(zip(pictures, shown, strict=True)), ROOT / "docs" / "digits.png")
    print(f"Picture: docs/digits.png. To try it yourself: GATE_ARTIFACT={artifact.relative_to(ROOT)} make run")


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=True)


@contextmanager
def classifier_and_gate(artifact: Path) -> Iterator[tuple[str, str]]:
    """Both of them running; gives their addresses."""
    classifier_port, gate_port = free_port(), free_port()
    classifier, gate = f"http://127.0.0.1:{classifier_port}", f"http://127.0.0.1:{gate_port}"
    environment = {**os.environ, "GATE_ARTIFACT": str(artifact), "GATE_CLASSIFIER_URL": classifier}
    environment["GATE_LOG_LEVEL"] = "warning"
    with (
        serving(["examples.digits.classifier", "127.0.0.1", str(classifier_port)], classifier_port, environment),
        serving(["app", "serve", "--port", str(gate_port)], gate_port, environment),
    ):
        yield classifier, gate


@contextmanager
def serving(arguments: list[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", *arguments], cwd=ROOT, env=environment) as process:
        try:
            for _ in range(600):
                if process.poll() is not None:
                    raise SystemExit(f"{arguments[0]} ended with exit code {process.returncode}.")
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield
        finally:
            process.terminate()


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
        return port


def ask_all(client: httpx2.Client, classifier: str, gate: str) -> Iterator[tuple[Image.Image, Shown]]:
    pictures, labels = digit_pictures()
    _, unseen = split()
    for picture, label in zip(pictures[unseen], labels[unseen], strict=True):
        yield picture, ask(client, classifier, gate, picture, str(label), label)
    for name, drawings in odd_pictures().items():
        for drawing in drawings:
            yield drawing, ask(client, classifier, gate, drawing, name, None)


def ask(client: httpx2.Client, classifier: str, gate: str, picture: Image.Image, name: str, truth: int | None) -> Shown:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    alone = client.post(f"{classifier}/classify", content=buffer.getvalue()).raise_for_status().json()
    behind = client.post(f"{gate}/v1/gate/classify", content=buffer.getvalue())
    if behind.status_code not in (200, 422):
        behind.raise_for_status()
    prediction = client.post(f"{gate}/v1/predict?reconstruction=none", content=buffer.getvalue()).json()
    return Shown(name, truth, alone["digit"], alone["confidence"], behind.status_code == 200, prediction["p_value"])


def summary(shown: list[Shown]) -> str:
    digits = [one for one in shown if one.truth is not None]
    odd = [one for one in shown if one.truth is None]
    passed = [one for one in shown if one.passed]
    duck = odd[0]
    lines = [
        f"A duck: the classifier alone says {duck.digit} with {duck.confidence:.0%} confidence; "
        + ("behind the gate, the same." if duck.passed else "behind the gate it is refused."),
        f"{len(digits)} unseen digits, {len(odd)} drawings of {len({one.name for one in odd})} kinds.",
        "",
        f"{'':44}{'alone':>12}{'gated':>12}",
        row("digits answered", digits, lambda one: True),
        row("drawings answered", odd, lambda one: True),
        f"{'share of answers that are wrong':44}{share(shown):>12}{share(passed):>12}",
        row(
            f"wrong answers with over {CONFIDENT:.0%} confidence",
            shown,
            lambda one: one.confidence > CONFIDENT and one.wrong,
        ),
    ]
    return "\n".join(lines)


def row(name: str, shown: list[Shown], counts: Callable[[Shown], bool]) -> str:
    alone = [one for one in shown if counts(one)]
    return f"{name:44}{len(alone):>12}{sum(one.passed for one in alone):>12}"


def share(shown: list[Shown]) -> str:
    return f"{sum(one.wrong for one in shown) / max(len(shown), 1):.1%}"


if __name__ == "__main__":
    main()
