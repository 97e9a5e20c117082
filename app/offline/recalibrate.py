"""`python -m app recalibrate`: the same graph with a threshold set anew, on normal images as production sends them.

Split conformal calibration as in training (`app.detection.promise`), with one variant: images as they came.
"""

import hashlib
import math
import os
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.detection.artifact import (
    CALIBRATION,
    CHECKPOINT,
    GRAPH,
    SAMPLES,
    VIEW_CALIBRATION,
    Artifact,
    Promise,
    check_replaceable,
    load_artifact,
    replaced_words,
    write_artifact,
)
from app.detection.images import DecodedImage
from app.detection.intervals import share_interval
from app.detection.promise import make_promise
from app.errors import Refusal, ScoringError
from app.offline.images import Chosen, choose_images
from app.offline.made_up import made_up_pictures
from app.offline.pool import ended_in_one_line, in_processes
from app.offline.rows import Scored, Scorer
from app.settings import Settings

_VARIANT = "as production sends them"
_WHOSE = f"normal images like those that set this threshold, {_VARIANT},"
# As many as training keeps for explanations.
_VIEW_SCORES = 500
_MADE_UP = 200
# A loss of detection that is more than a threshold should be asked to make up for.
_MOST_LOST = 0.1
# Copies are no further images: more than this share of them is worth a word.
_MOST_COPIES = 0.02

# Of the manifest.
_SET_ANEW = {"threshold", "thresholds", "variants", "shown"}


@dataclass(frozen=True, slots=True)
class RecalibrateOptions:
    """What the command line asks for.

    Attributes:
        artifact: The folder whose graph is used.
        paths: Files and folders of normal images.
        kept: A folder of kept images in their place: of it the random sample, less what is labelled an anomaly.
        output: The new artifact's folder.
        rate: The target false-positive rate; None for the artifact's own.
        workers: Processes.
    """

    artifact: Path
    paths: tuple[str, ...]
    kept: Path | None
    output: Path
    rate: float | None
    workers: int


def recalibrate(settings: Settings, options: RecalibrateOptions) -> int:
    """Writes the new artifact, and says what changes.

    Returns:
        The exit code, 0.

    Raises:
        KeyboardInterrupt: After Ctrl-C or SIGTERM; there is no new artifact.
        ArtifactError: The artifact or the output cannot be used, or the images are too few for the rate.
        ScoringError: The images cannot be used.
    """
    with ended_in_one_line(options.output, "interrupted; there is no new artifact"):
        _recalibrate(settings, options)
    return 0


def _recalibrate(settings: Settings, options: RecalibrateOptions) -> None:
    artifact = load_artifact(options.artifact.resolve())
    if options.output.resolve() == options.artifact.resolve():
        raise ScoringError("--output names ARTIFACT itself: name a new folder, and point the link to it afterwards.")
    check_replaceable(options.output)
    if words := replaced_words(options.output):
        print(words, flush=True)
    chosen = choose_images(options.paths, options.kept, lambda one: one.sampled and one.label != "anomaly")
    usable = _usable(_score(artifact, settings, _distinct(chosen.files), options.workers))
    rate = options.rate or artifact.manifest.promise.target_false_positive_rate
    promise = make_promise(len(usable), rate, _WHOSE)
    ratios = np.sort(np.array([_ratio(one) for one in usable]))
    # A little above the image that sets it, so that no rounding refuses that image.
    factor = float(ratios[promise.rank - 1]) * (1 + 1e-9)
    new = _write(artifact, options, promise, factor, ratios, usable)
    _report(artifact, new, [one.row.is_anomaly for one in usable], ratios > factor)
    _say_what_else(artifact, chosen, ratios)
    scorer = Scorer(artifact, settings)
    _report_made_up(scorer, factor, _some_images(scorer, [one.row.path for one in usable]))
    print(f"{new.manifest.name} {new.version} is in {options.output}")
    print(f"Serve it: GATE_ARTIFACT={options.output} make run")


