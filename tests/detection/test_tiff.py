"""TIFF files that readers show differently, written tag by tag: white for one reader, black for another."""

import struct

import numpy as np
import pytest
from PIL import Image

from app.detection.images import Preprocessing, decode_image
from app.detection.readings import may_be_read_differently, other_readings
from app.errors import UndecodableImage
from testing.pictures import encoded

WHITE = Preprocessing(background=255)
SIDE, PIXELS = 28, 28 * 28
SHORT, LONG, SIGNED = 3, 4, 9

Entry = tuple[int, int, int, int | bytes]
Value = tuple[int, int, int | bytes] | None  # type, count, value; None leaves the tag out


def entries(**changed: Value) -> list[Entry]:
    """Of a picture of 8 bits in one strip, in front of the directory; `t273=...` changes a tag."""
    tags: dict[int, tuple[int, int, int | bytes]] = {
        256: (LONG, 1, SIDE),
        257: (LONG, 1, SIDE),
        258: (SHORT, 1, 8),
        259: (SHORT, 1, 1),
        262: (SHORT, 1, 1),
        273: (LONG, 1, 8),
        277: (SHORT, 1, 1),
        278: (LONG, 1, SIDE),
        279: (LONG, 1, PIXELS),
    }
    for name, value in changed.items():
        tags.pop(int(name[1:]), None)
        if value is not None:
            tags[int(name[1:])] = value
    return [(tag, *value) for tag, value in sorted(tags.items())]


def tiff(written: list[Entry], pixels: bytes, following: int = 0) -> bytes:
    """A file of pixels, of the values that do not fit into their entries, and of the directory."""
    front, made = 8, b""
    values = bytearray(pixels)
    for tag, kind, count, value in written:
        if isinstance(value, bytes):
            values += bytes(len(values) % 2)
            place = front + len(values)
            values += value
            made += struct.pack("<HHII", tag, kind, count, place)
        elif kind == SHORT:
            made += struct.pack("<HHIHH", tag, kind, count, value, 0)
        else:
            made += struct.pack("<HHIi", tag, kind, count, value)
    values += bytes(len(values) % 2)
    directory = struct.pack("<H", len(written)) + made + struct.pack("<I", following)
    return b"II*\0" + struct.pack("<I", front + len(values)) + bytes(values) + directory


