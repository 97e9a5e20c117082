"""Finds every image in a request to a classifier, wherever it is (`GATE_IMAGE_AT=auto`).

Anything that a classifier might read as an image counts as one: form files under any name, text under common image
keys, base64 that begins like an image, tensors, and the query. Everything else must be too small to be an image
(`app.payload.unjudged`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.errors import MalformedRequest, Refusal, UnsupportedFormat
from app.payload.base64_text import decode_image_text, text_of
from app.payload.content_type import parse_content_type
from app.payload.found_images import Images, shown
from app.payload.json_body import folded, parse_json
from app.payload.multipart import Part
from app.payload.parsed_body import Document, Form, Inference, ParsedBody, RawBody, UrlForm
from app.payload.tensors import (
    InferenceRequest,
    Tensor,
    holds_images,
    is_inference_request,
    parse_inference_request,
    tensor_images,
)
from app.payload.unjudged import MOST_DEPTH, Unjudged, is_address, may_begin_image
from app.payload.url_form import decodings

# Names of fields in which classifiers expect an image or its URL. Case, "-" and "_" are ignored in the comparison.
_IMAGE_FIELDS = frozenset(
    {"image", "images", "img", "imgs", "file", "files", "picture", "photo", "b64", "base64", "imageb64", "imagebase64"}
    | {"imagebytes", "imagedata", "imageurl", "imageurls", "imageuri", "url", "uri", "src", "imagepath", "imagefile"}
)
_BASE64_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGODdh", "R0lGODlh")  # PNG, JPEG, WebP, GIF
_BMP_BEGINNING = re.compile(r"Qk[0-3][A-Za-z0-9+/\s]{70}")
_MOST_PATH_CHARACTERS = 256
# Of a text in an image field, which may be an image of megabytes: a longer address is refused because it is no base64.
_MOST_ADDRESS_CHARACTERS = 2048
# The keys that an input of an Open Inference request may have; others are refused.
INPUT_KEYS = frozenset(("name", "datatype", "shape", "data", "parameters"))
# A tensor of as many values may be an image of 8x8 pixels.
_LEAST_IMAGE_VALUES = 64

Replace = Callable[[bytes], None]


def find_images(path: str, query: UrlForm, body: ParsedBody | None) -> Images:
    """Searches a request.

    Args:
        path: That the classifier gets, as the client encoded it.
        query: Its fields.
        body: None if it is empty.

    Returns:
        At least one image, unless there is no body and the query holds none either.

    Raises:
        MalformedRequest: It is broken, may be read in two ways, holds no image, or too much that is none.
        UnsupportedFormat: It holds something in an image's place that is not in an accepted format, or an address.
    """
    search = _Search()
    search.add_path(path)
    search.add_fields(query, "Query parameter")
    if body is not None:
        search.add_body(body)
        if not search.found.count:
            raise MalformedRequest(
                "There is no image in the request: send one as the body, as a multipart file, or as base64 in a JSON "
                "field `image`."
            )
    return search.found


class _Search:
    """Collects the images of one request, and checks that everything else in it is too small to be an image."""

    def __init__(self) -> None:
        self.found = Images()
        self._rest = Unjudged()

    def add_path(self, path: str) -> None:
        for decoded in decodings(path):
            if len(decoded) > _MOST_PATH_CHARACTERS:
                raise MalformedRequest(f"The path has more than {_MOST_PATH_CHARACTERS} characters.")
            if may_begin_image(decoded):
                raise UnsupportedFormat("The path: a text that begins like an image, and is not judged.")
            for segment in decoded.split("/"):
                if is_address(segment):
                    raise UnsupportedFormat("The path: an address; what is there cannot be judged.")

    def add_body(self, body: ParsedBody) -> None:
        match body:
            case RawBody():
                self.found.add_file(body.data, "The body", body.replace)
            case Form():
                for part in body.parts:
                    self._add_part(part, body)
            case UrlForm():
                self.add_fields(body, "Field")
            case Document():
                self._add_document(body)
            case Inference():
                self._add_inference_request(body.request)

    def add_fields(self, form: UrlForm, kind: str) -> None:
        for index, (name, text) in enumerate(form.fields):
            place = f"{kind} `{shown(name)}`"

            def replace(data: bytes, index: int = index, name: str = name, text: str = text) -> None:
                form.fields[index] = (name, text_of(data, text))

            for decoded in decodings(name):
                self._rest.add_text(decoded, f"The name of {kind.lower()} `{shown(name)}`")
            if text and not self._add_image_text(text, name, place, replace):
                for decoded in decodings(text):
                    self._rest.add_text(decoded, place)

    def _add_part(self, part: Part, form: Form) -> None:
        place = f"Part `{shown(part.name)}`"
        self._rest.add_text(part.name, "The name of a part")
        self._add_file_name(part.file_name, f"The file name of {_lower(place)}")
        text = _text(part.content)
        content_type = parse_content_type(part.content_type, place)
        is_document = content_type.is_json or _is_document(part, text)
        if is_document or (text is not None and not part.is_file):
            content_type.check_ascii(part.content, place)
        if is_document:
            part.content_type = part.content_type if content_type.is_utf_8 else content_type.media_type
            try:
                document = Document(parse_json(part.content), part.content_type)
            except Refusal as refusal:
                raise refusal.at(place) from refusal
            form.documents.append((part, document))
            self._add_document(document, f"{place}, ")
        elif text is None or part.is_file:
            self.found.add_file(part.content, place, part.replace)
        elif text and not self._add_image_text(text, part.name, place, part.replace_text):
            self._rest.add_text(text, place)

    def _add_file_name(self, name: str, place: str) -> None:
        """Checks each folder of a name, as browsers send it for folders; such a path is no address of another image."""
        is_path = not is_address(name.partition("/")[0]) and "://" not in name and not name.startswith("//")
        for text in name.split("/") if is_path else [name]:
            self._rest.add_text(text, place)

    def _add_document(self, document: Document, place: str = "") -> None:
        if is_inference_request(document.value):
            self._add_inference_request(parse_inference_request(document.value, b""))
        else:
            root = [document.value]
            self._add_json(root, 0, "", _JsonPath(place), 0)
            document.value = root[0]

    def _add_json(self, container: Any, key: Any, name: str, path: "_JsonPath", depth: int) -> None:
        """Searches the value `container[key]`; `name` is the name of the field that holds it."""
        value = container[key]
        if depth > MOST_DEPTH:
            raise MalformedRequest(
                f"The JSON document is nested too deeply to be searched: it has more than {MOST_DEPTH} lists and "
                "objects within each other. GATE_IMAGE_AT says where a classifier's image is; then the rest passes."
            )
        if isinstance(value, str):

            def replace(data: bytes) -> None:
                container[key] = text_of(data, value)

            if not self._add_image_text(value, name, str(path), replace):
                self._rest.add_text(value, str(path))
        elif isinstance(value, list):
            self._rest.add_thing(path)
            if any(isinstance(one, str) and _is_base64_image(one) for one in value):
                name = "images"  # then all of them have to be
            elif not _is_image_field(name):
                self._rest.add_list(value, str(path))
            for index in range(len(value)):
                self._add_json(value, index, name, path.element(index), depth + 1)
        elif isinstance(value, dict):
            self._rest.add_thing(path)
            for field in value:
                self._rest.add_text(field, f"A key in {_lower(str(path))}")
                self._add_json(value, field, field, path.field(field), depth + 1)
        else:
            self._rest.add_value(value, str(path))

    def _add_image_text(self, text: str, name: str, place: str, replace: Replace) -> bool:
        """Adds a text as an image if it looks like one or is in an image field. Returns whether it was added."""
        if text[:5].lower() != "data:" and not _is_base64_image(text):
            if not _is_image_field(name):
                return False
            if is_address(text[:_MOST_ADDRESS_CHARACTERS]):
                raise UnsupportedFormat(
                    f"{place}: an image is given by its address; it can be judged only if it is sent along."
                )
        try:
            self.found.add_file(decode_image_text(text), place, replace)
        except Refusal as refusal:
            raise refusal.at(place) from refusal
        return True

    def _add_inference_request(self, request: InferenceRequest) -> None:
        for tensor in request.inputs:
            place = f"Input `{shown(tensor.name)}`"
            self._rest.add_text(tensor.name, "The name of an input")
            for key in tensor.fields.keys() - INPUT_KEYS:
                raise MalformedRequest(f"{place}: a key `{shown(key)}`, which inputs do not have.")
            self._rest.add_json(tensor.fields.get("parameters", {}), f"The parameters of {_lower(place)}")
            self._add_tensor(tensor, place)
        self._add_json([request.rest], 0, "", _JsonPath(), 0)

    def _add_tensor(self, tensor: Tensor, place: str) -> None:
        if tensor.datatype == "BYTES":
            add_elements(self.found, tensor, place)
        elif holds_images(tensor):
            try:
                self.found.add_tensor(tensor_images(tensor), place)
            except Refusal as refusal:
                raise refusal.at(place) from refusal
        elif tensor.data is None:
            raise UnsupportedFormat(f"{place}: {shown(tensor.datatype)} is no datatype that can be judged.")
        elif np.prod(tensor.shape, dtype=float) >= _LEAST_IMAGE_VALUES:
            raise UnsupportedFormat(
                f"{place}: a tensor can be judged as BYTES, or as FP32 or UINT8 of shape [N,28,28], [N,1,28,28] or "
                "[N,784]; in other shapes if GATE_IMAGE_AT declares it."
            )


@dataclass(frozen=True, slots=True)
class _JsonPath:
    """Where a value stands in a JSON document, as refusals name it.

    Attributes:
        document: What the document is part of; "" for a document that is the whole body.
        path: Such as messages[0].content; "" for the whole document.
    """

    document: str = ""
    path: str = ""

    def __str__(self) -> str:
        return f"{self.document}`{self.path}`" if self.path else f"{self.document}the document"

    def field(self, name: str) -> "_JsonPath":
        return _JsonPath(self.document, f"{self.path}.{shown(name)}" if self.path else shown(name))

    def element(self, index: int) -> "_JsonPath":
        return _JsonPath(self.document, f"{self.path}[{index}]")


def add_elements(found: Images, tensor: Tensor, place: str) -> None:
    """Adds the encoded images of a BYTES tensor."""
    elements = tensor.data
    assert isinstance(elements, list)
    for index, element in enumerate(elements):

        def replace(data: bytes, index: int = index) -> None:
            elements[index] = data
            if not tensor.is_binary:
                tensor.fields["data"][index] = text_of(data, "")

        found.add_file(element, f"{place}, element {index}", replace)


def _is_document(part: Part, text: str | None) -> bool:
    return text is not None and not part.is_file and text.lstrip()[:1] in ("{", "[")


def _lower(place: str) -> str:
    return place[:1].lower() + place[1:]


def _is_image_field(name: str) -> bool:
    return folded(name).replace("-", "").replace("_", "").removesuffix("[]") in _IMAGE_FIELDS


def _text(content: bytes) -> str | None:
    """Decodes a part as UTF-8 text, or returns None if it is binary, that is, if it is not UTF-8 or has a zero byte.

    Files of every accepted image format are binary in this sense.
    """
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def _is_base64_image(text: str) -> bool:
    text = text.lstrip()
    return text.startswith(_BASE64_BEGINNINGS) or _BMP_BEGINNING.match(text) is not None
