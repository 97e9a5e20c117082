from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from app.errors import MalformedRequest, Refusal, UnsupportedFormat
from app.payload.declared_images import find_declared
from app.payload.number_images import NumberFormat, read_number_format
from app.payload.parsed_body import Document, UrlForm
from app.payload.places import read_places
from app.payload.tensors import parse_inference_request
from app.settings import Settings, SettingsError

IMAGENET = {"tensor_mean": "0.485,0.456,0.406", "tensor_std": "0.229,0.224,0.225"}


def colors(side: int, channels_last: bool = False) -> np.ndarray[Any, Any]:
    """(2, 3, side, side): a red left half beside white, and black."""
    levels = np.zeros((2, 3, side, side))
    levels[0] = 1
    levels[0, 1:, :, : side // 2] = 0
    return np.moveaxis(levels, 1, 3) if channels_last else levels


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("datatype", ["FP32", "FP16", "UINT8"])
def test_tensor_of_a_classifier_becomes_what_it_shows(layout: str, datatype: str) -> None:
    levels = colors(224, layout == "nhwc")
    settings = {} if datatype == "UINT8" else IMAGENET
    if datatype == "UINT8":
        values = (levels * 255).astype(np.uint8)
    else:
        mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
        if layout == "nchw":
            mean, std = mean.reshape(3, 1, 1), std.reshape(3, 1, 1)
        values = ((levels - mean) / std).astype(np.float16 if datatype == "FP16" else np.float32)
    numbers = read_number_format(Settings(tensor_layout=layout, **settings))  # type: ignore[arg-type]
    images = numbers.tensor_images(datatype, values.shape, values.ravel())
    assert images.shape == (2, 28, 28)
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[0, :, 14:], 1, atol=2e-3)
    np.testing.assert_allclose(images[0, :, :14], 0.299, atol=2e-3)
    np.testing.assert_allclose(images[1], 0, atol=2e-3)


def test_larger_pictures_are_averaged_over_areas() -> None:
    """Of a checkerboard, of which a reader that takes single pixels would see one colour, the grey is seen."""
    board = (np.indices((56, 56)).sum(axis=0) % 2).astype(np.float32)
    images = NumberFormat().tensor_images("FP32", (1, 56, 56), board.ravel())
    np.testing.assert_allclose(images, 0.5)


@pytest.mark.parametrize("value", [-0.1, 1.1, 255.0, np.nan, np.inf])
def test_value_that_is_no_level_is_refused(value: float) -> None:
    values = np.zeros(28 * 28, np.float32)
    values[3] = value
    with pytest.raises(MalformedRequest):
        NumberFormat().tensor_images("FP32", (1, 28, 28), values)


@pytest.mark.parametrize(
    ("datatype", "shape"),
    [
        ("INT8", (1, 28, 28)),
        ("FP32", (28, 28)),
        ("FP32", (1, 2, 14, 28)),
        ("FP32", (1, 28, 28, 1)),
        ("FP32", (0, 1, 9, 9)),
    ],
)
def test_tensor_of_another_kind_is_refused(datatype: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedFormat):
        NumberFormat().tensor_images(datatype, shape, np.zeros(int(np.prod(shape)), np.float32))


@pytest.mark.parametrize(
    "value",
    [[[255] * 28] * 28, [[255.0] * 100] * 80, [255] * 784, [[[255] * 40] * 30] * 3],
    ids=["28x28", "100x80", "one row", "colours"],
)
def test_list_of_numbers_in_a_stated_range_is_an_image(value: list[Any]) -> None:
    numbers = read_number_format(Settings(numbers_range="0,255"))
    assert numbers.list_image(value).shape == (1, 28, 28)
    np.testing.assert_allclose(numbers.list_image(value), 1, atol=1e-6)
    inverted = read_number_format(Settings(numbers_range="255,0"))
    np.testing.assert_allclose(inverted.list_image(value), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("numbers_range", "value"),
    [
        ("", [[0] * 28] * 28),
        ("0,1", [[255] * 28] * 28),
        ("0,1", [[0] * 28, [0] * 27]),
        ("0,1", [["a"] * 28] * 28),
        ("0,1", [0.5] * 100),
        ("0,1", []),
        ("0,1", [[0] * 27 + [2**64]] * 28),
        ("0,1", [[0] * 27 + [[0]]] * 28),
    ],
)
def test_list_that_cannot_be_judged_is_refused(numbers_range: str, value: list[Any]) -> None:
    with pytest.raises(Refusal):
        read_number_format(Settings(numbers_range=numbers_range)).list_image(value)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tensor_mean": "a"}, "GATE_TENSOR_MEAN"),
        ({"tensor_mean": "1,2"}, "GATE_TENSOR_MEAN"),
        ({"tensor_std": "0"}, "GATE_TENSOR_STD"),
        ({"tensor_std": "nan"}, "GATE_TENSOR_STD"),
        ({"numbers_range": "1"}, "GATE_NUMBERS_RANGE"),
        ({"numbers_range": "1,1"}, "GATE_NUMBERS_RANGE"),
    ],
)
def test_setting_that_cannot_be_understood_is_refused_by_name(settings: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_number_format(Settings(**settings))  # type: ignore[arg-type]


def test_a_long_text_among_numbers_is_refused_before_an_array_is_made_of_it() -> None:
    """As an array of texts these numbers would take 40 GB."""
    values = ["a" * 10**6, *[0] * 10**4]
    with pytest.raises(MalformedRequest, match="something else than numbers"):
        read_number_format(Settings(numbers_range="0,1")).list_image([values])
    image = {"name": "image", "datatype": "FP32", "shape": [len(values)], "data": values}
    with pytest.raises(MalformedRequest) as caught:
        parse_inference_request({"inputs": [image]}, b"")
    assert caught.value.detail == "The `data` of an input: A list of numbers holds something else than numbers."


def test_more_images_than_a_request_may_hold_are_refused_before_they_are_converted() -> None:
    """As an array (as NumPy has it, these are no bytes) or as lists, one image would be made of each of them."""
    millions = np.broadcast_to(np.uint8(0), (10**9, 1, 1))
    with pytest.raises(MalformedRequest, match="at most 1000 images"):
        NumberFormat().tensor_images("UINT8", millions.shape, millions)
    places = read_places(Settings(image_at="json:/images/*", numbers_range="0,1"))
    counted = mock.Mock(wraps=places.numbers)
    document = Document({"images": [[[0]]] * 5000}, "application/json")
    with pytest.raises(MalformedRequest, match="1000 images"):
        find_declared(replace(places, numbers=counted), UrlForm([]), document)
    assert counted.list_image.call_count == 1001
