"""What the report says in words: the facts that the page and the model card share, and the card itself."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from training.data.variants import parse_variants
from training.fitting.other_thresholds import Deciding
from training.report.judgements import YOUR_ANOMALIES, Findings, Judgements

# Families below the first are not told apart, below the second only partly.
_MISSED_BELOW, _PARTLY_BELOW = 0.5, 0.95
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers and words of one run.

    Attributes:
        manifest: The manifest's fields; rates and intervals are in its `evaluation`.
        descriptions: A phrase for each variant.
        worst_variant: The name of the variant that is refused most.
        within_promise: Whether no variant's interval lies wholly above the target.
        missed: Families that are found less than half of the time, the worst first.
        partly: Families that are found at least half of the time, but not reliably.
        nearly: Families that are found nearly always.
        always: Families of which every image is found.
        views: For each view its name, meaning, and how often it is above the threshold for a refused normal image
            and for an anomaly.
        is_circles: Whether it was trained on drawn circles.
        chance: What the false-positive rate that was seen says of the promise.
        drawn_families: How many families of anomalies were drawn.
        own_anomalies: How many bad examples of the user's own are among the families; 0 for none.
        own_names: Their paths within their folder.
        missed_files: Those of them that are missed, by name, that which looks most normal first.
        deciding: Of a folder, the calibration files that decide the threshold.
        has_endless_scores: Whether an image was odder than any number says.
        command: What trains it again.
    """

    manifest: dict[str, Any]
    descriptions: dict[str, str]
    worst_variant: str
    within_promise: bool
    missed: list[str]
    partly: list[str]
    nearly: list[str]
    always: list[str]
    views: list[dict[str, Any]]
    is_circles: bool
    chance: str
    drawn_families: int
    own_anomalies: int
    own_names: Sequence[str]
    missed_files: list[str]
    deciding: Deciding | None
    has_endless_scores: bool
    command: str


def gather_facts(findings: Findings, judgements: Judgements) -> Facts:
    """Everything that is said about a run, computed once."""
    manifest = findings.manifest
    variants, families = manifest["evaluation"]["variants"], manifest["evaluation"]["families"]
    by_rate = sorted(families, key=lambda name: (families[name]["detection_rate"], name))

    def between(low: float, high: float) -> list[str]:
        return [name for name in by_rate if low <= families[name]["detection_rate"] < high]

    target = manifest["promise"].target_false_positive_rate
    return Facts(
        manifest=manifest,
        descriptions=_descriptions(manifest),
        worst_variant=max(variants, key=lambda name: variants[name]["false_positive_rate"]),
        within_promise=all(rate["false_positive_rate_interval"][0] <= target for rate in variants.values()),
        missed=between(0, _MISSED_BELOW),
        partly=between(_MISSED_BELOW, _PARTLY_BELOW),
        nearly=between(_PARTLY_BELOW, 1),
        always=between(1, 2),
        views=_views(manifest, judgements),
        is_circles=manifest["data"]["kind"] == "circles",
        chance=chance_words(manifest["evaluation"]["false_positive_rate_interval"], target),
        drawn_families=len(families.keys() - {YOUR_ANOMALIES}),
        own_anomalies=len(findings.anomalies.get(YOUR_ANOMALIES, ())),
        own_names=findings.own_names,
        missed_files=_missed_files(findings, judgements),
        deciding=findings.deciding,
        has_endless_scores=any(not np.isfinite(family.scores).all() for family in judgements.families.values()),
        command=_command(manifest),
    )


def model_card(facts: Facts) -> str:
    """Markdown: what it was trained on, what it accepts, what it promises, and what it misses."""
    return render("model_card.md", facts=facts)


def render(template: str, **context: Any) -> str:
    """One of `training/templates`; what goes into HTML is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    return environment.get_template(template).render(**context)


def chance_words(interval: Sequence[float], target: float) -> str:
    """What a rate with this 95% interval says of the promised one."""
    low, high = interval
    if low > target:
        return "more than chance explains"
    return "less than promised" if high < target else "within chance of the promise"


def percent(rate: float) -> str:
    """0.0129 -> "1.29%", 0.5 -> "50%"; never rounded to a bare 0% or 100% that it is not."""
    digits = 2 if rate < 0.1 or rate > 0.995 else 1
    text = f"{100 * rate:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + "%"


def _views(manifest: dict[str, Any], judgements: Judgements) -> list[dict[str, Any]]:
    threshold = judgements.threshold
    beyond = [family.beyond(threshold) for family in judgements.families.values()]
    odd = np.concatenate(beyond) if beyond else np.zeros((0, len(manifest["views"])), bool)
    normal = np.concatenate([variant.beyond(threshold) for variant in judgements.variants.values()])
    return [
        {
            "name": view.name.replace("_", " "),
            "meaning": view.meaning,
            "normal": float(normal[:, number].mean()),
            "anomalies": float(odd[:, number].mean()) if len(odd) else None,
        }
        for number, view in enumerate(manifest["views"])
    ]


def _missed_files(findings: Findings, judgements: Judgements) -> list[str]:
    own = judgements.families.get(YOUR_ANOMALIES)
    if own is None or not findings.own_names:
        return []
    passed = np.flatnonzero(~own.refused(judgements.threshold))
    return [findings.own_names[row] for row in passed[np.argsort(own.scores[passed], kind="stable")]]


def _command(manifest: dict[str, Any]) -> str:
    """Options that are what this run was told; a folder's path is the reader's to fill in."""
    data, fit, architecture = manifest["data"], manifest["training"], manifest["architecture"]
    options: dict[str, Any] = {}
    if data["kind"] == "circles":
        options["--count"] = data["train"]
        options["--circles"] = data["circles"]
    else:
        options["--data"] = "FOLDER"
        options["--group-by"] = data.get("group_by")
    options["--output"] = f"model_artifacts/{manifest['name']}"
    options["--model"] = architecture.name
    options["--latent-size"] = architecture.arguments["latent_size"]
    options["--score"] = manifest["score"].name
    options["--variants"] = _variant_option(manifest["kinds"])
    options["--loss"] = fit["loss"]
    options["--epochs"] = fit["epochs"]
    options["--batch-size"] = fit["batch_size"]
    options["--learning-rate"] = fit["learning_rate"]
    options["--target-false-positive-rate"] = manifest["promise"].target_false_positive_rate
    options["--confidence"] = manifest["promise"].confidence
    options["--seed"] = manifest["seed"]
    words = [word for name, value in options.items() if value is not None for word in (name, f"{value}")]
    return "python -m training " + shlex.join(words)


def _variant_option(kinds: dict[str, str]) -> str:
    if kinds == parse_variants("default").ranges:
        return "default"
    return ",".join(f"{kind}={values}" for kind, values in kinds.items()) or "none"


def _descriptions(manifest: dict[str, Any]) -> dict[str, str]:
    """A phrase for each variant."""
    permitted = parse_variants(_variant_option(manifest["kinds"]))
    if manifest["own_size"]:
        permitted = permitted.of_one_size()
    return {variant.name: variant.description for variant in permitted.variants}
