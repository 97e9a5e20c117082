"""Parses the Content-Type of a request or a form part, and refuses values that parsers read differently."""

import re
from typing import NamedTuple

from starlette.datastructures import Headers

from app.errors import MalformedRequest, UnsupportedFormat

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE = re.compile(rf"({_WORD})/({_WORD})[ \t]*(?=;|$)")
# A parameter is followed by another one or by the end; `;` at the end is what some clients write after a type.
_PARAMETER = re.compile(rf';[ \t]*(?:({_WORD})=(?:"([^"\\]*)"|({_WORD}))[ \t]*(?=;|$)|$)')
_PLAIN_FORM = re.compile(r"multipart/form-data; ?boundary=([0-9A-Za-z_.+-]{1,70})")  # as clients write it
# Clients that build forms write only these: Dart "+", and Qt base64 in quotation marks. "," or a space would make two
# readers see two boundaries, as PHP ends it at a comma. So would "=" before other characters, or behind "boundary", as
# Rack goes by the last "boundary=".
_PLAIN_BOUNDARY = re.compile(r"[0-9A-Za-z_.+-]{1,70}|(?=.{1,70}$)(?!.*(?i:boundary)=)[0-9A-Za-z_.+/-]+={0,2}")
_RFC_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")
_UTF_8 = frozenset(("utf-8", "utf8"))
# In these ASCII characters are what they are in UTF-8; older Java clients announce them for whatever they send.
_LIKE_UTF_8_IN_ASCII = frozenset(("us-ascii", "ascii", "iso-8859-1", "latin1", "binary"))

FORM = "multipart/form-data"
URL_FORM = "application/x-www-form-urlencoded"


class ContentType(NamedTuple):
    """A parsed Content-Type.

    Attributes:
        media_type: In lower case; "" if there is none.
        parameters: By name in lower case.
    """

    media_type: str
    parameters: dict[str, str]

    @property
    def is_utf_8(self) -> bool:
        """Whether it announces no charset but UTF-8; otherwise `check_ascii` has to be called for text."""
        return "charset" not in self.parameters or self.parameters["charset"].lower() in _UTF_8

    def check_ascii(self, text: bytes | str, place: str) -> None:
        """Raises `UnsupportedFormat` if a text of this type has other characters than in UTF-8."""
        if not self.is_utf_8 and not text.isascii():
            raise UnsupportedFormat(
                f"{place}: the charset is {self.parameters['charset']}, and there are characters beyond ASCII, which "
                "are accepted in UTF-8 alone."
            )

    @property
    def is_json(self) -> bool:
        return self.media_type in ("application/json", "text/json") or self.media_type.endswith("+json")


def read_content_type(headers: Headers) -> ContentType:
    """Reads the one Content-Type of a request in front of a classifier.

    Raises:
        MalformedRequest: There are several, or it is not what RFC 9110 describes, or a parameter comes twice.
        UnsupportedFormat: It announces a charset other than UTF-8, ASCII or Latin-1.
    """
    values = headers.getlist("content-type")
    if len(values) > 1:
        raise MalformedRequest("The request has several Content-Type header fields.")
    return parse_content_type(values[0] if values else "", "The request's Content-Type")


def parse_content_type(value: str, name: str) -> ContentType:
    """Parses a Content-Type value. `name` is its description in refusals. Raises the errors of `read_content_type`."""
    plain_form = _PLAIN_FORM.fullmatch(value)
    if plain_form:
        return ContentType(FORM, {"boundary": plain_form[1]})
    value = value.strip(" \t")
    if not value:
        return ContentType("", {})
    found = _MEDIA_TYPE.match(value)
    if found is None:
        raise MalformedRequest(f"{name} is not a media type.")
    parameters: dict[str, str] = {}
    position = found.end()
    while position < len(value):
        parameter = _PARAMETER.match(value, position)
        if parameter is None:
            raise MalformedRequest(f"{name} has a parameter that can be read in two ways.")
        position = parameter.end()
        if parameter[1] is None:
            continue
        key = parameter[1].lower()
        if key in parameters or "*" in key:
            raise MalformedRequest(f"{name} has a parameter twice, or in parts.")
        parameters[key] = parameter[3] if parameter[2] is None else parameter[2]
    if parameters.get("charset", "utf-8").lower() not in _UTF_8 | _LIKE_UTF_8_IN_ASCII:
        raise UnsupportedFormat(f"{name} has a charset; UTF-8 is accepted, and for text in ASCII ISO-8859-1.")
    return ContentType(f"{found[1]}/{found[2]}".lower(), parameters)


def plain_boundary(content_type: ContentType) -> bytes:
    """Returns the boundary of a form that goes on to a classifier.

    Raises:
        MalformedRequest: There is none, or one that readers take differently, or another parameter beside it.
    """
    if content_type.parameters.keys() - {"boundary", "charset"}:
        raise MalformedRequest("The multipart content type has a parameter beside its boundary.")
    return _boundary(content_type, _PLAIN_BOUNDARY)


def any_boundary(content_type: ContentType) -> bytes:
    """Returns the boundary of a form that only this service reads. Raises `MalformedRequest` without a usable one."""
    return _boundary(content_type, _RFC_BOUNDARY)


def _boundary(content_type: ContentType, accepted: re.Pattern[str]) -> bytes:
    boundary = content_type.parameters.get("boundary", "")
    if not boundary:
        raise MalformedRequest("The multipart content type names no boundary.")
    if not accepted.fullmatch(boundary):
        raise MalformedRequest(
            "The boundary of the multipart content type holds more than letters, digits, `-_.+/`, and `=` at its end."
        )
    return boundary.encode()
