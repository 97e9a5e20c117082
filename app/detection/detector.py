"""Images -> detections: runs the artifact's graph and ranks its scores among the calibration scores."""

import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from app.detection.artifact import Artifact
from app.detection.images import SIDE
from app.detection.shown import CLASSES, OF_ARRAYS, Shown, class_of, class_rows
from app.errors import ArtifactError

# Larger batches need more memory but are no faster per image.
MOST_AT_ONCE = 32
_OUTPUTS = ["reconstruction", "loss", "score", "views"]


class Detection(NamedTuple):
    """The judgement of one image.

    Attributes:
        reconstruction: (28, 28), what the network redrew, grey levels in [0, 1].
        loss: Mean squared error between image and reconstruction.
        score: What is compared with the threshold; higher is odder. Not a number for an image that was none.
        threshold: The largest score accepted of files of this image's class.
        p_value: Rank among the calibration scores of the class, in (0, 1], the largest over its variants:
            P(p_value <= t) <= t for normal images, and usually far less, so that it bounds the share of normal images
            at least as odd.
        is_anomaly: The verdict.
        views: (views,) values behind the score, in the manifest's order.
        shown: The class of the image's file; empty if it is not known.
    """

    reconstruction: NDArray[np.float32]
    loss: float
    score: float
    threshold: float
    p_value: float
    is_anomaly: bool
    views: NDArray[np.float32]
    shown: str = ""


class Ranking:
    """Computes conformal p-values of new scores from the calibration scores.

    The p-value within one variant is (1 + number of calibration scores >= score) / (n + 1), and the result is the
    largest over all variants. It is a step function of the score, so it is tabulated once and then looked up with one
    binary search.
    """

    def __init__(self, calibration: NDArray[np.float32]) -> None:
        """
        Args:
            calibration: (variants, n), each row sorted.
        """
        n = calibration.shape[1]
        steps = np.unique(calibration)
        at_least = np.stack([n - np.searchsorted(row, steps, side="left") for row in calibration])
        # One entry more than steps, for scores above every calibration score.
        p_values = np.append((1 + at_least.max(axis=0)) / (n + 1), 1 / (n + 1))
        # Python's own arrays: for one number, NumPy's search takes several times as long.
        self._steps, self._p_values = array("d", steps.tolist()), array("d", p_values.tolist())

    def p_value(self, score: float) -> float:
        """In (0, 1]; a score that is not a number ranks as the oddest.

        Args:
            score: As the graph gives it, in single precision.
        """
        rank = bisect_left(self._steps, score) if score == score else len(self._steps)
        return float(self._p_values[rank])


class _Class(NamedTuple):
    """What scores of one class of files are compared with."""

    name: str
    column: int
    threshold: float
    ranking: Ranking
    view_rankings: list[Ranking]


