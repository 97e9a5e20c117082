"""Families of anomalies that nobody looked at while the recipe was chosen: they live here, not in training.

Drawn as those of `training.data.anomalies` are, 100x100 grayscale; the last ones are real pictures that packages ship.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFont

from training.data.anomalies.pen import (
    SIDE,
    WHITE,
    Family,
    Points,
    arc,
    blank_sheet,
    drawn,
    fill,
    picture_of,
    polygon,
    random_centre,
    random_radius,
    stroke,
)

Generator = np.random.Generator


def outline(radii: NDArray[np.float64], rng: Generator, least: float = 12) -> Image.Image:
    """A closed line in polar coordinates, turned at random; `radii` in shares of a random radius."""
    angles = np.linspace(0, 2 * np.pi, len(radii)) + rng.uniform(0, 2 * np.pi)
    shape = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
    return drawn(closed(shape * random_radius(rng, least) + random_centre(rng)))


def closed(points: Points) -> Points:
    return np.concatenate([points, points[:1]])


def hand_drawn_circle(rng: Generator) -> Image.Image:
    """A circle as a hand draws it: slow waves, a few per cent of the radius."""
    angles = np.linspace(0, 2 * np.pi, 361)
    waves = [rng.normal(0, 0.03) * np.sin(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4)]
    return outline(1 + np.sum(waves, axis=0), rng)


def egg(rng: Generator) -> Image.Image:
    angles = np.linspace(0, 2 * np.pi, 361)
    return outline(1 / np.sqrt(np.cos(angles) ** 2 + np.sin(angles) ** 2 * (1.35 + 0.35 * np.cos(angles))), rng)


def superellipse(rng: Generator) -> Image.Image:
    angles, power = np.linspace(0, 2 * np.pi, 361), rng.uniform(2.8, 4)
    return outline((np.abs(np.cos(angles)) ** power + np.abs(np.sin(angles)) ** power) ** (-1 / power) * 0.9, rng)


def reuleaux_triangle(rng: Generator) -> Image.Image:
    radius, turn, centre = random_radius(rng, 12, 30), rng.uniform(0, 120), random_centre(rng)
    corners = polygon(centre, radius, 3, turn)[:3]
    sides = [arc(corners[i], radius * np.sqrt(3), turn + 150 + 120 * i, 60) for i in range(3)]
    return drawn(closed(np.concatenate(sides)))


def flattened_circle(rng: Generator) -> Image.Image:
    """A circle whose one side is cut off straight."""
    return drawn(closed(arc(random_centre(rng), random_radius(rng, 12), rng.uniform(0, 360), rng.uniform(270, 310))))


def teardrop(rng: Generator) -> Image.Image:
    centre, radius, turn = random_centre(rng), random_radius(rng, 10, 24), rng.uniform(0, 360)
    tip = centre + 1.7 * radius * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    return drawn(closed(np.concatenate([arc(centre, radius, turn + 54, 252), tip[None]])))


def double_line_circle(rng: Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 14)
    return drawn(arc(centre, radius), arc(centre, radius - rng.uniform(3, 5)))


def dotted_circle(rng: Generator) -> Image.Image:
    sheet, count = blank_sheet(), int(rng.integers(8, 20))
    for dot in polygon(random_centre(rng), random_radius(rng, 14), count, rng.uniform(0, 360))[:count]:
        fill(sheet, arc(dot, 1.5))
    return sheet


def circle_with_two_gaps(rng: Generator) -> Image.Image:
    centre, radius, start = random_centre(rng), random_radius(rng, 10), rng.uniform(0, 360)
    return drawn(arc(centre, radius, start, 160), arc(centre, radius, start + 180, 160))


def uneven_circle(rng: Generator) -> Image.Image:
    """A line that grows from thin to thick and back: the space between two circles that nearly touch."""
    sheet, centre, radius, angle = blank_sheet(), random_centre(rng), random_radius(rng, 12), rng.uniform(0, 6.3)
    away = 1.6 * np.array([np.cos(angle), np.sin(angle)])
    fill(sheet, arc(centre, radius))
    fill(sheet, arc(centre + away, radius - 2.3), ink=WHITE)
    return sheet


def circle_with_shadow(rng: Generator) -> Image.Image:
    sheet, centre, radius = blank_sheet(), random_centre(rng), random_radius(rng, 10)
    stroke(sheet, arc(centre + rng.uniform(2, 4, 2), radius), ink=150)
    stroke(sheet, arc(centre, radius))
    return sheet


def half_disc(rng: Generator) -> Image.Image:
    return drawn(closed(arc(random_centre(rng), random_radius(rng, 12), rng.uniform(0, 360), 180)))


def slice_missing(rng: Generator) -> Image.Image:
    centre = random_centre(rng)
    around = arc(centre, random_radius(rng, 12), rng.uniform(0, 360), rng.uniform(240, 320))
    return drawn(np.concatenate([centre[None], around, centre[None]]))


def lens(rng: Generator) -> Image.Image:
    centre, radius, turn = random_centre(rng), random_radius(rng, 14), rng.uniform(0, 180)
    away = radius * 0.5 * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    return drawn(arc(centre - away, radius, turn - 60, 120), arc(centre + away, radius, turn + 120, 120))


def magnifying_glass(rng: Generator) -> Image.Image:
    centre, radius, angle = random_centre(rng), random_radius(rng, 8, 24), rng.uniform(0, 2 * np.pi)
    way = np.array([np.cos(angle), np.sin(angle)])
    return drawn(arc(centre, radius), centre + np.outer([radius, radius * 1.8], way))


def clock(rng: Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 14)
    hands = [np.stack([centre, polygon(centre, radius * share, 1, rng.uniform(0, 360))[0]]) for share in (0.5, 0.8)]
    return drawn(arc(centre, radius), *hands)


def wheel(rng: Generator) -> Image.Image:
    centre, radius, spokes = random_centre(rng), random_radius(rng, 14), int(rng.integers(3, 9))
    ends = polygon(centre, radius, spokes, rng.uniform(0, 90))[:spokes]
    return drawn(arc(centre, radius), *[np.stack([centre, end]) for end in ends])


def target(rng: Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 18)
    return drawn(*[arc(centre, radius * share) for share in (0.25, 0.5, 0.75, 1)])


def linked_rings(rng: Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 8, 14)
    return drawn(*[arc(centre + np.array([step * 1.4 * radius, 0]), radius) for step in (-1, 0, 1)])


def lemniscate(rng: Generator) -> Image.Image:
    t = np.linspace(0, 2 * np.pi, 361)
    loop = np.stack([np.cos(t), np.sin(t) * np.cos(t)], axis=1) / (1 + np.sin(t) ** 2)[:, None]
    return drawn(loop * random_radius(rng, 14) + random_centre(rng))


def arrow(rng: Generator) -> Image.Image:
    shape = np.array([[-1, 0], [1, 0], [0.5, 0.4], [1, 0], [0.5, -0.4]])
    angle = rng.uniform(0, 2 * np.pi)
    turned = shape @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return drawn(turned * random_radius(rng, 12) + random_centre(rng))


def house(rng: Generator) -> Image.Image:
    shape = np.array([[-0.7, 0.8], [-0.7, -0.1], [0, -0.9], [0.7, -0.1], [0.7, 0.8], [-0.7, 0.8]])
    return drawn(shape * random_radius(rng, 12) + random_centre(rng))


def pictogram(rng: Generator) -> Image.Image:
    path = Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    sheet = blank_sheet()
    sign = str(rng.choice(list("☃☎☂☯✈✿♞♫⚓☘☠♻⚙⚖✂✉☀☾♠♥")))
    middle = (float(rng.uniform(45, 55)), float(rng.uniform(45, 55)))
    ImageDraw.Draw(sheet).text(middle, sign, 0, ImageFont.truetype(path, int(rng.integers(30, 75))), anchor="mm")
    return sheet


def barcode(rng: Generator) -> Image.Image:
    return picture_of(np.tile(np.repeat(255.0 * rng.integers(0, 2, 34), 3)[:SIDE], (SIDE, 1)))


def square_code(rng: Generator) -> Image.Image:
    modules = np.full((25, 25), 255.0)
    modules[2:-2, 2:-2] = 255 * rng.integers(0, 2, (21, 21))
    return picture_of(np.kron(modules, np.ones((4, 4))))


def circle_on_ruled_paper(rng: Generator) -> Image.Image:
    lines = np.full((SIDE, SIDE), 255.0)
    lines[int(rng.integers(0, 8)) :: int(rng.integers(8, 14))] = 190
    return ImageChops.darker(picture_of(lines), drawn(arc(random_centre(rng), random_radius(rng))))


def four_tiles(rng: Generator) -> Image.Image:
    half = drawn(arc(random_centre(rng), random_radius(rng, 14))).resize((50, 50), Image.Resampling.BICUBIC)
    return picture_of(np.tile(np.asarray(half, dtype=np.float64), (2, 2)))


def half_arrived_circle(rng: Generator) -> Image.Image:
    """As a file that ends early is often shown: grey from some row on."""
    pixels = np.asarray(drawn(arc(random_centre(rng), random_radius(rng))), dtype=np.float64).copy()
    pixels[int(rng.integers(25, 75)) :] = 128
    return picture_of(pixels)


def torn_circle(rng: Generator) -> Image.Image:
    """Bands of rows shifted sideways, as by a bad scan."""
    pixels = np.asarray(drawn(arc(random_centre(rng), random_radius(rng, 12))), dtype=np.float64)
    shifts = np.repeat(rng.integers(-6, 7, 10), 10)
    return picture_of(np.stack([np.roll(row, shift) for row, shift in zip(pixels, shifts, strict=True)]))


@cache
def _photographs() -> list[NDArray[np.uint8]]:
    from sklearn.datasets import load_sample_images

    hopper = Image.open(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    pictures = [Image.fromarray(image) for image in load_sample_images().images]
    return [np.asarray(picture.convert("L")) for picture in (hopper, *pictures)]


def photograph(rng: Generator) -> Image.Image:
    """A part of a photograph, 100 to 300 pixels wide."""
    pixels, side = _photographs()[rng.integers(3)], int(rng.integers(100, 301))
    top, left = (int(rng.integers(0, length - side)) for length in pixels.shape)
    return picture_of(pixels[top : top + side, left : left + side].astype(np.float64))


@cache
def _written_digits() -> NDArray[np.float64]:
    from sklearn.datasets import load_digits

    digits: NDArray[np.float64] = load_digits().images
    return digits


def written_digit(rng: Generator) -> Image.Image:
    """A real handwritten digit of 8x8 pixels, dark on white."""
    digit = _written_digits()[rng.integers(len(_written_digits()))]
    return picture_of(255 - np.kron(np.pad(digit, 2), np.ones((9, 9))) * 255 / 16)


_FAMILIES: tuple[Family, ...] = (
    hand_drawn_circle,
    egg,
    superellipse,
    reuleaux_triangle,
    flattened_circle,
    teardrop,
    double_line_circle,
    dotted_circle,
    circle_with_two_gaps,
    uneven_circle,
    circle_with_shadow,
    half_disc,
    slice_missing,
    lens,
    magnifying_glass,
    clock,
    wheel,
    target,
    linked_rings,
    lemniscate,
    arrow,
    house,
    pictogram,
    barcode,
    square_code,
    circle_on_ruled_paper,
    four_tiles,
    half_arrived_circle,
    torn_circle,
    photograph,
    written_digit,
)

FRESH: Mapping[str, Family] = MappingProxyType({family.__name__.replace("_", " "): family for family in _FAMILIES})
