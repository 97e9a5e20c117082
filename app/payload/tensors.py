"""Open Inference Protocol request bodies, JSON and binary, and the images in their tensors.

With the binary extension, the tensor data follows the JSON document, in the order of the inputs, little-endian and
row-major. `parameters.binary_data_size` is the length of each tensor. Each BYTES element is preceded by its length in
four bytes.
"""

import math
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.datastructures import Headers

from app.detection.images import PIXELS, SIDE
from app.errors import MalformedRequest
from app.payload.base64_text import decode_base64
from app.payload.json_body import parse_json
from app.payload.json_numbers import number_array

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_IMAGES = 1000
_MAX_INPUTS = 1000
_MAX_DIMENSIONS = 8

_IMAGE_DATATYPES = ("FP32", "UINT8")
_NUMERIC: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    **{f"UINT{8 * size}": np.dtype(f"<u{size}") for size in (1, 2, 4, 8)},
    **{f"INT{8 * size}": np.dtype(f"<i{size}") for size in (1, 2, 4, 8)},
    **{f"FP{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}
# Which kinds of numbers JSON may write for a kind of datatype.
_JSON_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}
_IMAGE_SHAPES = ((SIDE, SIDE), (1, SIDE, SIDE), (PIXELS,))


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input.

    Attributes:
        shape: As the request gives it; every length is at least 0.
        data: Byte strings for BYTES, such as encoded images; a flat array for numeric datatypes; None for others.
        fields: The input's JSON object; empty for a raw request, whose only element is the whole body.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[bytes] | NDArray[Any] | None
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def is_binary(self) -> bool:
        """Whether its values stand behind the JSON document."""
        return "data" not in self.fields


@dataclass(frozen=True, slots=True)
class WantedOutput:
    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A parsed request body.

    Attributes:
        outputs: What the client asks for; None when it does not say.
        binary_outputs: Whether outputs go binary where the client does not say.
        rest: The JSON document without its inputs.
    """

    id: str | None
    inputs: list[Tensor]
    outputs: list[WantedOutput] | None
    binary_outputs: bool
    rest: dict[str, Any]


def is_inference_request(document: Any) -> bool:
    """Whether a JSON document has inputs as the protocol describes them."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    return isinstance(inputs, list) and any(isinstance(one, dict) and "datatype" in one for one in inputs)


def read_inference_request(headers: Headers, body: bytes) -> InferenceRequest:
    """Parses a body with or without binary tensors.

    Raises:
        MalformedRequest: It is not what the protocol describes, or sizes do not agree.
    """
    if HEADER_LENGTH not in headers:
        return parse_inference_request(parse_json(body), b"")
    declared = headers[HEADER_LENGTH]
    if not (declared.isascii() and declared.isdecimal()) or len(declared) > 15 or int(declared) > len(body):
        raise MalformedRequest(f"{HEADER_LENGTH} is not the length of the JSON document in the body.")
    length = int(declared)
    if length == 0:  # the protocol's raw request: the whole body is the one element of the one input
        return InferenceRequest(None, [Tensor("image", "BYTES", (1,), [body])], None, False, {})
    return parse_inference_request(parse_json(body[:length]), body[length:])


def parse_inference_request(document: Any, binary: bytes) -> InferenceRequest:
    """Parses an inference request whose JSON document is already parsed.

    Args:
        document: The parsed JSON document.
        binary: The data after the document: the binary tensors, one after the other.

    Raises:
        MalformedRequest: It is not what the protocol describes, or sizes do not agree.
    """
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list) or not document["inputs"]:
        raise MalformedRequest("An inference request is a JSON object with a list of `inputs`.")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise MalformedRequest("`id` is a string.")
    if len(document["inputs"]) > _MAX_INPUTS:
        raise MalformedRequest(f"An inference request has at most {_MAX_INPUTS} inputs.")
    cursor = _Cursor(binary)
    inputs = [_parse_input(one, cursor) for one in document["inputs"]]
    if cursor.left:
        raise MalformedRequest(f"{cursor.left} bytes of the body belong to no input.")
    return InferenceRequest(
        id=request_id,
        inputs=inputs,
        outputs=_parse_outputs(document.get("outputs")),
        binary_outputs=_parameters(document).get("binary_data_output") is True,
        rest={name: value for name, value in document.items() if name != "inputs"},
    )


def holds_images(tensor: Tensor) -> bool:
    """Whether its datatype and shape are those of images: FP32 or UINT8, [N,28,28], [N,1,28,28] or [N,784]."""
    return tensor.datatype in _IMAGE_DATATYPES and tensor.shape[1:] in _IMAGE_SHAPES


