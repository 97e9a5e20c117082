"""What an answer says of a judgement."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from app.detection.artifact import View
from app.detection.detector import Detection
from app.judging.judge import Judgement
from app.judging.prediction import reasons

VIEWS = [View(name=name, meaning=name, odd=f"{name} is odd", normal=f"{name} is normal") for name in ("a", "b")]


@dataclass
class _Detector:
    """Two views, which have these ranks for every image."""

    ranks: list[float]

    @property
    def artifact(self) -> Any:
        promise = SimpleNamespace(target_false_positive_rate=0.01)
        return SimpleNamespace(manifest=SimpleNamespace(views=VIEWS, promise=promise))

    def view_p_values(self, detection: Detection) -> list[float]:
        return self.ranks


def _sentences(ranks: list[float], is_anomaly: bool) -> list[str]:
    detection = Detection(
        reconstruction=np.zeros((28, 28), np.float32),
        loss=0.0,
        score=1.2,
        threshold=1.1,
        p_value=0.01,
        is_anomaly=is_anomaly,
        views=np.array([0.8, 0.9], np.float32),
        shown="",
    )
    judgement = SimpleNamespace(detector=_Detector(ranks), detection=detection)
    return [reason["sentence"] for reason in reasons(cast(Judgement, judgement))]


def test_reasons_name_the_views_that_are_odd() -> None:
    assert _sentences([0.005, 0.4], is_anomaly=True) == ["a is odd", "b is normal"]
    assert _sentences([0.3, 0.4], is_anomaly=False) == ["a is normal", "b is normal"]


def test_where_only_all_views_together_are_odd_the_highest_is_named() -> None:
    assert _sentences([0.05, 0.02], is_anomaly=True) == ["a is normal", "b is odd"]
