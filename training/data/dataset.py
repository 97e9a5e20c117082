"""Normal images -> train, calibration and test: the tutorial's circles, or a folder of anyone's images."""

import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.detection.images import SIDE, Preprocessing, decode_image, open_image, to_large_grayscale, to_small
from app.detection.shown import LOSSLESS_LARGE, Shown, Size, class_of
from app.errors import Refusal
from training.data.circles import draw_circles, random_circles
from training.data.variants import Sent, Variant
from training.errors import TrainingError
from training.plan import CALIBRATION_CIRCLES, TEST_CIRCLES
from training.promise import least_calibration_size

# A file in memory (a drawn circle) or on disk (read again when needed: a folder of photos may not fit).
Original = bytes | Path

# Of a folder; training gets the rest.
CALIBRATION_SHARE, TEST_SHARE = 0.25, 0.15
# So many of the images make a size the training images' own.
_OF_ONE_SIZE = 0.9
# The service's default, GATE_MAX_IMAGE_PIXELS: what it would refuse is no example of what it should accept.
MAX_IMAGE_PIXELS = 25_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the split.

    Attributes:
        originals: As a client would send them.
        images: (N, 28, 28), the same decoded by the serving code, grey levels in [0, 1].
        radii: Of circles, in axes units; empty for a folder.
    """

    originals: Sequence[Original]
    images: NDArray[np.float32]
    radii: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Three parts that share no image.

    Attributes:
        train: For the network and its scores.
        calibration: For the threshold.
        test: For the report.
        preprocessing: How all of them were decoded.
        description: For the manifest; holds no path.
    """

    train: Part
    calibration: Part
    test: Part
    preprocessing: Preprocessing
    description: dict[str, Any]


def read(original: Original) -> bytes:
    """The whole file."""
    return original if isinstance(original, bytes) else original.read_bytes()


def shown_by(original: Original) -> Shown:
    """What the header of a file says of how it was sent."""
    return open_image(read(original), MAX_IMAGE_PIXELS).shown


def own_size(originals: Sequence[Original]) -> Size | None:
    """Width and height of lossless, large images that are nearly all of one size; None of others."""
    (most, count) = Counter(map(shown_by, originals)).most_common(1)[0]
    is_one = count >= _OF_ONE_SIZE * len(originals) and class_of(most) == LOSSLESS_LARGE
    return (most.width, most.height) if is_one else None


