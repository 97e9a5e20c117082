"""HEIC files: what they show, what they may cost, and what other readers make of them."""

import sys
import time
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from app.detection.images import Preprocessing, decode_image, open_image, to_large_grayscale
from app.detection.readings import may_be_read_differently, other_readings, plain_png
from app.detection.shown import LOSSY_LARGE, class_of
from app.errors import MalformedRequest, Refusal, TooManyPixels, UndecodableImage, UnsupportedFormat
from app.payload.image_end import check_image_end

pytest.importorskip("pillow_heif", reason="the extra `heic` is not installed")

from testing import hostile_files as make
from testing.heic_files import Item, Reference, box, clap, coded, encoded_heic, grid, heic, irot, ispe

FORMATS = ("HEIC",)
WHITE = Preprocessing()
PIXELS = 10**6
SIDE = 64
HALF = Image.new("RGB", (SIDE, SIDE), "white")
HALF.paste((0, 0, 0), (0, 0, SIDE // 2, SIDE))
PLAIN = Image.new("RGB", (SIDE, SIDE), "white")
DARK = Image.new("RGB", (SIDE, SIDE), "black")
ALPHA = box(b"auxC", bytes(4), b"urn:mpeg:hevc:2015:auxid:1\0")


def drawing(size: tuple[int, int] = (96, 72)) -> Image.Image:
    image = Image.new("RGB", size, (250, 200, 10))
    image.paste((0, 0, 0), (5, 5, 60, 40))
    return image


def shown(data: bytes, background: int = 255) -> NDArray[np.uint8]:
    """Grey levels in the image's own size."""
    return np.asarray(to_large_grayscale(open_image(data, PIXELS, FORMATS), Preprocessing(background=background)))


def with_property(item: Item, *properties: bytes) -> Item:
    return item._replace(properties=item.properties + properties)


# --- what a file shows


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_file_shows_what_it_shows_and_upright(orientation: int) -> None:
    png = make.save(drawing(), "PNG", exif=make.exif(orientation))
    upright = np.asarray(to_large_grayscale(open_image(png, PIXELS), WHITE))
    exif = Image.Exif()
    exif[0x0112] = orientation
    levels = shown(encoded_heic(drawing(), quality=100, chroma=444, exif=exif.tobytes()))
    assert levels.shape == upright.shape
    assert np.abs(levels.astype(int) - upright).max() <= 8


def test_the_properties_of_a_picture_turn_it_and_exif_does_not() -> None:
    exif = Item(b"Exif", bytes(4) + make.exif(6)[6:], hidden=True)
    turned = shown(heic([with_property(coded(HALF), irot(2)), exif], [(b"cdsc", 2, (1,))]))
    assert turned[5, 5] > 250
    assert turned[5, -5] < 5


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("size", [(29, 100), (1, 1), (64, 64), (33, 7)])
def test_a_file_of_any_size_and_mode_is_shown(mode: str, size: tuple[int, int]) -> None:
    image = Image.new(mode, size, 200 if mode == "L" else (200, 200, 200))
    np.testing.assert_allclose(shown(encoded_heic(image)), np.full(size[::-1], 200), atol=3)


@pytest.mark.parametrize("mode", ["RGB;16", "L;16"])
def test_levels_of_ten_bits_are_scaled(mode: str) -> None:
    import pillow_heif

    levels = np.full((SIDE, SIDE, len(mode[:-3])), 200 * 257, np.uint16)
    buffer = BytesIO()
    pillow_heif.from_bytes(mode, (SIDE, SIDE), levels.tobytes()).save(buffer, quality=90)
    np.testing.assert_allclose(shown(buffer.getvalue()), 200, atol=2)


def test_transparent_parts_lie_on_the_background() -> None:
    image = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, SIDE // 2, SIDE))
    for background in (0, 255):
        levels = shown(encoded_heic(image, quality=-1), background)
        assert (levels[5, 5], levels[5, -5]) == (background, 0)


def test_a_picture_of_tiles_is_put_together() -> None:
    parts = [grid(1, 2, 100, 60), coded(HALF, hidden=True), coded(DARK, hidden=True)]
    levels = shown(heic(parts, [(b"dimg", 1, (2, 3))]))
    assert levels.shape == (60, 100)
    np.testing.assert_allclose(levels[30, [5, 50, 80]], [0, 255, 0], atol=3)


def test_what_an_encoder_filled_up_is_cut_off() -> None:
    levels = shown(heic([with_property(coded(HALF), clap(40, 63, (-24, 2), (-1, 2)))]))
    assert levels.shape == (63, 40)
    assert levels[5, 5] < 5


@pytest.mark.parametrize(
    "cut", [clap(32, 64), clap(32, 64, (32, 2)), clap(1, 64, (-63, 0)), clap(70, 64, (6, 2)), clap(0, 0, (-64, 2))]
)
def test_a_picture_that_is_a_part_of_the_stored_one_is_refused(cut: bytes) -> None:
    with pytest.raises(UndecodableImage, match="part of the stored one"):
        shown(heic([with_property(coded(HALF), cut)]))


def test_a_heic_counts_among_the_lossy_files() -> None:
    assert class_of(open_image(encoded_heic(drawing((100, 100))), PIXELS, FORMATS).shown) == LOSSY_LARGE


# --- by choice, and with an extra


def test_a_heic_is_refused_by_name_unless_it_is_asked_for() -> None:
    with pytest.raises(UnsupportedFormat, match=r"an HEIC file.*GATE_FORMATS"):
        open_image(encoded_heic(PLAIN), PIXELS)


def test_without_the_extra_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded_heic(PLAIN)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedFormat, match=r"pip install 'imagegate\[heic\]'"):
        open_image(data, PIXELS, FORMATS)


def test_decoding_a_heic_does_not_let_pillow_open_others() -> None:
    shown(encoded_heic(PLAIN))
    with pytest.raises(UnidentifiedImageError):
        Image.open(BytesIO(encoded_heic(PLAIN)))


# --- what decoding may cost


@pytest.mark.parametrize("size", [(4, 64), (60, 60), (65, 64), (640, 640)])
def test_a_picture_of_another_size_than_it_announces_is_refused(size: tuple[int, int]) -> None:
    data = heic([coded(PLAIN, size)])
    assert (open_image(data, PIXELS, FORMATS).width, open_image(data, PIXELS, FORMATS).height) == size
    with pytest.raises(UndecodableImage):
        shown(data)


def test_a_large_picture_that_announces_a_small_one_is_not_decoded() -> None:
    noise, seconds = Image.effect_noise((1000, 1000), 80), []
    for announced in ((990, 990), (8, 8)):
        data = heic([coded(noise, announced)])
        start = time.process_time()
        with pytest.raises(UndecodableImage):
            shown(data)
        seconds.append(time.process_time() - start)
    assert seconds[1] < seconds[0] / 4


@pytest.mark.parametrize("size", [(0, 0), (0, 64), (64, 0)])
def test_a_picture_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UndecodableImage, match="without pixels"):
        open_image(heic([coded(PLAIN, size)]), PIXELS, FORMATS)


