"""The report of a run, for people who did not train it: one page, its charts as PNG, a model card, and the numbers."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from app.detection.detector import Detector
from training.data.oddest import OddFile
from training.fitting.other_thresholds import Deciding
from training.model.autoencoders import Autoencoder
from training.report import plots
from training.report.facts import Facts, gather_facts, model_card, percent
from training.report.judgements import YOUR_ANOMALIES, Findings, Judged, Judgements, judge
from training.report.pictures import Picture, drawn_pictures, judged_pictures, sheet
from training.report.report_page import Section, report_page

# The latents that the tutorial redraws.
TUTORIAL_LATENTS = (-3.0, -0.5, 0.0, 0.9, 3.0)
# Standard deviations along a principal component of larger latents.
_STEPS = (-2.0, -1.0, 0.0, 1.0, 2.0)
_PICTURES = 8
# A family's chart is read on a phone: beyond this many bars it shows the lowest ones.
_MOST_BARS = 40


def write_report(folder: Path, findings: Findings, autoencoder: Autoencoder, detector: Detector) -> None:
    """Fills `folder`, which is made; the same findings always give the same bytes."""
    folder.mkdir(parents=True)
    judgements = judge(findings, detector)
    facts = gather_facts(findings, judgements)
    (folder / "report.json").write_text(json.dumps(_numbers(findings), indent=2) + "\n")
    (folder / "model_card.md").write_text(model_card(facts))
    latents = _encode(autoencoder, findings.test_images)
    charts = _charts(findings, judgements, facts, latents)
    sections = [*_judged_sections(judgements, facts, detector), _latent_section(autoencoder, latents)]
    if findings.oddest:
        sections.append(_oddest_section(findings.oddest))
    if findings.deciding:
        sections.append(_deciding_section(findings.deciding))
    for name, chart in charts.items():
        (folder / f"{name}.png").write_bytes(chart)
    for section in sections:
        (folder / f"{section.name}.png").write_bytes(sheet(section.pictures, section.columns))
    (folder / "index.html").write_text(report_page(facts, charts, {section.name: section for section in sections}))


def _numbers(findings: Findings) -> dict[str, object]:
    manifest = findings.manifest
    return {
        "name": manifest["name"],
        "promise": manifest["promise"].model_dump(),
        "threshold": manifest["threshold"],
        "thresholds": manifest.get("thresholds", {}),
        "evaluation": manifest["evaluation"],
        "data": manifest["data"],
        "training": manifest["training"],
        "epoch_losses": list(findings.epoch_losses),
    }


def _charts(findings: Findings, judgements: Judgements, facts: Facts, latents: NDArray[np.float32]) -> dict[str, bytes]:
    evaluation, views = facts.manifest["evaluation"], facts.manifest["views"]
    target = facts.manifest["promise"].target_false_positive_rate
    with plots.style():
        figures = {
            "losses": plots.loss_curve(findings.epoch_losses),
            # A plain loss spans powers of ten; the views' scale is made of logarithms already.
            "scores": plots.score_histogram(judgements, logarithmic=len(views) == 1),
            "variants": plots.variant_rates(evaluation["variants"], target),
        }
        if judgements.families:
            figures["roc"] = plots.roc(judgements, facts.worst_variant, target)
            figures["families"] = plots.family_rates(_lowest(facts))
            if len(views) > 1:
                figures["views"] = plots.deciding_views(judgements, views)
        if latents.shape[1] == 1:
            figures["latent_histogram"] = plots.latent_histogram(latents[:, 0])
            if findings.test_radii:
                figures["latent_radius"] = plots.latent_against_radius(latents[:, 0], findings.test_radii)
        else:
            directions, shares = _directions(latents)
            places = (latents - latents.mean(axis=0)) @ np.linalg.pinv(directions)
            figures["latent_map"] = plots.latent_map(places, shares, findings.test_radii)
        return {name: plots.png(figure) for name, figure in figures.items()}


def _lowest(facts: Facts) -> dict[str, dict[str, float]]:
    """The families that the chart shows: those that are missed at times, or a few of the others where none is."""
    families = facts.manifest["evaluation"]["families"]
    names = (facts.missed + facts.partly + facts.nearly)[:_MOST_BARS] or facts.always[:_PICTURES]
    if YOUR_ANOMALIES in families and YOUR_ANOMALIES not in names:
        names.append(YOUR_ANOMALIES)
    return {name: families[name] for name in names}


def _judged_sections(judgements: Judgements, facts: Facts, detector: Detector) -> list[Section]:
    threshold, original = judgements.threshold, judgements.original
    sections = [
        Section("normal", _usual(original, threshold, detector), 4),
        Section("worst_normal", _worst(judgements, detector), 4),
    ]
    missed_at_times = facts.missed + facts.partly + facts.nearly
    for section, families in (("anomalies", missed_at_times), ("always_found", facts.always)):
        pictures = _family_pictures(families, judgements, facts, detector)
        if pictures:
            sections.append(Section(section, pictures, 4))
    return sections


def _family_pictures(
    families: Sequence[str], judgements: Judgements, facts: Facts, detector: Detector
) -> list[Picture]:
    pictures: list[Picture] = []
    rates = facts.manifest["evaluation"]["families"]
    for name in families:
        caption = f"{name} ({percent(rates[name]['detection_rate'])})"
        judged = judgements.families[name]
        rows = _telling(judged, judgements.threshold, _PICTURES if name == YOUR_ANOMALIES else 1)
        captions = [facts.own_names[row] if name == YOUR_ANOMALIES and facts.own_names else caption for row in rows]
        pictures += judged_pictures(judged, rows, captions, detector, judgements.threshold, normal=False)
    return pictures


def _usual(judged: Judged, threshold: float, detector: Detector) -> list[Picture]:
    """Normal images from the lowest score to the highest, in equal steps of rank."""
    count = len(judged.scores)
    shown = min(_PICTURES, count)
    ranks = [(2 * step + 1) * count // (2 * shown) for step in range(shown)]
    rows = np.argsort(judged.scores, kind="stable")[ranks].tolist()
    captions = [f"odder than {rank / count:.0%} of them" for rank in ranks]
    return judged_pictures(judged, rows, captions, detector, threshold, normal=True)


def _worst(judgements: Judgements, detector: Detector) -> list[Picture]:
    """The normal images of the highest scores over all variants, each image once."""
    scores = np.stack([judged.scores for judged in judgements.variants.values()])  # (variants, N)
    names = list(judgements.variants)
    pictures = []
    for row in np.argsort(-scores.max(axis=0), kind="stable")[:_PICTURES]:
        name = names[int(scores[:, row].argmax())]
        judged = judgements.variants[name]
        pictures += judged_pictures(
            judged, [int(row)], [f"sent as {name}"], detector, judgements.threshold, normal=True
        )
    return pictures


def _telling(judged: Judged, threshold: float, count: int) -> list[int]:
    """Those that look most normal; or of one kind each, missed and found, the image of the middle score."""
    order = np.argsort(judged.scores, kind="stable")
    if count > 1:
        return [int(row) for row in order[:count]]
    refused = judged.refused(threshold)[order]
    return [int(rows[len(rows) // 2]) for rows in (order[~refused], order[refused]) if len(rows)]


def _oddest_section(oddest: Sequence[OddFile]) -> Section:
    """The files to look at first, whichever part they are in; no verdict, which would depend on the part."""
    captions = [f"{file.name} ({file.oddness:.1f})" for file in oddest]
    return Section("oddest", drawn_pictures(np.stack([file.image for file in oddest]), captions), 6)


def _deciding_section(deciding: Deciding) -> Section:
    captions = [f"{file.name} (threshold {file.threshold:.4g} without)" for file in deciding.files]
    return Section("deciding", drawn_pictures(np.stack([file.image for file in deciding.files]), captions), 6)


def _latent_section(autoencoder: Autoencoder, latents: NDArray[np.float32]) -> Section:
    """What the decoder makes of chosen latents."""
    if latents.shape[1] == 1:
        walks = np.array(TUTORIAL_LATENTS, np.float32)[:, None]
        captions = [f"latent {latent:g}" for latent in TUTORIAL_LATENTS]
    else:
        directions, _ = _directions(latents)
        steps = np.array(_STEPS, np.float32)[:, None]
        walks = np.concatenate([latents.mean(axis=0) + steps * direction for direction in directions])
        captions = [
            f"{place} {step:+g} sd" if step else f"{place} at the mean"
            for place in ("first", "second")
            for step in _STEPS
        ]
    with torch.inference_mode():
        drawings = autoencoder.decode(torch.from_numpy(walks)).clamp(0, 1).numpy()[:, 0]
    return Section("latent_reconstructions", drawn_pictures(drawings, captions), len(_STEPS))


def _encode(autoencoder: Autoencoder, images: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        latents: NDArray[np.float32] = autoencoder.encode(torch.from_numpy(images).unsqueeze(1)).numpy()
    return latents


def _directions(latents: NDArray[np.float32]) -> tuple[NDArray[np.float32], Sequence[float]]:
    """The first two principal components, (2, latent), one standard deviation long; their shares of the variance."""
    _, lengths, axes = np.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    # Either sign is right; one is chosen, so that equal latents give equal pictures.
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.sign(axes[np.arange(len(axes)), largest])[:, None]
    directions = axes[:2] * (lengths[:2, None] / np.sqrt(len(latents)))
    return directions.astype(np.float32), list(np.square(lengths[:2]) / max(float(np.square(lengths).sum()), 1e-12))
