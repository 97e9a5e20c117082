"""Files -> rows: what the service would answer to each, without HTTP."""

import math
import os
import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from app.detection.artifact import Artifact
from app.detection.detector import Detection, Detector
from app.detection.images import DecodedImage, decode_opened, open_image
from app.errors import MalformedRequest, Refusal, TooManyBytes
from app.settings import Settings

Read = Callable[[str], bytes]


class Row(NamedTuple):
    """One file's result: either the verdict's fields are filled, or the problem's; the others are None.

    Attributes:
        path: The file, as it was named or found; bytes that are not UTF-8 are written as \\xNN.
        is_anomaly: The verdict.
        loss: Mean squared error between the 28x28 image and its reconstruction; None if it is not a number.
        score: What is compared with the threshold; None, of an anomaly, if it is not a number.
        p_value: Share of normal images at least as odd, in (0, 1].
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


class Scorer:
    """A detector of its own, with the service's limits: make one in each process, then give it chunks of files."""

    def __init__(self, artifact: Artifact, settings: Settings) -> None:
        """
        Args:
            artifact: Verified by `load_artifact`.
            settings: Of these, `max_upload_bytes` (of one file) and `max_image_pixels`.

        Raises:
            ArtifactError: The graph does not run, or does not fit its manifest.
        """
        self._detector = Detector(artifact)
        self._preprocessing = artifact.preprocessing
        self._version = artifact.version
        self._max_bytes = settings.max_upload_bytes
        self._max_pixels = settings.max_image_pixels

    def score(self, paths: Sequence[str], read: Read | None = None) -> list[Row]:
        """Scores one chunk; a row does not depend on its neighbours.

        Args:
            paths: In the order of the rows.
            read: Gives a file's content, and raises OSError if it cannot; by default from the local disk. Whoever
                reads elsewhere need not look at the size: a content that is too large gives the row it should.

        Returns:
            One row a path. No file, however bad, raises.
        """
        decoded = [self._decode_file(path, read or self._read_local) for path in paths]
        images = [one for one in decoded if not isinstance(one, Row)]
        detections = iter(self._detect(images) if images else ())
        return [
            one if isinstance(one, Row) else self._row(path, next(detections))
            for path, one in zip(paths, decoded, strict=True)
        ]

    def _detect(self, images: Sequence[DecodedImage]) -> list[Detection]:
        return self._detector.detect(np.stack([image.pixels for image in images]), [image.shown for image in images])

    def _decode_file(self, path: str, read: Read) -> DecodedImage | Row:
        name = printable(path)
        try:
            content = read(path)
            if len(content) > self._max_bytes:
                raise self._too_many_bytes()
            if not content:
                raise MalformedRequest("The file is empty.")
            return decode_opened(open_image(content, self._max_pixels), self._preprocessing)
        except Refusal as refusal:
            return Row(name, error=refusal.slug, status=refusal.status, detail=refusal.detail)
        except OSError as error:
            return Row(name, error="unreadable-file", detail=f"{error.strerror or error}.")

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
        if not stat.S_ISREG(status.st_mode):
            raise OSError("Not a regular file")  # opening a pipe would wait for a writer
        if status.st_size > self._max_bytes:
            raise self._too_many_bytes()
        with open(path, "rb") as file:
            return file.read()

    def _too_many_bytes(self) -> TooManyBytes:
        return TooManyBytes(f"The file has more than the {self._max_bytes} bytes that are accepted.")


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def printable(path: str) -> str:
    """A path as it stands in its row."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
