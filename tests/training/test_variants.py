from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.detection.images import Preprocessing, decode_image
from training.data.circles import draw_circles, random_circles
from training.data.dataset import decode_variants
from training.data.variants import DEFAULT_VARIANTS, ORIGINAL, SAME_PIXELS, background_level, parse_variants


@pytest.fixture(scope="module")
def circles():
    return draw_circles(random_circles(3, np.random.default_rng(0)))


def opened(content):
    with Image.open(BytesIO(content)) as image:
        image.load()
        return image


@pytest.mark.parametrize(
    ("name", "file_format", "size", "mode"),
    [
        ("original", "PNG", 100, "L"),
        ("png-50", "PNG", 50, "L"),
        ("png-1000", "PNG", 1000, "L"),
        ("jpeg-q75", "JPEG", 100, "L"),
        ("jpeg-280", "JPEG", 280, "L"),
        ("jpeg-28", "JPEG", 28, "L"),
        ("box-28", "PNG", 28, "L"),
        ("rotated-5", "PNG", 100, "L"),
        ("rgba", "PNG", 100, "RGBA"),
        ("palette", "PNG", 100, "P"),
        ("16-bit", "PNG", 100, "I;16"),
    ],
)
def test_variant_is_what_its_name_says(circles, name, file_format, size, mode):
    image = opened(DEFAULT_VARIANTS[name].apply(opened(circles[0]).convert("L"), np.random.default_rng(0)))
    assert (image.format, image.size, image.mode) == (file_format, (size, size), mode)


def test_every_variant_of_a_circle_still_looks_like_it(circles):
    images = decode_variants(circles, parse_variants("default"), Preprocessing(), seed=0).astype(int)
    assert images.shape == (len(DEFAULT_VARIANTS), 3, 28, 28)
    for name, variant in zip(DEFAULT_VARIANTS, images, strict=True):
        assert np.abs(variant - images[0]).mean() < 8, name


def test_variants_said_to_change_no_pixel_change_none(circles):
    images = dict(
        zip(DEFAULT_VARIANTS, decode_variants(circles, parse_variants("default"), Preprocessing(), 0), strict=True)
    )
    assert set(images) >= SAME_PIXELS
    for name in SAME_PIXELS:
        np.testing.assert_array_equal(images[name], images["original"])


def test_originals_decode_as_the_service_decodes_them(circles):
    (images,) = decode_variants(circles, [ORIGINAL], Preprocessing(), seed=0)
    for content, image in zip(circles, images, strict=True):
        served = decode_image(content, Preprocessing(), max_pixels=10**6)
        np.testing.assert_array_equal(image.astype(np.float32) / np.float32(255), served)


def test_rotation_differs_by_image_and_seed_and_is_the_same_again(circles):
    same = [circles[0], circles[0]]
    rotated = (DEFAULT_VARIANTS["rotated-5"],)
    first, again, other = (decode_variants(same, rotated, Preprocessing(), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0, 0], first[0, 1])


def test_rotation_of_light_on_dark_leaves_no_white_corners():
    image = Image.new("L", (50, 50), 10)
    image.paste(250, (20, 20, 30, 30))
    assert background_level(image) == 10
    turned = opened(DEFAULT_VARIANTS["rotated-5"].apply(image, np.random.default_rng(3)))
    assert max(turned.getpixel(corner) for corner in [(0, 0), (99, 0), (0, 99), (99, 99)]) < 20


def test_names_are_parsed_and_the_original_always_comes_first():
    assert parse_variants("none") == (ORIGINAL,)
    assert [variant.name for variant in parse_variants("jpeg-q75, rgba,jpeg-q75")] == ["original", "jpeg-q75", "rgba"]
    assert len(parse_variants("default")) >= 19
    with pytest.raises(ValueError, match=r"jpg-75; known: default, none, or a list of .*jpeg-q75"):
        parse_variants("jpg-75")
