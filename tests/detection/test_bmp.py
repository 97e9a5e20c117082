"""Every kind of BMP comes out as the grey levels that a person sees, upright."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from testing import hostile_files as make
from testing.grey_levels import GREEN, RED, levels
from testing.pictures import drawing


def _bmp_rows(pixels: NDArray[np.generic]) -> bytes:
    """Bottom row first, each padded to four bytes."""
    packed = [row.tobytes() for row in pixels[::-1]]
    return b"".join(row + bytes(-len(row) % 4) for row in packed)


def _bmp_565() -> bytes:
    row = np.full(28, 31 << 11, "<u2")
    row[14:] = 63 << 5
    masks = np.array([0xF800, 0x7E0, 0x1F], "<u4").tobytes()
    return make.bmp(28, 28, 16, 3, pixels=_bmp_rows(np.tile(row, (28, 1))), palette=masks)


def _bmp_555() -> bytes:
    row = np.full(28, 31 << 10, "<u2")
    row[14:] = 31 << 5
    return make.bmp(28, 28, 16, pixels=_bmp_rows(np.tile(row, (28, 1))))


def _bmp_32() -> bytes:
    row = np.array([[0, 0, 255, 0]] * 14 + [[0, 255, 0, 0]] * 14, np.uint8)
    return make.bmp(28, 28, 32, pixels=_bmp_rows(np.tile(row, (28, 1, 1))))


def _bmp_palette(bits: int) -> bytes:
    colors = bytes((0, 0, 255, 0, 0, 255, 0, 0))
    samples = (np.arange(28) >= 14).astype(np.uint8)
    values = np.unpackbits(samples[:, np.newaxis], axis=1)[:, 8 - bits :].reshape(-1)
    return make.bmp(28, 28, bits, colors=2, pixels=_bmp_rows(np.tile(np.packbits(values), (28, 1))), palette=colors)


def _bmp_top_down() -> bytes:
    row = np.array([[0, 0, 255]] * 14 + [[0, 255, 0]] * 14, np.uint8)
    return make.bmp(28, -28, 24, pixels=_bmp_rows(np.tile(row, (28, 1, 1))))


def _bmp_rle(bits: int) -> bytes:
    left, right = (b"\x0e\x00", b"\x0e\x01") if bits == 8 else (b"\x0e\x00", b"\x0e\x11")
    colors = bytes((0, 0, 255, 0, 0, 255, 0, 0))
    pixels = (left + right + b"\0\0") * 28 + b"\0\1"
    return make.bmp(28, 28, bits, 1 if bits == 8 else 2, 2, pixels, colors)


def _bmp_os2() -> bytes:
    row = np.array([[0, 0, 255]] * 14 + [[0, 255, 0]] * 14, np.uint8)
    plain = make.bmp(28, 28, 24, pixels=_bmp_rows(np.tile(row, (28, 1, 1))))
    return plain[:10] + b"\x1a\0\0\0" + b"\x0c\0\0\0\x1c\0\x1c\0\1\0\x18\0" + plain[54:]


@pytest.mark.parametrize(
    "make_bmp",
    [
        *(_bmp_565, _bmp_555, _bmp_32, _bmp_top_down, _bmp_os2),
        *(lambda bits=bits: _bmp_palette(bits) for bits in (1, 4, 8)),
        *(lambda bits=bits: _bmp_rle(bits) for bits in (4, 8)),
    ],
)
def test_every_kind_of_bmp(make_bmp: Callable[[], bytes]) -> None:
    result = levels(make_bmp())
    np.testing.assert_allclose(result[:, :14], RED, atol=1)
    np.testing.assert_allclose(result[:, 14:], GREEN, atol=1)


def test_bmp_rows_are_not_upside_down() -> None:
    image = drawing(28)
    expected = np.asarray(image, np.float64)
    np.testing.assert_allclose(levels(make.save(image, "BMP")), expected, atol=1e-4)
    pixels = np.asarray(image.convert("RGB")).tobytes()
    np.testing.assert_allclose(levels(make.bmp(28, -28, 24, pixels=pixels)), expected, atol=1e-4)
