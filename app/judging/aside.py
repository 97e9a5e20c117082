"""Handles images after they were judged, apart from the response: keeping them, and judging by the candidate."""

import base64
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.types import Scope

from app.judging.candidate import Candidate, Compared
from app.judging.judge import Content, Judgement
from app.judging.prediction import finite, reasons, verdict_of
from app.keeping.keeper import Keeper


class Aside:
    """Decides after each judgement whether the image is kept or judged by the candidate. Other threads do the work."""

    def __init__(self, keeper: Keeper | None, sample_probability: float, candidate: Candidate | None) -> None:
        """
        Args:
            keeper: Keeps images; None keeps none.
            sample_probability: In [0, 1], the share of all images that is kept whatever the verdict.
            candidate: The second artifact, or None. It reports its verdicts to `compared`.
        """
        self._keeper = keeper
        self._sample_probability = sample_probability
        self._candidate = candidate
        if candidate is not None:
            candidate.on_compared = self.compared

    def judged(self, judgement: Judgement, content: Content, scope: Scope) -> None:
        """Takes note of one judgement; see `Judge.on_judged`."""
        # Not secrets.random(): whoever guesses which images are drawn gains nothing.
        sampled = random.random() < self._sample_probability  # noqa: S311
        describe = partial(_describe, judgement, scope, sampled, self._sample_probability)
        is_wanted = sampled or judgement.detection.is_anomaly
        taken = False
        if self._candidate is not None:
            taken = self._candidate.offer(Compared(judgement, content, is_wanted, _request_id(scope), describe))
        # If the candidate's queue is full, images that are kept regardless of its verdict are kept here.
        if is_wanted and not taken:
            self._keep(content, describe)

    def compared(self, one: Compared, candidate: dict[str, Any] | None) -> None:
        """Keeps an image that the candidate has judged: those wanted anyway, and those with two verdicts.

        Args:
            one: The image.
            candidate: The fields of `KeptCandidate`; None if the candidate failed.
        """
        disagrees = candidate is not None and candidate["verdict"] != verdict_of(one.judgement.detection)
        if one.is_wanted or disagrees:
            self._keep(one.content, partial(one.describe, candidate=candidate))

    def close(self) -> None:
        """Finishes what waits, within a few seconds."""
        if self._candidate is not None:
            self._candidate.close()
        if self._keeper is not None:
            self._keeper.close()

    def _keep(self, content: Content, describe: Callable[[], dict[str, Any]]) -> None:
        if self._keeper is not None:
            self._keeper.offer(content, describe)


def _describe(
    judgement: Judgement,
    scope: Scope,
    sampled: bool,
    sample_probability: float,
    candidate: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The fields of `Kept` that a judgement knows."""
    detection, detector = judgement.detection, judgement.detector
    manifest = detector.artifact.manifest
    return {
        "request_id": _request_id(scope),
        "route": getattr(scope.get("route"), "path_format", ""),
        "verdict": verdict_of(detection),
        "is_anomaly": detection.is_anomaly,
        "score": finite(detection.score),
        "threshold": detection.threshold,
        "p_value": detection.p_value,
        "loss": finite(detection.loss),
        "reasons": [{**one, "value": finite(one["value"])} for one in reasons(judgement)],
        "model": {"name": manifest.name, "version": detector.artifact.version},
        "target_false_positive_rate": manifest.promise.target_false_positive_rate,
        "sampled": sampled,
        "sample_probability": sample_probability,
        "candidate": candidate,
        "seen": _levels(judgement.image),
        "redrawn": _levels(detection.reconstruction),
    }


def _request_id(scope: Scope) -> str:
    request_id: str = scope.get("state", {}).get("request_id", "")
    return request_id


def _levels(pixels: NDArray[np.float32]) -> str:
    """(28, 28) grey levels in [0, 1] -> 784 bytes in base64."""
    levels = (np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode()
