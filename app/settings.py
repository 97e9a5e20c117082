"""Settings from GATE_* environment variables: typed, frozen, and checked before anything starts."""

import difflib
import importlib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "GATE_"
ACCEPTED_FORMATS = ("PNG", "JPEG", "WebP", "BMP", "GIF")
# Decoded if the operator asks for them: their containers and decoders are larger, and less is known to go wrong there.
OPTIONAL_FORMATS = ("AVIF", "TIFF", "HEIC")
HEIC_IS_MISSING = "HEIC takes pillow-heif, which is not installed or cannot be loaded (pip install 'imagegate[heic]')"
_HERE = Path(__file__).resolve().parent
# A checkout has it beside the code, an installed package within.
_DEFAULT_ARTIFACT = next(
    folder
    for folder in (_HERE.parent / "model_artifacts" / "circles", _HERE / "default_artifact" / "circles")
    if folder.is_dir() or folder.is_relative_to(_HERE)
)


def _check_token(token: SecretStr) -> SecretStr:
    value = token.get_secret_value()
    if not value:
        raise ValueError("one of them is empty; leave the variable out to serve everybody")
    if not re.fullmatch("[!-~]+", value):
        raise ValueError("one of them has characters other than letters, digits and signs of ASCII")
    return token


Token = Annotated[SecretStr, AfterValidator(_check_token)]


class SettingsError(Exception):
    """A setting that is misspelt or impossible; the message names it."""


