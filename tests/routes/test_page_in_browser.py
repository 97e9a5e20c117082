"""The page in a real browser: Chromium by Playwright, against `python -m app serve` (`make test-browser`)."""

import base64
import math
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from testing.artifacts import DEFAULT_ARTIFACT, write_tiny_artifact
from testing.browser import Visit, upload
from testing.pictures import circle_picture, encoded, picture, thin_circle
from testing.servers import Server

WHITE, BLACK = picture(level=255), picture(level=0)

pytestmark = [pytest.mark.slow, pytest.mark.browser]


def test_choosing_a_file_shows_the_verdict_without_a_further_click(visit: Callable[..., Visit]) -> None:
    one = visit()
    assert not re.search("anomaly|normal", one.page.inner_text("body"), re.IGNORECASE)
    one.page.locator("input[type=file]").first.set_input_files([upload("black.png", BLACK)])
    assert "anomaly" in one.verdict("anomaly")
    one.page.locator("input[type=file]").first.set_input_files([upload("circle.png", circle_picture())])
    assert "normal" in one.verdict("normal")


def test_nothing_that_the_page_does_breaks_its_own_policy(visit: Callable[..., Visit]) -> None:
    one = visit(bypass_csp=False, has_model=False)
    one.page.locator("#strip canvas").first.wait_for()
    one.page.set_input_files("#file", [upload("black.png", BLACK), upload("white.png", WHITE)])
    one.page.locator("#tally").filter(has_text="2 images: 1 normal, 1 anomaly.").wait_for()
    one.page.get_by_role("button", name="Save as CSV").click()


def test_it_says_what_belongs_and_shows_it(visit: Callable[..., Visit]) -> None:
    one = visit()
    assert one.page.inner_text("h1") == "Is this one of the circles it learnt?"
    assert one.page.locator("#strip canvas").count() == 8
    names = one.page.locator("#samples button").all_inner_texts()
    assert names == ["One of them", "Another", "A stranger", "Another stranger"]
    assert min(one.pixels("guide")) < 255  # the faint one on the pad
    one.page.set_input_files("#file", [upload("circle.png", encoded(Image.fromarray(thin_circle(7))))])
    one.verdict("normal")
    np.testing.assert_allclose(one.pixels("nearest"), thin_circle(7).reshape(-1))


def test_an_artifact_without_samples_has_a_page_too(visit: Callable[..., Visit], tmp_path: Path) -> None:
    with Server(artifact=write_tiny_artifact(tmp_path / "old", 0.025)) as server:
        one = visit(f"{server.url}/")
        assert one.page.locator("#strip-part").is_hidden()
        assert one.page.locator("#samples-part").is_hidden()
        one.page.set_input_files("#file", [upload("black.png", BLACK)])
        one.verdict("anomaly")
        assert one.page.locator("#nearest-part").is_hidden()
        assert one.page.get_by_role("link", name="Model").is_hidden()


