"""`python -m benchmarks.detection.drift`: how often the drift metrics are mistaken, and how soon they notice a change.

Runs `app.telemetry.drift.Drift` on drawn scores, against calibration sets that are drawn once and then fixed, as in
service. Writes benchmarks/detection/drift.md.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.detection.detector import Ranking
from app.telemetry.drift import CONFIDENCE, Drift

RESULTS = Path(__file__).with_suffix(".md")
LEVELS = (2, 3, 4, 5, 6)
ALARM_LEVEL = 6
CALIBRATION_SETS = 50
QUIET_IMAGES = 20_000  # of each set: a million in all
CHANGES = 40
IMAGES_BEFORE, IMAGES_AFTER = 1_000, 5_000
RATE = 0.01  # promised
ANOMALY = 100.0  # a score beyond any normal one
EVIDENCES = ("every", "admitted", "sameness")

Scores = NDArray[np.float64]


class Traffic(NamedTuple):
    """Images as they come: scores (N,), and the class (N,) of each file, which chooses its threshold."""

    scores: Scores
    classes: NDArray[np.int64]


Draw = Callable[[np.random.Generator, int], Traffic]


@dataclass(frozen=True)
class Setting:
    """Normal scores: standard normal ones, plus an offset for each variant that a client may send.

    Attributes:
        size: Calibration images of each variant.
        variants: Offsets; each image of the traffic is sent as one of them, at random.
        classes: How many classes of files there are, each with a threshold of its own; the variants, in order, are
            shared out among them.
    """

    name: str
    size: int
    variants: tuple[float, ...] = (0.0,)
    classes: int = 1

    @property
    def class_of(self) -> NDArray[np.int64]:
        """(variants,) the class of each variant's files."""
        return np.arange(len(self.variants)) * self.classes // len(self.variants)

    def calibrate(self, generator: np.random.Generator) -> Scores:
        """(variants, size), each row sorted: the same images, sent in each way."""
        images = generator.standard_normal(self.size)
        return np.sort(np.stack([images + offset for offset in self.variants]), axis=1)

    def draw(self, generator: np.random.Generator, count: int) -> Traffic:
        scores = generator.standard_normal(count)
        variants = generator.integers(len(self.variants), size=count)
        return Traffic(scores + np.array(self.variants)[variants], self.class_of[variants])


VARIANTS = tuple(np.linspace(0, 0.6, 20).tolist())
SETTINGS = (
    Setting("19 images", 19),
    Setting("100 images", 100),
    Setting("500 images", 500),
    Setting("2,000 images", 2_000),
    Setting("2,000 images in 20 variants", 2_000, VARIANTS),
    Setting("the same in 4 classes of files", 2_000, VARIANTS, 4),
)


@dataclass
class Counts:
    """Alarms: rises to a level that begin at no evidence at all, so that one long rise counts once.

    Attributes:
        alarms: By level, of all three kinds of evidence together.
        most: The highest evidence.
        stuck: Calibration sets that were still at the alarm level at the end.
    """

    alarms: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    most: float = 0.0
    stuck: int = 0


class Served:
    """One calibration set in service."""

    def __init__(self, setting: Setting, generator: np.random.Generator) -> None:
        calibration = setting.calibrate(generator).astype(np.float32)
        rank = min(math.ceil((setting.size + 1) * (1 - RATE)), setting.size)
        rows = [np.flatnonzero(setting.class_of == number) for number in range(setting.classes)]
        self.thresholds = np.array([calibration[own, rank - 1].max() for own in rows], np.float64)
        self._rankings = [Ranking(calibration[own]) for own in rows]
        self.drift = Drift(calibration, self.thresholds[setting.class_of])

    def send(self, traffic: Traffic) -> NDArray[np.float64]:
        """(images, 3) evidence after each: of all, of the admitted, of sameness."""
        evidence = np.empty((len(traffic.scores), len(EVIDENCES)))
        scores = traffic.scores.astype(np.float32).tolist()
        for row, (score, own) in enumerate(zip(scores, traffic.classes.tolist(), strict=True)):
            p_value = self._rankings[own].p_value(score)
            # The score also stands for the image's loss: equal ones are one image.
            self.drift.update(score, score, p_value, score > self.thresholds[own])
            evidence[row] = [getattr(self.drift, name).evidence for name in EVIDENCES]
        return evidence


def count_false_alarms(setting: Setting) -> Counts:
    counts = Counts()
    for seed in range(CALIBRATION_SETS):
        generator = np.random.default_rng((1, seed))
        served = Served(setting, generator)
        evidence = served.send(setting.draw(generator, QUIET_IMAGES))
        counts.most = max(counts.most, float(evidence.max()))
        counts.stuck += bool((evidence[-1] >= ALARM_LEVEL).any())
        for kind in evidence.T:
            risen_to = 0.0
            for value in kind[(kind == 0) | (kind >= LEVELS[0])].tolist():
                if value == 0:
                    risen_to = 0.0
                for level in LEVELS:
                    counts.alarms[level] += risen_to < level <= value
                risen_to = max(risen_to, value)
    return counts


def mixed(share: float) -> Callable[[Setting], Draw]:
    """A share of anomalies, each another picture, among normal images."""

    def changed(setting: Setting) -> Draw:
        def draw(generator: np.random.Generator, count: int) -> Traffic:
            odd = generator.random(count) < share
            normal = setting.draw(generator, count)
            return normal._replace(scores=np.where(odd, ANOMALY + generator.random(count), normal.scores))

        return draw

    return changed