def decode(originals: Sequence[Original], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(N, 28, 28), by the code that serves. Raises what `app.detection.images.decode_image` raises."""
    images = np.empty((len(originals), SIDE, SIDE), np.float32)
    for row, original in enumerate(originals):
        images[row] = decode_image(read(original), preprocessing, MAX_IMAGE_PIXELS)
    return images


def decode_variants(
    originals: Sequence[Original], variants: Sequence[Variant], preprocessing: Preprocessing, seed: int
) -> NDArray[np.uint8]:
    """Sends every original in every way, and decodes what arrives by the code that serves.

    Args:
        originals: n files.
        variants: How to send them.
        preprocessing: How to decode them.
        seed: Of what a variant draws, such as a size or an angle; each original has its own stream.

    Returns:
        (variants, n, 28, 28) grey levels 0 to 255; divided by 255 they are what the network sees when serving.
    """
    images = np.empty((len(variants), len(originals), SIDE, SIDE), np.uint8)

    def send(row: int) -> None:
        generator = np.random.default_rng([seed, row])
        gray = to_large_grayscale(open_image(read(originals[row]), MAX_IMAGE_PIXELS), preprocessing)
        for number, variant in enumerate(variants):
            sent = variant.apply(gray, generator)
            arrived = _arrived(sent, preprocessing)
            images[number, row] = (arrived * 255).round()

    # Threads: Pillow lets go of the interpreter while it encodes, resizes and decodes.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(
            tqdm(
                pool.map(send, range(len(originals))),
                "variants",
                len(originals),
                unit="image",
                leave=False,
                disable=None,
            )
        )
    return images


def _arrived(sent: Sent, preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(28, 28), what the service makes of it."""
    if isinstance(sent, bytes):
        return decode_image(sent, preprocessing, MAX_IMAGE_PIXELS)
    return to_small(sent)


def decode_folder(
    folder: Path, preprocessing: Preprocessing, warn: Callable[[str], None] = print
) -> NDArray[np.float32]:
    """(N, 28, 28): every readable image under a folder; the others are listed and skipped.

    Raises:
        TrainingError: There is none.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder of images.")
    found = _read_folder(folder, warn)
    if not found.paths:
        raise TrainingError(f"{folder} holds no readable image.")
    return decode(list(found.paths.values()), preprocessing)


def fingerprint(digests: Sequence[str]) -> str:
    """SHA-256 over the sorted SHA-256 of every file: the same for the same images in any order, under any names."""
    return "sha256:" + hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def circle_dataset(
    count: int, seed: int, calibration_count: int = CALIBRATION_CIRCLES, test_count: int = TEST_CIRCLES
) -> Dataset:
    """Draws `count` circles to train on, and others, from random streams of their own, to calibrate and to test."""
    preprocessing = Preprocessing()
    parts = []
    for size, stream in zip((count, calibration_count, test_count), np.random.SeedSequence(seed).spawn(3), strict=True):
        circles = random_circles(size, np.random.default_rng(stream))
        originals = draw_circles(circles)
        radii = tuple(circle.radius for circle in circles)
        parts.append(Part(originals, decode(originals, preprocessing), radii))
    digests = [_digest(read(original)) for part in parts for original in part.originals]
    return _dataset(parts, preprocessing, {"kind": "circles", "fingerprint": fingerprint(digests)})


def folder_dataset(folder: Path, seed: int, rate: float, warn: Callable[[str], None] = print) -> Dataset:
    """Reads every image under `folder`, and splits them by `seed`: 60% train, 25% calibration, 15% test.

    Args:
        folder: Searched with all folders inside; hidden files and folders are left out.
        seed: Of the split, which depends on contents alone, not on file names or their order.
        rate: The false-positive rate that the calibration part must be able to promise.
        warn: Gets a line for each file that is skipped.

    Raises:
        TrainingError: There is no such folder, or it holds too few images for `rate`.
    """
    if not folder.is_dir():
        raise TrainingError(f"{folder} is not a folder of images.")
    found = _read_folder(folder, warn)
    _check_enough(len(found.paths), rate, folder)
    digests = sorted(found.paths)
    preprocessing = Preprocessing(background=_background(found.images))
    order = np.random.default_rng(seed).permutation(len(digests))
    calibration, test = (math.floor(len(digests) * share) for share in (CALIBRATION_SHARE, TEST_SHARE))
    parts = []
    for rows in (order[calibration + test :], order[:calibration], order[calibration : calibration + test]):
        chosen = [digests[row] for row in rows]
        originals = [found.paths[digest] for digest in chosen]
        if preprocessing == Preprocessing():
            parts.append(Part(originals, np.stack([found.images[digest] for digest in chosen])))
        else:
            parts.append(Part(originals, decode(originals, preprocessing)))
    description = {"kind": "folder", "fingerprint": fingerprint(digests)}
    return _dataset(parts, preprocessing, {**description, "skipped": found.skipped, "duplicates": found.duplicates})


@dataclass(slots=True)
class _Folder:
    """What was found; equal files count once, since a copy in the test part would be no test."""

    paths: dict[str, Path] = field(default_factory=dict)  # by digest
    images: dict[str, NDArray[np.float32]] = field(default_factory=dict)  # by digest, on the default background
    skipped: int = 0
    duplicates: int = 0


def _read_folder(folder: Path, warn: Callable[[str], None]) -> _Folder:
    found = _Folder()
    with tqdm(_files(folder), unit="file", leave=False, disable=None) as bar:
        for path in bar:
            try:
                content = path.read_bytes()
                digest = _digest(content)
                if digest in found.paths:
                    found.duplicates += 1
                    continue
                found.images[digest] = decode([content], Preprocessing())[0]
                found.paths[digest] = path
            except (OSError, Refusal) as error:
                found.skipped += 1
                why = error.detail if isinstance(error, Refusal) else error.strerror
                warn(f"Skipped {path.relative_to(folder)}: {why}")
    return found


def _dataset(parts: list[Part], preprocessing: Preprocessing, description: dict[str, Any]) -> Dataset:
    train, calibration, test = parts
    sizes = {"train": len(train.images), "calibration": len(calibration.images), "test": len(test.images)}
    return Dataset(train, calibration, test, preprocessing, {**description, **sizes})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _files(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _check_enough(count: int, rate: float, folder: Path) -> None:
    needed_calibration = least_calibration_size(rate)
    # The smallest counts that give every part something: 4 / 0.15 test images, and the calibration share.
    needed = max(math.ceil(needed_calibration / CALIBRATION_SHARE), math.ceil(4 / TEST_SHARE))
    if count < needed:
        raise TrainingError(
            f"{folder} holds {count} different readable images. A false-positive rate of {rate:g} takes at least "
            f"{needed}: {needed_calibration} for calibration, which gets {CALIBRATION_SHARE:.0%} of them. Add "
            f"{needed - count}, or ask for a higher --target-false-positive-rate."
        )


def _background(images: dict[str, NDArray[np.float32]]) -> int:
    """White or black, whichever the borders are nearer to, so that transparent images come out like the rest."""
    borders = [np.concatenate((image[0], image[-1], image[:, 0], image[:, -1])) for image in images.values()]
    return 255 if np.median(borders) >= 0.5 else 0