def test_a_circle_drawn_with_another_pen_and_elsewhere_is_judged_with_that_of_the_artifact(
    visit: Callable[..., Visit],
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


def test_the_bars_say_what_is_beyond_the_limit(visit: Callable[..., Visit]) -> None:
    one = visit()
    for content, word in ((BLACK, "anomaly"), (WHITE, "normal")):
        one.page.set_input_files("#file", [upload(f"{word}.png", content)])
        one.verdict(word, f"{word}.png")
        assert one.page.locator(f"#why rect.{word}").count() == 1
    one.page.get_by_text("Numbers, and the same from a terminal").click()
    assert "(p-value 1)" in one.page.inner_text("#numbers")


@pytest.mark.complains
def test_a_batch_can_be_filtered_cleared_and_saved(visit: Callable[..., Visit]) -> None:
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


def test_the_link_opens_the_report(visit: Callable[..., Visit]) -> None:
    one = visit()
    one.page.get_by_role("link", name="Model").click()
    one.page.get_by_role("heading", name="The report").wait_for()


def test_what_the_page_sends_is_no_evidence_of_drift(visit: Callable[..., Visit], artifact: Path) -> None:
    with Server(artifact=artifact) as server:
        one = visit(f"{server.url}/")
        one.page.set_input_files("#file", [upload(f"{number}.png", BLACK) for number in range(12)])
        one.page.locator("#tally").filter(has_text="12 images: 12 anomalies.").wait_for()
        metrics = httpx2.get(f"{server.url}/metrics").text
        assert "gate_page_images_total 12.0" in metrics
        assert "gate_drift_evidence_log10 0.0" in metrics


def test_the_api_page_shows_every_route_once(visit: Callable[..., Visit], address: str) -> None:
    one = visit(f"{address}docs", has_model=False, bypass_csp=False)
    one.page.locator(".opblock").first.wait_for()
    shown = one.page.locator(".opblock-summary-path").all_inner_texts()
    assert len([path for path in shown if "gate" in path]) == 1
    assert any("predict" in path for path in shown)


def test_the_default_artifact_tells_circles_from_strangers(visit: Callable[..., Visit]) -> None:
    with Server(artifact=DEFAULT_ARTIFACT) as server:
        one = visit(f"{server.url}/")
        if not one.page.locator("#samples button").count():
            pytest.skip("the artifact has no samples: python -m training.add_samples")
        for sample, word in (("One of them", "normal"), ("A stranger", "anomaly")):
            one.page.get_by_role("button", name=sample, exact=True).click()
            one.verdict(word, sample)
        one.page.mouse.move(0, 0)
        one.screenshot("page")  # docs/page.png


def test_it_shows_what_the_network_saw_redrew_and_where_they_differ(visit: Callable[..., Visit]) -> None:
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


def test_a_score_is_told_in_words_that_need_no_statistics(visit: Callable[..., Visit]) -> None:
    one = visit()
    words = "([score, p]) => ratioWords(score, .5) + ' ' + rankWords(p)"
    said = [one.page.evaluate(words, [score, p]) for score, p in ((-0.129, 0.999), (0.25, 0.6))]
    assert said[0] == "Its score, -0.129, is far below the threshold, 0.5. " + (
        "Nearly all images that belong score as high or higher."
    )
    assert said[1] == "Its score is 50% of the threshold. About 60 of 100 images that belong score as high or higher."


def test_dropping_files(visit: Callable[..., Visit]) -> None:
    one = visit()
    _send_files(one, "drop", BLACK)
    one.verdict("anomaly", "given.png")


def test_pasting_an_image(visit: Callable[..., Visit]) -> None:
    one = visit()
    _send_files(one, "paste", BLACK)
    one.verdict("anomaly", "given.png")


def _send_files(one: Visit, event: str, content: bytes) -> None:
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
def test_samples_come_from_the_artifact(visit: Callable[..., Visit], sample: str, word: str) -> None:
    one = visit()
    one.page.get_by_role("button", name=sample, exact=True).click()
    one.verdict(word, sample)


def test_drawing_is_judged_stroke_by_stroke(visit: Callable[..., Visit]) -> None:
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
def test_several_at_once_make_a_queue_of_thumbnails(visit: Callable[..., Visit]) -> None:
    one = visit()
    files = [upload(f"white-{number}.png", WHITE) for number in range(5)]
    one.page.set_input_files("#file", [*files, upload("black.png", BLACK), upload("letter.png", b"Dear sir")])
    one.page.wait_for_function(
        "document.getElementById('tally').textContent === '7 images: 5 normal, 1 anomaly, 1 not judged.'"
    )
    one.page.get_by_role("button", name="black.png: anomaly").click()
    one.verdict("anomaly", "black.png")


@pytest.mark.complains  # the browser notes the answer 415 in its console
def test_a_bad_file_is_refused_in_words(visit: Callable[..., Visit]) -> None:
    one = visit()
    one.page.set_input_files("#file", [upload("letter.png", b"Dear sir")])
    text = one.verdict("could not be judged")
    assert "not one of PNG, JPEG, WebP, BMP, GIF" in text
    assert not re.search("anomaly|normal", text)
    assert one.page.get_by_role("button", name="Try again").is_hidden()


@pytest.mark.complains
def test_a_service_that_is_gone_is_said_and_can_be_tried_again(visit: Callable[..., Visit]) -> None:
    one = visit()
    one.page.context.set_offline(True)
    one.page.set_input_files("#file", [upload("white.png", WHITE)])
    assert "cannot be reached" in one.verdict("could not be judged")
    one.page.context.set_offline(False)
    one.page.get_by_role("button", name="Try again").click()
    one.verdict("normal")


@pytest.mark.complains
def test_a_service_with_tokens_asks_for_one_and_keeps_it_for_the_tab(
    visit: Callable[..., Visit], artifact: Path
) -> None:
    with Server(artifact=artifact, tokens="right-and-long-enough") as server:
        _give_tokens(visit(f"{server.url}/", has_model=False))


def _give_tokens(one: Visit) -> None:
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


def test_a_transparent_image_is_shown_as_it_was_sent(visit: Callable[..., Visit]) -> None:
    buffer = BytesIO()
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(buffer, "PNG")
    one = visit()
    one.page.set_input_files("#file", [upload("glass.png", buffer.getvalue())])
    one.verdict("normal")
    assert one.page.evaluate("document.getElementById('original').naturalWidth") == 40
