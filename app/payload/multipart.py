"""Parses multipart/form-data in memory, so strictly that every other parser finds the same parts.

python-multipart is not used: on unexpected input it walks byte by byte, and it accepts forms that other parsers read
differently. Delimiters are found with `bytes.find`.
"""

import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from app.errors import MalformedRequest
from app.payload.base64_text import text_of
from app.payload.content_type import FORM, ContentType, any_boundary, parse_content_type, plain_boundary

_MAX_PARTS = 1000
# Limits for the header of one part. Clients send at most four fields, but a file name may be long.
_MAX_HEADER_BYTES = 8 * 2**10
_MAX_HEADER_LINES = 16

_WORD = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# Blanks around a value are stripped after matching: a pattern for them would be tried in every combination.
_FIELD = re.compile(rb"(" + _WORD + rb"):([^\0\r\n]*)")
_IS_FORM_DATA = re.compile(rb"form-data[ \t]*(?=;|$)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*(?:(%b)=(?:"([^"\\]*)"|(%b))[ \t]*(?=;|$)|$)' % (_WORD, _WORD))
# Allows backslash-escaped quotes, as Go and older versions of curl write them. Other parsers end the value at such a
# quote, so this pattern is only used for forms that are not forwarded.
_ESCAPED_PARAMETER = re.compile(
    rb';[ \t]*(?:(%b)=(?:"((?:[^"\\]|\\.)*)"|(%b))[ \t]*(?=;|$)|$)' % (_WORD, _WORD), re.DOTALL
)
# Fast path: the header as nearly every client writes it, and that all parsers read alike.
_ORDINARY_HEADER = re.compile(
    rb'Content-Disposition: form-data; name="([\w .-]+)"(?:; filename="([\w .-]+)")?'
    rb"(?:\r\nContent-Type: ([a-z]+/[a-z0-9.-]+))?",
    re.IGNORECASE | re.ASCII,
)
_MAY_HOLD_PARTS = ("multipart/", "message/")
_FIELDS_FOR_CLASSIFIERS = frozenset(
    (b"content-disposition", b"content-type", b"content-length", b"content-transfer-encoding")
)
_NO_ENCODING = frozenset((b"binary", b"8bit", b"7bit"))


@dataclass(slots=True)
class Part:
    """One part of a multipart body.

    Attributes:
        name: The name of the form field.
        content: The value or the file.
        is_file: Whether the part has a file name.
        file_name: The file name as sent by the client, kept only to forward it; "" if there is none.
        content_type: The Content-Type as sent; "" if there is none.
    """

    name: str
    content: bytes
    is_file: bool
    file_name: str = ""
    content_type: str = ""

    def replace(self, data: bytes) -> None:
        """Puts a PNG file in the place of the file that it holds."""
        self.content, self.content_type = data, "image/png"

    def replace_text(self, data: bytes) -> None:
        """Puts a PNG file in the place of the base64 that it holds."""
        self.content = text_of(data, self.content[:5].decode("latin-1")).encode()


@dataclass(frozen=True, slots=True)
class _Header:
    """Content-Disposition and Content-Type of one part."""

    name: str
    file_name: str | None
    content_type: str
    length: bytes


def is_multipart(headers: Headers) -> bool:
    return headers.get("content-type", "").lower().startswith(FORM)


def parse_multipart(headers: Headers, body: bytes) -> list[Part]:
    """Parses a form that is not forwarded to a classifier.

    It is less strict than `parse_form`: leading line breaks, unknown header fields and `filename*` are accepted, since
    no other parser reads the form.

    Raises:
        MalformedRequest: No boundary, broken or unfinished parts, or too many of them.
    """
    values = headers.getlist("content-type")
    boundary = any_boundary(parse_content_type(values[0] if len(values) == 1 else "", "The request's Content-Type"))
    position = 0
    while body.startswith(b"\r\n", position) and position < _MAX_HEADER_LINES:
        position += 2
    return _parts(body, position, boundary, strict=False)


def parse_form(content_type: ContentType, body: bytes) -> list[Part]:
    """Parses a form that is also forwarded to a classifier. Anything that parsers read differently is refused.

    Args:
        content_type: The request's, multipart/form-data with a boundary.

    Raises:
        MalformedRequest: The form is broken, or can be read in more than one way.
        UnsupportedFormat: A charset other than UTF-8 is announced; ASCII and Latin-1 may be, for names and texts in
            ASCII. For the content of a part with such a type of its own the caller checks that.
    """
    boundary = plain_boundary(content_type)
    if body.find(b'--"' + boundary) >= 0 or body.find(b"--'" + boundary) >= 0:
        raise MalformedRequest("The multipart body has its boundary in quotation marks.")
    written = content_type.parameters["boundary"]  # a search in bytes takes ten times as long
    if "+" in written or "/" in written or "=" in written:
        _check_cut_boundary(boundary, body)
    parts = _parts(body, 0, boundary, strict=True)
    if len(content_type.parameters) > 1 and not content_type.is_utf_8:
        for part in parts:
            texts = (part.name, part.file_name, part.content_type, "" if part.is_file else part.content)
            for text in texts:
                content_type.check_ascii(text, f"Part `{part.name}`")
    return parts


def write_form(parts: list[Part], boundary: bytes) -> bytes:
    """Writes parts as `parse_form` reads them."""
    pieces: list[bytes] = []
    for part in parts:
        pieces.append(b'--%b\r\nContent-Disposition: form-data; name="%b"' % (boundary, part.name.encode()))
        if part.is_file:
            pieces.append(b'; filename="%b"' % part.file_name.encode())
        if part.content_type:
            pieces.append(b"\r\nContent-Type: %b" % part.content_type.encode())
        pieces += [b"\r\n\r\n", part.content, b"\r\n"]
    return b"".join([*pieces, b"--%b--\r\n" % boundary])


def _check_cut_boundary(boundary: bytes, body: bytes) -> None:
    """Refuses a body with another part for a reader that ends the boundary at a character which it does not know."""
    cut = re.split(b"[+/=]", boundary, maxsplit=1)[0]
    if body.count(b"--" + cut) != body.count(b"--" + boundary):
        raise MalformedRequest("The multipart body has a line that begins like its boundary, up to a `+`, `/` or `=`.")


def _parts(body: bytes, position: int, boundary: bytes, strict: bool) -> list[Part]:
    delimiter = b"--" + boundary
    if not body.startswith(delimiter, position):
        raise MalformedRequest("The multipart body does not begin with its boundary.")
    position += len(delimiter)
    parts: list[Part] = []
    while body.startswith(b"\r\n", position):
        following = body.find(delimiter, position)
        if following < 0:
            raise MalformedRequest("The multipart body ends before its last boundary.")
        if len(parts) == _MAX_PARTS:
            raise MalformedRequest(f"The multipart body has more than {_MAX_PARTS} parts.")
        if body[following - 2 : following] != b"\r\n":
            raise MalformedRequest("The multipart body has its boundary within a line.")
        parts.append(_part(body, position, following - 2, strict))
        position = following + len(delimiter)
    if body[position : position + 2] != b"--":
        if body[position : position + 1] == b"\n":
            raise MalformedRequest("The lines of the multipart body end with LF alone; forms end them with CR LF.")
        raise MalformedRequest("The multipart body has something else behind a boundary than the end of its line.")
    if body[position + 2 :] not in (b"", b"\r\n"):
        raise MalformedRequest("The multipart body goes on behind its last boundary.")
    return parts


def _part(body: bytes, start: int, end: int, strict: bool) -> Part:
    """One part.

    Args:
        start: Position of the line break after the part's delimiter; the header follows it.
        end: Position of the line break before the next delimiter.
    """
    header_end = body.find(b"\r\n\r\n", start, min(end, start + _MAX_HEADER_BYTES))
    if header_end < 0:
        raise MalformedRequest("A part of the multipart body has no end of its header, or a header that is too long.")
    content = body[header_end + 4 : end]
    if header_end == start and not strict:
        return Part("", content, False)
    lines = body[start + 2 : header_end]
    ordinary = _ORDINARY_HEADER.fullmatch(lines)
    if ordinary and not (ordinary[3] and ordinary[3].lower().startswith((b"multipart", b"message"))):
        name, file_name, content_type = (text.decode() if text else "" for text in ordinary.groups())
        return Part(name, content, bool(file_name), file_name, content_type)
    header = _header(lines.split(b"\r\n"), strict)
    if header.length and header.length != b"%d" % len(content):
        raise MalformedRequest(f"Part `{header.name}` announces another Content-Length than it has.")
    if header.file_name == "" and content:
        raise MalformedRequest(f"Part `{header.name}` has an empty file name, and some readers skip such a part.")
    return Part(header.name, content, bool(header.file_name), header.file_name or "", header.content_type)


def _header(lines: list[bytes], strict: bool) -> _Header:
    fields = _fields(lines, strict)
    disposition = fields.get(b"content-disposition")
    name, file_name = (b"", None) if disposition is None else _disposition(disposition, strict)
    if strict and not name:
        raise MalformedRequest("A part of the multipart body has no name.")
    encoding = fields.get(b"content-transfer-encoding")
    shown = _text(name, strict)
    if encoding is not None and encoding.lower() not in _NO_ENCODING:
        raise MalformedRequest(f"Part `{shown}` has a Content-Transfer-Encoding; send it as it is.")
    content_type = fields.get(b"content-type", b"")
    if strict and content_type:
        parsed = parse_content_type(content_type.decode("latin-1"), f"The Content-Type of part `{shown}`")
        if parsed.media_type.startswith(_MAY_HOLD_PARTS):
            raise MalformedRequest(f"Part `{shown}` is a multipart body of its own.")
    return _Header(
        name=shown,
        file_name=None if file_name is None else _text(file_name, strict),
        content_type=content_type.decode("latin-1"),
        length=fields.get(b"content-length", b""),
    )


def _fields(lines: list[bytes], strict: bool) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    if len(lines) > _MAX_HEADER_LINES:
        raise MalformedRequest("A part of the multipart body has too many header fields.")
    for line in lines:
        found = _FIELD.fullmatch(line)
        if found is None:
            raise MalformedRequest("A part of the multipart body has a broken header.")
        name = found[1].lower()
        if strict and name not in _FIELDS_FOR_CLASSIFIERS:
            raise MalformedRequest("A part of the multipart body has a header field that forms do not have.")
        if name in fields and name in _FIELDS_FOR_CLASSIFIERS:
            raise MalformedRequest("A part of the multipart body has a header field twice.")
        fields[name] = found[2].strip(b" \t")
    return fields


def _disposition(value: bytes, strict: bool) -> tuple[bytes, bytes | None]:
    """The name in a Content-Disposition, b"" without one, and the file name, None without one."""
    found = _IS_FORM_DATA.match(value)
    if found is None:
        raise MalformedRequest("The Content-Disposition of a part is not form-data.")
    pattern = _PARAMETER if strict else _ESCAPED_PARAMETER
    position = found.end()
    values: dict[bytes, bytes] = {}
    while position < len(value):
        parameter = pattern.match(value, position)
        if parameter is None or len(values) == _MAX_HEADER_LINES:
            raise MalformedRequest(
                "The Content-Disposition of a part can be read in two ways: it has a backslash or a quotation mark in "
                "a name, or is no list of `name=value`."
            )
        position = parameter.end()
        if parameter[1] is None:
            continue
        name = parameter[1].lower()
        text = parameter[3] if parameter[2] is None else parameter[2]
        if strict and name.endswith(b"*"):
            raise MalformedRequest(
                f"The Content-Disposition of a part has `{name.decode()}`, which some readers ignore; in front of a "
                "classifier send `filename` alone, in UTF-8."
            )
        if strict and parameter[2] is None and b"'" in text:
            raise MalformedRequest(
                "The Content-Disposition of a part has a value with a single quote and no quotation marks; PHP "
                "ends it at the next single quote."
            )
        # A parser that ignores quotation marks would find a second name inside the value.
        is_strange = name not in (b"name", b"filename") or b"name=" in text.lower()
        if name in values or (strict and is_strange) or name == b"name*":
            raise MalformedRequest("The Content-Disposition of a part has more than one name and one file name.")
        values[name] = text
    return values.get(b"name", b""), values.get(b"filename", values.get(b"filename*"))


def _text(value: bytes, strict: bool) -> str:
    if not strict:
        return value.decode("utf-8", "replace")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("A name in the multipart body is not UTF-8.") from error
    if any(sign < " " or sign == "\x7f" for sign in text):
        raise MalformedRequest("A name in the multipart body has a control character.")
    return text
