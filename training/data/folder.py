"""A folder of anyone's images -> train, calibration and test, with every scene in one part."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.detection.folders import files_below, printable
from app.detection.images import Preprocessing
from app.detection.promise import least_calibration_size
from app.errors import Refusal
from training.data.copies import Rows, find_scenes
from training.data.dataset import Dataset, Part, assemble, decode, digest_of, fingerprint, read
from training.data.oddest import OddFile, oddest
from training.errors import TrainingError
from training.plan import GroupBy

# Of the scenes of a folder; training gets the rest.
CALIBRATION_SHARE, TEST_SHARE = 0.25, 0.15
# Skipped files are listed by name up to here; the others are counted.
_MOST_NAMES = 20
# Files to look at first that are told at once; the report shows more.
_TOLD = 5
# Below this a folder gets a word on what to expect.
FEW_SCENES = 1000
# What a small folder can promise without its oddest file deciding all.
_RATE_OF_FEW = 0.05

Tell = Callable[[str], None]


def folder_dataset(
    folder: Path,
    seed: int,
    rate: float,
    confidence: float | None = None,
    group_by: GroupBy = "likeness",
    tell: Tell = print,
) -> Dataset:
    """Reads every image under `folder`, and splits its scenes by `seed`: 60% train, 25% calibration, 15% test.

    A scene is an image with its near-copies (`training.data.copies`); in most folders each image is a scene.
    All images of a scene go into one part. Those to train on are all kept; for calibration and test, each scene counts
    once, with one image drawn by `seed`, since the promise is about new scenes.

    Args:
        folder: Searched with all folders inside; hidden files and folders are left out.
        seed: Of the split, which depends on contents alone: names count only where they say what one scene is.
        rate: The false-positive rate that the calibration part must be able to promise.
        confidence: With which it must promise it; None for on average.
        group_by: What one scene is.
        tell: Gets a line for each file that is skipped, and one for copies and for near-copies.

    Raises:
        TrainingError: There is no such folder, or it holds too few scenes for `rate`.
    """
    found = _read(folder, tell)
    digests = sorted(found.paths)
    paths = [found.paths[digest] for digest in digests]
    least = least_calibration_size(rate, confidence)
    _check_enough(len(paths), len(paths), least, rate, folder)
    preprocessing = Preprocessing(background=_background(found.images))
    images = _decoded(found, digests, preprocessing)
    scenes = group(images, paths, group_by)
    _tell_scenes(scenes, group_by, tell)
    _check_enough(len(np.unique(scenes)), len(paths), least, rate, folder)
    names = [printable(path.relative_to(folder)) for path in paths]
    parts = [_part(rows, paths, images, names, scenes) for rows in split(scenes, seed)]
    description = {
        "kind": "folder",
        "fingerprint": fingerprint(digests),
        "skipped": found.skipped,
        "duplicates": found.duplicates,
        "near_copies": len(paths) - len(np.unique(scenes)),
        "group_by": group_by,
    }
    listed = oddest(images, scenes, names)
    _tell_sizes(len(np.unique(scenes)), rate, listed, tell)
    return assemble(parts, preprocessing, description, listed)


@dataclass(frozen=True, slots=True)
class Named:
    """Images of a folder.

    Attributes:
        names: Their paths within the folder.
        images: (N, 28, 28), grey levels in [0, 1].
    """

    names: Sequence[str]
    images: NDArray[np.float32]

    @property
    def subfolders(self) -> list[str]:
        """Of each image the first folder on its path; "" for one that lies in none."""
        return [name.partition("/")[0] if "/" in name else "" for name in self.names]


def decode_folder(folder: Path, preprocessing: Preprocessing, tell: Tell = print) -> Named:
    """Every readable image under a folder, in the order of their names; the others are listed and skipped.

    Raises:
        TrainingError: There is none.
    """
    found = _read(folder, tell)
    if not found.paths:
        raise TrainingError(f"{folder} holds no readable image.")
    paths = sorted(found.paths.values(), key=lambda path: _by_number(str(path.relative_to(folder))))
    return Named([printable(path.relative_to(folder)) for path in paths], decode(paths, preprocessing))


def check_anomalies(anomalies: Path, data: Path | None) -> None:
    """Refuses bad examples that training cannot tell from the normal images, before anything is read.

    Args:
        anomalies: The folder of the user's own bad examples.
        data: That of the normal images; None for drawn circles.

    Raises:
        TrainingError: `anomalies` is no folder, or one of the two lies within the other.
    """
    if not anomalies.is_dir():
        raise TrainingError(f"--anomalies {anomalies} is not a folder of images.")
    if data is None:
        return
    bad, normal = anomalies.resolve(), data.resolve()
    if bad.is_relative_to(normal):
        hidden = any(part.startswith(".") for part in bad.relative_to(normal).parts)
        if not hidden:  # what is hidden is not learned
            where = "is --data itself" if bad == normal else f"lies within --data {data}"
            raise TrainingError(
                f"--anomalies {anomalies} {where}: its images would be learned as normal ones; move them out of there."
            )
    elif normal.is_relative_to(bad):
        raise TrainingError(
            f"--anomalies {anomalies} contains --data {data}: the normal images would count as anomalies; "
            "move them out of there."
        )


def group(images: NDArray[np.float32], paths: Sequence[Path], group_by: GroupBy) -> Rows:
    """The scene of each image: the first row that shows it.

    Args:
        images: (N, 28, 28), grey levels in [0, 1].
        paths: N files.
        group_by: "likeness" finds near-copies; "folder" takes all images of one folder for a scene, "name-prefix" all
            of one folder whose names differ only in the number at their end; "none" each file.
    """
    if group_by == "likeness":
        return find_scenes(images, _following(paths))
    keys: list[object] = list(range(len(paths)))
    if group_by == "folder":
        keys = [path.parent for path in paths]
    elif group_by == "name-prefix":
        keys = [(path.parent, re.sub(r"[\W_]*\d*$", "", path.stem)) for path in paths]
    first: dict[object, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(keys)], np.int64)


def split(scenes: Rows, seed: int) -> tuple[Rows, Rows, Rows]:
    """Rows of the train, calibration and test parts, which share no scene."""
    names = np.unique(scenes)
    order = names[np.random.default_rng(seed).permutation(len(names))]
    calibration, test = (math.floor(len(names) * share) for share in (CALIBRATION_SHARE, TEST_SHARE))
    members: dict[int, list[int]] = {}
    for row, scene in enumerate(scenes.tolist()):
        members.setdefault(scene, []).append(row)
    generator = np.random.default_rng([seed, 1])
    drawn = [members[scene][generator.integers(len(members[scene]))] for scene in order[: calibration + test].tolist()]
    train = [row for scene in order[calibration + test :].tolist() for row in members[scene]]
    return np.array(train, np.int64), np.array(drawn[:calibration], np.int64), np.array(drawn[calibration:], np.int64)


@dataclass(slots=True)
class _Folder:
    """What was found; equal files count once, since a copy in the test part would be no test."""

    paths: dict[str, Path] = field(default_factory=dict)  # by digest
    images: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # by digest, on the default background
    skipped: int = 0
    duplicates: int = 0


def _read(folder: Path, tell: Tell) -> _Folder:
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder of images.")
    found = _Folder()
    with tqdm(_files(folder), unit="file", leave=False, disable=None) as bar:
        for path in bar:
            try:
                content = read(path)
                digest = digest_of(content)
                if digest in found.paths:
                    found.duplicates += 1
                    continue
                found.images[digest] = decode([content], Preprocessing())[0]
                found.paths[digest] = path
            except (OSError, Refusal) as error:
                found.skipped += 1
                why = error.detail if isinstance(error, Refusal) else error.strerror
                if found.skipped <= _MOST_NAMES:
                    tell(f"Skipped {printable(path.relative_to(folder))}: {why}")
    if found.skipped or found.duplicates:
        tell(
            f"{printable(folder.name)}: {len(found.paths):,} different images are read; "
            f"{found.skipped:,} files are skipped, {found.duplicates:,} exact copies are left out."
        )
    return found


def _decoded(found: _Folder, digests: Sequence[str], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(N, 28, 28): what was found, decoded anew unless it lies on this background already."""
    if preprocessing == Preprocessing():
        return np.stack([found.images[digest] for digest in digests])
    return decode([found.paths[digest] for digest in digests], preprocessing)