def tensor_images(tensor: Tensor) -> NDArray[np.float32]:
    """The images of a tensor for which `holds_images`.

    Returns:
        (N, 28, 28), grey levels in [0, 1].

    Raises:
        MalformedRequest: A value is not a grey level: FP32 outside [0, 1], or not finite; or there are too many images.
    """
    assert isinstance(tensor.data, np.ndarray)
    check_image_count(tensor.shape[0])
    images = tensor.data.astype(np.float32).reshape(-1, SIDE, SIDE)
    if tensor.datatype == "UINT8":
        return images / np.float32(255)
    # Not `(images < 0) | (images > 1)`: every comparison with NaN is false.
    if not ((images >= 0) & (images <= 1)).all():
        raise MalformedRequest("FP32 tensors are grey levels in [0, 1]; send UINT8 for 0 to 255.")
    return images


def check_image_count(count: int) -> None:
    """Raises `MalformedRequest` for more images than a request may hold."""
    if count > MAX_IMAGES:
        raise MalformedRequest(f"A request holds at most {MAX_IMAGES} images.")


class _Cursor:
    """Hands out the binary part from its beginning."""

    def __init__(self, binary: bytes) -> None:
        self._binary = binary
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._binary) - self._position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise MalformedRequest("The body ends before its binary tensors do.")
        self._position += size
        return self._binary[self._position - size : self._position]


def _parse_input(fields: Any, cursor: _Cursor) -> Tensor:
    if not isinstance(fields, dict):
        raise MalformedRequest("Every input is a JSON object.")
    name, datatype, shape = fields.get("name"), fields.get("datatype"), fields.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise MalformedRequest("Every input has a `name` and a `datatype`, both strings.")
    if not isinstance(shape, list) or not 0 < len(shape) <= _MAX_DIMENSIONS or not all(map(_is_count, shape)):
        raise MalformedRequest("The `shape` of an input is a list of lengths.")
    if datatype == "BYTES":
        check_image_count(math.prod(shape))
    parameters = _parameters(fields)
    if any(key.startswith("shared_memory") for key in parameters):
        raise MalformedRequest("An input lies in shared memory, which cannot be judged; send its data.")
    size = parameters.get("binary_data_size")
    if size is not None:
        if not _is_count(size):
            raise MalformedRequest("`binary_data_size` is a number of bytes.")
        if "data" in fields:
            raise MalformedRequest("An input has either `data` or `binary_data_size`.")
        data = _binary_data(datatype, cursor.take(size), math.prod(shape))
    elif isinstance(fields.get("data"), list):
        data = _json_data(datatype, fields["data"])
    else:
        raise MalformedRequest("An input has a list `data`, or binary data of `binary_data_size` bytes.")
    if data is not None and len(data) != math.prod(shape):
        raise MalformedRequest(f"An input's shape asks for {math.prod(shape)} values; it has {len(data)}.")
    return Tensor(name, datatype, tuple(shape), data, fields)


def _parameters(fields: dict[str, Any]) -> dict[str, Any]:
    parameters = fields.get("parameters", {})
    if not isinstance(parameters, dict):
        raise MalformedRequest("`parameters` is a JSON object.")
    return parameters


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _binary_data(datatype: str, data: bytes, count: int) -> list[bytes] | NDArray[Any] | None:
    if datatype == "BYTES":
        elements: list[bytes] = []
        cursor = _Cursor(data)
        while cursor.left and len(elements) <= count:
            elements.append(cursor.take(*struct.unpack("<I", cursor.take(4))))
        return elements
    dtype = _NUMERIC.get(datatype)
    if dtype is None:
        return None
    if len(data) % dtype.itemsize:
        raise MalformedRequest(f"The binary data of a {datatype} input is not a whole number of values.")
    return np.frombuffer(data, dtype)


def _json_data(datatype: str, data: list[Any]) -> list[bytes] | NDArray[Any] | None:
    if datatype == "BYTES":
        return [_decoded(element, index) for index, element in enumerate(data)]
    dtype = _NUMERIC.get(datatype)
    if dtype is None:
        return None
    try:
        values = number_array(data)
    except MalformedRequest as refusal:
        raise refusal.at("The `data` of an input") from refusal
    if values.size and values.dtype.kind not in _JSON_KINDS[dtype.kind]:
        raise MalformedRequest(f"The `data` of a {datatype} input are numbers of that type.")
    if values.size and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise MalformedRequest(f"{datatype} values are {limits.min} to {limits.max}.")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as that
        return values.astype(dtype).reshape(-1)


def _decoded(element: Any, index: int) -> bytes:
    try:
        return decode_base64(element)
    except MalformedRequest as refusal:
        raise refusal.at(f"Element {index} of a BYTES input") from refusal


def _parse_outputs(outputs: Any) -> list[WantedOutput] | None:
    if outputs is None:
        return None
    if not isinstance(outputs, list):
        raise MalformedRequest("`outputs` is a list.")
    wanted = []
    for one in outputs:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise MalformedRequest("Every output asked for is a JSON object with a `name`.")
        wanted.append(WantedOutput(one["name"], _parameters(one).get("binary_data") is True))
    return wanted or None