@pytest.mark.parametrize("size", [(1001, 1000), (2**32 - 1, 2**32 - 1), (2**32 - 1, 1), (70_000, 1)])
def test_a_picture_of_too_many_pixels_is_refused_before_decoding(size: tuple[int, int]) -> None:
    with pytest.raises(TooManyPixels):
        open_image(heic([coded(PLAIN, size)]), PIXELS, FORMATS)


def test_tiles_of_many_more_pixels_than_their_picture_are_refused() -> None:
    parts = [grid(1, 1, 8, 8), coded(PLAIN, (2000, 1000), hidden=True)]
    with pytest.raises(UndecodableImage, match="tiles of many more pixels"):
        open_image(heic(parts, [(b"dimg", 1, (2,))]), PIXELS, FORMATS)
    parts = [grid(18, 18, 64, 64), *[coded(PLAIN, hidden=True)] * 18 * 18]
    with pytest.raises(UndecodableImage, match="tiles of many more pixels"):
        open_image(heic(parts, [(b"dimg", 1, range(2, 2 + 18 * 18))]), PIXELS, FORMATS)


ODD_LISTS: dict[str, tuple[list[Item], list[Reference], str]] = {
    "one tile for all": ([grid(1, 2, 128, 64), coded(PLAIN)], [(b"dimg", 1, (2, 2))], "used twice"),
    "two lists of tiles": (
        [grid(1, 1, 64, 64), coded(PLAIN), coded(PLAIN)],
        [(b"dimg", 1, (2,)), (b"dimg", 1, (3,))],
        "used twice",
    ),
    "a picture made of itself": ([grid(1, 1, 64, 64)], [(b"dimg", 1, (1,))], "plain tiles"),
    "tiles made of tiles": (
        [grid(1, 1, 64, 64), grid(1, 1, 64, 64), coded(PLAIN)],
        [(b"dimg", 1, (2,)), (b"dimg", 2, (3,))],
        "plain tiles",
    ),
    "a copy of a picture": ([Item(b"iden", b"", (ispe(64, 64),)), coded(PLAIN)], [(b"dimg", 1, (2,))], "neither"),
    "another codec": ([coded(PLAIN)._replace(kind=b"av01")], [], "neither"),
    "a thumbnail that is larger": ([coded(PLAIN), coded(PLAIN, (65, 64))], [(b"thmb", 2, (1,))], "larger"),
    "a mask that is larger": ([coded(PLAIN), coded(PLAIN, (6400, 6400))], [(b"auxl", 2, (1,))], "larger"),
    "a mask without a size": (
        [coded(PLAIN), coded(PLAIN)._replace(properties=(ALPHA,))],
        [(b"auxl", 2, (1,))],
        "without a size",
    ),
    "a mask of large tiles": (
        [coded(PLAIN), grid(1, 1, 64, 64, ALPHA), coded(PLAIN, (2000, 1000))],
        [(b"auxl", 2, (1,)), (b"dimg", 2, (3,))],
        "tiles of many more pixels",
    ),
    "a mask of a mask": (
        [coded(PLAIN), coded(PLAIN), coded(PLAIN)],
        [(b"auxl", 2, (1,)), (b"auxl", 3, (2,))],
        "thumbnails of thumbnails",
    ),
    "a thumbnail as the picture": ([coded(PLAIN), coded(PLAIN)], [(b"thmb", 1, (2,))], "is a thumbnail"),
    "two sizes": ([with_property(coded(PLAIN), ispe(1, 1))], [], "several sizes"),
    "no size": ([Item(b"hvc1", b"x")], [], "without a size"),
    "no such picture": ([], [], "neither"),
    "more items than libheif reads": ([Item(b"mime", b"")] * 1001, [], "longer than any camera"),
}