class Detector:
    """A loaded artifact, ready to judge. Safe to call from several threads at once.

    Attributes:
        artifact: What was loaded.
        threshold: The largest score accepted of any class of files.
        row_thresholds: (variants,) the smallest that a file of each variant is compared with.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        """
        Args:
            artifact: Verified by `load_artifact`.
            threads: For one call; 1 is fastest for networks of this size.

        Raises:
            ArtifactError: The graph does not run, or does not fit its manifest.
        """
        self.artifact = artifact
        self.threshold = artifact.manifest.threshold
        self._session = _session(artifact.graph, threads)
        self._any = self._class("", 0, self.threshold, list(range(len(artifact.calibration))))
        self._own_size = artifact.manifest.own_size
        self._classes: dict[str, _Class] = {}
        if artifact.manifest.thresholds:
            columns = artifact.manifest.score_columns
            for name, rows in class_rows(artifact.manifest.shown).items():
                column = CLASSES.index(name) if columns > 1 else 0
                self._classes[name] = self._class(name, column, artifact.manifest.thresholds[name], rows)
        self.row_thresholds = self._row_thresholds()
        self._warm_up()

    def detect(self, images: NDArray[np.float32], shown: Sequence[Shown] | None = None) -> list[Detection]:
        """Judges a batch.

        Args:
            images: (N, 28, 28), grey levels in [0, 1].
            shown: What the header of each image's file says, which decides what its score is compared with; None for
                what is no file: as images that were resized to 28x28 without loss.

        Returns:
            N detections, in order.
        """
        classes = [self._class_of(one) for one in ([OF_ARRAYS] * len(images) if shown is None else shown)]
        detections: list[Detection] = []
        for start in range(0, len(images), MOST_AT_ONCE):
            end = start + MOST_AT_ONCE
            detections += self._detect(images[start:end], classes[start:end])
        return detections

    def run(self, images: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The graph alone, for calibration and measurement.

        Args:
            images: (N, 28, 28), grey levels in [0, 1].

        Returns:
            Reconstructions (N, 28, 28), losses (N,), scores (N, classes), views (N, classes, views); the classes are
            those of `app.detection.shown`, or only one for all files.
        """
        batch = np.ascontiguousarray(images, dtype=np.float32).reshape(-1, 1, SIDE, SIDE)
        reconstructions, losses, scores, views = self._session.run(_OUTPUTS, {"image": batch})
        count = len(batch)
        columns = scores.size // max(count, 1) or 1
        scores, views = scores.reshape(count, columns), views.reshape(count, columns, -1)
        return [reconstructions.reshape(-1, SIDE, SIDE), losses, scores, views]

    def _detect(self, images: NDArray[np.float32], classes: list[_Class]) -> list[Detection]:
        reconstructions, losses, scores, views = self.run(images)
        detections = []
        for reconstruction, loss, columns, all_views, (shown, column, threshold, ranking, _) in zip(
            reconstructions, losses.tolist(), scores.tolist(), views, classes, strict=True
        ):
            score, own = columns[column], all_views[column]
            # Not `score > threshold`: every comparison with NaN is false, and NaN must be refused.
            is_anomaly = not score <= threshold
            detections.append(
                Detection(reconstruction, loss, score, threshold, ranking.p_value(score), is_anomaly, own, shown)
            )
        return detections

    def view_p_values(self, detection: Detection) -> list[float]:
        """Returns the p-value of each view, computed like that of the score, in the manifest's order."""
        rankings = self._classes.get(detection.shown, self._any).view_rankings
        return [ranking.p_value(value) for ranking, value in zip(rankings, detection.views.tolist(), strict=True)]

    def _row_thresholds(self) -> NDArray[np.float64]:
        thresholds = np.full(len(self.artifact.calibration), np.inf if self._classes else self.threshold)
        for name, rows in class_rows(self.artifact.manifest.shown).items() if self._classes else ():
            thresholds[rows] = np.minimum(thresholds[rows], self._classes[name].threshold)
        return thresholds

    def _class_of(self, shown: Shown) -> _Class:
        return self._classes[class_of(shown, self._own_size)] if self._classes else self._any

    def _class(self, name: str, column: int, threshold: float, rows: list[int]) -> _Class:
        """What is compared with the scores of these rows of the calibration."""
        views = [Ranking(view[rows]) for view in self.artifact.view_calibration]
        return _Class(name, column, threshold, Ranking(self.artifact.calibration[rows]), views)

    def _warm_up(self) -> None:
        """Scores one blank image, so that the first request is not slower and a broken graph fails at load time."""
        try:
            detection = self.detect(np.zeros((1, SIDE, SIDE), np.float32))[0]
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ArtifactError(f"model.onnx does not run: {error}") from error
        if detection.views.shape != (len(self.artifact.manifest.views),):
            raise ArtifactError("model.onnx does not have the views that its manifest names.")
        if math.isnan(detection.loss):
            raise ArtifactError("model.onnx gives a loss that is not a number for a blank image.")


def _session(graph: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise ArtifactError(f"model.onnx is not a graph that this ONNX Runtime loads: {error}") from error
