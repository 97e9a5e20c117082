"""Every image in a classifier's own request, in whichever way it comes; what cannot be judged is refused.

Where an image could hide, the careful reading counts: a file of any field, a string under any key that images go by,
base64 that begins like an image, tensors, the query. A request that could be read in two ways is refused.
"""

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import Headers

from app.detection.images import SIDE
from app.errors import CompressedBody, MalformedRequest, UnsupportedFormat
from app.payload.json_body import parse_json
from app.payload.multipart import is_multipart, parse_multipart
from app.payload.tensors import (
    HEADER_LENGTH,
    MAX_IMAGES,
    InferenceRequest,
    Tensor,
    decode_base64,
    holds_images,
    is_inference_request,
    parse_inference_request,
    read_inference_request,
    tensor_images,
)

# Fields that hold an image wherever classifiers have such a field; compared without case, "-" and "_".
_IMAGE_FIELDS = frozenset(
    {"image", "images", "img", "imgs", "file", "files", "picture", "photo", "b64", "base64", "imageb64", "imagebase64"}
    | {"imagebytes", "imagedata", "imageurl", "imageurls", "imageuri", "url", "uri", "instances", "inputs", "bytes"}
    | {"content", "data"}
)
_BASE64_BEGINNINGS = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGODdh", "R0lGODlh")  # PNG, JPEG, WebP, GIF
_BMP_BEGINNING = re.compile(r"Qk[0-3][A-Za-z0-9+/\s]{70}")
# Fewer numbers are parameters; an image of 8x8 pixels has as many.
_LEAST_IMAGE_VALUES = 64
_SECOND_BODY = re.compile(rb"\r\n--[^\r\n]{1,70}\r\ncontent-disposition:", re.IGNORECASE)


@dataclass(slots=True)
class Images:
    """What a request asks a classifier to look at.

    Attributes:
        files: Encoded images, in the order in which they stand.
        tensors: (N, 28, 28) each, grey levels in [0, 1].
    """

    files: list[bytes] = field(default_factory=list)
    tensors: list[NDArray[np.float32]] = field(default_factory=list)

    @property
    def pixels(self) -> NDArray[np.float32]:
        """(N, 28, 28), the images of all tensors."""
        return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *self.tensors])

    @property
    def count(self) -> int:
        return len(self.files) + sum(map(len, self.tensors))


def find_images(headers: Headers, query: bytes, body: bytes) -> Images:
    """Takes a request apart.

    Args:
        headers: Those that the classifier will see.
        query: Without the question mark.
        body: Whole; may be empty.

    Returns:
        At least one image, unless there is no body and the query holds none either.

    Raises:
        CompressedBody: It has a Content-Encoding.
        MalformedRequest: It is broken, may be read in two ways, or holds no image.
        UnsupportedFormat: It holds something in an image's place that is not in an accepted format.
    """
    _check_unambiguous(headers)
    found = Images()
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        _add_text(found, name, value)
    if body:
        _add_body(found, headers, body)
        if not found.count:
            raise MalformedRequest(
                "There is no image in the request: send one as the body, as a multipart file, or as base64 in a JSON "
                "field `image`."
            )
    if found.count > MAX_IMAGES:
        raise MalformedRequest(f"The request holds more than the {MAX_IMAGES} images that are accepted.")
    return found


def _check_unambiguous(headers: Headers) -> None:
    if any(value.lower() != "identity" for value in headers.getlist("content-encoding")):
        raise CompressedBody("Send the body as it is, without Content-Encoding.")
    for name in ("Content-Type", HEADER_LENGTH):
        if len(headers.getlist(name)) > 1:
            raise MalformedRequest(f"The request has several {name} header fields.")