@pytest.mark.parametrize("name", ODD_LISTS)
def test_a_list_that_no_camera_writes_is_refused_by_name(name: str) -> None:
    items, references, words = ODD_LISTS[name]
    with pytest.raises(UndecodableImage, match=words):
        open_image(heic(items, references), PIXELS, FORMATS)


def test_many_items_on_the_same_bytes_are_refused() -> None:
    """libheif reads metadata as it opens a file: 900 times 32 MB, from a file of 32 MB."""
    items = [coded(PLAIN), Item(b"Exif", bytes(2**12)), *[Item(b"Exif", b"")] * 9]
    length = len(items[0].data)
    places = [(0, length), *[(length, 2**12)] * 10]
    references = [(b"cdsc", number, (1,)) for number in range(2, 12)]
    with pytest.raises(UndecodableImage, match="uses its bytes for several"):
        open_image(heic(items, references, places=places), PIXELS, FORMATS)
    with pytest.raises(UndecodableImage, match="longer than any camera"):
        open_image(heic([coded(PLAIN)], extents=33), PIXELS, FORMATS)
    with pytest.raises(UndecodableImage, match="ends early"):
        open_image(heic([coded(PLAIN)], places=[(0, 2**31)]), PIXELS, FORMATS)


def test_a_list_that_is_as_long_as_it_may_be_is_read_or_refused_in_time() -> None:
    many = 2**16 - 1
    thumbnails: list[Reference] = [(b"thmb", 2, (1,))] * 60_000
    masks = [with_property(coded(PLAIN)), coded(PLAIN)]
    for data in (
        heic(masks, thumbnails),
        heic(masks, [(b"thmb", 2, (1,) * many)] * 7),
        heic(masks, [(b"dimg", 2, (1,) * many)] * 7),
        heic([with_property(coded(PLAIN), *[ispe(1, 1)] * 250)]),
        heic([coded(PLAIN)], more=box(b"free") * 100_000),
    ):
        start = time.process_time()
        with suppress(Refusal):
            open_image(data, PIXELS, FORMATS)
        assert time.process_time() - start < 1


