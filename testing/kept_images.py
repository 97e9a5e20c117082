"""Kept images for tests, without a gate that keeps them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from app.keeping.record import Kept, new_id
from app.keeping.store import KeptStore

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def record(minute: int = 0, **changes: Any) -> Kept:
    """A refused image, so many minutes after noon."""
    judged = NOON + timedelta(minutes=minute)
    is_anomaly = changes.pop("is_anomaly", True)
    fields: dict[str, Any] = {
        "id": new_id(judged),
        "time": judged.isoformat(),
        "request_id": "r",
        "route": "/v1/predict",
        "verdict": "anomaly" if is_anomaly else "normal",
        "is_anomaly": is_anomaly,
        "score": 2.0,
        "threshold": 1.0,
        "p_value": 0.01,
        "loss": 0.1,
        "reasons": [],
        "model": {"name": "tiny", "version": "sha256:1"},
        "target_false_positive_rate": 0.01,
        "sampled": False,
        "sample_probability": 0.5,
        "format": "png",
        "image_bytes": 100,
        "seen": "",
        "redrawn": "",
        **changes,
    }
    return Kept(**fields)


def add(store: KeptStore, *records: Kept, content: bytes = bytes(100)) -> list[str]:
    """Keeps an image for each record; gives their ids."""
    sized = [one.model_copy(update={"image_bytes": len(content)}) for one in records]
    return [one.id for one in sized if store.add(one, content)]
