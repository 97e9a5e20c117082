"""Finds the images of a request at the places that GATE_IMAGE_AT declares. The rest of the body is not searched."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from app.errors import MalformedRequest, Refusal, UnsupportedFormat
from app.payload.base64_text import decode_image_text, text_of
from app.payload.found_images import Images, shown
from app.payload.json_body import folded
from app.payload.multipart import Part
from app.payload.number_images import NumberFormat
from app.payload.parsed_body import Document, Form, Inference, ParsedBody, RawBody, UrlForm
from app.payload.places import BodyPlace, FormPlace, JsonPlace, Place, Places, TensorPlace
from app.payload.request_images import INPUT_KEYS, add_elements
from app.payload.tensors import (
    InferenceRequest,
    Tensor,
    holds_images,
    is_inference_request,
    parse_inference_request,
    tensor_images,
)
from app.payload.unjudged import Unjudged, may_begin_image
from app.payload.url_form import decodings


def find_declared(places: Places, query: UrlForm, body: ParsedBody) -> Images:
    """Takes the images from the declared places of one request.

    Args:
        query: The query's fields. An image in one of them is refused, since some classifiers prefer the query.

    Returns:
        At least one image.

    Raises:
        MalformedRequest: None of the places is there, or something else than an image is.
        UnsupportedFormat: There is something that cannot be judged.
    """
    found = Images()
    for name, text in query.fields:
        if any(map(may_begin_image, decodings(text))):
            raise UnsupportedFormat(f"Query parameter `{shown(name)}`: a text that begins like an image.")
    for place in places.declared:
        _add_place(found, place, body, places.numbers)
    if not found.count:
        raise MalformedRequest(
            f"There is no image at `{places}`, where GATE_IMAGE_AT says that requests carry it; null and empty texts "
            "are none."
        )
    return found


def _add_place(found: Images, place: Place, body: ParsedBody, numbers: NumberFormat) -> None:
    match place, body:
        case BodyPlace(), RawBody():
            found.add_file(body.data, "The body", body.replace)
        case FormPlace(), Form():
            for part in body.parts:
                _check_name(part.name)
                if place.matches(part.name):
                    _add_part(found, part)
        case FormPlace(), UrlForm():
            _add_fields(found, place, body)
        case JsonPlace(), Document():
            root = [body.value]
            for container, key, path in _matches(root, 0, place.keys, ""):
                _add_value(found, container, key, f"`{path}`" if path else "The document", numbers)
            body.value = root[0]
        case TensorPlace(), Inference():
            _add_tensors(found, place, body.request, numbers)
        case TensorPlace(), Document() if is_inference_request(body.value):
            _add_tensors(found, place, parse_inference_request(body.value, b""), numbers)


def _check_name(name: str) -> None:
    """Refuses names that Java's readers of forms decode (RFC 2047), in charsets that only Java has, too."""
    if "=?" in name:
        raise MalformedRequest(
            f"Part `{shown(name)}`: a name with `=?`, which some readers take for an encoded word, and so for another "
            "name; send names in UTF-8."
        )


def _add_part(found: Images, part: Part) -> None:
    place = f"Part `{shown(part.name)}`"
    if not part.is_file and not part.content:
        return
    if part.is_file:
        found.add_file(part.content, place, part.replace)
        return
    try:
        text = part.content.decode("ascii")
    except UnicodeDecodeError:
        found.add_file(part.content, place, part.replace)
        return
    found.add_file(_decoded(text, place), place, part.replace_text)


def _add_fields(found: Images, place: FormPlace, form: UrlForm) -> None:
    for index, (name, text) in enumerate(form.fields):
        if text and place.matches(name):

            def replace(data: bytes, index: int = index, name: str = name, text: str = text) -> None:
                form.fields[index] = (name, text_of(data, text))

            where = f"Field `{shown(name)}`"
            found.add_file(_decoded(text, where), where, replace)


def _matches(container: Any, key: Any, keys: tuple[str | None, ...], path: str) -> Iterator[tuple[Any, Any, str]]:
    """Yields every value that a pointer matches, as its container, its key in the container, and its path.

    Keys are compared without case, and after Unicode normalisation, because some JSON readers treat such keys as equal.
    """
    value = container[key]
    if not keys:
        yield container, key, path
        return
    wanted, *rest = keys
    if isinstance(value, str) and _may_be_image(value):
        # Some classifiers take the image in place of the object that usually holds it.
        yield container, key, path
    elif isinstance(value, list):
        for index in range(len(value)):
            if wanted is None or wanted == str(index):
                yield from _matches(value, index, tuple(rest), f"{path}[{index}]")
    elif isinstance(value, dict):
        for field in value:
            if wanted is None or folded(field) == folded(wanted):
                below = f"{path}.{shown(field)}" if path else shown(field)
                yield from _matches(value, field, tuple(rest), below)


def _may_be_image(text: str) -> bool:
    """Whether a text that stands where a pointer goes deeper is an image or the address of one, rather than words."""
    beginning = text.lstrip()[:64].lower()
    is_address = "://" in beginning and not any(map(str.isspace, text.strip()))
    return beginning.startswith("data:") or is_address or may_begin_image(text)


def _add_value(found: Images, container: Any, key: Any, place: str, numbers: NumberFormat) -> None:
    value = container[key]
    if value is None or value == "":  # as some clients write a field that they leave out
        return
    if isinstance(value, list):
        if not _begins_with_a_number(value):
            raise UnsupportedFormat(
                f"{place}: a list; `/*` behind the pointer in GATE_IMAGE_AT takes each of its elements."
            )
        try:
            found.add_tensor(numbers.list_image(value), place)
        except Refusal as refusal:
            raise refusal.at(place) from refusal
        return
    if not isinstance(value, str):
        hint = "; GATE_IMAGE_AT can point to one of its fields" if isinstance(value, dict) else ""
        kind = "an object" if isinstance(value, dict) else "no string"
        raise UnsupportedFormat(f"{place}: an image is a string of base64, or a data: URL. This is {kind}{hint}.")

    def replace(data: bytes) -> None:
        container[key] = text_of(data, value)

    found.add_file(_decoded(value, place), place, replace)


def _begins_with_a_number(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float)


def _add_tensors(found: Images, place: TensorPlace, request: InferenceRequest, numbers: NumberFormat) -> None:
    for tensor in request.inputs:
        if folded(tensor.name) == folded(place.name):
            _add_tensor(found, tensor, f"Input `{shown(tensor.name)}`", numbers)


def _add_tensor(found: Images, tensor: Tensor, place: str, numbers: NumberFormat) -> None:
    if tensor.fields.keys() - INPUT_KEYS:
        raise MalformedRequest(f"{place}: a key that inputs do not have.")
    Unjudged().add_json(tensor.fields.get("parameters", {}), f"{place}, `parameters`")
    if tensor.datatype == "BYTES":
        add_elements(found, tensor, place)
        return
    try:
        if numbers.is_plain and holds_images(tensor):
            found.add_tensor(tensor_images(tensor), place)
        elif isinstance(tensor.data, np.ndarray):
            numbers.check_channels(tensor.shape)
            found.add_tensor(numbers.tensor_images(tensor.datatype, tensor.shape, tensor.data), place)
        else:
            raise UnsupportedFormat(f"{shown(tensor.datatype)} cannot be judged.")
    except Refusal as refusal:
        raise refusal.at(place) from refusal


def _decoded(text: str, place: str) -> bytes:
    try:
        return decode_image_text(text)
    except Refusal as refusal:
        raise refusal.at(place) from refusal
