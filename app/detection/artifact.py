"""Reads and writes the artifact folder that training produces and the service loads.

The SHA-256 of every file is checked on loading. The folder holds no pickles and no executable code.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from app.detection.images import SIDE, Preprocessing
from app.detection.shown import CLASSES
from app.errors import ArtifactError

# 2: thresholds for each class of files; what was written as 1 has one for all, and is read as well.
FORMAT_VERSION = 2
MANIFEST = "manifest.json"
CHECKPOINT = "autoencoder.safetensors"
GRAPH = "model.onnx"
CALIBRATION = "calibration.npy"
VIEW_CALIBRATION = "view_calibration.npy"
SAMPLES = "samples.npz"
REPORT = "report/"


class _Record(BaseModel):
    # Unknown fields are ignored, so that a later imagegate can add optional fields without a new format version. Fields
    # that are needed to read the artifact come with a new version.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Architecture(_Record):
    """Which network, or which score, and what it was built with: enough to rebuild it and load the checkpoint."""

    name: str
    arguments: dict[str, Any]


class PreprocessingRecord(_Record):
    """`app.detection.images.Preprocessing` in the manifest's form."""

    side: Literal[28] = 28
    background: int
    resize_filter: Literal["bicubic", "nearest"]


class Promise(_Record):
    """What the threshold guarantees, in numbers and in words.

    Attributes:
        target_false_positive_rate: What was asked for, in (0, 1): the mean rate over calibration sets, or with a
            `confidence` the rate that holds for this calibration set.
        rate_with_90_percent_confidence: With this calibration set the true rate is at most this, in 90 of 100 cases.
        calibration_size: Images per variant.
        rank: The threshold is the rank-th smallest calibration score.
        words: The same for people.
        mean_false_positive_rate: What the rank gives on average; below the target, since ranks are whole numbers.
        confidence: With which the target holds for this calibration set; None if it holds on average.
    """

    target_false_positive_rate: float
    rate_with_90_percent_confidence: float
    calibration_size: int
    rank: int
    words: str
    mean_false_positive_rate: float | None = None
    confidence: float | None = None


class RecalibratedFrom(_Record):
    """The artifact from which this one was made by recalibration: same graph, other threshold.

    Attributes:
        name: Its name.
        version: Its version.
    """

    name: str
    version: str


class View(_Record):
    """One aspect of the judgement that `?explain=true` reports.

    Attributes:
        name: Stable, for programs.
        meaning: What a high value means, for people.
        odd: The sentence when the value is odder than the normal images'.
        normal: The sentence otherwise.
    """

    name: str
    meaning: str
    odd: str
    normal: str


class Manifest(_Record):
    """The description of an artifact; its SHA-256 is the artifact's version.

    Attributes:
        threshold: The largest of `thresholds`, or the only one.
        thresholds: By the class of what a file's bytes show (`app.detection.shown`); empty: `threshold` for all.
        score_columns: How many scores the graph gives an image: one for each class of files, or one for all.
        own_size: Width and height of the training images, if files of that size are a class of their own.
        kinds: The permitted kinds of sending, with the range of each.
        variants: The rows of the calibration: what is sent, in narrow pieces of the kinds.
        shown: The class of each variant's files; "" where it is the original's own. Empty: all so.
    """

    format_version: int
    name: str
    architecture: Architecture
    score: Architecture = Architecture(name="loss", arguments={})
    preprocessing: PreprocessingRecord
    threshold: float
    thresholds: dict[str, float] = {}
    promise: Promise
    score_columns: int = 1
    own_size: tuple[int, int] | None = None
    kinds: dict[str, str] = {}
    variants: list[str]
    shown: list[str] = []
    views: list[View]
    evaluation: dict[str, Any]
    data: dict[str, Any]
    training: dict[str, Any]
    seed: int
    library_versions: dict[str, str]
    files: dict[str, str]
    recalibrated_from: RecalibratedFrom | None = None


@dataclass(frozen=True, slots=True)
class Samples:
    """A few images, as the network sees them, for people: they decide nothing.

    Attributes:
        normal: (n, 28, 28), grey levels 0 to 255: images that belong, which training did not see and which pass.
        odd: (m, 28, 28): images that do not, and are refused.
    """

    normal: NDArray[np.uint8]
    odd: NDArray[np.uint8]


