"""The page in a real browser: Chromium by Playwright, against `python -m app serve` (`make test-browser`)."""

import base64
import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.routes.page import page_headers
from app.settings import Settings
from testing.artifacts import DEFAULT_ARTIFACT, write_tiny_artifact
from testing.pictures import circle_picture, encoded, picture
from testing.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
PATIENCE_MILLISECONDS = 15_000
DUCK = np.full((28, 28), 255, np.uint8)
DUCK[8:20, 6:24] = 90


def thin_circle(radius: float) -> "NDArray[np.uint8]":
    """Of the width of one fourth of a pixel."""
    rows, columns = np.mgrid[:28, :28] + 0.5
    away = np.abs(np.hypot(rows - 14, columns - 14) - radius)
    return (255 * (1 - 0.25 * np.clip(1.2 - away, 0, 1))).astype(np.uint8)


WHITE, BLACK = picture(level=255), picture(level=0)

browser_test = [pytest.mark.slow, pytest.mark.browser]


# Without a browser: what the page's own answer says.


def test_the_page_allows_itself_and_nothing_else(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_exactly_the_inline_blocks_are_admitted_to_the_last_space() -> None:
    script, style = "\n  if (1 < 2 && 'é') { a('&amp;</b>') }\n", "\n body { color: red } "
    policy = page_headers(f"<style>{style}</style><p onclick='evil()'>text</p><script>{script}</script>")
    for block in (script, style):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"-src 'sha256-{digest}'" in policy["Content-Security-Policy"]


def test_the_pages_have_the_styles_that_they_share(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    client = make_client(keep_folder=tmp_path)
    for path in ("/", "/review"):
        text = client.get(path).text
        assert text.count("--paper: #faf8f4") == 1
        assert "shared.css" not in text


def test_the_page_needs_no_other_host(client: TestClient) -> None:
    text = client.get("/").text
    assert set(re.findall(r"https?://[^'\"\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=\"(?!data:|docs|report|metrics)", text)


def test_the_report_is_served_as_the_manifest_lists_it_and_nothing_else(tmp_path: Path) -> None:
    report = {"index.html": b"<h1>Report</h1>", "roc.png": WHITE}
    folder = write_tiny_artifact(tmp_path / "tiny", report=report)
    (folder / "report" / "added.html").write_bytes(b"nobody listed this")
    with TestClient(create_app(Settings(artifact=folder))) as client:
        page = client.get("/report")
        assert page.text == "<h1>Report</h1>"
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; img-src 'self' data:; ")
        assert client.get("/report/roc.png").headers["content-type"] == "image/png"
        for path in ("/report/added.html", "/report/..%2Fmanifest.json", "/report/%2e%2e/manifest.json", "/report/"):
            assert client.get(path).status_code == 404, path
        assert client.get("/v1/model").json()["has_report"]


def test_samples_of_the_artifact_are_pngs(tmp_path: Path) -> None:
    folder = write_tiny_artifact(
        tmp_path / "tiny", samples=(thin_circle(5)[np.newaxis], DUCK[np.newaxis]), name="Round-things"
    )
    with TestClient(create_app(Settings(artifact=folder))) as client:
        answer = client.get("/v1/model/samples").json()
        assert client.get("/v1/model").json()["noun"] == "round things"
    for found, image in ((answer["normal"], thin_circle(5)), (answer["odd"], DUCK)):
        with Image.open(BytesIO(base64.b64decode(found[0]))) as opened:
            np.testing.assert_array_equal(np.asarray(opened), image)


def test_an_artifact_without_samples_and_report_says_so(client: TestClient) -> None:
    assert client.get("/v1/model/samples").json() == {"normal": [], "odd": []}
    assert client.get("/v1/model").json()["has_report"] is False
    assert client.get("/v1/model").json()["noun"] == "images of tiny"
    assert client.get("/report").status_code == 404


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({}, True),
        ({"X-Gate-Source": "page"}, False),
        ({"X-Gate-Source": "page", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_only_what_the_page_sends_is_no_evidence_of_drift_and_it_is_counted_apart(
    client: TestClient, headers: dict[str, str], counts: bool
) -> None:
    for _ in range(12):
        assert client.post("/v1/predict", content=BLACK, headers=headers).json()["is_anomaly"]
    metrics = client.get("/metrics").text
    assert ("gate_drift_evidence_log10 0.0" in metrics) != counts
    assert f"gate_page_images_total {0 if counts else 12}.0" in metrics


def test_the_page_is_not_an_api_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not {"/", "/metrics"} & set(paths)


# With one.


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White is normal; a thin circle on white as well; a duck and black are not."""
    samples = (np.stack([thin_circle(radius) for radius in range(3, 13)]), np.stack([DUCK, np.zeros_like(DUCK)]))
    folder = tmp_path_factory.mktemp("browser") / "tiny"
    return write_tiny_artifact(
        folder,
        0.025,
        samples,
        {"index.html": b"<link rel=icon href=data:,><h1>The report</h1>"},
        data={"kind": "circles"},
    )


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
        # The tools that wait for something on the page evaluate strings in it, which the page itself does not allow.
        context = {"viewport": {"width": 1180, "height": 860}, "bypass_csp": True, **context}
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

    def test_nothing_that_the_page_does_breaks_its_own_policy(self, visit: Callable[..., Visit]) -> None:
        one = visit(bypass_csp=False, has_model=False)
        one.page.locator("#strip canvas").first.wait_for()
        one.page.set_input_files("#file", [upload("black.png", BLACK), upload("white.png", WHITE)])
        one.page.locator("#tally").filter(has_text="2 images: 1 normal, 1 anomaly.").wait_for()
        one.page.get_by_role("button", name="Save as CSV").click()

    def test_it_says_what_belongs_and_shows_it(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        assert one.page.inner_text("h1") == "Is this one of the circles it learnt?"
        assert one.page.locator("#strip canvas").count() == 8
        names = one.page.locator("#samples button").all_inner_texts()
        assert names == ["One of them", "Another", "A stranger", "Another stranger"]
        assert min(one.pixels("guide")) < 255  # the faint one on the pad
        one.page.set_input_files("#file", [upload("circle.png", encoded(Image.fromarray(thin_circle(7))))])
        one.verdict("normal")
        np.testing.assert_allclose(one.pixels("nearest"), thin_circle(7).reshape(-1))

    def test_an_artifact_without_samples_has_a_page_too(self, visit: Callable[..., Visit], tmp_path: Path) -> None:
        with Server(artifact=write_tiny_artifact(tmp_path / "old", 0.025)) as server:
            one = visit(f"{server.url}/")
            assert one.page.locator("#strip-part").is_hidden()
            assert one.page.locator("#samples-part").is_hidden()
            one.page.set_input_files("#file", [upload("black.png", BLACK)])
            one.verdict("anomaly")
            assert one.page.locator("#nearest-part").is_hidden()
            assert one.page.get_by_role("link", name="Model").is_hidden()

    def test_a_circle_drawn_with_another_pen_and_elsewhere_is_judged_with_that_of_the_artifact(
        self, visit: Callable[..., Visit]
    ) -> None:
        one = visit()
        one.page.locator("#pad").scroll_into_view_if_needed()
        box = one.page.locator("#pad").bounding_box()
        assert box
        scale = box["width"] / 280
        for step in range(41):
            angle = 2 * math.pi * step / 40
            at = (100 + 50 * math.cos(angle), 170 + 50 * math.sin(angle))
            one.page.mouse.move(box["x"] + scale * at[0], box["y"] + scale * at[1])
            if step == 0:
                one.page.mouse.down()
        one.page.mouse.up()
        one.verdict("normal", "Your drawing")
        ink = 1 - np.array(one.pixels("seen")).reshape(28, 28) / 255
        belongs = 1 - thin_circle(5) / 255
        assert (ink**2).sum() / ink.sum() == pytest.approx((belongs**2).sum() / belongs.sum(), rel=0.1)
        rows, columns = np.mgrid[:28, :28] + 0.5
        assert (ink * columns).sum() / ink.sum() == pytest.approx(14, abs=0.3)
        assert (ink * rows).sum() / ink.sum() == pytest.approx(14, abs=0.3)

    def test_the_bars_say_what_is_beyond_the_limit(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        for content, word in ((BLACK, "anomaly"), (WHITE, "normal")):
            one.page.set_input_files("#file", [upload(f"{word}.png", content)])
            one.verdict(word, f"{word}.png")
            assert one.page.locator(f"#why rect.{word}").count() == 1
        one.page.get_by_text("Numbers, and the same from a terminal").click()
        assert "(p-value 1)" in one.page.inner_text("#numbers")

    @pytest.mark.complains
    def test_a_batch_can_be_filtered_cleared_and_saved(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        files = [upload("white.png", WHITE), upload("=black.png", BLACK), upload("letter.png", b"Dear sir")]
        one.page.set_input_files("#file", files)
        one.page.locator("#tally").filter(has_text="3 images: 1 normal, 1 anomaly, 1 not judged.").wait_for()
        assert one.page.inner_text("#failed").startswith("letter.png: The file is not one of PNG")
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name="Save as CSV").click()
        lines = Path(download.value.path()).read_text().splitlines()
        assert lines[0] == "name,verdict,score,threshold,p_value,model,detail"
        assert lines[1].startswith('"white.png","normal","0","0.025')
        assert lines[2].startswith('"\'=black.png","anomaly","1","0.025')
        assert lines[3].startswith('"letter.png","not judged","","","","","The file is not one of')
        one.page.get_by_role("button", name="Anomalies", exact=True).click()
        assert one.page.locator("#queue button").count() == 1
        one.page.get_by_role("button", name="All", exact=True).click()
        one.page.get_by_role("button", name="=black.png: anomaly").click()
        one.page.get_by_role("button", name="Remove this one").click()
        one.page.locator("#tally").filter(has_text="2 images: 1 normal, 1 not judged.").wait_for()
        one.page.get_by_role("button", name="Clear all").click()
        assert one.page.inner_text("#verdict") == "Nothing judged yet"
        assert one.page.locator("#queue-part").is_hidden()

    def test_a_phone_is_offered_its_camera_and_no_mouse(self, visit: Callable[..., Visit]) -> None:
        one = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
        assert one.page.get_by_text("Take a photo").is_visible()
        assert one.page.get_by_text("or drop them").is_hidden()
        assert one.page.locator("input[type=file]").first.get_attribute("id") == "file"
        assert visit().page.get_by_text("Take a photo").is_hidden()

    def test_the_link_opens_the_report(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        one.page.get_by_role("link", name="Model").click()
        one.page.get_by_role("heading", name="The report").wait_for()

    def test_what_the_page_sends_is_no_evidence_of_drift(self, visit: Callable[..., Visit], artifact: Path) -> None:
        with Server(artifact=artifact) as server:
            one = visit(f"{server.url}/")
            one.page.set_input_files("#file", [upload(f"{number}.png", BLACK) for number in range(12)])
            one.page.locator("#tally").filter(has_text="12 images: 12 anomalies.").wait_for()
            metrics = httpx2.get(f"{server.url}/metrics").text
            assert "gate_page_images_total 12.0" in metrics
            assert "gate_drift_evidence_log10 0.0" in metrics

    def test_the_api_page_shows_every_route_once(self, visit: Callable[..., Visit], address: str) -> None:
        one = visit(f"{address}docs", has_model=False, bypass_csp=False)
        one.page.locator(".opblock").first.wait_for()
        shown = one.page.locator(".opblock-summary-path").all_inner_texts()
        assert len([path for path in shown if "gate" in path]) == 1
        assert any("predict" in path for path in shown)

    def test_the_default_artifact_tells_circles_from_strangers(self, visit: Callable[..., Visit]) -> None:
        with Server(artifact=DEFAULT_ARTIFACT) as server:
            one = visit(f"{server.url}/")
            if not one.page.locator("#samples button").count():
                pytest.skip("the artifact has no samples: python -m training.add_samples")
            for sample, word in (("One of them", "normal"), ("A stranger", "anomaly")):
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
        assert "the dotted line stands at 1 in 100." in text
        assert one.page.locator("#scale .hill").get_attribute("d")
        assert "Score 1, threshold 0.025" in str(one.page.locator("#scale").get_attribute("aria-label"))

    def test_a_score_is_told_in_words_that_need_no_statistics(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        words = "([score, p]) => ratioWords(score, .5) + ' ' + rankWords(p)"
        said = [one.page.evaluate(words, [score, p]) for score, p in ((-0.129, 0.999), (0.25, 0.6))]
        assert said[0] == "Its score, -0.129, is far below the threshold, 0.5. " + (
            "Nearly all images that belong score as high or higher."
        )
        assert (
            said[1] == "Its score is 50% of the threshold. About 60 of 100 images that belong score as high or higher."
        )

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
        ("sample", "word"),
        [("One of them", "normal"), ("Another", "normal"), ("A stranger", "anomaly"), ("Another stranger", "anomaly")],
    )
    def test_samples_come_from_the_artifact(self, visit: Callable[..., Visit], sample: str, word: str) -> None:
        one = visit()
        one.page.get_by_role("button", name=sample, exact=True).click()
        one.verdict(word, sample)

    def test_drawing_is_judged_stroke_by_stroke(self, visit: Callable[..., Visit]) -> None:
        one = visit()
        one.page.locator("#pad").scroll_into_view_if_needed()
        box = one.page.locator("#pad").bounding_box()
        assert box

        def stroke(height: float) -> None:
            one.page.mouse.move(box["x"] + 20, box["y"] + height)
            one.page.mouse.down()
            one.page.mouse.move(box["x"] + 200, box["y"] + height, steps=8)
            one.page.mouse.up()

        stroke(100)
        one.verdict("normal", "Your drawing")
        first = one.pixels("seen")
        assert sum(level < 245 for level in first) > 10
        stroke(150)
        one.page.wait_for_function(
            """first => [...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]
                .filter((_, index) => index % 4 === 0).some((level, index) => level !== first[index])""",
            arg=first,
        )
        one.verdict("normal", "Your drawing")
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
        one.page.get_by_role("button", name="A stranger").click()
        one.verdict("anomaly")
        paper = self._color(one, "body", "backgroundColor")
        assert (sum(paper) < 200) == (scheme == "dark")
        for selector in ("h1", "#verdict", "#words", "figcaption", ".drop .small", "#why li"):
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

    def test_screen_readers_hear_the_verdict_and_can_name_everything(self, visit: Callable[..., Visit]) -> None:
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
