"""Images as plain numbers: a classifier's own tensors, and lists in JSON, which settings describe."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.detection.images import PIXELS, SIDE
from app.errors import MalformedRequest, TooManyPixels, UnsupportedFormat
from app.payload.json_numbers import number_array
from app.payload.tensors import check_image_count
from app.settings import Settings, SettingsError

# How much of the range a value may lie beside it: half precision and rounding, no more.
_TOLERANCE = 0.01
# Of one image; more than any classifier's input has.
_MOST_PIXELS = 2**20
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
_DATATYPES = ("FP16", "FP32", "UINT8")


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """What numbers mean: black is 0 and white 1 once `mean` and `std` are taken back.

    Attributes:
        channels_last: Whether the colour is the last dimension.
        mean, std: Of each channel, or one for all: a classifier's value is (level - mean) / std.
        numbers_range: The numbers for black and for white in JSON lists; None if those cannot be judged.
    """

    channels_last: bool = False
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    numbers_range: tuple[float, float] | None = None

    @property
    def is_plain(self) -> bool:
        return self.mean == (0.0,) and self.std == (1.0,)

    def tensor_images(self, datatype: str, shape: tuple[int, ...], values: NDArray[Any]) -> NDArray[np.float32]:
        """Turns a tensor into what the network sees.

        Args:
            datatype: FP16, FP32, or UINT8, which is 0 to 255 before mean and standard deviation are taken back.
            shape: [N,H,W], or with one or three channels where the layout has them.
            values: Flat.

        Returns:
            (N, 28, 28), grey levels in [0, 1], averaged over areas.

        Raises:
            UnsupportedFormat: Another datatype or shape.
            MalformedRequest: A value is not finite, or no level; or there are too many images.
        """
        if datatype not in _DATATYPES:
            raise UnsupportedFormat(f"{datatype} cannot be judged; {', '.join(_DATATYPES)} can.")
        self._check_shape(shape)
        check_image_count(shape[0])
        white = 255 if datatype == "UINT8" and self.is_plain else 1
        std, mean = self._per_channel(self.std, shape), self._per_channel(self.mean, shape)
        # One after the other, for the numbers of a whole batch would take four times the memory that they came in.
        return np.stack([self._image(one.astype(np.float32) / white * std + mean) for one in values.reshape(shape)])

    def list_image(self, value: list[Any]) -> NDArray[np.float32]:
        """Turns a list of numbers in JSON into (1, 28, 28) grey levels: [H][W], with channels, or 784 in one row.

        Raises:
            UnsupportedFormat: GATE_NUMBERS_RANGE does not say what the numbers mean, or their shape is another.
            MalformedRequest: They are no numbers, not finite, or out of that range.
        """
        if self.numbers_range is None:
            raise UnsupportedFormat("Numbers can be judged if GATE_NUMBERS_RANGE says which are black and white.")
        values = number_array(value)
        if values.dtype.kind not in "iuf":
            raise MalformedRequest("This is no list of numbers.")
        black, white = self.numbers_range
        if values.shape == (PIXELS,):
            values = values.reshape(SIDE, SIDE)
        try:
            self._check_shape((1, *values.shape))
        except UnsupportedFormat as error:
            shape = "".join(f"[{length}]" for length in values.shape)
            raise UnsupportedFormat(
                f"A list of numbers is an image as [H][W], with colours as GATE_TENSOR_LAYOUT says, or as {PIXELS} in "
                f"one row; this is {shape}."
            ) from error
        levels = (values.astype(np.float64) - black) / (white - black)
        return self._image(levels.astype(np.float32))[np.newaxis]

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        """Returns for (N, H, W), (N, C, H, W) or (N, H, W, C), as the layout is."""
        channel, *size = (3, 1, 2) if self.channels_last else (1, 2, 3)
        if len(shape) == 3:
            size = [1, 2]
        if len(shape) not in (3, 4) or not all(shape) or (len(shape) == 4 and shape[channel] not in (1, 3)):
            layout = "[N,H,W,C]" if self.channels_last else "[N,C,H,W]"
            raise UnsupportedFormat(f"The shape is neither [N,H,W] nor {layout} with one or three channels.")
        if shape[size[0]] * shape[size[1]] > _MOST_PIXELS:
            raise TooManyPixels(f"A tensor's image has more than the {_MOST_PIXELS} pixels that are accepted.")

    def _image(self, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(H, W), (C, H, W) or (H, W, C) -> (28, 28)."""
        # Not `levels.min() < ...`: every comparison with NaN is false.
        if not ((levels >= -_TOLERANCE) & (levels <= 1 + _TOLERANCE)).all():
            raise MalformedRequest(
                "A value lies outside of black and white, as GATE_NUMBERS_RANGE describes them for lists of numbers, "
                "and GATE_TENSOR_MEAN and GATE_TENSOR_STD for tensors."
            )
        if levels.ndim == 3:
            levels = levels if self.channels_last else np.moveaxis(levels, 0, 2)
            levels = levels[..., 0] if levels.shape[2] == 1 else levels @ _LUMINANCE
        return _averaged(levels.clip(0, 1))

    def _per_channel(self, values: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float32]:
        array = np.array(values, np.float32)
        if len(values) > 1 and len(shape) == 4 and not self.channels_last:
            return array.reshape(-1, 1, 1)
        return array

    def check_channels(self, shape: tuple[int, ...]) -> None:
        """Raises `UnsupportedFormat` if the settings describe other channels than a tensor has."""
        described = max(len(self.mean), len(self.std))
        channels = shape[3 if self.channels_last else 1] if len(shape) == 4 else 1
        if described not in (1, channels):
            raise UnsupportedFormat(f"GATE_TENSOR_MEAN and _STD describe {described} channels; this has {channels}.")


def read_number_format(settings: Settings) -> NumberFormat:
    """Reads the settings that describe numbers.

    Raises:
        SettingsError: One cannot be understood; the message names it.
    """
    mean = _numbers("GATE_TENSOR_MEAN", settings.tensor_mean, (1, 3))
    std = _numbers("GATE_TENSOR_STD", settings.tensor_std, (1, 3))
    if min(std) <= 0:
        raise SettingsError("GATE_TENSOR_STD is above 0.")
    written = settings.numbers_range
    black, white = _numbers("GATE_NUMBERS_RANGE", written, (2,)) if written else (0.0, 1.0)
    if black == white:
        raise SettingsError("GATE_NUMBERS_RANGE is two different numbers.")
    return NumberFormat(settings.tensor_layout == "nhwc", mean, std, (black, white) if written else None)


def _numbers(name: str, written: str, counts: tuple[int, ...]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(one) for one in written.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in counts or not np.isfinite(numbers).all():
        raise SettingsError(f"{name} is {' or '.join(map(str, counts))} numbers with commas, not {written!r}.")
    return numbers


def _averaged(gray: NDArray[np.float32]) -> NDArray[np.float32]:
    if gray.shape == (SIDE, SIDE):
        return gray
    picture = Image.fromarray(np.ascontiguousarray(gray))
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