_NO_SAMPLES = Samples(np.zeros((0, SIDE, SIDE), np.uint8), np.zeros((0, SIDE, SIDE), np.uint8))


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact, in memory.

    Attributes:
        manifest: Its description.
        version: "sha256:" and the first 12 hex digits of the manifest's hash.
        graph: The ONNX graph: image (N, 1, 28, 28) -> reconstruction, loss, score, views (`Detector.run`).
        calibration: (variants, images) scores of held-out normal images, each row sorted.
        view_calibration: (views, variants, some hundreds) values of each view, each row sorted. Used for
            `?explain=true` only; the verdict does not depend on it.
        samples: Images to show; none in artifacts that were trained before there were any.
        report: The report's files by name, `index.html` first of all; empty if there is none.
    """

    manifest: Manifest
    version: str
    graph: bytes
    calibration: NDArray[np.float32]
    view_calibration: NDArray[np.float32]
    samples: Samples = _NO_SAMPLES
    report: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def preprocessing(self) -> Preprocessing:
        record = self.manifest.preprocessing
        return Preprocessing(background=record.background, resize_filter=record.resize_filter)


# Gives the content of one file of a folder, or raises ArtifactError.
ReadFile = Callable[[Path, str], bytes]


def read_file(folder: Path, name: str) -> bytes:
    """Reads one file of an artifact from the disk.

    Raises:
        ArtifactError: It cannot be read; the message says why.
    """
    return _read(folder, name)


def load_artifact(folder: Path, read: ReadFile = read_file) -> Artifact:
    """Reads and verifies a whole folder before any of it is used.

    Args:
        folder: The folder; it is named in messages.
        read: Reads its files, by default from the disk.

    Raises:
        ArtifactError: A file is missing, damaged or of another version; the message says which and why.
    """
    manifest_bytes = read(folder, MANIFEST)
    manifest = _parse_manifest(folder, manifest_bytes)
    contents = {name: _read_verified(folder, name, digest, read) for name, digest in manifest.files.items()}
    for name in (CHECKPOINT, GRAPH, CALIBRATION, VIEW_CALIBRATION):
        if name not in contents:
            raise ArtifactError(f"{folder / MANIFEST} does not list {name}: train the artifact again.")
    artifact = Artifact(
        manifest=manifest,
        version=_version(manifest_bytes),
        graph=contents[GRAPH],
        calibration=_load_array(folder, CALIBRATION, contents[CALIBRATION], dimensions=2),
        view_calibration=_load_array(folder, VIEW_CALIBRATION, contents[VIEW_CALIBRATION], dimensions=3),
        samples=_load_samples(folder, contents[SAMPLES]) if SAMPLES in contents else _NO_SAMPLES,
        report={name.removeprefix(REPORT): content for name, content in contents.items() if name.startswith(REPORT)},
    )
    _check_shapes(folder, artifact)
    return artifact


def write_artifact(folder: Path, fill: Callable[[Path], dict[str, Any]]) -> Artifact:
    """Writes an artifact to a temporary folder, loads it back to verify it, and renames it into place.

    Args:
        folder: Where it goes; parents are made. An earlier artifact there is replaced, anything else is not touched.
        fill: Writes every file but the manifest into the folder it is given, and returns the manifest's fields
            without `format_version` and `files`.

    Raises:
        ArtifactError: `folder` holds something that is not an artifact, or what was written does not load.
    """
    check_replaceable(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        fields = fill(aside)
        names = sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file())
        files = {name: hashlib.sha256((aside / name).read_bytes()).hexdigest() for name in names}
        manifest = Manifest(format_version=FORMAT_VERSION, files=files, **fields)
        # The field is written only if it is set, since earlier versions of imagegate refuse unknown fields.
        left_out = {"recalibrated_from"} if manifest.recalibrated_from is None else set()
        (aside / MANIFEST).write_text(json.dumps(manifest.model_dump(exclude=left_out), indent=2) + "\n")
        artifact = load_artifact(aside)
        aside.chmod(0o755)  # mkdtemp makes folders that another user, such as the container's, cannot read
        _put_in_place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return artifact


def check_replaceable(folder: Path) -> None:
    """Refuses, before any work is done, to overwrite what is not an artifact.

    Raises:
        ArtifactError: It is a file, or a folder with other things in it.
    """
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ArtifactError(f"{folder} holds other files and no {MANIFEST}; name a new folder.")


def replaced_words(folder: Path) -> str | None:
    """What to tell before the work on a new artifact begins: which one its folder holds; None if it holds none."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        content = _read(folder, MANIFEST)
        held = f"the artifact {_parse_manifest(folder, content).name} {_version(content)}"
    except ArtifactError:
        held = "an artifact that does not load"
    return f"{folder} holds {held}; it is replaced when this is done."


