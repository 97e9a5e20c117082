"""The page in a real browser: Chromium by Playwright, against `python -m app serve` (`make test-browser`)."""

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.routes.page import page_headers
from testing.artifacts import DEFAULT_ARTIFACT, write_tiny_artifact
from testing.pictures import circle_picture, picture
from testing.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE_MILLISECONDS = 15_000
WHITE, BLACK = picture(level=255), picture(level=0)

browser_test = [pytest.mark.slow, pytest.mark.browser]


# Without a browser: what the page's own answer says.


def test_the_page_allows_itself_and_nothing_else(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy


def test_exactly_the_inline_blocks_are_admitted_to_the_last_space() -> None:
    script, style = "\n  if (1 < 2 && 'é') { a('&amp;</b>') }\n", "\n body { color: red } "
    policy = page_headers(f"<style>{style}</style><p onclick='evil()'>text</p><script>{script}</script>")
    for block in (script, style):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"-src 'sha256-{digest}'" in policy["Content-Security-Policy"]


def test_the_page_needs_no_other_host(client: TestClient) -> None:
    text = client.get("/").text
    assert set(re.findall(r"https?://[^'\"\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=\"(?!data:|docs|v1/model|metrics)", text)


def test_the_page_is_not_an_api_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not {"/", "/metrics"} & set(paths)


# With one.


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White is normal; a thin circle on white as well; a duck and black are not."""
    return write_tiny_artifact(tmp_path_factory.mktemp("browser") / "tiny", threshold=0.025)


@pytest.fixture(scope="module")
def address(artifact: Path) -> Iterator[str]:
    with Server(artifact=artifact) as server:
        yield f"{server.url}/"


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS.split())
        yield browser
        browser.close()


class Visit:
    """One visit, which notes whatever a visitor should not have to see."""

    def __init__(self, page: "Page", address: str, has_model: bool) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.goto(address)
        if has_model:
            page.wait_for_function("document.getElementById('model').textContent !== ''")
        self.address = address

    def verdict(self, word: str, about: str = "") -> str:
        """Waits until the headline has `word` and the queue or picture is that of `about`; gives all visible text."""
        self.page.wait_for_function(
            """([word, about]) => document.getElementById('verdict').textContent.includes(word)
                && document.getElementById('result').getAttribute('aria-busy') === 'false'
                && (about === '' || document.querySelector('#original').alt === about)""",
            arg=[word, about],
        )
        return self.page.inner_text("body")

    def pixels(self, canvas: str) -> list[int]:
        """Grey levels (red channel) of one of the 28x28 pictures."""
        script = (
            "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 28, 28).data]"
            ".filter((_, index) => index % 4 === 0)"
        )
        levels: list[int] = self.page.evaluate(script, canvas)
        return levels

    def screenshot(self, name: str) -> None:
        """Kept for people to look at where SCREENSHOTS says."""
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


@pytest.fixture
def visit(browser: "Browser", address: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(url: str = address, has_model: bool = True, **context: Any) -> Visit:
        context = {"viewport": {"width": 1180, "height": 860}, **context}
        visits.append(Visit(browser.new_context(**context).new_page(), url, has_model))
        return visits[-1]

    yield start
    for one in visits:
        one.screenshot(request.node.name)
        one.page.context.close()
        assert one.complaints == [] or request.node.get_closest_marker("complains")
        assert one.hosts <= {one.address.split("/")[2], ""}


def upload(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


class TestInBrowser:
    pytestmark = browser_test

    def test_choosing_a_file_shows_the_verdict_without_a_further_click(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        assert not re.search("anomaly|normal", one.page.inner_text("body"), re.IGNORECASE)
        one.page.locator("input[type=file]").first.set_input_files([upload("black.png", BLACK)])
        assert "anomaly" in one.verdict("anomaly")
        one.page.locator("input[type=file]").first.set_input_files([upload("circle.png", circle_picture())])
        assert "normal" in one.verdict("normal")

    def test_the_default_artifact_tells_a_circle_from_a_duck(self, visit: Callable[..., Visit]) -> None:
        with Server(artifact=DEFAULT_ARTIFACT) as server:
            one = visit(f"{server.url}/")
            for sample, word in (("Circle", "normal"), ("Square", "anomaly"), ("Duck", "anomaly")):
                one.page.get_by_role("button", name=sample, exact=True).click()
                one.verdict(word, sample)
            one.page.mouse.move(0, 0)
            one.screenshot("page")  # docs/page.png

    def test_it_shows_what_the_network_saw_redrew_and_where_they_differ(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        one.page.set_input_files("#file", [upload("black.png", BLACK)])
        text = one.verdict("anomaly")
        assert one.pixels("seen") == [0] * 784
        assert one.pixels("redrawn") == [255] * 784
        assert one.pixels("error") == [60] * 784  # the darkest of the scale: wrong by everything
        assert "Its score is 40 times the threshold" in text
        assert "None of the 99 images that set the threshold scored as high" in text
        assert "redrawn badly here" in text
        assert one.page.locator("#scale .hill").get_attribute("d")
        assert "Score 1, threshold 0.025" in str(one.page.locator("#scale").get_attribute("aria-label"))

    def test_dropping_files(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        self._send_files(one, "drop", BLACK)
        one.verdict("anomaly", "given.png")

    def test_pasting_an_image(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        self._send_files(one, "paste", BLACK)
        one.verdict("anomaly", "given.png")

    def _send_files(self, one: Visit, event: str, content: bytes) -> None:
        one.page.evaluate(
            """([event, content]) => {
                const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt());
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], 'given.png', {type: 'image/png'}));
                const made = event === 'drop' ? new DragEvent('drop', {dataTransfer: transfer, cancelable: true})
                    : new ClipboardEvent('paste', {clipboardData: transfer});
                dispatchEvent(made);
            }""",
            [event, base64.b64encode(content).decode()],
        )

    @pytest.mark.parametrize(
        ("sample", "word"), [("Circle", "normal"), ("Square", "normal"), ("Blank", "normal"), ("Duck", "anomaly")]
    )
    def test_samples(self, visit: Callable[..., Visit], sample: str, word: str) -> None:
        one = visit()
        one.page.get_by_role("button", name=sample, exact=True).click()
        one.verdict(word, sample)

    def test_drawing_is_judged_stroke_by_stroke(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        box = one.page.locator("#pad").bounding_box()
        assert box
        one.page.locator("#pad").scroll_into_view_if_needed()

        def stroke(height: float) -> None:
            one.page.mouse.move(box["x"] + 20, box["y"] + height)
            one.page.mouse.down()
            one.page.mouse.move(box["x"] + 200, box["y"] + height, steps=8)
            one.page.mouse.up()

        stroke(100)
        one.verdict("normal", "Your drawing")
        dark = sum(level < 200 for level in one.pixels("seen"))
        assert dark > 10
        stroke(150)
        one.page.wait_for_function(
            "document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data"
            f".filter((level, index) => index % 4 === 0 && level < 200).length > {dark}"
        )
        assert one.page.locator("#queue-part").is_hidden()  # one drawing, however many strokes
        assert one.page.inner_text("#pad-verdict") == "normal"
        one.page.get_by_role("button", name="Undo").click()
        one.page.get_by_role("button", name="Clear").click()
        assert one.page.get_by_role("button", name="Clear").is_disabled()

    @pytest.mark.complains
    def test_several_at_once_make_a_queue_of_thumbnails(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        files = [upload(f"white-{number}.png", WHITE) for number in range(5)]
        one.page.set_input_files("#file", [*files, upload("black.png", BLACK), upload("letter.png", b"Dear sir")])
        one.page.wait_for_function(
            "document.getElementById('tally').textContent === '7 images: 5 normal, 1 anomaly, 1 not judged.'"
        )
        one.page.get_by_role("button", name="black.png: anomaly").click()
        one.verdict("anomaly", "black.png")

    @pytest.mark.complains  # the browser notes the answer 415 in its console
    def test_a_bad_file_is_refused_in_words(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        one.page.set_input_files("#file", [upload("letter.png", b"Dear sir")])
        text = one.verdict("could not be judged")
        assert "not one of PNG, JPEG, WebP, BMP, GIF" in text
        assert not re.search("anomaly|normal", text)
        assert one.page.get_by_role("button", name="Try again").is_hidden()

    @pytest.mark.complains
    def test_a_service_that_is_gone_is_said_and_can_be_tried_again(
        self, visit: Callable[..., Visit], artifact: Path
    ) -> None:
        one = visit()
        one.page.context.set_offline(True)
        one.page.set_input_files("#file", [upload("white.png", WHITE)])
        assert "cannot be reached" in one.verdict("could not be judged")
        one.page.context.set_offline(False)
        one.page.get_by_role("button", name="Try again").click()
        one.verdict("normal")

    @pytest.mark.complains
    def test_a_service_with_tokens_asks_for_one_and_keeps_it_for_the_tab(
        self, visit: Callable[..., Visit], artifact: Path
    ) -> None:
        with Server(artifact=artifact, tokens="right-and-long-enough") as server:
            self._give_tokens(visit(f"{server.url}/", has_model=False))

    def _give_tokens(self, one: Visit) -> None:
        one.page.set_input_files("#file", [upload("white.png", WHITE)])
        assert "It waits for a token" in one.verdict("could not be judged")
        one.screenshot("token")
        one.page.get_by_label("Token").fill("wrong")
        one.page.keyboard.press("Enter")
        one.page.wait_for_function("document.body.innerText.includes('does not accept this token')")
        one.page.get_by_label("Token").fill("right-and-long-enough")
        one.page.keyboard.press("Enter")
        one.verdict("normal")
        assert one.page.evaluate("[sessionStorage.token, localStorage.length]") == ["right-and-long-enough", 0]

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_text_stands_out_in_light_and_in_dark(self, visit: Callable[..., Visit], scheme: str) -> None:
        one = visit(color_scheme=scheme)
        one.page.get_by_role("button", name="Duck").click()
        one.verdict("anomaly")
        paper = self._color(one, "body", "backgroundColor")
        assert (sum(paper) < 200) == (scheme == "dark")
        for selector in ("h1", "#verdict", "#words", "figcaption", ".drop .small", "#why small"):
            assert contrast(self._color(one, selector, "color"), paper) >= 4.5, selector

    def _color(self, one: Visit, selector: str, name: str) -> tuple[int, ...]:
        color = one.page.eval_on_selector(selector, f"one => getComputedStyle(one).{name}")
        return tuple(int(part) for part in re.findall(r"\d+", color)[:3])

    @pytest.mark.parametrize("width", [320, 360, 768, 1600])
    def test_nothing_scrolls_sideways(self, visit: Callable[..., Visit], width: int) -> None:
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

    def test_the_keyboard_alone_is_enough(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        for _ in range(20):
            one.page.keyboard.press("Tab")
            if one.page.evaluate("document.activeElement.textContent") == "Duck":
                break
        outline = one.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        one.page.keyboard.press("Enter")
        one.verdict("anomaly", "Duck")
        one.page.keyboard.press("Shift+Tab")
        one.page.keyboard.press("Space")
        one.verdict("normal", "Blank")
        one.page.get_by_role("button", name="Duck: anomaly").focus()
        one.page.keyboard.press("Enter")
        one.verdict("anomaly", "Duck")
        assert one.page.evaluate("document.activeElement.getAttribute('aria-label')") == "Duck: anomaly"

    def test_screen_readers_hear_the_verdict_and_can_name_everything(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        one.page.get_by_role("button", name="Duck").click()
        one.verdict("anomaly")
        assert one.page.get_by_role("status").last.inner_text().startswith("Duck: This is an anomaly.")
        nameless = one.page.evaluate(
            """[...document.querySelectorAll('button, a, input, img, svg[role=img], canvas[role=img]')]
                .filter((one) => one.checkVisibility())
                .filter((one) => !(one.textContent.trim() || one.alt || one.getAttribute('aria-label')
                    || one.getAttribute('aria-labelledby') || one.labels?.length)).map((one) => one.outerHTML)"""
        )
        assert nameless == []

    def test_a_transparent_image_is_shown_as_it_was_sent(self, visit: Callable[..., Visit]) -> None:
        buffer = BytesIO()
        Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(buffer, "PNG")
        one = visit()
        one.page.set_input_files("#file", [upload("glass.png", buffer.getvalue())])
        one.verdict("normal")
        assert one.page.evaluate("document.getElementById('original').naturalWidth") == 40


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """The contrast ratio of WCAG 2, from 1 to 21."""

    def luminance(color: tuple[int, ...]) -> float:
        parts = [level / 255 for level in color]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
