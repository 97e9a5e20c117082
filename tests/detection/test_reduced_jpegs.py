"""Large JPEGs are decoded at a fraction of their size, which shows another picture where pixels are clipped."""

import pytest

from app.detection.images import Preprocessing, open_image, to_grayscale
from testing.pictures import clipped_jpeg, drawing, encoded


@pytest.mark.parametrize("side", [256, 512, 1024])
def test_decoding_in_full_shows_what_other_decoders_show(side):
    reduced, full = (
        to_grayscale(open_image(clipped_jpeg(side), side * side, reduces=reduces), Preprocessing())
        for reduces in (True, False)
    )
    assert reduced.min() > 0.97
    assert full[8:20, 8:20].max() < 0.7
    assert full[0].min() > 0.97


@pytest.mark.parametrize("side", [300, 640, 1000])
def test_ordinary_pictures_look_alike_both_ways(side):
    jpeg = encoded(drawing(side, "RGB"), "JPEG")
    reduced, full = (
        to_grayscale(open_image(jpeg, side * side, reduces=reduces), Preprocessing()) for reduces in (True, False)
    )
    assert abs(reduced - full).max() < 0.03


def test_decoding_in_full_is_known_to_take_more_memory():
    jpeg = encoded(drawing(1000), "JPEG")
    reduced, full = (open_image(jpeg, 10**6, reduces=reduces).memory_bytes for reduces in (True, False))
    assert full > reduced + 3 * 10**6
