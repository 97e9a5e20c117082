"""Circles as a hand draws them on the page's pad, judged by the default artifact (`make test-browser`)."""

import itertools
import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from testing.artifacts import DEFAULT_ARTIFACT
from testing.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.slow, pytest.mark.browser]

Point = tuple[float, float]
WAIT = (
    "document.getElementById('pad-verdict').textContent !== '' "
    "&& document.getElementById('result').getAttribute('aria-busy') === 'false'"
)


@pytest.fixture(scope="module")
def page(browser: "Browser") -> "Iterator[Page]":
    with Server(artifact=DEFAULT_ARTIFACT) as server:
        page = browser.new_context(viewport={"width": 390, "height": 844}, bypass_csp=True).new_page()
        page.goto(f"{server.url}/")
        page.locator("#strip canvas").first.wait_for()
        yield page


def hand_drawn_circle(seed: int) -> list[Point]:
    """Of the pad's side: any size and place, a wobble of 1.4% of the radius, ends that do not quite meet."""
    chance = random.Random(seed)
    radius = chance.uniform(0.16, 0.42)
    x, y = (chance.uniform(radius + 0.03, 0.97 - radius) for _ in range(2))
    waves = [(count, chance.gauss(0, 0.014) / (count - 1) ** 0.5, chance.uniform(0, 6.3)) for count in range(2, 6)]
    begin, sweep, steps = chance.uniform(0, 6.3), 2 * math.pi + chance.uniform(-0.08, 0.25), chance.randint(30, 80)
    points = []
    for step in range(steps + 1):
        angle = begin + sweep * step / steps
        reach = radius * (1 + sum(size * math.cos(count * angle + phase) for count, size, phase in waves))
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def verdict_of(page: "Page", points: list[Point]) -> str:
    if page.locator("#clear").is_enabled():
        page.locator("#clear").click()
    page.locator("#pad").scroll_into_view_if_needed()
    box = page.locator("#pad").bounding_box()
    assert box
    (x, y), *rest = [(box["x"] + across * box["width"], box["y"] + down * box["height"]) for across, down in points]
    page.mouse.move(x, y)
    page.mouse.down()
    for x, y in rest:
        page.mouse.move(x, y)
    page.mouse.up()
    page.wait_for_function(WAIT)
    return page.inner_text("#pad-verdict")


def test_nearly_all_circles_of_a_hand_are_normal(page: "Page") -> None:
    verdicts = [verdict_of(page, hand_drawn_circle(seed)) for seed in range(12)]
    assert verdicts.count("normal") >= 10, verdicts


@pytest.mark.parametrize(
    "corners",
    [
        [(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.3)],
        [(0.5, 0.25), (0.75, 0.7), (0.25, 0.7), (0.5, 0.25)],
        [(0.2, 0.5), (0.8, 0.5)],
        [(0.3, 0.3), (0.7, 0.7), (0.7, 0.3), (0.3, 0.7)],
    ],
    ids=["square", "triangle", "line", "zigzag"],
)
def test_what_the_pad_does_to_a_line_makes_no_circle_of_it(page: "Page", corners: list[Point]) -> None:
    points = [
        (fromx + (tox - fromx) * step / 20, fromy + (toy - fromy) * step / 20)
        for (fromx, fromy), (tox, toy) in itertools.pairwise(corners)
        for step in range(21)
    ]
    assert verdict_of(page, points) == "anomaly"
