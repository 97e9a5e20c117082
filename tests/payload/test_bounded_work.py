"""Requests of some kilobytes or megabytes on which a reader with quadratic work would take minutes or hours."""

import base64
import random
import sys
import unicodedata
from typing import Any

import orjson
import pytest
from starlette.datastructures import Headers

from app.errors import MalformedRequest, Refusal
from app.payload.classifier_request import take_apart
from app.payload.json_body import folded, parse_json
from app.payload.multipart import parse_multipart
from app.payload.places import read_places
from app.payload.unjudged import is_address
from app.settings import Settings
from testing.gate_requests import b64
from testing.pictures import picture

FORM = Headers({"content-type": "multipart/form-data; boundary=b"})
URL_FORM = "application/x-www-form-urlencoded"
JSON = Headers({"content-type": "application/json"})
PNG = b64(picture())
HEIC = base64.b64encode(b"\0\0\0\x18ftypheic" + random.Random(0).randbytes(2 * 2**20)).decode()


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_header_field_of_thousands_of_blanks_is_refused(blank: bytes) -> None:
    field = b"X: " + blank * 8000 + b"\0"
    body = b'--b\r\nContent-Disposition: form-data; name="f"\r\n%b\r\n\r\nx\r\n--b--\r\n' % field
    with pytest.raises(MalformedRequest, match="broken header"):
        parse_multipart(FORM, body)


def test_blanks_around_a_header_field_are_no_part_of_it() -> None:
    body = b'--b\r\nContent-Disposition: \t form-data; name="f" \t \r\nContent-Type:text/plain \r\n\r\nx\r\n--b--\r\n'
    (part,) = parse_multipart(FORM, body)
    assert (part.name, part.content_type) == ("f", "text/plain")


def test_base64_of_megabytes_in_an_image_field_is_taken_for_an_image() -> None:
    found = take_apart(read_places(Settings()), JSON, b"/", b"", orjson.dumps({"image": HEIC}), judges_bytes=False)
    assert found.images.files == [base64.b64decode(HEIC)]


@pytest.mark.parametrize("text", ["a/" * 10**6, "a.a/" * 10**6, "a" + "\\" * 10**6, "a/" + "." * 10**6, "a." * 10**6])
def test_text_of_megabytes_in_an_image_field_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        take_apart(read_places(Settings()), JSON, b"/", b"", orjson.dumps({"image": text + " "}))
    assert not is_address(text + " x")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a/b.png", True),
        ("a\\b.TIFF ", True),
        ("a.b/c.jpeg\n", True),
        ("b.png", False),
        ("a/b c.png", False),
        ("a/b.png.", False),
        ("a/bpng", False),
    ],
)
def test_path_of_an_image_is_an_address(text: str, answer: bool) -> None:
    assert is_address(text) is answer


def test_encoded_words_in_the_name_of_a_field_are_not_decoded() -> None:
    places, headers = read_places(Settings(image_at="form:picture")), Headers({"content-type": URL_FORM})
    with pytest.raises(MalformedRequest, match="There is no image"):
        take_apart(places, headers, b"/", b"", b"%3D?a?q?x" * 10**5 + b"=1")


@pytest.mark.parametrize("marks", ["\u0301\u0316", "\u0344\u0316", "\u0f81", "\uff9e\u0316"])
def test_name_of_a_million_marks_is_refused(marks: str) -> None:
    with pytest.raises(MalformedRequest, match="combining marks"):
        parse_json(orjson.dumps({"a" + marks * 10**6: 1}))


def test_names_with_as_many_marks_as_languages_have_are_folded() -> None:
    assert folded("E\u0302\u0301" * 100) == "\u1ebf" * 100
    assert folded("\uff76\uff9e" * 100) == "\u30ac" * 100


def test_every_character_that_becomes_a_mark_counts_as_one() -> None:
    for sign in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.combining(unicodedata.normalize("NFKD", sign)[0]):
            with pytest.raises(MalformedRequest):
                folded(sign * 31)


@pytest.mark.parametrize("thing", [{}, [], {"": {}}])
@pytest.mark.parametrize("document", ["fields", "inputs"])
def test_things_that_take_time_and_say_nothing_are_counted(thing: Any, document: str) -> None:
    image = {"name": "i", "datatype": "BYTES", "shape": [1], "data": [PNG]}
    things = {"fields": {"image": PNG, "x": [thing] * 10_000}, "inputs": {"inputs": [image], "x": [thing] * 10_000}}
    with pytest.raises(MalformedRequest) as caught:
        take_apart(read_places(Settings()), JSON, b"/", b"", orjson.dumps(things[document]))
    assert "more than 10,000 texts, lists and objects" in caught.value.detail
    things = {"fields": {"image": PNG, "x": [thing] * 3_000}, "inputs": {"inputs": [image], "x": [thing] * 3_000}}
    take_apart(read_places(Settings()), JSON, b"/", b"", orjson.dumps(things[document]))


def test_empty_folders_of_file_names_are_counted() -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a%bb"\r\n\r\nx\r\n' % (b"/" * 7000)
    with pytest.raises(MalformedRequest) as caught:
        take_apart(read_places(Settings()), FORM, b"/", b"", part * 2 + b"--b--\r\n")
    assert "more than 10,000 texts" in caught.value.detail


@pytest.mark.parametrize("image_at", ["auto", "tensor:i"])
def test_inference_request_of_many_inputs_is_refused(image_at: str) -> None:
    inputs = [{"name": "i", "datatype": "FP32", "shape": [0, 28, 28], "data": []}] * 1001
    with pytest.raises(MalformedRequest, match="at most 1000 inputs"):
        take_apart(read_places(Settings(image_at=image_at)), JSON, b"/", b"", orjson.dumps({"inputs": inputs}))
