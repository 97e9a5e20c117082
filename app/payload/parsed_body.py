"""Parses a request body by its content type. Every kind can be searched for images and written again."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote_plus

import orjson
from starlette.datastructures import Headers

from app.errors import CompressedBody, MalformedRequest, UnsupportedFormat
from app.payload.content_type import FORM, URL_FORM, ContentType, plain_boundary, read_content_type
from app.payload.found_images import shown
from app.payload.json_body import parse_json
from app.payload.multipart import Part, parse_form, write_form
from app.payload.tensors import HEADER_LENGTH, InferenceRequest, Tensor, read_inference_request
from app.payload.unjudged import MOST_CHARACTERS
from app.payload.url_form import parse_url_form
from app.payload.written_json import check_writable

_PNG = "image/png"
# Begins with a literal, which the search jumps to; with IGNORECASE it would take ten times as long.
_DISPOSITION = re.compile(rb"-(?<=[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-)[Dd][Ii][Ss][Pp][Oo][Ss][Ii][Tt][Ii][Oo][Nn]")
# A field of a URL-encoded form that is longer than a text that need not be judged, also wrapped, or a data URL.
_LONG_FIELD = re.compile(rb"=[0-9A-Za-z%%+*._~!'()/:;,@$?\[\]\\\r\n-]{%d}" % (MOST_CHARACTERS + 1))
# Open Inference requests with binary tensors are of no type of their own.
_BINARY_TYPES = ("", "application/octet-stream")


@dataclass(slots=True)
class RawBody:
    """One file."""

    data: bytes
    content_type: str

    def replace(self, data: bytes) -> None:
        self.data, self.content_type = data, _PNG

    def write(self) -> tuple[str, bytes]:
        return self.content_type, self.data


@dataclass(slots=True)
class Form:
    """multipart/form-data.

    Attributes:
        documents: Parts that were read as JSON documents.
    """

    parts: list[Part]
    boundary: bytes
    documents: list[tuple[Part, "Document"]] = field(default_factory=list)

    def write(self) -> tuple[str, bytes]:
        for part, document in self.documents:
            part.content = document.write()[1]
        boundary = self.boundary.decode()
        if "/" in boundary or "=" in boundary:
            boundary = f'"{boundary}"'
        return f"{FORM}; boundary={boundary}", write_form(self.parts, self.boundary)


@dataclass(slots=True)
class UrlForm:
    """application/x-www-form-urlencoded, or a query."""

    fields: list[tuple[str, str]]

    def write(self) -> tuple[str, bytes]:
        return URL_FORM, "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in self.fields).encode()


@dataclass(slots=True)
class Document:
    """JSON."""

    value: Any
    content_type: str

    def write(self) -> tuple[str, bytes]:
        return self.content_type, orjson.dumps(self.value)


@dataclass(slots=True)
class Inference:
    """An Open Inference request with binary tensors, or a raw request.

    Attributes:
        header_length: Length of the JSON document for Inference-Header-Content-Length; set by `write`.
    """

    request: InferenceRequest
    content_type: str
    header_length: int = field(default=0)

    def write(self) -> tuple[str, bytes]:
        (first, *_) = self.request.inputs
        if not first.fields:  # the raw request
            assert isinstance(first.data, list)
            return self.content_type, first.data[0]
        tails: list[bytes] = []
        inputs = [_written(tensor, tails) for tensor in self.request.inputs]
        document = orjson.dumps({**self.request.rest, "inputs": inputs})
        self.header_length = len(document)
        return self.content_type, b"".join([document, *tails])


ParsedBody = RawBody | Form | UrlForm | Document | Inference


def parse_request_body(headers: Headers, body: bytes) -> ParsedBody:
    """Parses a body as its content type says; without one, as its first bytes say.

    Raises:
        CompressedBody: It has a Content-Encoding.
        MalformedRequest: It is broken, is not what its content type says, or can be read in two ways.
        UnsupportedFormat: Its content type is a multipart other than a form, or has a charset other than
            UTF-8, where ASCII and Latin-1 may stand for text in ASCII.
    """
    if any(value.lower() != "identity" for value in headers.getlist("content-encoding")):
        raise CompressedBody("Send the body as it is, without Content-Encoding.")
    content_type = read_content_type(headers)
    media_type = content_type.media_type
    if not media_type and body.startswith(b"--"):
        content_type = _without_type(body)
        media_type = content_type.media_type
    is_untyped = not headers.get("content-type", "").strip()
    if is_untyped and _LONG_FIELD.search(body):
        raise _hidden_form("a `=` and a long value")
    if HEADER_LENGTH in headers:
        if is_untyped:
            _check_hidden_form(body, 0)
        return _inference(headers, content_type, body)
    if media_type == FORM:
        parts = parse_form(content_type, body)
        if is_untyped:
            _check_hidden_form(body, len(parts))
        return Form(parts, plain_boundary(content_type))
    if media_type.startswith("multipart/"):
        raise UnsupportedFormat("Of multipart bodies only multipart/form-data is accepted.")
    if media_type == URL_FORM:
        return _url_form(content_type, body)
    if content_type.is_json or (body.lstrip()[:1] in (b"{", b"[") and not media_type.startswith("image/")):
        content_type.check_ascii(body, "The body")
        return Document(parse_json(body), _type_in_utf_8(content_type, headers, "application/json"))
    if media_type.startswith("text/"):
        raise MalformedRequest(f"The body is {media_type}, and not JSON, as which text is read.")
    if is_untyped:
        _check_hidden_form(body, 0)
    return RawBody(body, headers.get("content-type", ""))


def check_body_writable(body: ParsedBody) -> None:
    """
    Raises:
        MalformedRequest: A JSON document in it cannot be written again so that it means the same.
    """
    match body:
        case Document():
            check_writable(body.value)
        case Form():
            for part, document in body.documents:
                check_writable(document.value, f"Part `{shown(part.name)}`, ")
        case Inference():
            check_writable({**body.request.rest, "inputs": [tensor.fields for tensor in body.request.inputs]})


def _without_type(body: bytes) -> ContentType:
    line = body[2 : max(body.find(b"\r\n"), 2)]
    return ContentType(FORM, {"boundary": line.decode("latin-1")})


def _check_hidden_form(body: bytes, parts: int) -> None:
    """Refuses a body without a content type that holds parts of a form beside the `parts` that were found in it.

    Envoy may keep the content type from the gate, and many readers of forms skip whatever stands before the boundary
    that it names: a whole image, or another form. Every part of a form has a Content-Disposition, whatever the order of
    its header and its line ends are.
    """
    if sum(1 for _ in islice(_DISPOSITION.finditer(body), parts + 1)) > parts:
        raise _hidden_form("`Content-Disposition`")


def _hidden_form(sign: str) -> MalformedRequest:
    return MalformedRequest(
        f"The request has no content type, and its body holds what may be a form ({sign}) that is not judged. "
        "Let the proxy in front forward `content-type`."
    )


def _url_form(content_type: ContentType, body: bytes) -> UrlForm:
    form = UrlForm(parse_url_form(body))
    for name, value in form.fields:
        content_type.check_ascii(name + value, f"Field `{shown(name)}`")
    return form


def _inference(headers: Headers, content_type: ContentType, body: bytes) -> Inference:
    if len(headers.getlist(HEADER_LENGTH)) > 1:
        raise MalformedRequest(f"The request has several {HEADER_LENGTH} header fields.")
    is_document = content_type.is_json and headers[HEADER_LENGTH] == str(len(body))
    if content_type.media_type not in _BINARY_TYPES and not is_document:
        raise MalformedRequest(f"{HEADER_LENGTH} does not belong to a body of type {content_type.media_type}.")
    content_type.check_ascii(body, "The body")
    return Inference(read_inference_request(headers, body), _type_in_utf_8(content_type, headers, ""))


def _type_in_utf_8(content_type: ContentType, headers: Headers, without: str) -> str:
    """The Content-Type of a document that is written again, in UTF-8."""
    return headers.get("content-type", without) if content_type.is_utf_8 else content_type.media_type


def _written(tensor: Tensor, tails: list[bytes]) -> dict[str, Any]:
    """An input as the JSON document has it; its binary values are appended to `tails`."""
    fields = dict(tensor.fields)
    if not tensor.is_binary:
        return fields
    tail = b"".join(_elements(tensor))
    fields["parameters"] = {**fields["parameters"], "binary_data_size": len(tail)}
    tails.append(tail)
    return fields


def _elements(tensor: Tensor) -> Iterator[bytes]:
    if isinstance(tensor.data, list):
        for element in tensor.data:
            yield struct.pack("<I", len(element))
            yield element
    elif tensor.data is not None:
        yield tensor.data.tobytes()
    else:
        raise UnsupportedFormat(f"A binary tensor of {shown(tensor.datatype)} cannot be written again.")