def _ratio(one: Scored) -> float:
    """Score / threshold: what makes files of several classes, each with a threshold of its own, comparable."""
    assert one.row.score is not None
    assert one.threshold is not None
    return one.row.score / one.threshold


def _score(artifact: Artifact, settings: Settings, files: list[str], workers: int) -> list[Scored]:
    with (
        closing(in_processes((artifact,), settings, files, workers, _scored)) as found,
        tqdm(total=len(files), unit="file", file=sys.stderr, disable=not sys.stderr.isatty()) as bar,
    ):
        scored = []
        for one in found:
            scored.append(one)
            bar.update()
        return scored


def _distinct(files: list[str]) -> list[str]:
    """The first file of each content. A copy is no further image; counted twice, it would promise too much."""
    by_size: dict[int, list[str]] = {}
    for file in files:
        by_size.setdefault(_size(file), []).append(file)
    copies: set[str] = set()
    by_size.pop(-1, None)
    for alike in by_size.values():
        seen: set[bytes] = set()
        for file in alike if len(alike) > 1 else []:
            content = _digest(file)
            if content in seen:
                copies.add(file)
            seen.add(content)
    if copies:
        print(f"{len(copies)} of {len(files)} files are exact copies of others; each content counts once.")
    return [file for file in files if file not in copies]