def _add_body(found: Images, headers: Headers, body: bytes) -> None:
    content_type = headers.get("content-type", "").strip().lower()
    if content_type.startswith("multipart/") or (not content_type and body.startswith(b"--")):
        if HEADER_LENGTH in headers:
            raise MalformedRequest(f"{HEADER_LENGTH} does not belong to a multipart request.")
        _add_form(found, headers, body)
    elif HEADER_LENGTH in headers:
        _add_inference_request(found, read_inference_request(headers, body))
    elif body.lstrip()[:1] in (b"{", b"["):
        _add_document(found, parse_json(body))
    else:
        if not content_type and _SECOND_BODY.search(body):
            # Envoy does not forward the content type, and some readers skip whatever stands before the first boundary.
            raise MalformedRequest("The image is followed by what may be a multipart body.")
        found.files.append(body)


def _add_form(found: Images, headers: Headers, body: bytes) -> None:
    if "content-type" not in headers:
        boundary = body[2 : max(body.find(b"\r\n"), 2)].decode("latin-1")
        headers = Headers({"content-type": f'multipart/form-data; boundary="{boundary}"'})
    if not is_multipart(headers):
        raise UnsupportedFormat("Of multipart bodies only multipart/form-data is accepted.")
    for part in parse_multipart(headers, body):
        text = None if part.is_file else _text(part.content)
        if text is None:
            found.files.append(part.content)
        elif text.lstrip()[:1] in ("{", "["):
            _add_document(found, parse_json(part.content))
        else:
            _add_text(found, part.name, text)


def _add_document(found: Images, document: Any) -> None:
    if is_inference_request(document):
        _add_inference_request(found, parse_inference_request(document, b""))
        return
    _add_fields(found, document)


def _add_fields(found: Images, document: Any) -> None:
    if _add_json(found, document, in_image=False) >= _LEAST_IMAGE_VALUES:
        raise UnsupportedFormat(
            "The JSON document holds many numbers; grey levels can be judged as Open Inference Protocol tensors only, "
            "whose datatype tells their scale."
        )


def _add_json(found: Images, value: Any, in_image: bool) -> int:
    """Adds what stands in one JSON value; returns how many numbers stand in it."""
    if isinstance(value, str):
        _add_string(found, value, in_image)
    elif isinstance(value, list):
        in_image = in_image or any(isinstance(one, str) and _is_base64_image(one) for one in value)
        return sum(_add_json(found, one, in_image) for one in value)
    elif isinstance(value, dict):
        return sum(_add_json(found, one, _is_image_field(name)) for name, one in value.items())
    return isinstance(value, int | float)


def _add_text(found: Images, name: str, text: str) -> None:
    if text:
        _add_string(found, text, _is_image_field(name))


def _add_string(found: Images, text: str, in_image: bool) -> None:
    if text[:5].lower() == "data:":
        media_type, _, text = text.partition(",")
        if not media_type.lower().endswith(";base64"):
            raise MalformedRequest("An image in a data: URL is base64.")
    elif not in_image and not _is_base64_image(text):
        return
    if "://" in text[:64]:
        raise UnsupportedFormat("An image is given by its address; it can be judged only if it is sent along.")
    found.files.append(decode_base64(text))


def _add_inference_request(found: Images, request: InferenceRequest) -> None:
    for tensor in request.inputs:
        _add_tensor(found, tensor)
    _add_fields(found, request.rest)


def _add_tensor(found: Images, tensor: Tensor) -> None:
    if tensor.datatype == "BYTES":
        assert isinstance(tensor.data, list)
        found.files += tensor.data
    elif holds_images(tensor):
        found.tensors.append(tensor_images(tensor))
    elif np.prod(tensor.shape, dtype=float) >= _LEAST_IMAGE_VALUES:
        raise UnsupportedFormat(
            "A tensor can be judged as BYTES, or as FP32 or UINT8 of shape [N,28,28], [N,1,28,28] or [N,784]."
        )


def _is_image_field(name: str) -> bool:
    return name.lower().replace("-", "").replace("_", "").removesuffix("[]") in _IMAGE_FIELDS


def _text(content: bytes) -> str | None:
    """None for what is no text: no image format that is accepted begins with text and goes on without a zero byte."""
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def _is_base64_image(text: str) -> bool:
    text = text.lstrip()
    return text.startswith(_BASE64_BEGINNINGS) or _BMP_BEGINNING.match(text) is not None
