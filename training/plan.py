"""What a run will do, decided from the command line before PyTorch is imported."""

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from training.data.variants import ONLY_ORIGINAL, Permitted, parse_variants

CALIBRATION_CIRCLES = 2000
TEST_CIRCLES = 1000
IMAGES_PER_FAMILY = 100
# How long the gate's own network is trained: about 40 epochs, but at least 5,000 steps, for small folders, and at most
# 20,000, which are enough for large ones.
_PASSES, _LEAST_STEPS, _MOST_STEPS = 20, 4_000, 12_000

# What one scene of a folder is: see `training.data.folder.group`.
GroupBy = Literal["likeness", "folder", "name-prefix", "none"]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit; the defaults are the tutorial's.

    Attributes:
        epochs: Passes over the training images; None chooses a number from their count, see `epochs_for`.
        batch_size: Images per step.
        learning_rate: Of Adam; with `one_cycle` the peak.
        one_cycle: Use PyTorch's one-cycle schedule (warm-up, then decay to nearly 0) and not a constant rate.
        loss: "mse", or "bce" for a network that ends in a sigmoid.
    """

    epochs: int | None = 10
    batch_size: int = 32
    learning_rate: float = 3e-4
    one_cycle: bool = False
    loss: Literal["mse", "bce"] = "mse"

    def epochs_for(self, count: int) -> int:
        """Passes over `count` images."""
        if self.epochs is not None:
            return self.epochs
        steps = min(_MOST_STEPS, max(_LEAST_STEPS, _PASSES * count // self.batch_size))
        return math.ceil(steps * self.batch_size / count)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that decides what a run makes.

    Attributes:
        output: The artifact folder.
        name: Of the artifact, as clients see it.
        model: A name in `training.model.autoencoders.ARCHITECTURES`.
        latent_size: Width of its bottleneck.
        fit: How to fit it.
        score: What is compared with the threshold: the loss alone, or the gate's views.
        permitted: The kinds of sending that a normal image may go through.
        seed: Of the data, the weights and the fitting.
        target_false_positive_rate: In (0, 1).
        confidence: With which it holds for the calibration set at hand, in (0, 1); None promises it on average.
        data: A folder of images; None draws circles.
        group_by: What one scene of the folder is; all its images stay in one part.
        anomalies: A folder of the user's own bad examples; only the report looks at them.
        circles: How drawn circles are brought to 28x28 pixels.
        count: Circles to train on.
        calibration_count: Circles to calibrate on.
        test_count: Circles to test on.
        family_count: Drawn anomalies of each family.
        least_detection: The least share that must be found of each kind of made-up pictures (`training.fitting.power`).
    """

    output: Path
    name: str
    model: Literal["gate", "ae", "vae", "cvae"]
    latent_size: int
    fit: FitSettings
    score: Literal["views", "loss"] = "loss"
    permitted: Permitted = ONLY_ORIGINAL
    seed: int = 0
    target_false_positive_rate: float = 0.01
    confidence: float | None = None
    data: Path | None = None
    group_by: GroupBy = "likeness"
    anomalies: Path | None = None
    circles: Literal["tutorial", "smooth"] = "smooth"
    count: int = 1000
    calibration_count: int = CALIBRATION_CIRCLES
    test_count: int = TEST_CIRCLES
    family_count: int = IMAGES_PER_FAMILY
    least_detection: float = 0.0


class Defaults(NamedTuple):
    """What a model is trained with unless told otherwise."""

    latent_size: int
    circles: int
    epochs: int | None
    batch_size: int = 32
    learning_rate: float = 3e-4
    score: Literal["views", "loss"] = "loss"
    variants: str = "none"
    reduction: Literal["tutorial", "smooth"] = "tutorial"


# The last three models reproduce those of the tutorial that the project started from (see CONTRIBUTING.md).
DEFAULTS = {
    "gate": Defaults(
        32, 4000, epochs=None, batch_size=128, learning_rate=1e-3, score="views", variants="default", reduction="smooth"
    ),
    "ae": Defaults(1, 1000, epochs=10),
    "vae": Defaults(1, 1000, epochs=30),
    "cvae": Defaults(1, 1000, epochs=30),
}


def make_plan(options: argparse.Namespace) -> Plan:
    """Builds the plan from the parsed command line, with the model's defaults for options that were not given."""
    defaults = DEFAULTS[options.model]
    stem = options.data.resolve().name if options.data else "circles"
    if options.model != "gate":
        stem += f"-{options.model}"  # the tutorial's models do not replace the default artifact
    name = options.name or _as_name(options.output.resolve().name if options.output else stem)
    return Plan(
        output=options.output or Path("model_artifacts") / name,
        name=name,
        model=options.model,
        latent_size=options.latent_size or defaults.latent_size,
        fit=FitSettings(
            epochs=options.epochs or defaults.epochs,
            batch_size=options.batch_size or defaults.batch_size,
            learning_rate=options.learning_rate or defaults.learning_rate,
            one_cycle=options.model == "gate",
            loss=options.loss,
        ),
        score=options.score or defaults.score,
        permitted=options.variants or parse_variants(defaults.variants),
        seed=options.seed,
        target_false_positive_rate=options.target_false_positive_rate,
        confidence=options.confidence,
        data=options.data,
        group_by=options.group_by,
        anomalies=options.anomalies,
        circles=options.circles or defaults.reduction,
        count=options.count or defaults.circles,
        least_detection=options.least_detection,
    )


def _as_name(text: str) -> str:
    """The nearest name to a folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64] or "gate"
