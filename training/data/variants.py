"""Kinds of sending: what clients may do to a normal image, each with a range, drawn at random.

A kind is cut into variants, narrow enough for one statistic each: all draws of a variant have the same class of what
their bytes show (`app.detection.shown`). The false-positive rate is promised for each variant, at a random draw, and so
for each kind. A variant acts on the user's original image, whatever its size: "at 100 px" means that the image is
resized to 100x100 first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

import numpy as np
from PIL import Image

from app.detection.shown import LOSSLESS_LARGE, LOSSLESS_OWN, Shown, class_of
from training.data import sending
from training.data.sending import Filter, Resize, resized, resized_by_one_of

Generator = np.random.Generator
# An image of mode L stands for a PNG of it, which decodes to the same pixels.
Sent = bytes | Image.Image
Apply = Callable[[Image.Image, Generator], Sent]

# Most of a kind is drawn at this size, at which its range is stated.
SIDE = 100
# What is fitted is drawn from a range that is wider by this: no promised draw lies at the edge of what was seen.
FITTING_STRETCH = 1.15


@dataclass(frozen=True, slots=True)
class Variant:
    """One permitted way of sending an image.

    Attributes:
        name: Short and stable, for the manifest and the report.
        description: One phrase for the report.
        apply: Turns the original image and a generator into what a client would send.
        shown: The class of what is sent, as its bytes show it; empty where it is the original's own.
        fitting: What is sent for fitting, if it is drawn from a wider range.
    """

    name: str
    description: str
    apply: Apply
    shown: str = ""
    fitting: Apply | None = None

    def for_fitting(self) -> "Variant":
        """The variant as it is fitted."""
        return Variant(self.name, self.description, self.fitting or self.apply, self.shown)


@dataclass(frozen=True, slots=True)
class Kind:
    """A way of sending with a range.

    Attributes:
        name: As `--variants` takes it.
        unit: What the range's numbers are.
        low, high: The default range.
        limits: The least and the most that a range may hold.
        make: Turns a range into variants.
        is_default: Whether it is permitted unless told otherwise.
    """

    name: str
    unit: str
    low: float
    high: float
    limits: tuple[float, float]
    make: Callable[[float, float], Sequence[Variant]]
    is_default: bool = True


@dataclass(frozen=True, slots=True)
class Permitted:
    """What a run permits.

    Attributes:
        variants: The original first, then the variants of each kind.
        ranges: "low..high" by the kind's name, for manifest, report and command line.
    """

    variants: tuple[Variant, ...]
    ranges: Mapping[str, str]

    def of_one_size(self) -> "Permitted":
        """The same for training images that are all of one size, of which files are a class of their own.

        What is drawn at 100 px looks alike at any large size, and counts both as such a file and as a resized one.
        """
        own = [replace(variant, shown=LOSSLESS_OWN) for variant in self.variants if variant.name in _AT_ANY_SIZE]
        others = [
            replace(variant, name=f"{variant.name}-resized") if variant.name in _AT_ANY_SIZE else variant
            for variant in self.variants
        ]
        return Permitted((*others, *own), self.ranges)


_AT_ANY_SIZE = frozenset({"light", "place", "blur", "noise", "modes", "border"})


def lossless(side: int) -> str:
    """The class of PNG files with sides of so many pixels."""
    return class_of(Shown("PNG", side, side))


def lossy(side: int) -> str:
    """The class of compressed files (JPEG, WebP and the like) with sides of so many pixels."""
    return class_of(Shown("JPEG", side, side))


ORIGINAL = Variant("original", "the image as it is", lambda image, rng: image.convert("L"))


def _sizes(low: float, high: float) -> list[Variant]:
    """PNG of any size by any filter that antialiases; apart where filters differ much."""
    variants = []
    if low <= 28 <= high:
        for name, resizes in (("soft", sending.SOFT), ("crisp", sending.CRISP), ("sharp", sending.SHARP)):
            what = f"PNG of 28x28 pixels, resized by the client, {_FILTERS[name]}"
            variants.append(Variant(f"size-28-{name}", what, partial(_to_28, resizes), lossless(28)))
    for name, edges, resizes in _BY_CRISPNESS if low < 200 else ():
        for first, last in _cut(low, min(high, 199), edges, skip=28):
            variants.append(_sizes_by(name, first, last, resizes))
    if high >= 200:
        variants.append(_sizes_by("any", max(200, int(low)), int(high), sending.ALL))
    return variants


def _sizes_by(name: str, first: int, last: int, resizes: Sequence[Resize]) -> Variant:
    what = f"PNG of {first} to {last} pixels a side, {_FILTERS[name]}"
    return Variant(f"size-{first}-{last}-{name}", what, partial(_size, first, last, resizes), lossless(first))


_FILTERS = {
    "soft": "by a bilinear filter",
    "crisp": "by a box, area or Hamming filter",
    "box": "by a box filter",
    "area": "by an area or Hamming filter",
    "sharp": "by a bicubic or Lanczos filter",
    "smooth": "by a bilinear, bicubic or Lanczos filter",
    "any": "by any filter that antialiases",
}
# Filters that differ little at small sizes need fewer variants than those that leave the grid of the pixels to be seen.
_BY_CRISPNESS = (
    ("smooth", (29, 48, 90), sending.SMOOTH),
    ("area", (29, 48, 90), sending.AREA),
    ("box", (29, 33, 39, 44, 48, 64, 90), sending.BOX),
)


def _cut(low: float, high: float, edges: Sequence[int], skip: int = 0) -> list[tuple[int, int]]:
    """Pieces of low..high that begin at `edges`, as (first, last) whole numbers, without that of `skip` alone."""
    starts = [int(low), *(edge for edge in edges if low < edge <= high)]
    ends = [start - 1 for start in starts[1:]] + [int(high)]
    return [piece for piece in zip(starts, ends, strict=True) if piece != (skip, skip)]


def _side(first: float, last: float, rng: Generator) -> int:
    """A side in pixels; its inverse is uniform, since small ones differ more."""
    return round(1 / rng.uniform(1 / (last + 0.49), 1 / (first - 0.49)))


def _size(first: int, last: int, resizes: Sequence[Resize], image: Image.Image, rng: Generator) -> Sent:
    return resized_by_one_of(resizes, image, _side(first, last, rng), rng)


def _to_28(resizes: Sequence[Resize], image: Image.Image, rng: Generator) -> Sent:
    """A third of them come from another size first, as a thumbnail of a larger picture does."""
    if rng.random() < 1 / 3:
        image = resized(image, int(rng.integers(120, 400)))
    return resized_by_one_of(resizes, image, 28, rng)


def _jpegs(low: float, high: float) -> list[Variant]:
    """JPEG of 50 to 1,000 pixels; of a quality in the range."""
    pieces = ((50, 89), (90, 199), (200, 1000))
    return [
        Variant(
            f"jpeg-{first}-{last}",
            f"JPEG of {first} to {last} pixels a side, quality {low:g} to {high:g}, grey or in colour, progressive or "
            "not, at times encoded twice",
            partial(_jpeg, first, last, low, high),
            lossy(first),
        )
        for first, last in pieces
    ]


def _jpeg(first: int, last: int, low: float, high: float, image: Image.Image, rng: Generator) -> Sent:
    small = resized_by_one_of(sending.ALL, image, _side(first, last, rng), rng)
    quality = round(rng.uniform(low, high))
    options = {"quality": quality, "progressive": bool(rng.random() < 0.3)}
    colour = rng.random()
    if colour < 0.3:
        small = sending.tinted(small, tuple(rng.uniform(0.97, 1, 3)))
    elif colour < 0.4:
        small = small.convert("CMYK")
    elif rng.random() < 0.3:
        return sending.encoded_twice(small, round(rng.uniform(low, high)), "JPEG", **options)
    return sending.encoded(small, "JPEG", **options)


def _small_jpegs(low: float, high: float) -> list[Variant]:
    what = f"resized to 28x28 by the client and sent as JPEG, quality {low:g} to {high:g}"
    return [Variant("jpeg28", what, partial(_small_jpeg, low, high), lossy(28))]


def _small_jpeg(low: float, high: float, image: Image.Image, rng: Generator) -> Sent:
    return sending.encoded(
        resized_by_one_of(sending.ALL, image, 28, rng), "JPEG", quality=round(rng.uniform(low, high))
    )


def _webps(low: float, high: float) -> list[Variant]:
    return [
        Variant(
            f"webp-{first}-{last}",
            f"WebP of {first} to {last} pixels a side, quality {low:g} to {high:g}",
            partial(_webp, first, last, low, high),
            lossy(first),
        )
        for first, last in ((50, 89), (90, 400))
    ]


def _webp(first: int, last: int, low: float, high: float, image: Image.Image, rng: Generator) -> Sent:
    small = resized_by_one_of(sending.ALL, image, _side(first, last, rng), rng)
    return sending.encoded(small, "WEBP", quality=round(rng.uniform(low, high)), method=2)


def _at_100(name: str, what: str, apply: Callable[[float, Image.Image, Generator], Sent]) -> list[Variant]:
    """One variant at 100 pixels; `apply` gets a stretch of its range first."""

    def with_stretch(stretch: float) -> Apply:
        return lambda image, rng: apply(stretch, resized(image, SIDE), rng)

    fitting = with_stretch(FITTING_STRETCH)
    return [Variant(name, f"{what}, at 100x100 pixels", with_stretch(1.0), LOSSLESS_LARGE, fitting)]


def _lights(low: float, high: float) -> list[Variant]:
    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        ink, gamma = (1 + stretch * (rng.uniform(low, high) - 1) for _ in range(2))
        paper = 1 - stretch * rng.uniform(0, (1 - low) * 0.4)
        return sending.relit(image, paper, ink, gamma)

    paper = f"{255 * (1 - (1 - low) * 0.4):.0f}"
    what = f"another light: contrast and gamma {low:g} to {high:g}, white paper of {paper} to 255"
    return _at_100("light", what, apply)


def _places(low: float, high: float) -> list[Variant]:
    del low  # as far to either side

    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        most = stretch * high
        right, down = rng.uniform(-most, most, 2)
        scale, degrees = 1 + 1.5 * rng.uniform(-most, most), 250 * rng.uniform(-most, most)
        return sending.placed(image, degrees, scale, (right, down))

    what = f"moved by up to {high:.2g} of the side, scaled by up to {1.5 * high:.2g}, turned by up to {250 * high:.2g}"
    return _at_100("place", f"{what} degrees", apply)


def _blurs(low: float, high: float) -> list[Variant]:
    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        return sending.blurred(image, stretch * rng.uniform(low, high))

    return _at_100("blur", f"Gaussian blur of radius {low:g} to {high:g}", apply)


def _noises(low: float, high: float) -> list[Variant]:
    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        return sending.noisy(image, stretch * rng.uniform(low, high), rng)

    return _at_100("noise", f"noise of {low:g} to {high:g} levels", apply)


def _modes(low: float, high: float) -> list[Variant]:
    del low

    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        del stretch
        mode = int(rng.integers(3))
        if mode == 0:
            return sending.encoded(image.quantize(int(2 ** rng.uniform(5, high))), "PNG", compress_level=1)
        if mode == 1:
            return sending.encoded(image.convert("RGBA"), "PNG", compress_level=1)
        deep = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        return sending.encoded(deep, "PNG", compress_level=1)

    return _at_100("modes", "PNG with an alpha channel, a palette of 32 to 256 colours, or 16 bits", apply)


def _aliased(low: float, high: float) -> list[Variant]:
    def shrink(side: int, image: Image.Image, rng: Generator) -> Image.Image:
        choice = int(rng.integers(3))
        if choice == 0:
            return resized(image, side, Filter.NEAREST)
        return sending.resized_like_opencv(image, side, "linear" if choice == 1 else "cubic")

    def apply(first: int, last: int, image: Image.Image, rng: Generator) -> Sent:
        return shrink(_side(first, last, rng), image, rng)

    what = "resized by the client without antialiasing, as `cv2.resize` does unless told otherwise"
    return [
        Variant(f"aliased-{first}-{last}", f"{what}: {first} to {last} pixels", partial(apply, first, last),
                lossless(first))
        for first, last in _cut(low, high, (29, 48, 90))
    ]  # fmt: skip


def _borders(low: float, high: float) -> list[Variant]:
    def apply(stretch: float, image: Image.Image, rng: Generator) -> Sent:
        level = (0, 255, sending.background_level(image))[int(rng.integers(3))]
        return sending.bordered(
            image, stretch * rng.uniform(low, high), level, "all" if rng.random() < 0.5 else "letterbox"
        )

    return _at_100("border", f"a black or white border or letterbox of {low:g} to {high:g} of the side", apply)


_ALL = (
    Kind("size", "pixels a side", 28, 2000, (8, 4000), _sizes),
    Kind("jpeg", "quality", 60, 100, (10, 100), _jpegs),
    Kind("jpeg28", "quality", 80, 100, (10, 100), _small_jpegs),
    Kind("webp", "quality", 75, 100, (10, 100), _webps),
    Kind("light", "times the contrast, and gamma", 0.9, 1.1, (0.3, 2), _lights),
    Kind("place", "of the side", 0, 0.02, (0, 0.2), _places),
    Kind("blur", "pixels of radius", 0, 1, (0, 5), _blurs),
    Kind("noise", "grey levels", 0, 2.5, (0, 40), _noises),
    Kind("modes", "bits of a palette", 5, 8, (5, 8), _modes),
    Kind("aliased", "pixels a side", 28, 200, (8, 1000), _aliased, is_default=False),
    Kind("border", "of the side", 0, 0.05, (0, 0.3), _borders, is_default=False),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _ALL})


def parse_variants(text: str) -> Permitted:
    """What `--variants` permits: `none` (the original alone), or kinds with commas, each with a range or its own.

    `default` stands for all kinds that are permitted by default: `default,border` adds one, `light=0.8..1.2` alone
    permits no other.

    Raises:
        ValueError: A kind is unknown, or a range is none; the message says what is known.
    """
    ranges: dict[str, tuple[float, float]] = {}
    words = [] if text == "none" else [word.strip() for word in text.split(",") if word.strip()]
    if not words and text != "none":
        raise ValueError(f"no kind of sending is named; known: {_known()}")
    for word in words:
        if word == "default":
            ranges.update({kind.name: (kind.low, kind.high) for kind in _ALL if kind.is_default})
            continue
        name, _, numbers = word.partition("=")
        if name not in KINDS:
            raise ValueError(f"unknown kind of sending: {name}; known: {_known()}")
        kind = KINDS[name]
        ranges[name] = _range(kind, numbers) if numbers else (kind.low, kind.high)
    variants = [ORIGINAL]
    for name, (low, high) in ranges.items():
        variants += KINDS[name].make(low, high)
    return Permitted(tuple(variants), {name: f"{low:g}..{high:g}" for name, (low, high) in ranges.items()})


def _range(kind: Kind, numbers: str) -> tuple[float, float]:
    try:
        low, high = (float(number) for number in numbers.split(".."))
    except ValueError as error:
        raise ValueError(f"{numbers!r} is not a range such as {kind.low:g}..{kind.high:g}") from error
    least, most = kind.limits
    if not least <= low <= high <= most:
        raise ValueError(f"{kind.name}={numbers}: a range within {least:g}..{most:g} ({kind.unit}) is needed")
    return low, high


ONLY_ORIGINAL = Permitted((ORIGINAL,), {})

# What clients also do, and nothing is promised for by default: the report says what becomes of it.
ALSO_DONE = parse_variants(
    "aliased=28..89,border=0.03..0.05,noise=5..8,blur=1.5..2.5,jpeg=30..50,jpeg28=50..70,light=0.75..0.85,place=0..0.05"
).variants[1:]


def _known() -> str:
    kinds = ", ".join(f"{kind.name}={kind.low:g}..{kind.high:g} ({kind.unit})" for kind in _ALL)
    return f"none, default, or a list of {kinds}"
