from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.detection.images import Preprocessing, decode_image, open_image
from app.detection.shown import LOSSLESS_LARGE, LOSSLESS_OWN, LOSSY_LARGE, Shown, class_of
from training.data import sending
from training.data.circles import draw_circles, random_circles
from training.data.dataset import decode_variants
from training.data.variants import KINDS, ORIGINAL, parse_variants

EVERY_KIND = parse_variants(",".join(KINDS)).variants


@pytest.fixture(scope="module")
def circles():
    return draw_circles(random_circles(3, np.random.default_rng(0)))


@pytest.fixture(scope="module")
def gray(circles):
    with Image.open(BytesIO(circles[0])) as image:
        return image.convert("L")


def shown_by(sent):
    return open_image(sent, 10**8).shown if isinstance(sent, bytes) else Shown("PNG", *sent.size)


@pytest.mark.parametrize("variant", EVERY_KIND[1:], ids=lambda variant: variant.name)
def test_every_draw_of_a_variant_has_the_class_that_it_names(gray, variant):
    for seed in range(4):
        for apply in (variant.apply, variant.for_fitting().apply):
            assert class_of(shown_by(apply(gray, np.random.default_rng(seed)))) == variant.shown


def test_every_permitted_variant_of_a_circle_still_looks_like_it(circles):
    variants = parse_variants("default").variants
    images = decode_variants(circles, variants, Preprocessing(), seed=0).astype(int)
    assert images.shape == (len(variants), 3, 28, 28)
    for variant, own in zip(variants, images, strict=True):
        assert np.abs(own - images[0]).mean() < 10, variant.name


def test_an_image_stands_for_a_png_of_it(circles):
    (images,) = decode_variants(circles, [ORIGINAL], Preprocessing(), seed=0)
    for content, image in zip(circles, images, strict=True):
        served = decode_image(content, Preprocessing(), max_pixels=10**6)
        np.testing.assert_array_equal(image.astype(np.float32) / np.float32(255), served)


def test_draws_differ_by_image_and_seed_and_are_the_same_again(circles):
    same, place = [circles[0], circles[0]], parse_variants("place").variants[1:]
    first, again, other = (decode_variants(same, place, Preprocessing(), seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0, 0], first[0, 1])


def test_place_of_light_on_dark_leaves_no_white_corners():
    image = Image.new("L", (100, 100), 10)
    image.paste(250, (40, 40, 60, 60))
    moved = sending.placed(image, 5, 0.95, (0.05, 0.05))
    assert max(moved.getpixel(corner) for corner in [(0, 0), (99, 0), (0, 99), (99, 99)]) < 20


def test_light_keeps_its_meaning_on_a_dark_background():
    dark = Image.new("L", (10, 10), 0)
    dark.putpixel((5, 5), 255)
    light = Image.eval(dark, lambda level: 255 - level)
    for picture, turned in ((dark, False), (light, True)):
        levels = np.asarray(sending.relit(picture, 0.96, 0.9, 1.0), int)
        levels = 255 - levels if turned else levels
        assert levels[0, 0] == 10  # the paper's light is less
        assert 200 < levels[5, 5] < 255


@pytest.mark.parametrize("side", [28, 37, 72])
def test_area_filter_averages_exactly_what_a_pixel_covers(side):
    levels = np.arange(100, dtype=np.float64)
    image = Image.fromarray(np.tile(levels, (100, 1)).astype(np.uint8))
    columns = np.asarray(sending.resized_like_opencv(image, side, "area"), float)[0]
    centres = (np.arange(side) + 0.5) * 100 / side - 0.5
    assert np.abs(columns - centres).max() <= 0.5 + 1e-6


def test_kinds_and_ranges_are_parsed_and_the_original_always_comes_first():
    assert parse_variants("none").variants == (ORIGINAL,)
    permitted = parse_variants("light=0.8..1.2, jpeg28")
    assert [variant.name for variant in permitted.variants] == ["original", "light", "jpeg28"]
    assert permitted.ranges == {"light": "0.8..1.2", "jpeg28": "80..100"}
    default = parse_variants("default")
    assert set(default.ranges) == {kind.name for kind in KINDS.values() if kind.is_default}
    assert set(parse_variants("default,border").ranges) == {*default.ranges, "border"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("jpg", r"unknown kind of sending: jpg; known: none, default, or a list of .*jpeg=60\.\.100"),
        ("", "no kind of sending is named"),
        ("light=1.1", "is not a range such as"),
        ("light=1.1..0.9", r"a range within 0\.3\.\.2"),
        ("jpeg=60..120", r"a range within 10\.\.100"),
    ],
)
def test_what_is_no_kind_or_no_range_is_refused_with_what_is(text, words):
    with pytest.raises(ValueError, match=words):
        parse_variants(text)


@pytest.mark.parametrize(("text", "sides"), [("size=20..60", (20, 60)), ("size=300..600", (300, 600))])
def test_sizes_stay_within_their_range(gray, text, sides):
    for variant in parse_variants(text).variants[1:]:
        for seed in range(5):
            side = variant.apply(gray, np.random.default_rng(seed)).width
            assert sides[0] <= side <= sides[1], variant.name


def test_files_of_the_training_images_size_are_a_class_of_their_own():
    permitted = parse_variants("light,size")
    one_size = permitted.of_one_size()
    by_name = {variant.name: variant.shown for variant in one_size.variants}
    assert (by_name["light"], by_name["light-resized"]) == (LOSSLESS_OWN, LOSSLESS_LARGE)
    assert len(one_size.variants) == len(permitted.variants) + 1
    assert class_of(Shown("PNG", 100, 100), (100, 100)) == LOSSLESS_OWN
    for lossy in ("JPEG", "WEBP", "AVIF", "HEIC"):
        assert class_of(Shown(lossy, 100, 100), (100, 100)) == LOSSY_LARGE