def hostile(item_count: int = 3) -> bytes:
    parts = [grid(1, 1, 64, 64), coded(HALF, hidden=True), coded(DARK)]
    return heic(parts[:item_count], [(b"dimg", 1, (2,)), (b"thmb", 3, (1,))])


BROKEN: dict[str, Any] = {
    "tiles and a thumbnail": hostile,
    "one picture": lambda: encoded_heic(HALF),
    "transparent": lambda: encoded_heic(HALF.convert("RGBA")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_cut_and_changed_byte_is_decoded_or_refused(kind: str) -> None:
    data = BROKEN[kind]()
    broken = [data[:cut] for cut in range(0, len(data), 37)]
    for flip in (1, 0x80, 0xFF):
        broken += [data[:at] + bytes((data[at] ^ flip,)) + data[at + 1 :] for at in range(12, len(data))]
    refused = 0
    for one in broken:
        try:
            decode_image(one, WHITE, PIXELS, FORMATS)
            other_readings(one, WHITE, PIXELS, FORMATS)
        except Refusal:  # anything else fails the test
            refused += 1
    assert refused > len(broken) / 3


# --- in front of a classifier


def readings(data: bytes) -> list[float]:
    return [float(reading.mean()) for reading in other_readings(data, WHITE, PIXELS, FORMATS)]


def test_a_heic_alone_is_read_in_one_way() -> None:
    data = encoded_heic(drawing())
    assert may_be_read_differently(data)
    assert readings(data) == []


def test_another_picture_as_the_thumbnail_is_found() -> None:
    """pillow-heif shows the thumbnail where `Image.thumbnail` asks for a small picture."""
    data = heic([coded(PLAIN), coded(DARK)], [(b"thmb", 2, (1,))])
    assert decode_image(data, WHITE, PIXELS, FORMATS).mean() > 0.95
    assert min(readings(data)) < 0.05


def test_what_transparency_hides_is_found() -> None:
    hidden = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    data = encoded_heic(hidden, quality=-1)
    assert decode_image(data, WHITE, PIXELS, FORMATS).mean() > 0.95
    assert min(readings(data)) < 0.05


def test_several_images_are_refused() -> None:
    for data in (encoded_heic(PLAIN, [DARK]), heic([coded(PLAIN), coded(DARK)])):
        assert decode_image(data, WHITE, PIXELS, FORMATS).mean() > 0.95
        with pytest.raises(UndecodableImage, match="several images"):
            readings(data)


@pytest.mark.parametrize("kind", [b"moov", b"moof", b"mini", b"\xff\xfe\0x"])
def test_an_animation_beside_the_picture_is_refused_before_anything_is_opened(kind: bytes, monkeypatch) -> None:
    """Of 1,044 bytes with 15 million samples libheif made 671 MB."""
    monkeypatch.setattr("app.detection.heic._picture", lambda data: pytest.fail("opened"))
    data, more = encoded_heic(PLAIN), box(kind, bytes(8))
    first = int.from_bytes(data[:4], "big")
    for broken in (data + more, data[:first] + more + data[first:]):
        with pytest.raises(UndecodableImage, match="holds an animation, or parts"):
            decode_image(broken, WHITE, PIXELS, FORMATS)


def test_a_second_list_of_pictures_is_refused_before_anything_is_opened(monkeypatch) -> None:
    """libheif takes the last one: it was not checked, and another picture was shown than was read."""
    data = encoded_heic(PLAIN)
    start = data.index(b"meta") - 4
    own = data[start : start + int.from_bytes(data[start : start + 4], "big")]
    monkeypatch.setattr("app.detection.heic._picture", lambda data: pytest.fail("opened"))
    with pytest.raises(UndecodableImage, match="no list of its pictures, or more than one"):
        decode_image(data + own, WHITE, PIXELS, FORMATS)


def test_what_cameras_write_behind_a_picture_is_passed_over() -> None:
    data = encoded_heic(PLAIN) + box(b"sefd", bytes(100)) + box(b"mpvd", bytes(100))
    assert decode_image(data, WHITE, PIXELS, FORMATS).mean() > 0.95


def test_thumbnails_have_no_more_pixels_in_all_than_their_picture() -> None:
    parts = [coded(PLAIN), coded(PLAIN), coded(PLAIN)]
    with pytest.raises(UndecodableImage, match="more pixels in all"):
        decode_image(heic(parts, [(b"thmb", 2, (1,)), (b"thmb", 3, (1,))]), WHITE, PIXELS, FORMATS)


def test_a_file_of_too_many_thumbnails_is_refused() -> None:
    parts = [coded(PLAIN.resize((320, 320))), *[coded(PLAIN.resize((64, 64)))] * 17]
    references = [(b"thmb", number, (1,)) for number in range(2, 19)]
    with pytest.raises(UndecodableImage, match="more than 16 thumbnails"):
        readings(heic(parts, references))


def test_a_thumbnail_that_announces_a_larger_cut_is_read_as_it_is_decoded() -> None:
    """Pillow made half a gigabyte for what this one announces."""
    parts = [coded(PLAIN), with_property(coded(DARK), clap(2**22, 32, (-32, 2), (-32, 2)))]
    assert min(readings(heic(parts, [(b"thmb", 2, (1,))]))) < 0.05


def test_a_thumbnail_that_cannot_be_decoded_is_refused() -> None:
    with pytest.raises(UndecodableImage, match="where some decoders read it"):
        readings(heic([coded(PLAIN), coded(PLAIN, (32, 32))], [(b"thmb", 2, (1,))]))


def test_data_behind_the_end_is_refused() -> None:
    data = encoded_heic(drawing())
    check_image_end(data)
    for more in (b"x", data, bytes(40), box(b"mpvd", bytes(40))):
        with pytest.raises(MalformedRequest, match=r"stands? behind the image's end"):
            check_image_end(data + more)
    with pytest.raises((UndecodableImage, MalformedRequest)):
        check_image_end(data[: len(data) // 2])


def test_the_plain_png_of_a_heic_shows_what_was_judged() -> None:
    data = encoded_heic(drawing(), exif=make.exif(6)[6:])
    plain = plain_png(data, WHITE, PIXELS, FORMATS)
    assert not may_be_read_differently(plain)
    difference = decode_image(plain, WHITE, PIXELS) - decode_image(data, WHITE, PIXELS, FORMATS)
    assert np.abs(difference).max() <= 1 / 255