def longs(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def shorts(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}H", *values)


def show(data: bytes) -> float:
    return float(decode_image(data, WHITE, 10**6, ("TIFF",)).mean())


BOTH = b"\xff" * PIXELS + bytes(PIXELS)  # a white picture, and a black one
HALF = PIXELS // 2
TILES: dict[str, Value] = {"t322": (LONG, 1, 32), "t323": (LONG, 1, 32), "t325": (LONG, 1, 32 * 32)}
STRIPS_ALONE: dict[str, Value] = dict.fromkeys(("t273", "t278", "t279"))
GREYS = shorts(*[level * 257 for level in range(256)] * 3)
DARK = shorts(*range(256), *range(256), *range(256))


def test_the_files_of_these_tests_are_read_unless_something_is_wrong_with_them() -> None:
    assert show(tiff(entries(), BOTH)) == 1
    assert show(tiff(entries(t273=(LONG, 1, 8 + PIXELS)), BOTH)) == 0
    assert show(tiff(entries(**STRIPS_ALONE, **TILES, t324=(LONG, 1, 8)), b"\xff" * 32 * 32)) == 1
    assert show(tiff(entries(t262=(SHORT, 1, 3), t320=(SHORT, 768, GREYS)), BOTH)) == 1
    halves: dict[str, Value] = {
        "t278": (LONG, 1, 14),
        "t273": (LONG, 2, longs(8, 8 + HALF)),
        "t279": (LONG, 2, longs(HALF, HALF)),
    }
    assert show(tiff(entries(**halves), BOTH)) == 1


def test_tags_out_of_order_are_read_as_all_readers_do() -> None:
    assert show(tiff(entries()[::-1], BOTH)) == 1


@pytest.mark.parametrize("tag", [273, 262, 270])
@pytest.mark.parametrize("is_adjacent", [True, False])
def test_a_tag_that_stands_twice_is_refused(tag: int, is_adjacent: bool) -> None:
    written = entries(t270=(SHORT, 1, 0))
    written.insert([one[0] for one in written].index(tag) if is_adjacent else len(written), (tag, LONG, 1, 8 + PIXELS))
    with pytest.raises(UndecodableImage, match=f"tag {tag} twice"):
        show(tiff(written, BOTH))


@pytest.mark.parametrize("tiles", [{**TILES, "t324": (LONG, 1, 8)}, TILES, {"t322": (LONG, 1, 32)}])
def test_strips_beside_tiles_are_refused(tiles: dict[str, Value]) -> None:
    with pytest.raises(UndecodableImage, match="strips and tiles"):
        show(tiff(entries(**tiles), BOTH))


STRIPS: dict[str, dict[str, Value]] = {
    "one of two": {"t278": (LONG, 1, 14)},
    "three of two": {
        "t278": (LONG, 1, 14),
        "t273": (LONG, 3, longs(8, 8 + HALF, 8 + PIXELS)),
        "t279": (LONG, 3, longs(HALF, HALF, HALF)),
    },
    "two of one": {"t273": (LONG, 2, longs(8, 8 + PIXELS)), "t279": (LONG, 2, longs(PIXELS, PIXELS))},
    "none": {"t273": None},
    "of no rows": {"t278": (LONG, 1, 0)},
    "one of three planes": {"t277": (SHORT, 1, 3), "t284": (SHORT, 1, 2), "t258": (SHORT, 3, shorts(8, 8, 8))},
    "a tile of no width": {**STRIPS_ALONE, **TILES, "t322": (LONG, 1, 0), "t324": (LONG, 1, 8)},
    "one tile of four": {**STRIPS_ALONE, **TILES, "t322": (LONG, 1, 16), "t323": (LONG, 1, 16), "t324": (LONG, 1, 8)},
}


@pytest.mark.parametrize("kind", STRIPS)
def test_strips_and_tiles_are_as_many_as_the_picture_takes(kind: str) -> None:
    """Pillow put a strip too many on top of the first one, where libtiff shows the first."""
    with pytest.raises(UndecodableImage, match="more or fewer strips or tiles"):
        show(tiff(entries(**STRIPS[kind]), BOTH))


def test_a_tag_that_makes_pixels_has_a_type_that_all_readers_know() -> None:
    with pytest.raises(UndecodableImage, match="Tag 262"):
        show(tiff(entries(t262=(SIGNED, 1, 1)), BOTH))


@pytest.mark.parametrize("name", ["t262", "t284", "t258"])
def test_a_tag_has_as_many_values_as_it_takes(name: str) -> None:
    """tifffile makes a list of two values, which is no number that it knows."""
    with pytest.raises(UndecodableImage, match=f"Tag {name[1:]} of the TIFF file has 2 values"):
        show(tiff(entries(**{name: (SHORT, 2, 1)}), BOTH))


def test_planes_are_together_or_apart() -> None:
    with pytest.raises(UndecodableImage, match="planar configuration 5"):
        show(tiff(entries(t284=(SHORT, 1, 5)), BOTH))


@pytest.mark.parametrize("changed", [{"t273": (LONG, 1, 0)}, {"t273": (LONG, 1, 6)}, {"t279": (LONG, 1, 0)}])
def test_a_strip_without_a_place_or_a_length_is_refused(changed: dict[str, Value]) -> None:
    """tifffile fills it with black, Pillow takes the bytes from the place that is named."""
    with pytest.raises(UndecodableImage, match="without a place or a length"):
        show(tiff(entries(**changed), BOTH))


def test_a_palette_has_as_many_colours_as_there_are_levels_and_16_bits() -> None:
    for palette, words in ((shorts(*[0] * 48), "too few"), (DARK, "palette of 8 bits")):
        with pytest.raises(UndecodableImage, match=words):
            show(tiff(entries(t262=(SHORT, 1, 3), t320=(SHORT, len(palette) // 2, palette)), BOTH))


def test_differences_of_samples_are_for_compressions_that_have_them() -> None:
    with pytest.raises(UndecodableImage, match="differences of samples"):
        show(tiff(entries(t317=(SHORT, 1, 2)), BOTH))


def test_brightness_and_colour_apart_are_for_jpeg() -> None:
    three: dict[str, Value] = {
        "t258": (SHORT, 3, shorts(8, 8, 8)),
        "t277": (SHORT, 1, 3),
        "t279": (LONG, 1, 3 * PIXELS),
    }
    with pytest.raises(UndecodableImage, match="YCbCr"):
        show(tiff(entries(**three, t262=(SHORT, 1, 6), t530=(SHORT, 2, 1)), BOTH + BOTH))


def test_a_directory_of_more_tags_than_any_file_has_is_refused() -> None:
    more: list[Entry] = [(1000 + number, SHORT, 1, 0) for number in range(513)]
    with pytest.raises(UndecodableImage, match="more than 512 tags"):
        show(tiff(entries() + more, BOTH))


def readings(data: bytes) -> list[float]:
    assert show(data) > 0.95  # offline, and on /v1/predict, it is one white picture
    assert may_be_read_differently(data)
    return [float(reading.mean()) for reading in other_readings(data, WHITE, 10**6, ("TIFF",))]


FOUR: dict[str, Value] = {"t258": (SHORT, 4, shorts(8, 8, 8, 8)), "t277": (SHORT, 1, 4), "t279": (LONG, 1, 4 * PIXELS)}
WIDE: dict[str, Value] = {"t258": (SHORT, 3, shorts(16, 16, 16)), "t277": (SHORT, 1, 3), "t279": (LONG, 1, 6 * PIXELS)}
INVERTED = shorts(*[65535 - level * 257 for level in range(256)] * 3)
# What is white here, and black for a reader that takes samples for what they are, or their other half.
OTHERWISE = {
    "white is zero": tiff(entries(t262=(SHORT, 1, 0)), bytes(PIXELS)),
    "no interpretation": tiff(entries(t262=None), bytes(PIXELS)),
    "palette": tiff(entries(t262=(SHORT, 1, 3), t320=(SHORT, 768, INVERTED)), bytes(PIXELS)),
    "CMYK": tiff(entries(**FOUR, t262=(SHORT, 1, 5)), bytes(4 * PIXELS)),
    "premultiplied": tiff(entries(**FOUR, t262=(SHORT, 1, 2), t338=(SHORT, 1, 1)), bytes(4 * PIXELS)),
    "a sample that may be alpha": tiff(
        entries(**FOUR, t262=(SHORT, 1, 2), t338=(SHORT, 1, 0)), b"\xff\xff\xff\0" * PIXELS
    ),
    "3 x 16 bits": tiff(entries(**WIDE, t262=(SHORT, 1, 2)), b"\0\xff" * 3 * PIXELS),
}


@pytest.mark.parametrize("kind", OTHERWISE)
def test_samples_are_judged_as_readers_show_them_that_do_not_know_what_they_mean(kind: str) -> None:
    assert min(readings(OTHERWISE[kind])) < 0.05


def test_grey_levels_of_16_bits_are_judged_as_pillow_clips_them() -> None:
    """Pillow shows every level above 255 as white, so a picture can hide in what is nearly black."""
    levels = np.full((SIDE, SIDE), 0xFFFF, "<u2")
    levels[14:] = 0xFF00
    levels[0, 0] = 0
    bits: dict[str, Value] = {"t258": (SHORT, 1, 16), "t279": (LONG, 1, 2 * PIXELS)}
    clipped = np.where(levels > 255, 1, 0).mean()
    assert pytest.approx(clipped) in readings(tiff(entries(**bits), levels.tobytes()))
    assert readings(tiff(entries(**bits), b"\xff\xff" * PIXELS)) == []


def described(words: bytes, kind: int = 2) -> bytes:
    return tiff(entries(t270=(kind, len(words), words)), BOTH)


SEVERAL = {
    "next directory": tiff(entries(), BOTH, following=8),
    "directory below": tiff(entries(t330=(LONG, 1, 8)), BOTH),
    "depth": tiff(entries(t32997=(LONG, 1, 2)), BOTH),
    "stack": tiff(entries(t33628=(LONG, 1, 8)), BOTH),
    "old preview": tiff(entries(t513=(LONG, 1, 8), t514=(LONG, 1, 8)), BOTH),
    "planes": tiff(
        entries(
            t258=(SHORT, 3, shorts(8, 8, 8)),
            t262=(SHORT, 1, 2),
            t273=(LONG, 3, longs(8, 8, 8)),
            t277=(SHORT, 1, 3),
            t279=(LONG, 3, longs(PIXELS, PIXELS, PIXELS)),
            t284=(SHORT, 1, 2),
        ),
        BOTH,
    ),
    "one plane, inverted": tiff(entries(t262=(SHORT, 1, 0), t284=(SHORT, 1, 2)), BOTH),
    "several extra samples": tiff(
        entries(
            t258=(SHORT, 5, shorts(8, 8, 8, 8, 8)),
            t262=(SHORT, 1, 2),
            t277=(SHORT, 1, 5),
            t279=(LONG, 1, 5 * PIXELS),
            t338=(SHORT, 2, 0),
        ),
        b"\xff" * 5 * PIXELS,
    ),
    "tifffile": described(b'{"shape": [2, 28, 28]}\0'),
    "tifffile, halves": described(b'{"shape": [2, 14, 28]}\0'),
    "tifffile, twice": described(b'{"shape": [28, 28], "shape": [2, 28, 28]}\0'),
    "tifffile, old": described(b"shape=(2, 28, 28)\0"),
    "ImageJ": described(b"ImageJ=1.11a\nimages=2\nslices=2\n\0"),
    "ImageJ, twice": described(b"ImageJ=1.11a\nimages=1\nslices =2\n\0"),
    "too long to look through": described(b"word " * 2**14),
    "no text": described(b'{"shape": [28, 28]}\0', kind=7),
}
ALONE = {
    "tifffile": described(b'{"shape": [28, 28]}\0'),
    "tifffile, axes": described(b'{"shape": [1, 28, 28], "axes": "QYX"}\0\0\0'),
    "ImageJ": described(b"ImageJ=1.11a\nimages=1\nunit=cm\n\0"),
    "words": described(b"two images of a shape\0"),
    "a word": described(b"abc\0"),
    "tags of a camera": tiff(entries(t254=(LONG, 1, 0), t271=(2, 6, b"maker\0"), t34665=(LONG, 1, 8)), BOTH),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_file_in_which_some_readers_find_further_pictures_is_not_for_classifiers(kind: str) -> None:
    with pytest.raises(UndecodableImage, match="GATE_FORWARD=judged"):
        readings(SEVERAL[kind])


@pytest.mark.parametrize("compression", ["tiff_ccitt", "group3", "group4"])
def test_a_fax_is_not_for_classifiers_that_decode_it_themselves(compression: str) -> None:
    """tifffile gave up on damaged lines that libtiff passed over."""
    with pytest.raises(UndecodableImage, match="GATE_FORWARD=judged"):
        readings(encoded(Image.new("1", (60, 40), 1), "TIFF", compression=compression))


@pytest.mark.parametrize("kind", ALONE)
def test_a_file_of_one_picture_has_no_other_reading(kind: str) -> None:
    assert readings(ALONE[kind]) == []


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_ordinary_tiffs_pass(mode: str, compression: str | None) -> None:
    exif = Image.Exif()
    exif[274] = 1
    data = encoded(Image.new(mode, (60, 40), "white"), "TIFF", compression=compression, exif=exif, dpi=(300, 300))
    assert readings(data) == []
