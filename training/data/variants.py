"""The permitted ways in which a client may send a normal image, as encoded bytes.

A variant acts on the user's original image, whatever its size: "at 100 px" means that the image is resized to
100x100 first. The false-positive rate is promised for each variant on its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageFilter

Apply = Callable[[Image.Image, np.random.Generator], bytes]
Edit = Callable[[Image.Image, np.random.Generator], Image.Image]

Filter = Image.Resampling


@dataclass(frozen=True, slots=True)
class Variant:
    """One permitted way of sending an image.

    Attributes:
        name: Short, used by `--variants` and in the manifest.
        description: One phrase for the report.
        apply: Turns the original image and a generator (rotation angles) into the bytes a client would send.
    """

    name: str
    description: str
    apply: Apply


def background_level(image: Image.Image) -> int:
    """Median grey level (0-255) of the image's outermost rows and columns."""
    pixels = np.asarray(image.convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return int(np.median(border))


def resized(image: Image.Image, side: int, resample: Filter = Filter.BICUBIC) -> Image.Image:
    """The grayscale image at side x side pixels; untouched if it has that size already."""
    gray = image.convert("L")
    return gray if gray.size == (side, side) else gray.resize((side, side), resample)


def rotated(image: Image.Image, degrees: float) -> Image.Image:
    """The grayscale image turned about its centre; corners are filled with its own background."""
    gray = image.convert("L")
    return gray.rotate(degrees, Filter.BICUBIC, fillcolor=background_level(gray))


def _encoded(image: Image.Image, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def _png(edit: Edit) -> Apply:
    return lambda image, rng: _encoded(edit(image, rng), format="PNG", compress_level=1)


def _jpeg(side: int, quality: int) -> Apply:
    return lambda image, rng: _encoded(resized(image, side), format="JPEG", quality=quality)


def _size(side: int, resample: Filter = Filter.BICUBIC) -> Apply:
    return _png(lambda image, rng: resized(image, side, resample))


def _twice(first: int, second: int, resample: Filter) -> Apply:
    return _png(lambda image, rng: resized(resized(image, first), second, resample))


def _rotation(most_degrees: float) -> Apply:
    return _png(lambda image, rng: rotated(resized(image, 100), rng.uniform(-most_degrees, most_degrees)))


def _blur(radius: float) -> Apply:
    return _png(lambda image, rng: resized(image, 100).filter(ImageFilter.GaussianBlur(radius)))


def _sixteen_bit(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)


ORIGINAL = Variant("original", "the image as it is, PNG", _png(lambda image, rng: image.convert("L")))

_DEFAULT = (
    ORIGINAL,
    Variant("png-50", "PNG of 50x50 pixels", _size(50)),
    Variant("png-280", "PNG of 280x280 pixels", _size(280)),
    Variant("png-1000", "PNG of 1000x1000 pixels", _size(1000)),
    Variant("jpeg-q95", "JPEG, quality 95, 100x100 pixels", _jpeg(100, 95)),
    Variant("jpeg-q75", "JPEG, quality 75, 100x100 pixels", _jpeg(100, 75)),
    Variant("jpeg-q50", "JPEG, quality 50, 100x100 pixels", _jpeg(100, 50)),
    Variant("jpeg-280", "JPEG, quality 75, 280x280 pixels", _jpeg(280, 75)),
    Variant("jpeg-28", "JPEG, quality 75, 28x28 pixels", _jpeg(28, 75)),
    Variant("bilinear-28", "resized to 28x28 by the client, bilinear", _size(28, Filter.BILINEAR)),
    Variant("bicubic-28", "resized to 28x28 by the client, bicubic", _size(28, Filter.BICUBIC)),
    Variant("lanczos-28", "resized to 28x28 by the client, Lanczos", _size(28, Filter.LANCZOS)),
    Variant("box-28", "resized to 28x28 by the client, box", _size(28, Filter.BOX)),
    Variant("box-280-28", "280x280 pixels resized to 28x28 by the client, box", _twice(280, 28, Filter.BOX)),
    Variant("rotated-5", "turned by up to 5 degrees at 100x100 pixels", _rotation(5)),
    Variant("blur-0.5", "Gaussian blur of radius 0.5 at 100x100 pixels", _blur(0.5)),
    Variant("blur-1", "Gaussian blur of radius 1 at 100x100 pixels", _blur(1.0)),
    Variant("rgba", "RGBA PNG", _png(lambda image, rng: image.convert("L").convert("RGBA"))),
    Variant("palette", "palette PNG of 64 colours", _png(lambda image, rng: image.convert("L").quantize(64))),
    Variant("16-bit", "16-bit grayscale PNG", _png(_sixteen_bit)),
)

DEFAULT_VARIANTS: Mapping[str, Variant] = MappingProxyType({variant.name: variant for variant in _DEFAULT})

# Sent in these ways an image decodes to the same pixels as the original: they are calibrated like all others, but a
# network has nothing new to learn from them.
SAME_PIXELS = frozenset({"bicubic-28", "rgba", "16-bit"})


def parse_variants(text: str) -> tuple[Variant, ...]:
    """Variants from `default`, `none` (the original alone) or a comma-separated list of names.

    The original always comes first, named or not.

    Raises:
        ValueError: A name is unknown; the message lists the known ones.
    """
    if text == "default":
        return _DEFAULT
    names = [] if text == "none" else [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in DEFAULT_VARIANTS]
    if unknown or not (names or text == "none"):
        known = ", ".join(DEFAULT_VARIANTS)
        what = ", ".join(unknown) or "an empty list"
        raise ValueError(f"unknown variants: {what}; known: default, none, or a list of {known}")
    return tuple(DEFAULT_VARIANTS[name] for name in dict.fromkeys([ORIGINAL.name, *names]))
