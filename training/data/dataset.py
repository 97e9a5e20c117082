"""Normal images -> train, calibration and test. Circles are drawn here; a folder is read by `training.data.folder`."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from app.detection.images import SIDE, Preprocessing, decode_image, open_image, to_large_grayscale, to_small
from app.detection.shown import LOSSLESS_LARGE, Shown, Size, class_of
from app.errors import TooManyBytes, size_words
from app.settings import ACCEPTED_FORMATS, OPTIONAL_FORMATS
from training.data.circles import REDUCTIONS, Reduction, draw_circles, random_circles
from training.data.oddest import OddFile
from training.data.variants import Sent, Variant
from training.plan import CALIBRATION_CIRCLES, TEST_CIRCLES

# A file in memory (a drawn circle) or on disk (read again when needed: a folder of photos may not fit).
Original = bytes | Path

# So many of the images make a size the training images' own.
_OF_ONE_SIZE = 0.9
# The default of GATE_MAX_IMAGE_PIXELS: the service would refuse larger images, so they are not used for training.
MAX_IMAGE_PIXELS = 25_000_000
# The default of GATE_MAX_UPLOAD_BYTES; it also keeps training from reading a video in the folder.
MAX_FILE_BYTES = 32 * 2**20
# Those that the service can be told to accept are good examples too.
FORMATS = (*ACCEPTED_FORMATS, *OPTIONAL_FORMATS)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the split.

    Attributes:
        originals: As a client would send them.
        images: (N, 28, 28), the same decoded by the serving code, grey levels in [0, 1].
        radii: Of circles, in axes units; empty for a folder.
        names: Of a folder's files, their paths within it; empty for circles.
        scenes: Of a folder's files, which of them show one scene (`training.data.folder.group`); empty for circles.
    """

    originals: Sequence[Original]
    images: NDArray[np.float32]
    radii: tuple[float, ...] = ()
    names: tuple[str, ...] = ()
    scenes: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """Three parts that share no image.

    Attributes:
        train: For the network and its scores.
        calibration: For the threshold.
        test: For the report.
        preprocessing: How all of them were decoded.
        description: For the manifest; holds no path.
        oddest: Of a folder, the files that differ most from all others.
    """

    train: Part
    calibration: Part
    test: Part
    preprocessing: Preprocessing
    description: dict[str, Any]
    oddest: tuple[OddFile, ...] = ()


def read(original: Original) -> bytes:
    """The whole file."""
    return original if isinstance(original, bytes) else _read_file(original)


def shown_by(original: Original) -> Shown:
    """What the header of a file says of how it was sent."""
    return open_image(read(original), MAX_IMAGE_PIXELS, FORMATS).shown


def own_size(originals: Sequence[Original]) -> Size | None:
    """Width and height of lossless, large images that are nearly all of one size; None of others."""
    (most, count) = Counter(map(shown_by, originals)).most_common(1)[0]
    is_one = count >= _OF_ONE_SIZE * len(originals) and class_of(most) == LOSSLESS_LARGE
    return (most.width, most.height) if is_one else None


def decode(originals: Sequence[Original], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """(N, 28, 28), by the code that serves. Raises what `app.detection.images.decode_image` raises."""
    images = np.empty((len(originals), SIDE, SIDE), np.float32)
    for row, original in enumerate(originals):
        images[row] = decode_image(read(original), preprocessing, MAX_IMAGE_PIXELS, FORMATS)
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
        gray = to_large_grayscale(open_image(read(originals[row]), MAX_IMAGE_PIXELS, FORMATS), preprocessing)
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
    return to_small(sent, resize_filter=preprocessing.resize_filter)


def fingerprint(digests: Sequence[str]) -> str:
    """SHA-256 over the sorted SHA-256 of every file: the same for the same images in any order, under any names."""
    return "sha256:" + hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def circle_dataset(
    count: int,
    seed: int,
    calibration_count: int = CALIBRATION_CIRCLES,
    test_count: int = TEST_CIRCLES,
    circles: Reduction = "smooth",
) -> Dataset:
    """Draws `count` circles to train on, and others, from random streams of their own, to calibrate and to test.

    Args:
        count: Circles to train on.
        seed: Of all circles.
        calibration_count: Circles to calibrate on.
        test_count: Circles to test on.
        circles: How they are brought to 28x28 pixels: as the tutorial's, or smoothly.
    """
    preprocessing = REDUCTIONS[circles]
    parts = []
    for size, stream in zip((count, calibration_count, test_count), np.random.SeedSequence(seed).spawn(3), strict=True):
        drawn = random_circles(size, np.random.default_rng(stream))
        originals = draw_circles(drawn)
        radii = tuple(circle.radius for circle in drawn)
        parts.append(Part(originals, decode(originals, preprocessing), radii))
    digests = [digest_of(read(original)) for part in parts for original in part.originals]
    return assemble(parts, preprocessing, {"kind": "circles", "circles": circles, "fingerprint": fingerprint(digests)})


def assemble(
    parts: list[Part], preprocessing: Preprocessing, description: dict[str, Any], oddest: tuple[OddFile, ...] = ()
) -> Dataset:
    """Train, calibration and test; their sizes are added to the description."""
    train, calibration, test = parts
    sizes = {"train": len(train.images), "calibration": len(calibration.images), "test": len(test.images)}
    return Dataset(train, calibration, test, preprocessing, {**description, **sizes}, oddest)


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def _read_file(path: Path) -> bytes:
    """The whole file, if it is one and no larger than what the service accepts.

    Raises:
        OSError: It cannot be read.
        TooManyBytes: It is larger.
    """
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        os.listdir(path)  # says why, where it cannot be
    if not stat.S_ISREG(status.st_mode):
        raise OSError(None, "Not a regular file.")  # opening a pipe would wait for a writer
    if status.st_size > MAX_FILE_BYTES:
        raise TooManyBytes(f"The file has {size_words(status.st_size)}; at most {size_words(MAX_FILE_BYTES)} are read.")
    return path.read_bytes()
