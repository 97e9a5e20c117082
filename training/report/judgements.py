"""What a run knows at its end, and how the finished gate judges all of it: what the report is made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.detection.detector import Detector
from training.data.oddest import OddFile
from training.fitting.calibrate import as_grey_levels, run_in_batches
from training.fitting.evaluate import Limits, one_limit, refused
from training.fitting.other_thresholds import Deciding

YOUR_ANOMALIES = "your anomalies"


@dataclass(frozen=True, slots=True)
class Findings:
    """What a run knows at its end.

    Attributes:
        manifest: The manifest's fields.
        epoch_losses: Mean training loss of each epoch.
        tested: (N, 28, 28) normal images, grey levels 0 to 255, for each variant; the first is the original.
        test_radii: (N,) of circles, in axes units; empty otherwise.
        anomalies: (M, 28, 28) for each family, grey levels in [0, 1].
        limits: The largest scores accepted of each variant and family; None: the manifest's threshold for all.
        oddest: Of a folder, the files that differ most from all others.
        deciding: Of a folder, the calibration files that decide the threshold.
        own_names: Of the user's own anomalies, their paths within their folder.
    """

    manifest: dict[str, Any]
    epoch_losses: Sequence[float]
    tested: Mapping[str, NDArray[np.uint8]]
    test_radii: Sequence[float]
    anomalies: Mapping[str, NDArray[np.float32]]
    limits: Limits | None = None
    oddest: Sequence[OddFile] = ()
    deciding: Deciding | None = None
    own_names: Sequence[str] = ()

    @property
    def known_limits(self) -> Limits:
        """The limits, whether given or not."""
        return self.limits or one_limit(self.manifest["threshold"], (*self.tested, *self.anomalies))

    @property
    def threshold(self) -> float:
        """The threshold of most test images as they are, beside which everything is shown."""
        return float(np.median(self.known_limits.of(next(iter(self.tested)))))

    @property
    def test_images(self) -> NDArray[np.float32]:
        """(N, 28, 28) normal images, sent as they are."""
        return as_grey_levels(next(iter(self.tested.values())))


@dataclass(frozen=True, slots=True)
class Judged:
    """Images (N, 28, 28) with grey levels in [0, 1], their scores (N,) and the views (N, views) behind them.

    Scores and views of files with another threshold are moved by the difference, so that one threshold fits all.
    """

    images: NDArray[np.float32]
    scores: NDArray[np.float32]
    views: NDArray[np.float32]

    def refused(self, threshold: float) -> NDArray[np.bool_]:
        """(N,) verdicts; what is not a number is refused."""
        return refused(self.scores, threshold)

    def beyond(self, threshold: float) -> NDArray[np.bool_]:
        """(N, views): which views are above the threshold, or not a number."""
        return ~(self.views <= threshold)


@dataclass(frozen=True, slots=True)
class Judgements:
    """Everything that was judged: normal images by variant, anomalies by family."""

    threshold: float
    variants: Mapping[str, Judged]
    families: Mapping[str, Judged]

    @property
    def original(self) -> Judged:
        return next(iter(self.variants.values()))


def judge(findings: Findings, detector: Detector) -> Judgements:
    """Runs the exported graph over all images of the findings."""
    threshold, limits = findings.threshold, findings.known_limits

    def judged(name: str, images: NDArray[np.float32]) -> Judged:
        scores, views = run_in_batches(detector, images, limits.files[name])
        moved = (threshold - np.broadcast_to(limits.of(name), scores.shape)).astype(np.float32)
        return Judged(images, scores + moved, views + moved[:, None])

    return Judgements(
        threshold,
        {name: judged(name, as_grey_levels(images)) for name, images in findings.tested.items()},
        {name: judged(name, images) for name, images in findings.anomalies.items()},
    )
