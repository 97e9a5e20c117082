"""ASCII and Latin-1 may be announced for text in ASCII, which is the same in UTF-8; other text has to be in UTF-8."""

import json
from urllib.parse import quote

import pytest
from starlette.datastructures import Headers

from app.errors import UnsupportedFormat
from app.payload.classifier_request import ClassifierRequest, take_apart
from app.payload.places import read_places
from app.settings import Settings
from testing.gate_requests import b64
from testing.pictures import picture

PNG = picture()
JSON, URL_FORM = "application/json", "application/x-www-form-urlencoded"
LATIN = "charset=ISO-8859-1"


def read(content_type: str, body: bytes, image_at: str = "auto", judges_bytes: bool = True) -> ClassifierRequest:
    headers = Headers({"content-type": content_type})
    return take_apart(read_places(Settings(image_at=image_at)), headers, b"/", b"", body, judges_bytes)


def form(text: bytes, text_type: str, name: bytes = b"picture") -> bytes:
    """As Apache HttpClient writes it."""
    part = b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\nContent-Type: %b\r\n\r\n%b\r\n'
    return (
        part % (b"note", b"", text_type.encode(), text)
        + part % (name, b'; filename="a.png"', b"image/png; charset=binary", PNG)
        + b"--b--\r\n"
    )


def document(text: str) -> bytes:
    return json.dumps({"image": b64(PNG), "text": text}, ensure_ascii=False).encode()


FORM = "multipart/form-data; boundary=b"
ASCII_REQUESTS = [
    (FORM, form(b"hello", f"text/plain; {LATIN}")),
    (FORM, form(b'{"a": "hello"}', f"application/json; {LATIN}")),
    (f"{FORM}; {LATIN}", form(b"hello", "text/plain")),
    ("image/png; charset=binary", PNG),
    ("application/json; charset=us-ascii", document("hello")),
    (f"{URL_FORM}; {LATIN}", f"image={quote(b64(PNG), safe='')}&text=hello".encode()),
]
OTHER_REQUESTS = [
    (FORM, form("Zo\xeb".encode(), f"text/plain; {LATIN}")),
    (FORM, form('{"a": "Zo\xeb"}'.encode(), f"application/json; {LATIN}")),
    (f"{FORM}; {LATIN}", form("Zo\xeb".encode(), "text/plain")),
    (f"{FORM}; {LATIN}", form(b"hello", "text/plain", name="p\xefcture".encode())),
    ("application/json; charset=us-ascii", document("Zo\xeb")),
    (f"{URL_FORM}; {LATIN}", f"image={quote(b64(PNG), safe='')}&text=Zo%C3%AB".encode()),
]


@pytest.mark.parametrize(("content_type", "body"), ASCII_REQUESTS)
def test_text_in_ascii_passes_as_latin_1(content_type: str, body: bytes) -> None:
    assert read(content_type, body).images.files == [PNG]


@pytest.mark.parametrize(("content_type", "body"), OTHER_REQUESTS)
def test_text_beyond_ascii_is_refused_as_latin_1(content_type: str, body: bytes) -> None:
    with pytest.raises(UnsupportedFormat, match="UTF-8"):
        read(content_type, body)


def test_text_in_latin_1_passes_beside_a_declared_place() -> None:
    body = form("Zo\xeb".encode("latin-1"), f"text/plain; {LATIN}")
    assert read(FORM, body, "form:picture").images.files == [PNG]


def test_document_in_ascii_is_written_again_as_what_it_is_then() -> None:
    body = b'{"image": "%b", "text": "Zo\\u00eb"}' % b64(PNG).encode()
    request = read("application/json; charset=us-ascii", body, judges_bytes=False)
    assert request.body is not None
    written_type, written = request.body.write()
    assert written_type == "application/json"
    assert json.loads(written)["text"] == "Zo\xeb"
    part = form(b'{"a": "Zo\\u00eb"}', f"application/json; {LATIN}")
    request = read(FORM, part, judges_bytes=False)
    assert request.body is not None
    written = request.body.write()[1]
    assert b"ISO-8859-1" not in written
    assert "Zo\xeb".encode() in written