def _version(manifest: bytes) -> str:
    return "sha256:" + hashlib.sha256(manifest).hexdigest()[:12]


def _put_in_place(aside: Path, folder: Path) -> None:
    if not folder.exists():
        aside.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        folder.rename(old / folder.name)
        aside.rename(folder)
    except BaseException:  # including KeyboardInterrupt, which between the two renames would leave no artifact
        if not folder.exists():
            (old / folder.name).rename(folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise ArtifactError(
                f"There is no artifact folder {folder}: set GATE_ARTIFACT, or make one with `python -m training`."
            ) from error
        raise ArtifactError(f"{folder / name} is missing.") from error
    except OSError as error:
        raise ArtifactError(f"{folder / name} cannot be read: {error.strerror}.") from error


def _read_verified(folder: Path, name: str, digest: str, read: ReadFile) -> bytes:
    if os.path.isabs(name) or ".." in Path(name).parts:
        raise ArtifactError(f"{folder / MANIFEST} names a file outside its folder: {name}.")
    content = read(folder, name)
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ArtifactError(
            f"{folder / name} is damaged or was changed: SHA-256 {found[:12]}..., the manifest says {digest[:12]}..."
        )
    return content


def _parse_manifest(folder: Path, content: bytes) -> Manifest:
    path = folder / MANIFEST
    try:
        fields = json.loads(content)
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}.") from error
    format_version = fields.get("format_version") if isinstance(fields, dict) else None
    if not isinstance(format_version, int):
        raise ArtifactError(f"{path} has no format_version.")
    if format_version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format {format_version}; this imagegate reads up to {FORMAT_VERSION}: use a newer imagegate."
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path}: {where}: {first['msg']}.") from error


def _load_array(folder: Path, name: str, content: bytes, dimensions: int) -> NDArray[np.float32]:
    try:
        array: NDArray[np.float32] = np.load(BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"{folder / name} is not a numpy array: {error}.") from error
    if array.dtype not in (np.float32, np.float16) or array.ndim != dimensions or array.size == 0:
        raise ArtifactError(f"{folder / name} is not a {dimensions}-dimensional array of float32 or float16.")
    array = array.astype(np.float32, copy=False)
    if np.isnan(array).any() or (np.diff(array, axis=-1) < 0).any():
        raise ArtifactError(f"{folder / name} is not sorted along its last axis.")
    return array


def _load_samples(folder: Path, content: bytes) -> Samples:
    try:
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            samples = Samples(arrays["normal"], arrays["odd"])
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{folder / SAMPLES} does not hold the arrays `normal` and `odd`: {error}.") from error
    for images in (samples.normal, samples.odd):
        if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
            raise ArtifactError(f"{folder / SAMPLES} does not hold images of 28x28 grey levels.")
    return samples


def _check_shapes(folder: Path, artifact: Artifact) -> None:
    manifest = artifact.manifest
    expected = (len(manifest.views), len(manifest.variants), manifest.promise.calibration_size)
    if artifact.calibration.shape != expected[1:]:
        raise ArtifactError(f"{folder / CALIBRATION} has shape {artifact.calibration.shape}, not {expected[1:]}.")
    if artifact.view_calibration.shape[:2] != expected[:2]:
        raise ArtifactError(
            f"{folder / VIEW_CALIBRATION} has shape {artifact.view_calibration.shape}, not {expected[:2]} and images."
        )
    if not np.isfinite([manifest.threshold, *manifest.thresholds.values()]).all():
        raise ArtifactError(f"{folder / MANIFEST}: a threshold is not a number.")
    if manifest.score_columns not in (1, len(CLASSES)):
        raise ArtifactError(f"{folder / MANIFEST}: {manifest.score_columns} scores an image are not one a class.")
    if manifest.thresholds and (set(manifest.thresholds) != set(CLASSES) or len(manifest.shown) != expected[1]):
        raise ArtifactError(f"{folder / MANIFEST}: the thresholds are not those of all classes of files.")
