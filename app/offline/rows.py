"""Files -> rows: what the service would answer to each, without HTTP."""

import math
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from app.detection.artifact import Artifact
from app.detection.detector import Detection, Detector
from app.detection.folders import printable
from app.detection.images import DecodedImage, decode_opened, open_image
from app.errors import MalformedRequest, Refusal, TooManyBytes, size_words
from app.settings import Settings

Read = Callable[[str], bytes]


class Row(NamedTuple):
    """One file's result: either the verdict's fields are filled, or the problem's; the others are None.

    Attributes:
        path: The file, as it was named or found; bytes that are not UTF-8 are written as \\xNN.
        is_anomaly: The verdict.
        loss: Mean squared error between the 28x28 image and its reconstruction; None if it is not a number.
        score: What is compared with the threshold; None, of an anomaly, if it is not a number.
        p_value: Bound on the share of normal images at least as odd, in (0, 1].
        model: Version of the artifact that judged.
        error: Stable name of the problem: the last part of the `type` that the service would send, or
            "unreadable-file", which only a file on a disk can be.
        status: The HTTP status that the service would answer; None for an unreadable file.
        detail: What is wrong with this file.
    """

    path: str
    is_anomaly: bool | None = None
    loss: float | None = None
    score: float | None = None
    p_value: float | None = None
    model: str | None = None
    error: str | None = None
    status: int | None = None
    detail: str | None = None


class Scored(NamedTuple):
    """A row, and what explains it; of a file that cannot be judged the row alone.

    Attributes:
        row: The row.
        threshold: What the score was compared with.
        reasons: Names of the views in which the image is odder than the promise allows for.
        views: (views,) values behind the score, in the manifest's order.
    """

    row: Row
    threshold: float | None = None
    reasons: tuple[str, ...] = ()
    views: tuple[float, ...] = ()


class Scorer:
    """A detector of its own, with the service's limits: make one in each process, then give it chunks of files."""

    def __init__(self, artifact: Artifact, settings: Settings) -> None:
        """
        Args:
            artifact: Verified by `load_artifact`.
            settings: Of these, `max_upload_bytes` (of one file), `max_image_pixels`, `formats` and `reduce_jpegs`.

        Raises:
            ArtifactError: The graph does not run, or does not fit its manifest.
        """
        self._detector = Detector(artifact)
        self._preprocessing = artifact.preprocessing
        self._version = artifact.version
        self._max_bytes = settings.max_upload_bytes
        self._max_pixels = settings.max_image_pixels
        self._formats = settings.formats
        self._reduces = settings.reduce_jpegs

    def score(self, paths: Sequence[str], read: Read | None = None) -> list[Row]:
        """Scores one chunk; a row does not depend on its neighbours.

        Args:
            paths: In the order of the rows.
            read: Returns a file's content, or raises OSError. By default, files are read from the local disk. The size
                is checked here, so `read` need not check it.

        Returns:
            One row for each path. Problems with a file are reported in its row, not raised.
        """
        return [one if isinstance(one, Row) else self._row(*one) for one in self._detect(paths, read)]

    def score_fully(self, paths: Sequence[str]) -> list[Scored]:
        """Scores one chunk of local files, with threshold, reasons and views."""
        found = self._detect(paths, None)
        return [Scored(one) if isinstance(one, Row) else self._scored(*one) for one in found]

    def image(self, path: str) -> DecodedImage:
        """What the network sees of one local file.

        Raises:
            Refusal, OSError: It cannot be judged.
        """
        return self._decode(self._read_local(path))

    def detect(self, images: Sequence[DecodedImage]) -> list[Detection]:
        """Judges decoded images, in order."""
        return self._detector.detect(np.stack([image.pixels for image in images]), [image.shown for image in images])

    def _detect(self, paths: Sequence[str], read: Read | None) -> list[tuple[str, Detection] | Row]:
        decoded = [self._decode_file(path, read or self._read_local) for path in paths]
        images = [one for one in decoded if not isinstance(one, Row)]
        detections = iter(self.detect(images) if images else ())
        return [
            one if isinstance(one, Row) else (path, next(detections)) for path, one in zip(paths, decoded, strict=True)
        ]

    def _scored(self, path: str, detection: Detection) -> Scored:
        manifest = self._detector.artifact.manifest
        unusual = manifest.promise.target_false_positive_rate
        p_values = self._detector.view_p_values(detection)
        reasons = [view.name for view, p_value in zip(manifest.views, p_values, strict=True) if p_value <= unusual]
        views = tuple(detection.views.tolist())
        return Scored(self._row(path, detection), detection.threshold, tuple(reasons), views)

    def _decode_file(self, path: str, read: Read) -> DecodedImage | Row:
        name = printable(path)
        try:
            return self._decode(read(path))
        except Refusal as refusal:
            return Row(name, error=refusal.slug, status=refusal.status, detail=refusal.detail)
        except OSError as error:
            return Row(name, error="unreadable-file", detail=f"{error.strerror or error}.")

    def _decode(self, content: bytes) -> DecodedImage:
        if len(content) > self._max_bytes:
            raise self._too_many_bytes()
        if not content:
            raise MalformedRequest("The file is empty.")
        opened = open_image(content, self._max_pixels, self._formats, self._reduces)
        return decode_opened(opened, self._preprocessing)

    def _row(self, path: str, detection: Detection) -> Row:
        return Row(
            printable(path),
            is_anomaly=detection.is_anomaly,
            loss=_finite(detection.loss),
            score=_finite(detection.score),
            p_value=detection.p_value,
            model=self._version,
        )

    def _read_local(self, path: str) -> bytes:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.listdir(path)  # for an unreadable folder, this raises the OSError with the reason
        if not stat.S_ISREG(status.st_mode):
            raise OSError("Not a regular file")  # opening a pipe would wait for a writer
        if status.st_size > self._max_bytes:
            raise self._too_many_bytes()
        with open(path, "rb") as file:
            return file.read()

    def _too_many_bytes(self) -> TooManyBytes:
        return TooManyBytes(f"The file has more than the {size_words(self._max_bytes)} that are accepted.")


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
