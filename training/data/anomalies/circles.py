"""Anomalies that are nearly circles: of other widths, levels and places, broken, doubled or covered."""

import numpy as np
from PIL import Image, ImageFilter

from training.data.anomalies.pen import (
    LINE_WIDTH,
    WHITE,
    Family,
    arc,
    blank_sheet,
    drawn,
    fill,
    polygon,
    random_centre,
    random_radius,
    stroke,
)


def circle(rng: np.random.Generator) -> Image.Image:
    """A circle much like the tutorial's, drawn by this module: not an anomaly, a check on the drawing."""
    return drawn(arc(random_centre(rng), random_radius(rng)))


def ellipse(ratio: float) -> Family:
    return lambda rng: drawn(arc(random_centre(rng), random_radius(rng), ratio=ratio, tilt=rng.uniform(0, 180)))


def gap(degrees: float) -> Family:
    return lambda rng: drawn(arc(random_centre(rng), random_radius(rng), rng.uniform(0, 360), degrees))


def circle_of(width: float = LINE_WIDTH, ink: int = 0, paper: int = WHITE) -> Family:
    return lambda rng: drawn(arc(random_centre(rng), random_radius(rng)), width=width, ink=ink, paper=paper)


def shifted(least: float, most: float) -> Family:
    def draw(rng: np.random.Generator) -> Image.Image:
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(least, most)
        away = distance * np.array([np.cos(angle), np.sin(angle)])
        return drawn(arc(random_centre(rng) + away, random_radius(rng, 8, 30)))

    return draw


def dashed(dashes: int) -> Family:
    def draw(rng: np.random.Generator) -> Image.Image:
        centre, radius, start = random_centre(rng), random_radius(rng), rng.uniform(0, 360)
        step = 360 / dashes
        return drawn(*[arc(centre, radius, start + i * step, step * 0.6) for i in range(dashes)])

    return draw


def wavy(amplitude: float) -> Family:
    def draw(rng: np.random.Generator) -> Image.Image:
        angles = np.linspace(0, 2 * np.pi, 361)
        waves, phase = int(rng.integers(4, 11)), rng.uniform(0, 2 * np.pi)
        radii = random_radius(rng, 12) * (1 + amplitude * np.sin(waves * angles + phase))
        return drawn(np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1) + random_centre(rng))

    return draw


def filled_circle(rng: np.random.Generator) -> Image.Image:
    sheet = blank_sheet()
    fill(sheet, arc(random_centre(rng), random_radius(rng)))
    return sheet


def inverted_circle(rng: np.random.Generator) -> Image.Image:
    return drawn(arc(random_centre(rng), random_radius(rng)), ink=255, paper=0)


def half_filled_circle(rng: np.random.Generator) -> Image.Image:
    sheet, centre, radius = blank_sheet(), random_centre(rng), random_radius(rng)
    fill(sheet, arc(centre, radius, rng.uniform(0, 360), 180))
    stroke(sheet, arc(centre, radius))
    return sheet


def concentric_circles(rng: np.random.Generator) -> Image.Image:
    centre, radius = random_centre(rng), random_radius(rng, 14)
    return drawn(arc(centre, radius), arc(centre, radius * rng.uniform(0.3, 0.75)))


def two_circles(rng: np.random.Generator) -> Image.Image:
    aside = np.array([18, 0])
    left, right = random_centre(rng) - aside, random_centre(rng) + aside
    return drawn(arc(left, random_radius(rng, 6, 16)), arc(right, random_radius(rng, 6, 16)))


def overlapping_circles(rng: np.random.Generator) -> Image.Image:
    centre, angle = random_centre(rng), rng.uniform(0, 2 * np.pi)
    away = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(6, 14)
    return drawn(arc(centre, random_radius(rng, 12, 28)), arc(centre + away, random_radius(rng, 12, 28)))


def circle_with_stroke(rng: np.random.Generator) -> Image.Image:
    start = rng.uniform(15, 85, 2)
    angle = rng.uniform(0, 2 * np.pi)
    stroke = np.stack([start, start + rng.uniform(15, 40) * np.array([np.cos(angle), np.sin(angle)])])
    return drawn(arc(random_centre(rng), random_radius(rng)), stroke)


def circle_with_dot(rng: np.random.Generator) -> Image.Image:
    sheet, centre = blank_sheet(), random_centre(rng)
    stroke(sheet, arc(centre, random_radius(rng, 12)))
    fill(sheet, arc(centre, rng.uniform(2, 4)))
    return sheet


def circle_with_cross(rng: np.random.Generator) -> Image.Image:
    centre, radius, turn = random_centre(rng), random_radius(rng), rng.uniform(0, 90)
    lines = [polygon(centre, radius, 2, turn)[:2], polygon(centre, radius, 2, turn + 90)[:2]]
    return drawn(arc(centre, radius), *lines)


def occluded_circle(rng: np.random.Generator) -> Image.Image:
    sheet, centre, radius, angle = blank_sheet(), random_centre(rng), random_radius(rng, 12), rng.uniform(0, 2 * np.pi)
    stroke(sheet, arc(centre, radius))
    middle = centre + radius * np.array([np.cos(angle), np.sin(angle)])
    fill(sheet, polygon(middle, rng.uniform(7, 14), 4, 45), ink=WHITE)
    return sheet


def occluded_grey_circle(rng: np.random.Generator) -> Image.Image:
    sheet, centre, radius, angle = blank_sheet(), random_centre(rng), random_radius(rng, 12), rng.uniform(0, 2 * np.pi)
    stroke(sheet, arc(centre, radius))
    middle = centre + radius * np.array([np.cos(angle), np.sin(angle)])
    fill(sheet, polygon(middle, rng.uniform(6, 12), 4, 45), ink=int(rng.integers(60, 180)))
    return sheet


def cut_circle(rng: np.random.Generator) -> Image.Image:
    """A circle whose one half is shifted along the cut."""
    centre, radius, turn = random_centre(rng), random_radius(rng, 12), rng.uniform(0, 360)
    along = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))]) * rng.uniform(4, 9)
    return drawn(arc(centre, radius, turn, 180), arc(centre, radius, turn + 180, 180) + along)


def squashed_four_to_three(rng: np.random.Generator) -> Image.Image:
    return drawn(arc(random_centre(rng), random_radius(rng), ratio=0.75, tilt=90.0 * rng.integers(0, 2)))


def framed_circle(rng: np.random.Generator) -> Image.Image:
    return drawn(arc(random_centre(rng), random_radius(rng, 8, 30)), polygon(np.array([50.0, 50.0]), 62, 4, 45))


def blurred_circle(rng: np.random.Generator) -> Image.Image:
    return drawn(arc(random_centre(rng), random_radius(rng))).filter(ImageFilter.GaussianBlur(rng.uniform(4, 7)))


def fading_circle(rng: np.random.Generator) -> Image.Image:
    """A circle whose ink fades along its length."""
    sheet, centre, radius, start = blank_sheet(), random_centre(rng), random_radius(rng), rng.uniform(0, 360)
    for step in range(36):
        stroke(sheet, arc(centre, radius, start + 10 * step, 11), ink=round(step * 200 / 35))
    return sheet


def too_large_circle(rng: np.random.Generator) -> Image.Image:
    return drawn(arc(random_centre(rng), random_radius(rng, 39, 47)))
