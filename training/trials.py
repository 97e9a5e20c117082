"""What the finished gate does on images that no step of training saw: test images, drawn and made-up anomalies."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app.detection.artifact import Promise
from app.detection.detector import Detector
from app.detection.shown import Size, class_of
from training.data.anomalies import ANYWHERE, FAMILIES
from training.data.dataset import Dataset, Part, decode_variants, shown_by
from training.data.folder import Named
from training.data.variants import ALSO_DONE, ORIGINAL
from training.fitting.calibrate import Calibration, FileClass, run_in_batches
from training.fitting.evaluate import (
    Limits,
    Scores,
    draw_families,
    evaluate,
    rate_of,
    refused,
    score_sets,
    share_refused,
)
from training.fitting.other_decoders import describe_other_decoders
from training.fitting.other_thresholds import Deciding, Trial, at_rates, deciding_files
from training.fitting.power import DECISIVE, describe_power, made_images
from training.fitting.regions import by_latent, by_radius, refused_by_region
from training.model.scores import ScoredAutoencoder, redraw
from training.plan import Plan
from training.report.judgements import YOUR_ANOMALIES

_ALSO_DONE_IMAGES = 300


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate that is fitted and calibrated.

    Attributes:
        model: As it was written and read back.
        detector: Around its graph.
        calibration: Of that graph.
        promise: For the calibration.
        own_size: Width and height of the training images, if nearly all share them.
    """

    model: ScoredAutoencoder
    detector: Detector
    calibration: Calibration
    promise: Promise
    own_size: Size | None


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it.

    Attributes:
        evaluation: For the manifest; holds no names of files.
        tested: (N, 28, 28) test images by variant, grey levels 0 to 255.
        anomalies: (M, 28, 28) by family, grey levels in [0, 1].
        limits: The largest scores accepted of all of these.
        deciding: Of a folder, the calibration files that decide the threshold.
    """

    evaluation: dict[str, Any]
    tested: Mapping[str, NDArray[np.uint8]]
    anomalies: Mapping[str, NDArray[np.float32]]
    limits: Limits
    deciding: Deciding | None


def send(plan: Plan, part: Part, dataset: Dataset) -> NDArray[np.uint8]:
    """(variants, N, 28, 28), grey levels 0 to 255: one part of the data, sent in every permitted way."""
    # Sizes, angles and all else differ from those that were fitted.
    return decode_variants(part.originals, plan.permitted.variants, dataset.preprocessing, plan.seed + 1)


def file_classes(plan: Plan, part: Part, size: Size | None) -> list[FileClass]:
    """As what each variant of a part is judged: the originals as what their own files show."""
    own = [class_of(shown_by(original), size) for original in part.originals]
    return [own, *(variant.shown for variant in plan.permitted.variants[1:])]


def try_gate(plan: Plan, dataset: Dataset, gate: Gate, own: Named | None) -> Tried:
    """Runs the gate over the test part, drawn and made-up anomalies, and the user's own.

    Args:
        plan: What the run does.
        dataset: Of the run.
        gate: The gate.
        own: The user's own anomalies.
    """
    names = [variant.name for variant in plan.permitted.variants]
    tested = dict(zip(names, send(plan, dataset.test, dataset), strict=True))
    # Circles gone wrong are a question for circles alone.
    families = FAMILIES if plan.data is None else ANYWHERE
    anomalies = draw_families(plan.family_count, dataset.preprocessing, families)
    if own:
        anomalies[YOUR_ANOMALIES] = own.images
    limits = _limits(dict(zip(names, file_classes(plan, dataset.test, gate.own_size), strict=True)), gate, anomalies)
    normal, odd = (score_sets(gate.detector, limits, sets) for sets in (tested, anomalies))
    made = {
        name: run_in_batches(gate.detector, images, limits.usual_class)[0]
        for name, images in made_images(dataset.test.images).items()
    }
    trial = _trial(normal, odd, made, limits)
    evaluation = evaluate(limits, normal, odd, apart=[YOUR_ANOMALIES])
    evaluation["power"] = describe_power(_refused_shares(made, limits))
    evaluation["also_done"] = _also_done(gate, dataset, plan.seed + 2)
    evaluation["other_decoders"] = _other_decoders(gate, dataset, limits)
    evaluation["at_rates"] = at_rates(gate.calibration, gate.promise, trial)
    evaluation["regions"] = _regions(gate, dataset.test, normal, limits)
    if own:
        evaluation["own_anomalies"] = _by_subfolder(own, odd[YOUR_ANOMALIES], limits)
    part = dataset.calibration
    deciding = deciding_files(gate.calibration, gate.promise, trial, part.names, part.images) if part.names else None
    return Tried(evaluation, tested, anomalies, limits, deciding)


def _limits(files: Mapping[str, FileClass], gate: Gate, families: Iterable[str]) -> Limits:
    """Of variants by their files, and of anomalies, which are sent as most originals are."""
    usual = statistics.mode(files[ORIGINAL.name])
    return Limits(gate.calibration.thresholds, {**files, **dict.fromkeys(families, usual)}, usual)


def _trial(normal: Scores, odd: Scores, made: Scores, limits: Limits) -> Trial:
    groups = {
        "made_up": {name: made[name] for name in DECISIVE},
        "drawn": {name: scores for name, scores in odd.items() if name != YOUR_ANOMALIES},
        "own": {name: scores for name, scores in odd.items() if name == YOUR_ANOMALIES},
    }
    return Trial(normal[ORIGINAL.name], limits.files[ORIGINAL.name], groups, limits.usual_class)


def _refused_shares(sets: Scores, limits: Limits) -> dict[str, float]:
    limit = limits.thresholds[limits.usual_class]
    return {name: share_refused(scores, limit) for name, scores in sets.items()}


def _also_done(gate: Gate, dataset: Dataset, seed: int) -> dict[str, Any]:
    """What becomes of normal images that are sent in ways that are not permitted unless the user says so."""
    originals = dataset.test.originals[:_ALSO_DONE_IMAGES]
    sent = decode_variants(originals, ALSO_DONE, dataset.preprocessing, seed)
    rates = {}
    for variant, images in zip(ALSO_DONE, sent, strict=True):
        scores, _ = run_in_batches(gate.detector, images, variant.shown)
        share = share_refused(scores, gate.calibration.thresholds[variant.shown])
        rates[variant.name] = {"what": variant.description, "refused": round(share, 4)}
    return rates


def _other_decoders(gate: Gate, dataset: Dataset, limits: Limits) -> dict[str, Any]:
    files = limits.files[ORIGINAL.name]
    return describe_other_decoders(
        gate.detector, dataset.test.originals, files, limits.thresholds, dataset.preprocessing
    )


def _regions(gate: Gate, part: Part, normal: Scores, limits: Limits) -> list[dict[str, Any]]:
    """False positives by the radius of circles, or by how unusual the latent of another image is."""
    if part.radii:
        regions = by_radius(part.radii)
    else:
        with torch.inference_mode():
            images = torch.from_numpy(part.images).unsqueeze(1)
            latents = redraw(gate.model.autoencoder, images, gate.model.scorer.normalisation).latents
        regions = by_latent(latents.numpy())
    return refused_by_region(regions, {name: refused(scores, limits.of(name)) for name, scores in normal.items()})


def _by_subfolder(own: Named, scores: NDArray[np.float32], limits: Limits) -> dict[str, Any]:
    """Of the user's own anomalies, what is found of all and of each subfolder."""
    limit = limits.thresholds[limits.usual_class]
    members: dict[str, list[int]] = {}
    for row, subfolder in enumerate(own.subfolders):
        members.setdefault(subfolder, []).append(row)
    return {
        "images": len(scores),
        **rate_of("detection_rate", scores, limit),
        "subfolders": {
            name: {"images": len(rows), **rate_of("detection_rate", scores[rows], limit)}
            for name, rows in sorted(members.items())
        },
    }
