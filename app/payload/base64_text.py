"""Files as text: base64, or a `data:` URL of it."""

import base64
import binascii
import re
from typing import Any

from app.errors import MalformedRequest, UnsupportedFormat

_NOT_BASE64 = re.compile("[^A-Za-z0-9+/=]")


def decode_base64(text: Any) -> bytes:
    """Decodes base64, with or without line breaks, and with or without padding, without which decoders find the same
    bytes or fail. Anything that lenient decoders might decode differently is refused.

    Raises:
        MalformedRequest: The value is not a string of strict base64.
    """
    if not isinstance(text, str):
        raise MalformedRequest("An image in JSON is a string of base64.")
    lines = text.replace("\r", "").replace("\n", "")
    if len(lines) % 4 in (2, 3) and not lines.endswith("="):
        lines += "=" * (-len(lines) % 4)
    try:
        return binascii.a2b_base64(lines.encode("ascii"), strict_mode=True)
    except ValueError as error:
        raise MalformedRequest(_what_is_wrong(lines)) from error


def decode_image_text(text: str) -> bytes:
    """Decodes base64, or a `data:` URL of it, with or without blanks in front of the base64.

    Readers skip such a blank or fail. With `+` in its place, as some PHP programs write it, it is no image at all.

    Raises:
        MalformedRequest: It is neither.
        UnsupportedFormat: It is an address.
    """
    if text[:5].lower() == "data:":
        media_type, _, text = text.partition(",")
        text = text.lstrip(" ")
        if not media_type.lower().endswith(";base64"):
            raise MalformedRequest("An image in a data: URL is base64, as in `data:image/png;base64,iVBORw0...`.")
    elif "://" in text[:64]:
        raise UnsupportedFormat("An image is given by its address; it can be judged only if it is sent along.")
    return decode_base64(text)


def _what_is_wrong(text: str) -> str:
    other = _NOT_BASE64.search(text)
    if other is not None and other[0] in "-_":
        return (
            "An image is sent in standard base64, with `+` and `/`; this is the URL-safe kind, with `-` and `_`, which "
            "some readers leave out. In Python base64.b64encode writes the standard kind."
        )
    if other is not None and other[0] == " ":
        return "The base64 of an image has no spaces; in a form or a query `+` is written as `%2B`."
    return "An image in text is base64; this is not."


def text_of(data: bytes, written_before: str) -> str:
    """Encodes a PNG file as base64, or as a `data:` URL if the text that it replaces is one."""
    text = base64.b64encode(data).decode()
    return f"data:image/png;base64,{text}" if written_before[:5].lower() == "data:" else text
