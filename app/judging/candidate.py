"""GATE_CANDIDATE: a second artifact that judges the same images in the background. It never affects a response."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from app.detection.detector import MOST_AT_ONCE, Detection, Detector
from app.errors import ArtifactError
from app.judging.judge import Content, Judgement
from app.judging.prediction import finite, verdict_of
from app.judging.reload import load_detector
from app.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

# A pause before each batch: responses are sent first, and more images join the batch.
_PAUSE_SECONDS = 0.05
_MOST_WAITING = 1024
_MOST_WAITING_BYTES = 32 * 2**20
_CLOSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Compared:
    """An image that the candidate is to judge.

    Attributes:
        judgement: The judgement of the serving artifact.
        content: The image as it was received.
        is_wanted: Whether it is kept whatever the candidate's verdict is.
        request_id: The id of its request.
        describe: Returns the fields of `Kept`. Takes the fields of `KeptCandidate` as `candidate`.
    """

    judgement: Judgement
    content: Content
    is_wanted: bool
    request_id: str
    describe: Callable[..., dict[str, Any]]

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.nbytes


class Candidate:
    """Judges in a thread of its own, behind a bounded queue.

    Attributes:
        on_compared: Is given each image with what the candidate says, or None when it fails; called in the thread.
    """

    def __init__(self, folder: Path, rate: float | None, metrics: Metrics) -> None:
        """
        Args:
            folder: The artifact, or a link to it. One that cannot be used is logged, and nothing is compared.
            rate: GATE_TARGET_FALSE_POSITIVE_RATE, which holds for both.
            metrics: Count the pairs of verdicts.
        """
        self.on_compared: Callable[[Compared, dict[str, Any] | None], None] = lambda one, candidate: None
        self._folder, self._rate, self._metrics = folder, rate, metrics
        self._queue: SimpleQueue[Compared | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        self._detector: Detector | None = None
        self.load()
        self._thread = threading.Thread(target=self._run, name="candidate", daemon=True)
        self._thread.start()

    def load(self) -> str | None:
        """Loads the folder, at the start and again on SIGHUP; what is wrong with it is logged, counted and returned."""
        try:
            detector = load_detector(self._folder, self._rate)
        except ArtifactError as error:
            self._metrics.reload_failed()
            logger.error("the candidate is not used", extra={"fields": {"reason": str(error)}})
            return f"the candidate is not used: {error}"
        self._detector = detector
        artifact = detector.artifact
        logger.info("candidate", extra={"fields": {"artifact": artifact.manifest.name, "version": artifact.version}})
        return None

    def offer(self, one: Compared) -> bool:
        """Takes one image at once.

        Returns:
            False if too many wait already, or no candidate is loaded: then it is not judged, and that is counted.
        """
        with self._lock:
            fits = self._waiting < _MOST_WAITING and self._waiting_bytes + one.size <= _MOST_WAITING_BYTES
            fits = fits and self._detector is not None
            if fits:
                self._waiting += 1
                self._waiting_bytes += one.size
        if fits:
            self._queue.put(one)
        else:
            self._metrics.compared(verdict_of(one.judgement.detection), "unjudged")
        return fits

    def close(self) -> None:
        """Judges what waits, within a few seconds, and takes no more."""
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            time.sleep(_PAUSE_SECONDS)
            images, ended = self._more(first)
            try:
                self._compare(images)
            except Exception:  # whatever it is, it is the candidate's, and the next images are tried again
                logger.exception("the candidate failed")
                for one in images:
                    self._metrics.compared(verdict_of(one.judgement.detection), "unjudged")
                    self.on_compared(one, None)
            with self._lock:
                self._waiting -= len(images)
                self._waiting_bytes -= sum(one.size for one in images)
            if ended:
                return

    def _more(self, first: Compared) -> tuple[list[Compared], bool]:
        """Collects a batch from the queue, and returns it with whether the queue was closed."""
        images = [first]
        while len(images) < MOST_AT_ONCE:
            try:
                one = self._queue.get_nowait()
            except Empty:
                return images, False
            if one is None:
                return images, True
            images.append(one)
        return images, False

    def _compare(self, images: list[Compared]) -> None:
        detector = self._detector
        assert detector is not None
        pixels = np.stack([one.judgement.image for one in images])
        detections = detector.detect(pixels, [one.judgement.shown for one in images])
        for one, detection in zip(images, detections, strict=True):
            self._metrics.compared(verdict_of(one.judgement.detection), verdict_of(detection))
            _log(one, detection, detector)
            candidate = {
                "verdict": verdict_of(detection),
                "score": finite(detection.score),
                "threshold": detection.threshold,
                "version": detector.artifact.version,
            }
            self.on_compared(one, candidate)


def _log(one: Compared, detection: Detection, detector: Detector) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    fields = {
        "request_id": one.request_id,
        "verdict": verdict_of(one.judgement.detection),
        "candidate_verdict": verdict_of(detection),
        "score": round(one.judgement.detection.score, 6),
        "candidate_score": round(detection.score, 6),
        "model": one.judgement.detector.artifact.version,
        "candidate": detector.artifact.version,
    }
    logger.info("compared", extra={"fields": fields})
