"""Parses application/x-www-form-urlencoded bodies, and refuses those that parsers read differently."""

import re
from urllib.parse import unquote, unquote_to_bytes

from app.errors import MalformedRequest

_MAX_FIELDS = 1000
# The characters of an encoded form. ";" is not among them, because older parsers treat it like "&"; nor are quotation
# marks and braces, so that no JSON document passes as a form.
_PLAIN = re.compile(r"[0-9A-Za-z%&=+*._~!'()/:,@$?\[\]-]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_FORM = "The content type is application/x-www-form-urlencoded, and the body is no such form:"
_HINT = (
    "curl's -d and --data-binary send that type unless they are told another one: "
    "-H 'Content-Type: image/png' for an image, 'application/json' for JSON."
)
# The most decoding steps. No honest text is percent-encoded more often.
_MOST_ENCODINGS = 5


def parse_url_form(body: bytes) -> list[tuple[str, str]]:
    """Parses a body.

    Returns:
        Names and values in their order.

    Raises:
        MalformedRequest: It holds bytes that clients percent-encode, is not UTF-8 behind that, or asks for a charset.
    """
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"{_NO_FORM} it has bytes that are not ASCII. {_HINT}") from error
    if not _PLAIN.fullmatch(text):
        raise MalformedRequest(f"{_NO_FORM} it has characters that forms percent-encode, as JSON has. {_HINT}")
    if text.count("&") >= _MAX_FIELDS:
        raise MalformedRequest(f"The form has more than {_MAX_FIELDS} fields.")
    fields = [(_decode(name), _decode(value)) for name, _, value in (field.partition("=") for field in text.split("&"))]
    if any(name == "_charset_" for name, _ in fields):
        raise MalformedRequest("The form asks for a charset; only UTF-8 is accepted.")
    return fields


def decodings(text: str) -> list[str]:
    """A text from a path or a query, as it stands and each time that it is percent-decoded."""
    found = [text]
    while len(found) < _MOST_ENCODINGS:
        decoded = unquote(found[-1], "latin-1")
        if decoded == found[-1]:
            break
        found.append(decoded)
    return found


def _decode(text: str) -> str:
    if _BROKEN_ESCAPE.search(text):
        raise MalformedRequest("The form has a `%` that begins no percent-encoded byte.")
    try:
        decoded = unquote_to_bytes(text.replace("+", " ")).decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("The form is not UTF-8.") from error
    if "\0" in decoded:
        raise MalformedRequest("The form holds a zero character.")
    return decoded