def _part(rows: Rows, paths: Sequence[Path], images: NDArray[np.float32], names: Sequence[str], scenes: Rows) -> Part:
    return Part(
        [paths[row] for row in rows],
        images[rows],
        names=tuple(names[row] for row in rows),
        scenes=tuple(scenes[rows].tolist()),
    )


def _tell_scenes(scenes: Rows, group_by: GroupBy, tell: Tell) -> None:
    sizes = Counter(scenes.tolist())
    if len(sizes) == len(scenes):
        return
    remain = f"{len(sizes):,} scenes, up to {max(sizes.values()):,} images each"
    copies = len(scenes) - len(sizes)
    if group_by == "likeness":
        like = "looks like a near-copy" if copies == 1 else "look like near-copies"
        what = f"Of {len(scenes):,} images {copies:,} {like} of others (bursts, videos), which leaves {remain}"
    else:
        what = f"{len(scenes):,} images belong by {group_by} to {remain}"
    tell(
        f"{what}: the images of a scene stay in one part, and a scene counts once for the promise "
        "(--group-by changes what a scene is)."
    )


def _tell_sizes(scenes: int, rate: float, listed: Sequence[OddFile], tell: Tell) -> None:
    """What to expect of a small folder, and which files to look at first."""
    if scenes < FEW_SCENES:
        or_rate = "" if rate >= _RATE_OF_FEW else f", or a promised rate of {_RATE_OF_FEW:.0%},"
        tell(
            f"{scenes:,} different images are few: one odd file may set the threshold, and much that is odd may pass. "
            f"{FEW_SCENES:,} or more{or_rate} let the gate find more."
        )
    names = ", ".join(f"{file.name} ({file.oddness:.1f})" for file in listed[:_TOLD])
    tell(f"Look at these files first, which differ most from all others (1 is what 5% of the files exceed): {names}")