def _size(file: str) -> int:
    """-1 for what is no file, and for what is not there: named later, as what cannot be judged."""
    try:
        found = os.stat(file)
    except OSError:
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def _digest(file: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError:
        return os.fsencode(file)


def _scored(scorers: Sequence[Scorer], paths: list[str]) -> list[Scored]:
    return scorers[0].score_fully(paths)


def _usable(scored: list[Scored]) -> list[Scored]:
    """Those with a score; the others are named."""
    unusable = [one.row for one in scored if one.row.score is None]
    for row in unusable:
        print(f"imagegate: {row.path} is not counted: {row.detail or 'its score is not a number.'}", file=sys.stderr)
    usable = [one for one in scored if one.row.score is not None]
    if not usable:
        raise ScoringError("none of the images can be judged.")
    return usable


def _write(
    artifact: Artifact,
    options: RecalibrateOptions,
    promise: Promise,
    factor: float,
    ratios: NDArray[np.float64],
    usable: list[Scored],
) -> Artifact:
    old = artifact.manifest
    thresholds = old.thresholds or {"": old.threshold}
    scores = np.stack([ratios * threshold for threshold in thresholds.values()]).astype(np.float32)
    views = np.sort(np.array([one.views for one in usable], np.float32).T, axis=-1)[:, np.newaxis]
    kept = np.linspace(0, views.shape[-1] - 1, min(views.shape[-1], _VIEW_SCORES)).round().astype(int)

    def fill(folder: Path) -> dict[str, Any]:
        (folder / GRAPH).write_bytes(artifact.graph)
        (folder / CHECKPOINT).write_bytes((options.artifact / CHECKPOINT).read_bytes())
        if (options.artifact / SAMPLES).exists():
            (folder / SAMPLES).write_bytes((options.artifact / SAMPLES).read_bytes())
        np.save(folder / CALIBRATION, scores)
        np.save(folder / VIEW_CALIBRATION, np.repeat(views[..., kept], len(thresholds), axis=1).astype(np.float16))
        return _fields(artifact, options, promise, {name: factor * one for name, one in thresholds.items()})

    return write_artifact(options.output, fill)


def _fields(
    artifact: Artifact, options: RecalibrateOptions, promise: Promise, thresholds: dict[str, float]
) -> dict[str, Any]:
    """The manifest: what the network is stays, and what was measured at the old threshold goes."""
    old = artifact.manifest
    left_out = {"format_version", "files", "evaluation", "promise", "recalibrated_from", "data"} | _SET_ANEW
    source = "the random sample of a kept folder" if options.kept else "files"
    return {
        **old.model_dump(exclude=left_out),
        "promise": promise,
        "threshold": max(thresholds.values()),
        "thresholds": thresholds if old.thresholds else {},
        "variants": [f"{_VARIANT}: {name}" if name else _VARIANT for name in thresholds],
        "shown": list(thresholds) if old.thresholds else [],
        "evaluation": {},
        "data": {"kind": "recalibration", "images": promise.calibration_size, "source": source, "trained_on": old.data},
        "recalibrated_from": {"name": old.name, "version": artifact.version},
    }


def _report(old: Artifact, new: Artifact, refused: Sequence[bool | None], refused_now: NDArray[np.bool_]) -> None:
    count = len(refused)
    before, after = sum(map(bool, refused)), int(refused_now.sum())
    low, high = share_interval(before, count)
    print(f"old {old.version}: threshold {old.manifest.threshold:.4g}, refuses {before / count:.2%} of these {count}")
    print(f"    images (of all like them {low:.2%} to {high:.2%} with 95% confidence)")
    print(f"new {new.version}: threshold {new.manifest.threshold:.4g}, refuses {after / count:.2%} of them")
    print(new.manifest.promise.words)


def _say_what_else(artifact: Artifact, chosen: Chosen, scores: NDArray[np.float64]) -> None:
    judges = Counter(record.model.version for record in chosen.records.values())
    own = judges.pop(artifact.version, 0)
    if judges:
        print(
            f"warning: {judges.total()} of {judges.total() + own} images of the sample were judged by "
            f"{', '.join(judges)}, not by {artifact.version}, which is recalibrated."
        )
    copies = 1 - len(np.unique(scores)) / len(scores)
    if copies > _MOST_COPIES:
        print(
            f"warning: {copies:.0%} of the scores occur more than once. Copies in a folder promise less than they seem"
        )
        print("    to, and files that differ in a few bytes may show the same image.")
    unlabelled = sum(record.label is None for record in chosen.records.values())
    if unlabelled:
        print(
            f"{unlabelled} of {len(chosen.records)} images of the sample have no label and count as normal: anomalies"
        )
        print("    among them raise the threshold. Label them in /review to leave them out.")


def _some_images(scorer: Scorer, paths: list[str]) -> list[DecodedImage]:
    """At most 200 images, evenly spaced over the paths."""
    step = math.ceil(len(paths) / _MADE_UP)
    images = []
    for path in paths[::step]:
        try:
            images.append(scorer.image(path))
        except (OSError, Refusal):  # it has changed since
            continue
    return images


def _report_made_up(scorer: Scorer, factor: float, images: list[DecodedImage]) -> None:
    """Detection of made-up pictures at both thresholds, and a warning where another threshold is no remedy.

    Args:
        scorer: With the old thresholds.
        factor: By which they are multiplied.
        images: What the pictures are made of; each is judged as the file of the image that it comes from.
    """
    if len(images) < 2:
        return
    found = {}
    for name, pictures in made_up_pictures(np.stack([image.pixels for image in images])).items():
        shown = [DecodedImage(pixels, image.shown) for pixels, image in zip(pictures, images, strict=True)]
        detections = scorer.detect(shown)
        found[name] = (
            float(np.mean([one.is_anomaly for one in detections])),
            float(np.mean([not one.score <= factor * one.threshold for one in detections])),
        )
    then, now = (float(np.mean([one[index] for one in found.values()])) for index in (0, 1))
    print(f"Made-up pictures found: {then:.1%} before, {now:.1%} now")
    for name, (family_then, family_now) in found.items():
        print(f"    {name}: {family_then:.0%}, {family_now:.0%}")
    if then - now > _MOST_LOST:
        print("warning: another training is due rather than another threshold. These images score so high that a")
        print("    threshold which admits them also admits much that does not belong; train again with such images.")
