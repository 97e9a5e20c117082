"""What a finished gate can find at all: pictures made by code, of kinds that every gate should refuse.

Nothing is fitted on them. A gate whose normal images are too varied, or too few, redraws everything as one grey blob
and passes noise; it keeps its promise all the same, and would not know.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from app.detection.images import SIDE, to_small

MADE_IMAGES = 200
_SEED = 31_000
_TILE = SIDE // 4
# The kinds that no gate should let pass; the others may look normal where normal images are blurred or symmetric.
DECISIVE = ("noise", "one grey level", "gradients", "textures", "rearranged")
# Below these the words get louder.
_LITTLE, _MUCH = 0.5, 0.95

Images = NDArray[np.float32]
Make = Callable[[Images, np.random.Generator], Images]


def made_images(normal: Images) -> dict[str, Images]:
    """Pictures (200, 28, 28) of each kind, grey levels in [0, 1]; some are made from normal images (N, 28, 28)."""
    generator = np.random.default_rng(_SEED)
    chosen = normal[generator.integers(len(normal), size=MADE_IMAGES)]
    return {name: make(chosen, generator).astype(np.float32) for name, make in _MAKERS.items()}


def _noise(images: Images, rng: np.random.Generator) -> Images:
    """Every pixel drawn by itself: evenly, or around a level."""
    flat = rng.random(images.shape)
    around = rng.uniform(0.2, 0.8, (len(images), 1, 1)) + rng.uniform(0.05, 0.3, (len(images), 1, 1)) * (
        rng.standard_normal(images.shape)
    )
    even = np.arange(len(images))[:, None, None] % 2 == 0
    noise: Images = np.where(even, flat, around).clip(0, 1).astype(np.float32)
    return noise


def _one_level(images: Images, rng: np.random.Generator) -> Images:
    levels = rng.uniform(0, 1, (len(images), 1, 1))
    levels[:2, 0, 0] = 0, 1
    return np.broadcast_to(levels, images.shape)


def _gradients(images: Images, rng: np.random.Generator) -> Images:
    """One level fades into another, in any direction."""
    places = np.linspace(-0.5, 0.5, SIDE)
    angles = rng.uniform(0, 2 * np.pi, (len(images), 1, 1))
    along = np.cos(angles) * places[None, None, :] + np.sin(angles) * places[None, :, None]
    low, high = rng.uniform(0, 1, (2, len(images), 1, 1))
    pictures: Images = (low + (high - low) * (along + 0.71) / 1.42).clip(0, 1)
    return pictures


def _textures(images: Images, rng: np.random.Generator) -> Images:
    """Random fields whose power falls with the frequency as that of photographs does."""
    frequencies = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.fftfreq(SIDE)[None, :])
    frequencies[0, 0] = 1 / SIDE
    falls = rng.uniform(0.8, 2.0, (len(images), 1, 1))
    fields = np.fft.ifft2(np.fft.fft2(rng.standard_normal(images.shape)) / frequencies**falls).real
    fields /= fields.std(axis=(1, 2), keepdims=True)
    levels, contrasts = rng.uniform(0.3, 0.7, (len(images), 1, 1)), rng.uniform(0.1, 0.3, (len(images), 1, 1))
    pictures: Images = (levels + contrasts * fields).clip(0, 1)
    return pictures


def _rearranged(images: Images, rng: np.random.Generator) -> Images:
    """Sixteen tiles in another order."""
    tiles = images.reshape(-1, 4, _TILE, 4, _TILE).transpose(0, 1, 3, 2, 4).reshape(-1, 16, _TILE, _TILE)
    mixed = np.stack([own[rng.permutation(16)] for own in tiles])
    return mixed.reshape(-1, 4, 4, _TILE, _TILE).transpose(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE)


def _blurred(images: Images, rng: np.random.Generator) -> Images:
    del rng
    pictures = [Image.fromarray((255 * image).round().astype(np.uint8)) for image in images]
    return np.stack([to_small(picture.filter(ImageFilter.GaussianBlur(2.5))) for picture in pictures])


_MAKERS: Mapping[str, Make] = {
    "noise": _noise,
    "one grey level": _one_level,
    "gradients": _gradients,
    "textures": _textures,
    "rearranged": _rearranged,
    "blurred": _blurred,
    "mirrored": lambda images, rng: images[:, :, ::-1],
    "upside down": lambda images, rng: images[:, ::-1],
    "negative": lambda images, rng: 1 - images,
}


def describe_power(rates: Mapping[str, float]) -> dict[str, Any]:
    """What the manifest says of detection rates by kind: them, the least and the mean of the decisive, and a verdict.

    Returns:
        `found`: rates by kind; `least` and `mean` of the decisive kinds; `verdict`: "finds much", "finds little" or
        "finds some"; `words`, for people.
    """
    decisive = {name: rates[name] for name in DECISIVE}
    name, least = min(decisive.items(), key=lambda item: item[1])
    mean = float(np.mean(list(decisive.values())))
    if least >= _MUCH:
        verdict, words = "finds much", "This gate finds noise, blank pictures, textures and rearranged normal images."
    elif least >= _LITTLE:
        verdict, words = "finds some", f"This gate lets {1 - least:.0%} of one kind of made-up pictures pass: {name}."
    else:
        verdict = "finds little"
        words = (
            f"WARNING: this gate finds little. It lets {1 - least:.0%} of made-up pictures of one kind pass ({name}): "
            "your pictures are too varied for their number. Add more of them, or train one gate for each kind."
        )
    return {
        "found": {kind: round(rate, 4) for kind, rate in rates.items()},
        "least": round(least, 4),
        "mean": round(mean, 4),
        "verdict": verdict,
        "words": words,
    }