def _files(folder: Path) -> list[Path]:
    return [Path(path) for path in files_below(str(folder))]


def _following(paths: Sequence[Path]) -> Rows:
    """(M, 2) rows of files that follow each other by name within one folder, where 10 comes after 9."""
    rows = sorted(range(len(paths)), key=lambda row: (paths[row].parent.as_posix(), _by_number(paths[row].name)))
    pairs = [(one, other) for one, other in pairwise(rows) if paths[one].parent == paths[other].parent]
    return np.array(pairs, np.int64).reshape(-1, 2)


def _by_number(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"([0-9]+)", name)]


def _check_enough(scenes: int, count: int, needed_calibration: int, rate: float, folder: Path) -> None:
    # The smallest counts that give every part something: 4 / 0.15 test images, and the calibration share.
    needed = max(math.ceil(needed_calibration / CALIBRATION_SHARE), math.ceil(4 / TEST_SHARE))
    if scenes < needed:
        what = f"{count} different readable images" + (f" of {scenes} scenes" if scenes < count else "")
        raise TrainingError(
            f"{folder} holds {what}. A false-positive rate of {rate:g} takes at least "
            f"{needed}: {needed_calibration} for calibration, which gets {CALIBRATION_SHARE:.0%} of them. Add "
            f"{needed - scenes}, or ask for a higher --target-false-positive-rate."
        )


def _background(images: dict[str, NDArray[np.float32]]) -> int:
    """White or black, whichever the borders are nearer to, so that transparent images come out like the rest."""
    borders = [np.concatenate((image[0], image[-1], image[:, 0], image[:, -1])) for image in images.values()]
    return 255 if np.median(borders) >= 0.5 else 0
