"""Parses GATE_IMAGE_AT, which says where requests carry their images, and GATE_UNJUDGED, which carry none."""

import re
from dataclasses import dataclass, field

from app.payload.json_body import folded
from app.payload.number_images import NumberFormat, read_number_format
from app.settings import ACCEPTED_FORMATS, Settings, SettingsError

_METHOD_AND_PATH = re.compile(r"([A-Z]+|\*) (/[!-~]*)")
# A path that a classifier may take for another one: escapes, empty and dot segments, parameters.
_AMBIGUOUS_PATH = re.compile(r"[%\\;]|//|/\.{1,2}(?:/|$)")


@dataclass(frozen=True, slots=True)
class FormPlace:
    """A field of a form, multipart or URL-encoded."""

    name: str

    def __str__(self) -> str:
        return f"form:{self.name}"

    def matches(self, name: str) -> bool:
        """Whether some reader takes a field of this name for the place, so that it has to be judged as well."""
        return bool(_readings(name) & _readings(self.name))


@dataclass(frozen=True, slots=True)
class JsonPlace:
    """A place in a JSON document.

    Attributes:
        keys: Keys and indices from the document's root on; None stands for every element or field.
    """

    keys: tuple[str | None, ...]

    def __str__(self) -> str:
        written = (
            "*" if key is None else key.replace("~", "~0").replace("/", "~1").replace("*", "~2") for key in self.keys
        )
        return "json:" + "".join(f"/{key}" for key in written)


@dataclass(frozen=True, slots=True)
class TensorPlace:
    """An input of an Open Inference request."""

    name: str

    def __str__(self) -> str:
        return f"tensor:{self.name}"


@dataclass(frozen=True, slots=True)
class BodyPlace:
    """The whole body."""

    def __str__(self) -> str:
        return "body"


Place = BodyPlace | FormPlace | JsonPlace | TensorPlace


@dataclass(frozen=True, slots=True)
class UnjudgedRoute:
    """Requests of the classifier that carry no image.

    Attributes:
        method: "*" for every method.
        path: Of the classifier, without a query.
        is_prefix: Whether every path that begins so is meant.
    """

    method: str
    path: str
    is_prefix: bool

    def matches(self, method: str, path: str) -> bool:
        if self.method not in ("*", method) or _AMBIGUOUS_PATH.search(path):
            return False
        return path.startswith(self.path) if self.is_prefix else path == self.path


@dataclass(frozen=True, slots=True)
class Places:
    """What a classifier reads.

    Attributes:
        declared: Where images are; empty for `auto`, which searches for them everywhere.
        unjudged: Requests that carry none.
        numbers: What numbers in a declared place mean.
        formats: Accepted formats of image files.
    """

    declared: tuple[Place, ...] = ()
    unjudged: tuple[UnjudgedRoute, ...] = ()
    numbers: NumberFormat = field(default_factory=NumberFormat)
    formats: tuple[str, ...] = ACCEPTED_FORMATS

    def __str__(self) -> str:
        return ",".join(map(str, self.declared)) or "auto"

    def is_unjudged(self, method: str, path: str) -> bool:
        """Whether a request passes without a look at it; `path` is as the client sent it."""
        return any(route.matches(method, path) for route in self.unjudged)


def read_places(settings: Settings) -> Places:
    """Reads these settings, and those that describe numbers.

    Raises:
        SettingsError: One cannot be understood; the message names it.
    """
    declared = settings.image_at.strip()
    places = () if declared in ("auto", "") else tuple(_place(one.strip()) for one in declared.split(","))
    routes = tuple(_route(one.strip()) for one in settings.unjudged.split(",") if one.strip())
    return Places(places, routes, read_number_format(settings), settings.formats)


def _place(text: str) -> Place:
    kind, colon, rest = text.partition(":")
    if text == "body":
        return BodyPlace()
    if kind == "form" and rest:
        return FormPlace(rest)
    if kind == "tensor" and rest:
        return TensorPlace(rest)
    if kind == "json" and colon and (not rest or rest.startswith("/")) and not re.search("~(?![012])", rest):
        return JsonPlace(tuple(_key(written) for written in rest.split("/")[1:]))
    raise SettingsError(
        f"GATE_IMAGE_AT is `auto`, or of `body`, form:NAME, json:/POINTER and tensor:NAME one or several with commas; "
        f"{text!r} is none of them."
    )


def _key(text: str) -> str | None:
    """RFC 6901, where `*` stands for everything; `~2` is a key of one asterisk."""
    return None if text == "*" else text.replace("~2", "*").replace("~1", "/").replace("~0", "~")


def _route(text: str) -> UnjudgedRoute:
    found = _METHOD_AND_PATH.fullmatch(text)
    path = found[2] if found else ""
    if found is None or "*" in path[:-1] or _AMBIGUOUS_PATH.search(path) or "?" in path:
        raise SettingsError(
            f"GATE_UNJUDGED is `METHOD /path`, with `*` at the end for all that begins so, several with commas; "
            f"{text!r} is not."
        )
    return UnjudgedRoute(found[1], path.removesuffix("*"), path.endswith("*"))


def _readings(name: str) -> set[str]:
    """The names that some reader of forms takes this name for, without case.

    PHP writes "_" for "." and " ", drops single quotes and cuts at `[`; Rack and qs drop brackets around a name.
    """
    plain = re.sub(r"[. ]", "_", folded(name).strip(" \t'\""))
    cut = plain.partition("[")[0]
    unbracketed = re.split(r"[\[\]]", plain.strip("[]"), maxsplit=1)[0]
    return {cut, unbracketed} - {""} or {plain}
