"""What a refusal says to somebody who does not know the code: what is wrong, and what to send instead."""

import base64
import io
from typing import Any

import orjson
import pytest
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import Headers

from app.detection.image_headers import read_image_header
from app.detection.images import open_image
from app.errors import MalformedRequest, Refusal, TooManyPixels, UnsupportedFormat
from app.payload.base64_text import decode_image_text
from app.payload.classifier_request import take_apart
from app.payload.places import read_places
from app.payload.tensors import parse_inference_request
from app.settings import Settings
from testing.hostile_files import png
from testing.pictures import picture

PNG = picture()
FORM = Headers({"content-type": "multipart/form-data; boundary=b"})


def part(disposition: str) -> bytes:
    return b"--b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n--b--\r\n" % (disposition.encode(), PNG)


def refusal_of(body: bytes, headers: Headers, image_at: str = "auto") -> Refusal:
    with pytest.raises(Refusal) as caught:
        take_apart(read_places(Settings(image_at=image_at)), headers, b"/", b"", body)
    return caught.value


@pytest.mark.parametrize("body", [PNG, b'{"image": "iVBORw0KGgo="}'])
def test_content_type_that_curl_made_up_is_explained(body: bytes) -> None:
    refusal = refusal_of(body, Headers({"content-type": "application/x-www-form-urlencoded"}))
    assert refusal.status == 400
    assert "application/x-www-form-urlencoded" in refusal.detail
    assert "curl" in refusal.detail
    assert "Content-Type: image/png" in refusal.detail


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (part('name="f"; filename="a.png"; filename*=utf-8\'\'a.png'), "`filename*`"),
        (part('name="f"; filename="a\\"b.png"'), "backslash"),
        (part("name='f'x; filename=\"a.png\""), "single quote"),
        (part("name=\"f\"; filename='a.png'"), "single quote"),
        (part('name="f"; filename="a.png"').replace(b"\r\n", b"\n"), "CR LF"),
    ],
)
def test_form_that_readers_take_differently_is_told_which_spelling_it_is(body: bytes, words: str) -> None:
    assert words in refusal_of(body, FORM).detail


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (["iVBORw0KGgo="], "`image`: a list; `/*`"),
        ([], "`image`: a list; `/*`"),
        ([{"b64": "iVBORw0KGgo="}], "`image`: a list; `/*`"),
        ([[0, 1], [1, 0]], "GATE_NUMBERS_RANGE"),
        ({"b64": "iVBORw0KGgo="}, "This is an object; GATE_IMAGE_AT can point to one of its fields."),
        (True, "This is no string."),
        (None, "There is no image at `json:/image`"),
        ("", "null and empty texts are none"),
    ],
)
def test_value_that_is_no_image_where_a_pointer_leads_is_named_by_its_kind(value: Any, words: str) -> None:
    refusal = refusal_of(orjson.dumps({"image": value}), Headers({"content-type": "application/json"}), "json:/image")
    assert words in refusal.detail


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("iVBORw0KG", "this is not"),
        ("iVBORw0KGg=", "this is not"),
        ("iVBORw0-Ggo=", "URL-safe"),
        ("iVBORw0 Ggo=", "%2B"),
        ("hello", "this is not"),
        ("data:image/svg+xml,<svg/>", "data:image/png;base64,"),
    ],
)
def test_text_that_is_not_quite_base64_is_told_why(text: str, words: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        decode_image_text(text)
    assert words in caught.value.detail


@pytest.mark.parametrize("text", ["iVBORw0KGgo=", "iVBORw0KGgo", "iVBO\r\nRw0KGgo\n", "iVBORw0K", "iVBORw0KGg"])
@pytest.mark.parametrize("before", ["", "data:image/png;base64,", "data:image/png;base64, ", "DATA:;base64,   "])
def test_padding_may_be_left_out_and_a_data_url_may_have_blanks(text: str, before: str) -> None:
    assert b"\x89PNG\r\n\x1a\n".startswith(decode_image_text(before + text))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_a_blank_that_a_reader_takes_for_a_plus_makes_no_image_of_another_kind(kind: str) -> None:
    for pluses in ("+", "++", "+++"):
        written = io.BytesIO()
        Image.new("L", (28, 28)).save(written, kind)
        text = pluses + base64.b64encode(written.getvalue()).decode()
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(base64.b64decode(text[: len(text) // 4 * 4])))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2, 3], "this is [3]"),
        ([[[[0]]]], "this is [1][1][1][1]"),
        ([[0, 300]], "outside of black and white, as GATE_NUMBERS_RANGE"),
    ],
)
def test_list_of_numbers_that_is_no_image_is_told_which_would_be(value: Any, words: str) -> None:
    places = read_places(Settings(image_at="json:/image", numbers_range="0,255"))
    headers = Headers({"content-type": "application/json"})
    with pytest.raises(Refusal) as caught:
        take_apart(places, headers, b"/", b"", orjson.dumps({"image": value}))
    assert words in caught.value.detail


def test_document_that_is_too_deep_to_be_searched_is_told_how_it_passes() -> None:
    body = b'{"image": "%s", "tree": %s}' % (base64.b64encode(PNG), b"[" * 80 + b"]" * 80)
    refusal = refusal_of(body, Headers({"content-type": "application/json"}))
    assert "more than 64 lists and objects within each other. GATE_IMAGE_AT" in refusal.detail


def test_bytes_tensor_names_the_element_that_is_no_base64() -> None:
    image = {"name": "image", "shape": [2], "datatype": "BYTES", "data": ["iVBORw0KGgo=", "iVBORw0KG"]}
    with pytest.raises(MalformedRequest) as caught:
        parse_inference_request({"inputs": [image]}, b"")
    assert caught.value.detail.startswith("Element 1 of a BYTES input: An image in text is base64")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "The file is empty."),
        (b'{"image": "iVBORw0KGgo="}', "This is a JSON file"),
        (b"[[0, 1]]", "This is a JSON file"),
        (b"\n<!DOCTYPE html><p>", "This is an HTML file"),
        (base64.b64encode(PNG), "Decode it first"),
        (b"data:image/png;base64," + base64.b64encode(PNG), "Decode it first"),
        (b"hello", "judged by its first bytes"),
    ],
)
def test_file_that_is_no_image_is_named_by_what_it_is(data: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFormat) as caught:
        read_image_header(data)
    assert words in caught.value.detail


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((100_000, 100_000), "10,000 million; at most 25 million"),
        ((9000, 9000), "81 million; at most 25 million"),
        ((5001, 5000), "25,005,000; at most 25,000,000"),
    ],
)
def test_number_of_pixels_is_said_as_people_say_it(size: tuple[int, int], words: str) -> None:
    with pytest.raises(TooManyPixels) as caught:
        open_image(png(*size, rows=b"\0"), 25_000_000)
    assert words in caught.value.detail
