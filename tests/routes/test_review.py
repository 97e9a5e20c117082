"""The review in a real browser: every key, and what it does to the folder (`make test-browser`)."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from starlette.testclient import TestClient

from app.keeping.folder import KeptFolder
from app.web.tokens import OPEN_PATHS
from testing.artifacts import write_tiny_artifact
from testing.browser import PATIENCE_MILLISECONDS
from testing.pictures import picture
from testing.servers import Server, wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

browser_test = [pytest.mark.slow, pytest.mark.browser]
TOKEN = "right-and-long-enough"


def test_the_page_allows_itself_and_nothing_else(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    client = make_client(keep_folder=tmp_path / "kept", tokens=TOKEN)
    answer = client.get("/review")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy
    assert set(re.findall(r"https?://[^'\"\s)]+", answer.text)) == {"http://www.w3.org/2000/svg"}
    assert client.get("/v1/kept").status_code == 401
    assert "/review" in OPEN_PATHS


def has_kept(folder: Path, count: int) -> bool:
    return len(list(folder.rglob("*.json"))) == count


class Review:
    """The page open on some refused images, and an admitted one of the sample before them."""

    def __init__(self, page: "Page", url: str, folder: Path) -> None:
        self.page = page
        self.folder = KeptFolder(folder)
        self.complaints: list[str] = []
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(f"{url}/review")

    def ready(self, images: int) -> None:
        self.page.wait_for_function("n => document.querySelectorAll('#grid button').length === n", arg=images)

    def chosen(self) -> int:
        buttons = "[...document.querySelectorAll('#grid button')]"
        index: int = self.page.evaluate(f"{buttons}.findIndex((one) => one.getAttribute('aria-current') === 'true')")
        return index

    def labels(self) -> list[str | None]:
        """In the folder, newest first."""
        return [record.label for record in self.folder.records()][::-1]

    def press(self, key: str, chosen: int) -> None:
        self.page.keyboard.press(key)
        assert self.chosen() == chosen, key

    def wait_for_labels(self, *labels: str | None) -> None:
        assert wait_until(lambda: self.labels()[: len(labels)] == list(labels), 10), self.labels()


@pytest.fixture
def review(browser: "Browser", tmp_path: Path) -> Iterator[Callable[..., Review]]:
    """Opens the page on a gate of its own that has kept four images, and looks for complaints at the end."""
    opened: list[Review] = []
    servers: list[Server] = []

    def start(images: int = 3, settings: dict[str, Any] | None = None, **context: Any) -> Review:
        artifact, folder = write_tiny_artifact(tmp_path / "tiny"), tmp_path / "kept"
        server = Server(artifact=artifact, keep_folder=folder, keep_sample=1, **(settings or {}))
        servers.append(server)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with server.client() as client:
            for count, level in enumerate((255, *range(images)), 1):
                client.post("/v1/predict", content=picture(level=level), headers=headers)
                assert wait_until(partial(has_kept, folder, count), 10)
        context = {"viewport": {"width": 1180, "height": 860}, **context}
        opened.append(Review(browser.new_context(**{"bypass_csp": True, **context}).new_page(), server.url, folder))
        return opened[-1]

    yield start
    for one in opened:
        one.page.context.close()
    for server in servers:
        server.process.terminate()
        server.__exit__(None, None, None)


class TestInBrowser:
    pytestmark = browser_test

    def test_every_key(self, review: Callable[..., Review]) -> None:
        one = review(images=4)
        one.ready(4)
        assert one.chosen() == 0
        one.press("ArrowRight", 1)
        one.press("ArrowLeft", 0)
        one.press("ArrowLeft", 0)
        one.press("ArrowDown", 3)  # all four stand in one row: the last one
        one.press("ArrowUp", 0)
        one.press("b", 1)
        one.press("n", 2)
        one.wait_for_labels("normal", "anomaly", None, None)
        one.press("u", 1)
        one.wait_for_labels("normal", None, None, None)
        one.press("u", 0)
        one.wait_for_labels(None, None, None, None)
        assert one.page.get_by_role("button", name="Undo").is_disabled()
        one.press("N", 1)
        one.wait_for_labels("anomaly", None, None, None)
        assert one.complaints == []

    def test_buttons_do_what_the_keys_do(self, review: Callable[..., Review]) -> None:
        one = review()
        one.ready(3)
        one.page.get_by_role("button", name="Does not belong").click()
        one.page.locator("#belongs").click()
        one.wait_for_labels("anomaly", "normal", None)
        one.page.get_by_role("button", name="Undo").click()
        one.wait_for_labels("anomaly", None, None)
        assert one.complaints == []

    def test_it_shows_what_came_what_was_seen_redrawn_and_why(self, review: Callable[..., Review]) -> None:
        one = review()
        one.ready(3)
        one.page.wait_for_function("document.getElementById('original').naturalWidth === 28")
        text = one.page.inner_text("#one")
        assert "Refused" in text
        assert "redrawn badly here" in text
        assert "drawn at random (100%)" in text
        level = "id => document.getElementById(id).getContext('2d').getImageData(0, 0, 1, 1).data[0]"
        assert one.page.evaluate(level, "seen") == 2
        assert one.page.evaluate(level, "redrawn") == 255
        assert "at most 1%" in one.page.inner_text("#promise")
        assert "0.5" in one.page.inner_text("#promise")

    def test_filters_and_rates(self, review: Callable[..., Review]) -> None:
        one = review()
        one.ready(3)
        one.page.select_option("#show", "sampled=true")
        one.ready(4)
        one.page.select_option("#show", "verdict=anomaly")
        one.ready(3)
        for _ in range(3):
            one.page.keyboard.press("n")
        one.wait_for_labels("anomaly", "anomaly", "anomaly")
        assert "not known yet" in one.page.inner_text("#detection")  # nothing that was admitted has a label
        one.page.select_option("#labelled", "label=anomaly")
        one.ready(3)
        one.page.select_option("#show", "sampled=true")
        one.page.select_option("#labelled", "label=none")
        one.ready(1)
        one.page.keyboard.press("b")
        one.page.wait_for_function("document.querySelector('#detection b').textContent.includes('to 100%')")
        one.page.wait_for_function("document.querySelector('#false-positives b').textContent.startsWith('0% to')")
        one.page.fill("#most", "0.5")
        one.page.keyboard.press("Enter")
        one.page.wait_for_function("document.querySelectorAll('#grid button').length === 0")
        assert "No kept image fits" in one.page.inner_text("#one")
        assert one.complaints == []

    def test_a_service_with_tokens_asks_for_one(self, review: Callable[..., Review]) -> None:
        one = review(settings={"tokens": TOKEN})
        one.page.get_by_label("Token").fill(TOKEN)
        one.page.keyboard.press("Enter")
        one.ready(3)
        one.page.wait_for_function("document.getElementById('original').naturalWidth === 28")
        one.press("b", 1)
        one.wait_for_labels("normal", None, None)

    def test_a_label_that_cannot_be_written_is_taken_back_and_said(self, review: Callable[..., Review]) -> None:
        one = review()
        one.ready(3)
        one.page.context.set_offline(True)
        one.page.keyboard.press("b")
        one.page.wait_for_function("document.getElementById('problem').textContent.includes('cannot be reached')")
        one.page.wait_for_function("!document.querySelector('#grid .normal')")
        assert one.labels() == [None] * 4

    @pytest.mark.parametrize("width", [360, 768])
    def test_nothing_scrolls_sideways_and_buttons_are_large(self, review: Callable[..., Review], width: int) -> None:
        one = review(viewport={"width": width, "height": 740}, has_touch=True)
        one.ready(3)
        assert one.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        buttons = "[...document.querySelectorAll('button, select, input')].filter((one) => one.checkVisibility())"
        assert one.page.evaluate(f"{buttons}.filter((one) => one.offsetHeight < 44).length") == 0


def test_the_address_of_the_page_is_relative(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    """Behind a proxy that gives the gate a path of its own, the page still finds its routes."""
    text = make_client(keep_folder=tmp_path / "kept").get("/review").text
    assert not re.search(r"(fetch|ask|answerOf)\(['\"`]/", text)
    assert httpx2.URL("http://host/gate/review").join("v1/kept").path == "/gate/v1/kept"
