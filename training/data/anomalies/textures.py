"""Anomalies of texture: noise, gradients, patterns, nearly blank images, and circles with noise or shading."""

import numpy as np
from PIL import Image, ImageFilter

from training.data.anomalies.pen import (
    SIDE,
    Family,
    arc,
    blank_sheet,
    drawn,
    fill,
    picture_of,
    random_centre,
    random_radius,
)


def constant(low: int, high: int) -> Family:
    return lambda rng: Image.new("L", (SIDE, SIDE), int(rng.integers(low, high + 1)))


def noise(level: float) -> Family:
    return lambda rng: picture_of(rng.normal(128, level, (SIDE, SIDE)))


def coarse_noise(rng: np.random.Generator) -> Image.Image:
    return picture_of(rng.uniform(0, 255, (int(rng.integers(4, 15)),) * 2))


def faint_noise_on_white(rng: np.random.Generator) -> Image.Image:
    return picture_of(255 - abs(rng.normal(0, 25, (SIDE, SIDE))))


def salt_and_pepper(rng: np.random.Generator) -> Image.Image:
    return picture_of(np.where(rng.random((SIDE, SIDE)) < rng.uniform(0.05, 0.3), 0, 255))


def salt_and_pepper_circle(rng: np.random.Generator) -> Image.Image:
    pixels = np.array(drawn(arc(random_centre(rng), random_radius(rng))))
    pixels[rng.random((SIDE, SIDE)) < rng.uniform(0.02, 0.1)] = 0
    return picture_of(pixels)


def noisy_circle(rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(drawn(arc(random_centre(rng), random_radius(rng))), dtype=np.float64)
    return picture_of(pixels + rng.normal(0, rng.uniform(40, 90), pixels.shape))


def linear_gradient(rng: np.random.Generator) -> Image.Image:
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return picture_of(128 + (x - 50) * np.cos(angle) * 2.2 + (y - 50) * np.sin(angle) * 2.2)


def radial_gradient(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:SIDE, 0:SIDE] - 50 - rng.normal(0, 5, (2, 1, 1))
    return picture_of(np.hypot(x, y) * rng.uniform(2, 6))


def shaded_circle(rng: np.random.Generator) -> Image.Image:
    """A circle on a sheet that darkens towards one side."""
    pixels = np.asarray(drawn(arc(random_centre(rng), random_radius(rng))), dtype=np.float64)
    return picture_of(pixels * np.linspace(1, rng.uniform(0.5, 0.8), SIDE))


def checkerboard(rng: np.random.Generator) -> Image.Image:
    cell = int(rng.integers(5, 26))
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return picture_of((x // cell + y // cell) % 2 * 255)


def stripes(rng: np.random.Generator) -> Image.Image:
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 25)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return picture_of(128 + 127 * np.sin((x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period))


def texture(rng: np.random.Generator) -> Image.Image:
    """Smooth random clouds."""
    clouds = picture_of(rng.uniform(0, 255, (SIDE, SIDE))).filter(ImageFilter.GaussianBlur(rng.uniform(2, 6)))
    pixels = np.asarray(clouds, dtype=np.float64)
    return picture_of((pixels - pixels.mean()) / pixels.std() * 50 + 128)


def half_tone(rng: np.random.Generator) -> Image.Image:
    step, sheet = float(rng.uniform(6, 14)), blank_sheet()
    for y in np.arange(step / 2, SIDE, step):
        for x in np.arange(step / 2, SIDE, step):
            fill(sheet, arc(np.array([x, y]), step * 0.45 * (x + y) / 200))
    return sheet


def blobs(rng: np.random.Generator) -> Image.Image:
    sheet = blank_sheet()
    for _ in range(int(rng.integers(2, 8))):
        fill(
            sheet,
            arc(rng.uniform(10, 90, 2), random_radius(rng, 3, 15), ratio=rng.uniform(0.4, 1)),
            int(rng.integers(0, 160)),
        )
    return sheet


def nearly_blank(rng: np.random.Generator) -> Image.Image:
    """White with one faint speck."""
    sheet = blank_sheet()
    fill(sheet, arc(rng.uniform(10, 90, 2), rng.uniform(1, 3)), ink=int(rng.integers(200, 245)))
    return sheet
