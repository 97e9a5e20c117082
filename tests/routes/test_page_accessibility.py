"""The page on small screens, in the dark, by keyboard and for screen readers (`make test-browser`)."""

import re
from collections.abc import Callable

import pytest

from testing.browser import Visit, upload
from testing.pictures import picture

WHITE, BLACK = picture(level=255), picture(level=0)

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_a_phone_is_offered_its_camera_and_no_mouse(visit: Callable[..., Visit]) -> None:
    one = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert one.page.get_by_text("Take a photo").is_visible()
    assert one.page.get_by_text("or drop them").is_hidden()
    assert one.page.locator("input[type=file]").first.get_attribute("id") == "file"
    assert visit().page.get_by_text("Take a photo").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_in_dark(visit: Callable[..., Visit], scheme: str) -> None:
    one = visit(color_scheme=scheme)
    one.page.get_by_role("button", name="A stranger").click()
    one.verdict("anomaly")
    paper = _color(one, "body", "backgroundColor")
    assert (sum(paper) < 200) == (scheme == "dark")
    for selector in ("h1", "#verdict", "#words", "figcaption", ".drop .small", "#why li"):
        assert contrast(_color(one, selector, "color"), paper) >= 4.5, selector


def _color(one: Visit, selector: str, name: str) -> tuple[int, ...]:
    color = one.page.eval_on_selector(selector, f"one => getComputedStyle(one).{name}")
    return tuple(int(part) for part in re.findall(r"\d+", color)[:3])


@pytest.mark.parametrize("width", [320, 360, 768, 1600])
def test_nothing_scrolls_sideways(visit: Callable[..., Visit], width: int) -> None:
    one = visit(viewport={"width": width, "height": 740}, has_touch=True)
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert one.page.evaluate(sideways) == 0
    name = "a-file-with-a-name-that-has-no-space-and-does-not-end-for-quite-some-time.png"
    one.page.set_input_files("#file", [upload(name, BLACK), upload("b.png", WHITE)])
    one.verdict("anomaly")
    one.page.get_by_text("Numbers, and the same from a terminal").click()
    assert one.page.evaluate(sideways) == 0
    buttons = "[...document.querySelectorAll('button, .button')].filter((one) => one.checkVisibility())"
    assert one.page.evaluate(f"{buttons}.filter((one) => one.offsetHeight < 44).length") == 0


def test_the_keyboard_alone_is_enough(visit: Callable[..., Visit]) -> None:
    one = visit()
    for _ in range(20):
        one.page.keyboard.press("Tab")
        if one.page.evaluate("document.activeElement.textContent") == "A stranger":
            break
    outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    one.page.keyboard.press("Enter")
    one.verdict("anomaly", "A stranger")
    one.page.keyboard.press("Shift+Tab")
    one.page.keyboard.press("Space")
    one.verdict("normal", "Another")
    one.page.get_by_role("button", name="A stranger: anomaly").focus()
    one.page.keyboard.press("Enter")
    one.verdict("anomaly", "A stranger")
    assert one.page.evaluate("document.activeElement.getAttribute('aria-label')") == "A stranger: anomaly"


def test_screen_readers_hear_the_verdict_and_can_name_everything(visit: Callable[..., Visit]) -> None:
    one = visit()
    one.page.get_by_role("button", name="A stranger").click()
    one.verdict("anomaly")
    assert one.page.get_by_role("status").last.inner_text().startswith("A stranger: This is an anomaly.")
    nameless = one.page.evaluate(
        """[...document.querySelectorAll('button, a, input, img, svg[role=img], canvas[role=img]')]
            .filter((one) => one.checkVisibility())
            .filter((one) => !(one.textContent.trim() || one.alt || one.getAttribute('aria-label')
                || one.getAttribute('aria-labelledby') || one.labels?.length)).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(color: tuple[int, ...]) -> float:
        parts = [level / 255 for level in color]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
