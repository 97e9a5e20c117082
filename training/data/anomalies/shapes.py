"""Anomalies of other shapes, outlined or filled: polygons, stars, letters, ducks."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.anomalies.pen import (
    WHITE,
    Family,
    arc,
    blank_sheet,
    drawn,
    fill,
    polygon,
    random_centre,
    random_radius,
    star,
)


def corners(corners: int) -> Family:
    return lambda rng: drawn(polygon(random_centre(rng), random_radius(rng), corners, rng.uniform(0, 360)))


def written(characters: str) -> Family:
    def draw(rng: np.random.Generator) -> Image.Image:
        sheet = blank_sheet()
        font = ImageFont.load_default(size=int(rng.integers(35, 80)))
        text = str(rng.choice(list(characters)))
        at = tuple(random_centre(rng) + rng.normal(0, 3, 2))
        ImageDraw.Draw(sheet).text(at, text, fill=0, font=font, anchor="mm")
        return sheet

    return draw


def filled_square(rng: np.random.Generator) -> Image.Image:
    sheet = blank_sheet()
    fill(sheet, polygon(random_centre(rng), random_radius(rng), 4, rng.uniform(0, 90)))
    return sheet


def rounded_square(rng: np.random.Generator) -> Image.Image:
    angles = np.linspace(0, 2 * np.pi, 361)
    c, s = np.cos(angles), np.sin(angles)
    radius = random_radius(rng, 10, 33)
    points = np.stack([np.sign(c) * abs(c) ** 0.5, np.sign(s) * abs(s) ** 0.5], axis=1) * radius
    return drawn(points + random_centre(rng))


def rectangle(rng: np.random.Generator) -> Image.Image:
    half = np.array([random_radius(rng, 8, 32), random_radius(rng, 8, 32)])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]]) * half
    return drawn(corners + random_centre(rng))


def upright_square(rng: np.random.Generator) -> Image.Image:
    return drawn(polygon(random_centre(rng), random_radius(rng), 4, 45))


def plus_sign(rng: np.random.Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng)
    return drawn(polygon(centre, radius, 2, 0)[:2], polygon(centre, radius, 2, 90)[:2])


def diagonal_cross(rng: np.random.Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng)
    return drawn(polygon(centre, radius, 2, 45)[:2], polygon(centre, radius, 2, 135)[:2])


def one_line(rng: np.random.Generator) -> Image.Image:
    return drawn(polygon(random_centre(rng), random_radius(rng), 2, rng.uniform(0, 180))[:2])


def random_lines(rng: np.random.Generator) -> Image.Image:
    return drawn(*[rng.uniform(10, 90, (2, 2)) for _ in range(int(rng.integers(2, 7)))])


def parallel_lines(rng: np.random.Generator) -> Image.Image:
    rows = np.arange(rng.uniform(5, 15), 95, rng.uniform(8, 20))
    return drawn(*[np.array([[10, y], [90, y]]) for y in rows])


def scribble(rng: np.random.Generator) -> Image.Image:
    steps = np.cumsum(rng.normal(0, 6, (40, 2)), axis=0)
    return drawn(np.clip(steps - steps.mean(axis=0) + random_centre(rng), 5, 95))


def five_pointed_star(rng: np.random.Generator) -> Image.Image:
    return drawn(star(random_centre(rng), random_radius(rng, 12), 5, rng.uniform(0, 72)))


def eight_pointed_star(rng: np.random.Generator) -> Image.Image:
    return drawn(star(random_centre(rng), random_radius(rng, 12), 8, rng.uniform(0, 45), inner=0.7))


def spiral(rng: np.random.Generator) -> Image.Image:
    angles = np.linspace(0, 2 * np.pi * rng.uniform(1.5, 4), 500)
    radii = np.linspace(0, random_radius(rng, 16), 500)
    points = np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)
    return drawn(points + random_centre(rng))


def heart(rng: np.random.Generator) -> Image.Image:
    t = np.linspace(0, 2 * np.pi, 300)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return drawn(np.stack([x, y], axis=1) / 16 * random_radius(rng, 10) + random_centre(rng))


def crescent(rng: np.random.Generator) -> Image.Image:
    centre, radius, turn = random_centre(rng), random_radius(rng, 12), rng.uniform(0, 360)
    away = radius * 0.5 * np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
    sheet = blank_sheet()
    fill(sheet, arc(centre, radius))
    fill(sheet, arc(centre + away, radius), ink=WHITE)
    return sheet


def smiley(rng: np.random.Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 16)
    eyes = [arc(centre + np.array([x, -0.3]) * radius, radius * 0.1) for x in (-0.35, 0.35)]
    return drawn(arc(centre, radius), arc(centre, radius * 0.6, 30, 120), *eyes)


def flower(rng: np.random.Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 12, 30)
    petals = int(rng.integers(4, 8))
    middles = polygon(centre, radius * 0.6, petals, rng.uniform(0, 90))[:petals]
    return drawn(*[arc(middle, radius * 0.4) for middle in middles])


_BACK_OF_DUCK = [[8, 42], [20, 36], [24, 26], [33, 20], [43, 24], [47, 34], [44, 46], [56, 50], [72, 46], [90, 38]]
_BELLY_OF_DUCK = [[86, 56], [76, 70], [58, 78], [38, 77], [25, 68], [22, 56], [27, 48], [18, 46], [8, 42]]
DUCK = np.array([*_BACK_OF_DUCK, *_BELLY_OF_DUCK], dtype=float)


def duck(rng: np.random.Generator) -> Image.Image:
    sheet = blank_sheet()
    points = (DUCK - 50) * rng.uniform(0.6, 1.0) * [rng.choice([-1, 1]), 1] + 50 + rng.normal(0, 3, 2)
    fill(sheet, points, ink=int(rng.integers(0, 190)))
    return sheet


def duck_outline(rng: np.random.Generator) -> Image.Image:
    return drawn((DUCK - 50) * rng.uniform(0.5, 0.9) + random_centre(rng))


def one_dot(rng: np.random.Generator) -> Image.Image:
    sheet = blank_sheet()
    fill(sheet, arc(random_centre(rng), rng.uniform(1, 3)))
    return sheet