def shifted(deviations: float) -> Callable[[Setting], Draw]:
    """All images a little odder, as after a change of camera."""

    def changed(setting: Setting) -> Draw:
        def draw(generator: np.random.Generator, count: int) -> Traffic:
            normal = setting.draw(generator, count)
            return normal._replace(scores=normal.scores + deviations)

        return draw

    return changed


def repeated(setting: Setting) -> Draw:
    """One normal image again and again."""

    def draw(generator: np.random.Generator, count: int) -> Traffic:
        scores, classes = setting.draw(generator, 1)
        return Traffic(np.repeat(scores, count), np.repeat(classes, count))

    return draw


def burst(setting: Setting) -> Draw:
    """Eight odd images in a row, then normal ones."""

    def draw(generator: np.random.Generator, count: int) -> Traffic:
        normal = setting.draw(generator, count)
        normal.scores[:8] = ANOMALY + generator.random(8)
        return normal

    return draw


DRIFTS = {
    "1% anomalies": (mixed(0.01), "every"),
    "2% anomalies": (mixed(0.02), "every"),
    "5% anomalies": (mixed(0.05), "every"),
    "10% anomalies": (mixed(0.10), "every"),
    "nothing but anomalies": (mixed(1.0), "every"),
    "a burst of 8 odd images": (burst, "every"),
    "one image repeated": (repeated, "sameness"),
    "all scores higher by 1/4 standard deviation": (shifted(0.25), "every"),
    "by 1/2": (shifted(0.5), "every"),
    "by 1": (shifted(1.0), "every"),
    "by 1, seen among the admitted": (shifted(1.0), "admitted"),
}


def images_until_noticed(setting: Setting, changed: Draw, evidence: str) -> list[int | None]:
    """For each of `CHANGES` calibration sets: images after the change, None if more than `IMAGES_AFTER`."""
    needed: list[int | None] = []
    for seed in range(CHANGES):
        generator = np.random.default_rng((2, seed))
        served = Served(setting, generator)
        served.send(setting.draw(generator, IMAGES_BEFORE))
        seen = served.send(changed(generator, IMAGES_AFTER))[:, EVIDENCES.index(evidence)]
        needed.append(int((seen >= ALARM_LEVEL).argmax()) + 1 if seen.max() >= ALARM_LEVEL else None)
    return needed


def summary(needed: list[int | None]) -> str:
    """Median and 90% quantile, as far as that many changes were noticed."""
    found = sorted(number for number in needed if number is not None)
    if len(found) < 0.5 * len(needed):
        return f"{len(found)} of {len(needed)} noticed" if found else "no alarm"
    median = f"{found[(len(needed) - 1) // 2]:,}"
    last = int(0.9 * (len(needed) - 1))
    return f"{median} ({found[last]:,})" if last < len(found) else f"{median} ({len(found)} of {len(needed)} noticed)"


def report() -> str:
    return "\n".join([*_quiet_lines(), "", *_changed_lines()]) + "\n"


def _quiet_lines() -> list[str]:
    images = CALIBRATION_SETS * QUIET_IMAGES
    lines = [
        "# Drift: how often it is mistaken, how soon it notices",
        "",
        "Written by `python -m benchmarks.detection.drift`. What the numbers mean: `app/telemetry/drift.py`.",
        "",
        "## While nothing has changed",
        "",
        f"Rises to each level, of all three kinds of evidence together, in {images:,} normal images "
        f"({CALIBRATION_SETS} fixed calibration sets, {QUIET_IMAGES:,} images each), beside the most that is promised "
        f"on average for each kind and for {CONFIDENCE:.0%} of the calibration sets; the highest evidence; and the "
        "sets that were in alarm "
        "at the end.",
        "",
        "| calibrated with | " + " | ".join(f"level {level}" for level in LEVELS) + " | highest | still in alarm |",
        "|---|" + "---:|" * (len(LEVELS) + 2),
        "| *promised, at most* | " + " | ".join(f"*{images / 10**level:,.0f}*" for level in LEVELS) + " | | |",
    ]
    for setting in SETTINGS:
        counts = count_false_alarms(setting)
        alarms = " | ".join(f"{counts.alarms[level]:,}" for level in LEVELS)
        lines.append(f"| {setting.name} | {alarms} | {counts.most:.1f} | {counts.stuck} |")
        print(lines[-1], flush=True)
    return lines


def _changed_lines() -> list[str]:
    lines = [
        "## After a change",
        "",
        f"Images until level {ALARM_LEVEL}: the median of {CHANGES} calibration sets, in brackets what 90% of them "
        f"need. Each change comes after {IMAGES_BEFORE:,} normal images; after {IMAGES_AFTER:,} more it counts as not "
        "noticed. Evidence is that of all images, for the repeated image sameness.",
        "",
        "| change | " + " | ".join(setting.name for setting in SETTINGS) + " |",
        "|---|" + "---:|" * len(SETTINGS),
    ]
    for name, (change, evidence) in DRIFTS.items():
        cells = [summary(images_until_noticed(setting, change(setting), evidence)) for setting in SETTINGS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


if __name__ == "__main__":
    RESULTS.write_text(report())
