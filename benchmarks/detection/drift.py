"""`python -m benchmarks.detection.drift`: how often the drift metric is mistaken, and how soon it notices a change.

Runs `app.telemetry.drift.Drift` on p-values from drawn scores, against calibration sets that are
drawn once and then fixed, as in service. Writes benchmarks/detection/drift.md.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.telemetry.drift import Drift

RESULTS = Path(__file__).with_suffix(".md")
LEVELS = (2, 3, 4, 5, 6)
ALARM_LEVEL = 6
CALIBRATION_SETS = 50
QUIET_IMAGES = 200_000  # of each set: 10 million in all
CHANGES = 100
IMAGES_BEFORE, IMAGES_AFTER = 2_000, 20_000
ANOMALY = 100.0  # a score beyond any normal one

Scores = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Scores]


@dataclass(frozen=True)
class Setting:
    """Normal scores: standard normal ones, plus an offset for each variant that a client may send.

    Attributes:
        size: Calibration images of each variant.
        variants: Offsets; each image of the traffic is sent as one of them, at random.
    """

    name: str
    size: int
    variants: tuple[float, ...] = (0.0,)

    def calibrate(self, generator: np.random.Generator) -> Scores:
        """(variants, size), each row sorted: the same images, sent in each way."""
        images = generator.standard_normal(self.size)
        return np.sort(np.stack([images + offset for offset in self.variants]), axis=1)

    def draw(self, generator: np.random.Generator, count: int) -> Scores:
        return generator.standard_normal(count) + generator.choice(self.variants, count)


SETTINGS = (
    Setting("500 images", 500),
    Setting("2,000 images", 2_000),
    Setting("2,000 images in 3 variants", 2_000, (0.0, 0.2, 0.4)),
    Setting("10,000 images", 10_000),
)
NOTICED_WITH = SETTINGS[:3]


@dataclass
class Counts:
    """Alarms: rises to a level that begin at no evidence at all, so that one long rise counts once."""

    alarms: dict[int, int] = field(default_factory=lambda: dict.fromkeys(LEVELS, 0))
    most: float = 0.0


def p_values(calibration: Scores, scores: Scores) -> list[float]:
    """As `app.detection.detector.Ranking`: of the variants' ranks the most careful."""
    size = calibration.shape[1]
    at_least = np.stack([size - np.searchsorted(row, scores, side="left") for row in calibration])
    values: list[float] = ((1 + at_least.max(axis=0)) / (size + 1)).tolist()
    return values


def count_false_alarms(setting: Setting) -> Counts:
    counts = Counts()
    for seed in range(CALIBRATION_SETS):
        generator = np.random.default_rng((1, seed))
        calibration = setting.calibrate(generator)
        drift, risen_to = Drift(setting.size), 0.0
        for p_value in p_values(calibration, setting.draw(generator, QUIET_IMAGES)):
            drift.update(p_value)
            if drift.evidence > risen_to:
                for level in LEVELS:
                    counts.alarms[level] += risen_to < level <= drift.evidence
                risen_to = drift.evidence
                counts.most = max(counts.most, risen_to)
            elif drift.evidence == 0:
                risen_to = 0.0
    return counts


def mixed(share: float) -> Callable[[Setting], Draw]:
    """A share of anomalies among normal images."""

    def changed(setting: Setting) -> Draw:
        def draw(generator: np.random.Generator, count: int) -> Scores:
            scores = setting.draw(generator, count)
            scores[generator.random(count) < share] = ANOMALY
            return scores

        return draw

    return changed


def shifted(deviations: float) -> Callable[[Setting], Draw]:
    """All images a little odder, as after a change of camera."""
    return lambda setting: lambda generator, count: setting.draw(generator, count) + deviations


DRIFTS = {
    "1% anomalies": mixed(0.01),
    "2% anomalies": mixed(0.02),
    "5% anomalies": mixed(0.05),
    "10% anomalies": mixed(0.10),
    "20% anomalies": mixed(0.20),
    "nothing but anomalies": mixed(1.0),
    "all scores higher by 1/4 standard deviation": shifted(0.25),
    "by 1/2": shifted(0.5),
    "by 1": shifted(1.0),
    "by 2": shifted(2.0),
}


def images_until_noticed(setting: Setting, changed: Draw) -> list[int | None]:
    """For each of `CHANGES` calibration sets: images after the change, None if more than `IMAGES_AFTER`."""
    needed: list[int | None] = []
    for seed in range(CHANGES):
        generator = np.random.default_rng((2, seed))
        calibration = setting.calibrate(generator)
        drift = Drift(setting.size)
        for p_value in p_values(calibration, setting.draw(generator, IMAGES_BEFORE)):
            drift.update(p_value)
        noticed = None
        for number, p_value in enumerate(p_values(calibration, changed(generator, IMAGES_AFTER)), start=1):
            drift.update(p_value)
            if drift.evidence >= ALARM_LEVEL:
                noticed = number
                break
        needed.append(noticed)
    return needed


def summary(needed: list[int | None]) -> str:
    """Median and 90% quantile, as far as that many changes were noticed."""
    found = sorted(number for number in needed if number is not None)
    if len(found) < 0.5 * len(needed):
        return f"{len(found)} of {len(needed)} noticed"
    median = f"{found[(len(needed) - 1) // 2]:,}"
    last = int(0.9 * (len(needed) - 1))
    return f"{median} ({found[last]:,})" if last < len(found) else f"{median} ({len(found)} of {len(needed)} noticed)"


def report() -> str:
    images = CALIBRATION_SETS * QUIET_IMAGES
    lines = [
        "# Drift: how often it is mistaken, how soon it notices",
        "",
        "Written by `python -m benchmarks.detection.drift`. What the numbers mean: `app/telemetry/drift.py`.",
        "",
        "## While nothing has changed",
        "",
        f"Rises to each level of `gate_drift_evidence_log10` in {images:,} normal images "
        f"({CALIBRATION_SETS} fixed calibration sets, {QUIET_IMAGES:,} images each), beside the most that theory "
        "allows on average for p-values that are exactly uniform.",
        "",
        "| calibrated with | " + " | ".join(f"level {level}" for level in LEVELS) + " | highest |",
        "|---|" + "---:|" * (len(LEVELS) + 1),
        "| *theory, at most* | " + " | ".join(f"*{images / 10**level:,.0f}*" for level in LEVELS) + " | |",
    ]
    for setting in SETTINGS:
        counts = count_false_alarms(setting)
        alarms = " | ".join(f"{counts.alarms[level]:,}" for level in LEVELS)
        lines.append(f"| {setting.name} | {alarms} | {counts.most:.1f} |")
    lines += [
        "",
        "## After a change",
        "",
        f"Images until level {ALARM_LEVEL}: the median of {CHANGES} calibration sets, in brackets what 90% of them "
        f"need. Each change comes after {IMAGES_BEFORE:,} normal images; after {IMAGES_AFTER:,} more it counts as not "
        "noticed. Refused images count like all others.",
        "",
        "| change | " + " | ".join(setting.name for setting in NOTICED_WITH) + " |",
        "|---|" + "---:|" * len(NOTICED_WITH),
    ]
    for name, change in DRIFTS.items():
        cells = [summary(images_until_noticed(setting, change(setting))) for setting in NOTICED_WITH]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RESULTS.write_text(report())
    print(RESULTS.read_text())
