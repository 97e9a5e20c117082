"""What clients do to an image before they send it: resize, encode, relight, move, blur.

Every function takes and returns grayscale images (mode L) unless it says otherwise.
"""

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Filter = Image.Resampling
Kernel = Literal["area", "linear", "cubic"]
# An image and a side in pixels -> the image at that size.
Resize = Callable[[Image.Image, int], Image.Image]


def background_level(image: Image.Image) -> int:
    """Median grey level (0-255) of the image's outermost rows and columns."""
    pixels = np.asarray(image.convert("L"))
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    return int(np.median(border))


def resized(image: Image.Image, side: int, resample: Filter = Filter.BICUBIC) -> Image.Image:
    """The grayscale image at side x side pixels; untouched if it has that size already."""
    gray = image.convert("L")
    return gray if gray.size == (side, side) else gray.resize((side, side), resample)


def resized_in_floats(image: Image.Image, side: int, resample: Filter) -> Image.Image:
    """As `resized`, but rounded and clipped once, at the end, as scikit-image, PyTorch and others do."""
    floats = image.convert("F").resize((side, side), resample)
    return from_levels(np.asarray(floats))


def resized_like_opencv(image: Image.Image, side: int, kernel: Kernel) -> Image.Image:
    """As OpenCV's `resize`: INTER_AREA averages exactly; INTER_LINEAR and INTER_CUBIC do not antialias."""
    pixels = np.asarray(image.convert("L"), np.float64)
    rows, columns = (_weights(length, side, kernel) for length in pixels.shape)
    return from_levels(rows @ pixels @ columns.T)


def _weights(length: int, side: int, kernel: Kernel) -> NDArray[np.float64]:
    """(side, length): what each input pixel contributes to each output pixel; rows sum to one."""
    scale = length / side
    if kernel == "area" and scale > 1:
        edges = np.arange(side + 1) * scale
        pixels = np.arange(length)
        shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
        weights: NDArray[np.float64] = shares.clip(0) / scale
        return weights
    centres = (np.arange(side) + 0.5) * scale - 0.5
    weights = np.zeros((side, length))
    reach = 2 if kernel == "cubic" else 1
    for step in range(1 - reach, reach + 1):
        places = np.floor(centres) + step
        shares = _kernel(np.abs(centres - places), kernel)
        np.add.at(weights, (np.arange(side), places.clip(0, length - 1).astype(int)), shares)
    return weights


def _kernel(distances: NDArray[np.float64], kernel: Kernel) -> NDArray[np.float64]:
    if kernel != "cubic":
        return (1 - distances).clip(0)
    a = -0.75  # OpenCV's; Pillow's is -0.5
    near = ((a + 2) * distances - (a + 3)) * distances**2 + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    return np.where(distances <= 1, near, np.where(distances < 2, far, 0.0))


def _pillow(resample: Filter) -> Resize:
    return lambda image, side: resized(image, side, resample)


def _floats(resample: Filter) -> Resize:
    return lambda image, side: resized_in_floats(image, side, resample)


# The filters that average over what an output pixel covers, which is what antialiasing means, by how sharp they are.
SOFT: Sequence[Resize] = (_pillow(Filter.BILINEAR), _floats(Filter.BILINEAR))
BOX: Sequence[Resize] = (_pillow(Filter.BOX),)
AREA: Sequence[Resize] = (_pillow(Filter.HAMMING), lambda image, side: resized_like_opencv(image, side, "area"))
CRISP: Sequence[Resize] = (*BOX, *AREA)
SHARP: Sequence[Resize] = (
    _pillow(Filter.BICUBIC),
    _floats(Filter.BICUBIC),
    _pillow(Filter.LANCZOS),
    _floats(Filter.LANCZOS),
)
SMOOTH: Sequence[Resize] = (*SOFT, *SHARP)
ALL: Sequence[Resize] = (*SMOOTH, *CRISP)


def resized_by_one_of(
    resizes: Sequence[Resize], image: Image.Image, side: int, generator: np.random.Generator
) -> Image.Image:
    """Resized by one of several ways, drawn at random."""
    return resizes[int(generator.integers(len(resizes)))](image, side)


def relit(image: Image.Image, paper: float, ink: float, gamma: float) -> Image.Image:
    """Another light: levels to the power `gamma`, contrast times `ink`, and the background dimmed to `paper`.

    Args:
        image: On light or dark background; on dark everything is done to its negative.
        paper: The share that is left of the background's light, at most 1.
        ink: What the distance of every level from the background is multiplied with.
        gamma: Below 1 lightens.
    """
    levels = np.asarray(image, np.float64) / 255
    background = background_level(image) / 255
    is_dark = background < 0.5
    if is_dark:
        levels, background = 1 - levels, 1 - background
    levels, background = levels**gamma, background**gamma
    levels = (background - ink * (background - levels)).clip(0, 1) * paper
    return from_levels(255 * (1 - levels if is_dark else levels))


def placed(image: Image.Image, degrees: float, scale: float, shift: tuple[float, float]) -> Image.Image:
    """Turned and scaled about the centre and moved by shares of the sides; gaps are filled with the background."""
    width, height = image.size
    turn = math.radians(degrees)
    cos, sin = math.cos(turn) / scale, math.sin(turn) / scale
    x, y = width / 2, height / 2
    right, down = shift[0] * width + x, shift[1] * height + y
    matrix = (cos, sin, x - cos * right - sin * down, -sin, cos, y + sin * right - cos * down)
    fill = background_level(image)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, Filter.BICUBIC, fillcolor=fill)


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Gaussian blur."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def noisy(image: Image.Image, deviation: float, generator: np.random.Generator) -> Image.Image:
    """Gaussian noise of this standard deviation, in grey levels."""
    levels = np.asarray(image, np.float64)
    return from_levels(levels + deviation * generator.standard_normal(levels.shape))


def bordered(image: Image.Image, share: float, level: int, sides: Literal["all", "letterbox"]) -> Image.Image:
    """Shrunk into a frame of one grey level, `share` of the side wide; a letterbox has it above and below alone."""
    width, height = image.size
    left = 0 if sides == "letterbox" else round(share * width)
    top = round(share * height)
    inner = image.resize((max(1, width - 2 * left), max(1, height - 2 * top)), Filter.BICUBIC)
    canvas = Image.new("L", image.size, level)
    canvas.paste(inner, (left, top))
    return canvas


def tinted(image: Image.Image, cast: tuple[float, float, float]) -> Image.Image:
    """An RGB image whose channels are multiplied with `cast`, each at most 1."""
    levels = np.asarray(image, np.float64)
    return Image.fromarray((levels[..., None] * np.array(cast)).round().clip(0, 255).astype(np.uint8), "RGB")


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The bytes of a file."""
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def encoded_twice(image: Image.Image, first_quality: int, image_format: str, **options: object) -> bytes:
    """A JPEG that was opened and saved again."""
    with Image.open(BytesIO(encoded(image, "JPEG", quality=first_quality))) as again:
        return encoded(again, image_format, **options)


def from_levels(levels: NDArray[np.floating]) -> Image.Image:
    """Floats, 0 to 255, rounded and clipped to an image of mode L."""
    return Image.fromarray(np.rint(levels).clip(0, 255).astype(np.uint8))
