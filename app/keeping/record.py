"""One kept image: its id, and what the JSON file beside it says."""

import re
import secrets
from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, Field

Label = Literal["normal", "anomaly"]

# Milliseconds since 1970, then random: ids sort by time, and nothing of a client's is in them.
ID = re.compile(r"[0-9a-f]{12}-[0-9a-f]{16}")
_TIME_DIGITS = 12


class KeptModel(BaseModel):
    name: str
    version: str


class KeptReason(BaseModel):
    name: str
    value: float | None
    p_value: float
    sentence: str


class KeptCandidate(BaseModel):
    """What GATE_CANDIDATE made of the same 28x28 image."""

    verdict: Label
    score: float | None
    threshold: float
    version: str


class Kept(BaseModel):
    """What is known of one kept image."""

    id: str = Field(examples=["019a3f5c7d21-5f0c9a7be1d24433"])
    time: str = Field(description="When it was judged, in UTC.", examples=["2026-01-31T12:00:00.000+00:00"])
    request_id: str
    route: str
    verdict: Label
    is_anomaly: bool
    score: float | None
    threshold: float
    p_value: float
    loss: float | None
    reasons: list[KeptReason]
    model: KeptModel
    target_false_positive_rate: float
    sampled: bool = Field(description="Drawn at random from all judged images, whatever the verdict.")
    sample_probability: float = Field(description="The share of images that was drawn when this one was judged.")
    label: Label | None = Field(None, description="What a person says it is; null before.")
    candidate: KeptCandidate | None = None
    format: str = Field(description="Of the image file.", examples=["png"])
    image_bytes: int
    seen: str = Field(description="What the network saw: 784 grey levels, 0 to 255, row by row, in base64.")
    redrawn: str = Field(description="What it redrew, likewise.")

    @property
    def judged_by(self) -> str:
        """Identifies the artifact and its target rate. Rates are estimated only from images with the same value."""
        return judged_by(self.model.version, self.target_false_positive_rate)

    @property
    def disagrees(self) -> bool:
        """Whether the candidate's verdict differs."""
        return self.candidate is not None and self.candidate.verdict != self.verdict


def judged_by(version: str, target_false_positive_rate: float) -> str:
    """Returns the key that `Kept.judged_by` compares."""
    return f"{version} at {target_false_positive_rate:g}"


def new_id(now: datetime) -> str:
    """Returns an id for an image that is judged now."""
    return f"{_milliseconds(now):0{_TIME_DIGITS}x}-{secrets.token_hex(8)}"


def first_id(moment: datetime) -> str:
    """Returns what sorts before every id from that moment on, and after every earlier one."""
    return f"{max(_milliseconds(moment), 0):0{_TIME_DIGITS}x}-"


def day_of(kept_id: str) -> str:
    """Returns the day of an id, in UTC, as in 2026-01-31: the name of its folder."""
    return datetime.fromtimestamp(int(kept_id[:_TIME_DIGITS], 16) / 1000, UTC).date().isoformat()


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