class Settings(BaseSettings):
    """Every setting of the service. A field `name` is the variable GATE_NAME."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    artifact: Path = Field(_DEFAULT_ARTIFACT, description="The artifact folder to serve.")
    max_upload_bytes: PositiveInt = Field(32 * 2**20, description="The largest request body, in bytes.")
    max_buffered_bytes: PositiveInt = Field(
        128 * 2**20, description="Bytes of request bodies held at once, over all requests of a worker."
    )
    max_image_pixels: PositiveInt = Field(25_000_000, description="The most pixels, width x height, of one image.")
    formats: Annotated[tuple[str, ...], NoDecode] = Field(
        ACCEPTED_FORMATS,
        description="Comma-separated image formats that are accepted. AVIF, TIFF and HEIC are off unless named here: "
        "`png,jpeg,webp,bmp,gif,avif,tiff,heic`; heic takes the extra of that name.",
    )
    reduce_jpegs: bool = Field(
        True,
        description="Decode a large JPEG at a fraction of its size, except in front of a classifier: up to four times "
        "as fast, and blind to one that is made to show another picture in full.",
    )
    max_waiting: PositiveInt = Field(
        512, description="Requests with a complete body, in flight or waiting; more are answered 503."
    )
    body_timeout_seconds: PositiveFloat = Field(10, description="For a request body to arrive, in all.")
    request_timeout_seconds: PositiveFloat = Field(30, description="For an answer, once the body is complete.")
    tokens: Annotated[tuple[Token, ...], NoDecode] = Field(
        (),
        description="Comma-separated; if set, every route but the probes and the page needs one of them: "
        "`Authorization: Bearer`, or on /v1/gate and /v1/authz `X-Gate-Token`.",
    )
    workers: PositiveInt = Field(1, description="Serving processes; bounds above are for each of them.")
    drain_seconds: float = Field(
        0, ge=0, description="Between readiness going off and the end of accepting requests, after SIGTERM."
    )
    classifier_url: str | None = Field(
        None, description="Where /v1/gate sends normal images: http(s)://HOST[:PORT][/PATH]."
    )
    classifier_timeout_seconds: PositiveFloat = Field(
        30, description="For the beginning of its answer, then for each silence."
    )
    mode: Literal["enforce", "shadow"] = Field(
        "enforce", description="shadow forwards and admits everything, and only reports."
    )
    fail_open: bool = Field(
        False, description="Forward and admit when the gate itself fails; never because of an image, or of load."
    )
    image_at: str = Field(
        "auto",
        description="Where a classifier's requests carry the image: `body`, form:NAME, json:/POINTER, tensor:NAME, "
        "several with commas; auto searches, and refuses what could be an image and is not judged.",
    )
    unjudged: str = Field(
        "", description="Routes of the classifier that carry no image: `METHOD /path`, `*` at its end, with commas."
    )
    tensor_layout: Literal["nchw", "nhwc"] = Field(
        "nchw", description="Of tensors and lists of numbers with colours that GATE_IMAGE_AT declares."
    )
    tensor_mean: str = Field(
        "0", description="What a classifier's clients subtract from levels in [0, 1]: one number, or three with commas."
    )
    tensor_std: str = Field("1", description="What they divide by then: one number, or three with commas.")
    numbers_range: str = Field(
        "", description="Lists of numbers at a declared `json:` place: those for black and for white, such as 0,255."
    )
    forward: Literal["original", "judged"] = Field(
        "original",
        description="What a classifier gets: the request's own bytes, or one that the gate writes, with plain PNGs.",
    )
    forward_size: str = Field(
        "", description="With `judged`: the size of each image, as WIDTHxHEIGHT; its own without it."
    )
    accel_redirect: str | None = Field(
        None, description="nginx: the location, such as @classifier, that admitted requests go to."
    )
    keep_folder: Path | None = Field(
        None, description="Where refused images and a random sample of all are kept, for /review; without it none are."
    )
    keep_bytes: PositiveInt = Field(
        2**30, description="The most that is kept; the oldest images without a label go first."
    )
    keep_sample: float = Field(
        0, ge=0, le=1, description="The share of all judged images that is kept at random, whatever the verdict."
    )
    target_false_positive_rate: float | None = Field(
        None, gt=0, lt=1, description="Another false-positive rate than the artifact's, from its own calibration."
    )
    candidate: Path | None = Field(
        None, description="A second artifact that judges the same images aside, for metrics, log and kept images alone."
    )
    tokens_file: Path | None = Field(
        None, description="More tokens, one a line as `name:token`; read again on SIGHUP. The name is logged."
    )
    metrics_token: SecretStr | None = Field(
        None, description="A token for /metrics alone; `open` lets everybody read them, whatever the other tokens are."
    )
    pid_file: Path | None = Field(
        None, description="Where the serving process writes its id; `python -m app reload` finds it there."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe level logged."
    )
    log_format: Literal["text", "json"] = Field("text", description="One line a record: for people, or JSON.")

    @field_validator("keep_folder", "candidate", "tokens_file", "metrics_token", "pid_file", mode="before")
    @classmethod
    def _leave_out_what_is_empty(cls, value: object) -> object:
        return value or None

    @field_validator("target_false_positive_rate", mode="before")
    @classmethod
    def _leave_out_an_empty_rate(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("metrics_token")
    @classmethod
    def _check_metrics_token(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value is None else _check_token(value)

    @field_validator("classifier_url")
    @classmethod
    def _check_classifier_url(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parts = urlsplit(value)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        # None of these messages repeats the value, for it may hold a password.
        if not usable or not value.isascii() or not value.isprintable() or " " in value:
            raise SettingsError("GATE_CLASSIFIER_URL is http(s)://HOST, with :PORT and /PATH if need be.")
        if "@" in parts.netloc:
            raise SettingsError("GATE_CLASSIFIER_URL holds credentials: clients send the classifier's `Authorization`.")
        if "?" in value or "#" in value:
            raise SettingsError("GATE_CLASSIFIER_URL ends with its path: each request brings its own query.")
        return value.rstrip("/")

    @property
    def forwarded_size(self) -> tuple[int, int] | None:
        """Width and height of the images that a classifier gets; None for their own."""
        width, _, height = self.forward_size.partition("x")
        return (int(width), int(height)) if width else None

    @field_validator("forward_size")
    @classmethod
    def _check_forward_size(cls, value: str) -> str:
        if value and not re.fullmatch(r"[1-9][0-9]{0,3}x[1-9][0-9]{0,3}", value):
            raise SettingsError(f"GATE_FORWARD_SIZE is WIDTHxHEIGHT, such as 224x224, not {value!r}.")
        return value

    @model_validator(mode="after")
    def _check_forward(self) -> Self:
        if self.forward == "judged" and self.accel_redirect:
            raise SettingsError("GATE_FORWARD=judged needs the gate as a proxy: nginx sends the request itself.")
        if self.forward_size and self.forward != "judged":
            raise SettingsError("GATE_FORWARD_SIZE needs GATE_FORWARD=judged: other images are sent as they came.")
        return self

    @field_validator("accel_redirect")
    @classmethod
    def _check_accel_redirect(cls, value: str | None) -> str | None:
        if not value:
            return None
        if not re.fullmatch(r"@[A-Za-z0-9_.-]+", value):
            # A plain URI would half work: nginx then changes the method to GET and drops the body.
            raise SettingsError(
                f"GATE_ACCEL_REDIRECT is a named location of nginx, such as @classifier, not {value!r}."
            )
        return value

    @field_validator("formats", mode="before")
    @classmethod
    def _check_formats(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        known = {name.lower(): name for name in (*ACCEPTED_FORMATS, *OPTIONAL_FORMATS)}
        named = [word.strip().lower() for word in value.split(",") if word.strip()]
        wrong = [word for word in named if word not in known]
        if wrong or not named:
            raise SettingsError(f"GATE_FORMATS takes names out of {', '.join(known)}, with commas, not {value!r}.")
        if "heic" in named and not is_heic_installed():
            raise SettingsError(f"GATE_FORMATS names heic. {HEIC_IS_MISSING}.")
        return tuple(known[word] for word in dict.fromkeys(named))

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: object) -> object:
        return [token.strip() for token in value.split(",")] if isinstance(value, str) else value


def is_heic_installed() -> bool:
    """Whether the extra `heic` is there, and can be loaded."""
    try:
        importlib.import_module("pillow_heif")
    except ImportError:
        return False
    return True


def usable_cores() -> int:
    """How many cores this process may use; a limit on their time, as containers have, does not show."""
    if sys.platform == "darwin":  # which does not say
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads and checks every GATE_* variable.

    Raises:
        SettingsError: One is unknown or has an impossible value; the message names it.
    """
    known = {f"{PREFIX}{name.upper()}": name for name in Settings.model_fields}
    for variable in environment:
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            close = difflib.get_close_matches(variable.upper(), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(known))}."
            raise SettingsError(f"There is no setting {variable}: {hint}")
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper().removeprefix(PREFIX)
        if name in ("TOKENS", "METRICS_TOKEN"):
            raise SettingsError(f"{PREFIX}{name} cannot be used: {first['ctx']['error']}.") from None
        raise SettingsError(f"{PREFIX}{name} cannot be {first['input']!r}: {first['msg']}.") from error
