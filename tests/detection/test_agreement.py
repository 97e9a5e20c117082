"""What odd but legal files show, as Pillow, OpenCV and libvips agree on it."""

import struct
import zlib
from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from app.detection.exif import read_orientation
from app.detection.images import Preprocessing, decode_image, open_image, to_large_grayscale
from app.detection.known_formats import known_format
from app.errors import Refusal, TooManyPixels, UndecodableImage, UnsupportedFormat
from app.settings import ACCEPTED_FORMATS
from testing import hostile_files as make

SIDE = 28
ALL_FORMATS = (*ACCEPTED_FORMATS, "AVIF", "TIFF")  # HEIC has tests of its own


def shown(data: bytes, background: int = 255, formats: tuple[str, ...] = ACCEPTED_FORMATS) -> NDArray[np.uint8]:
    """Grey levels in the image's own size."""
    opened = open_image(data, 10**6, formats)
    return np.asarray(to_large_grayscale(opened, Preprocessing(background=background)))


# --- PNG: rows that are missing

_KINDS = [(8, 0), (8, 2), (8, 3), (8, 4), (8, 6), (16, 0), (16, 2), (16, 6), (4, 3), (1, 0), (2, 0)]
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png_with_rows(depth: int, color: int, rows: int, level: int = 0x55, side: int = SIDE) -> bytes:
    row = b"\0" + bytes((level,)) * ((side * depth * _SAMPLES[color] + 7) // 8)
    palette = [make.chunk(b"PLTE", bytes(range(256)) * 3)] if color == 3 else []
    return make.png(side, side, depth, color, row * rows, palette)


@pytest.mark.parametrize(("depth", "color"), _KINDS)
@pytest.mark.parametrize("missing", [1, 2, 7, 21, 28])
def test_a_png_whose_stream_ends_properly_with_too_few_rows_is_refused(depth: int, color: int, missing: int) -> None:
    for level in (0, 0x55, 0xFF):
        with pytest.raises(UndecodableImage):
            shown(png_with_rows(depth, color, SIDE - missing, level))


@pytest.mark.parametrize(("depth", "color"), _KINDS)
@pytest.mark.parametrize("level", [0, 0x55, 167, 0xFF])
def test_a_png_with_all_its_rows_is_decoded_whatever_their_color(depth: int, color: int, level: int) -> None:
    assert shown(png_with_rows(depth, color, SIDE, level)).shape == (SIDE, SIDE)


def test_a_png_that_ends_with_the_color_that_marks_missing_rows_is_decoded() -> None:
    rows = (b"\0" + bytes((167, 92, 62, 217)) * SIDE) * SIDE
    assert shown(make.png(SIDE, SIDE, 8, 6, rows)).shape == (SIDE, SIDE)
    assert (shown(make.png(SIDE, SIDE, 8, 0, (b"\0" + bytes((167,)) * SIDE) * SIDE)) == 167).all()


@pytest.mark.parametrize("side", [1, 5, 8, 28])
def test_an_interlaced_png_needs_every_row_of_every_pass(side: int) -> None:
    whole = make._interlaced_rows(side, 1) if side > 1 else b"\0\0"
    assert shown(make.png(side, side, rows=whole, interlace=1)).shape == (side, side)
    with pytest.raises(UndecodableImage):
        shown(make.png(side, side, rows=whole[:-1], interlace=1))


def test_counting_the_rows_of_a_picture_with_data_behind_them_stops_at_their_end() -> None:
    palette = [make.chunk(b"PLTE", bytes(6))]
    assert shown(make.png(SIDE, SIDE, 8, 3, bytes(29 * SIDE + 2**22), palette)).shape == (SIDE, SIDE)


# --- PNG: transparent colours of 16 bits


@pytest.mark.parametrize("interlace", [0, 1])
def test_a_16_bit_color_key_compares_both_bytes(interlace: int) -> None:
    key, near = (0x1234, 0x5678, 0x9ABC), (0x1234, 0x5678, 0x9ABD)
    if interlace:
        rows = b"".join(b"\0" + struct.pack(">3H", *color) for color in (key, near))  # 1x2: passes 1 and 7
        data = make.png(1, 2, 16, 2, rows, [make.chunk(b"tRNS", struct.pack(">3H", *key))], interlace=1)
    else:
        rows = b"".join(b"\0" + struct.pack(">3H", *color) for color in (key, near))
        data = make.png(1, 2, 16, 2, rows, [make.chunk(b"tRNS", struct.pack(">3H", *key))])
    levels = shown(data, background=255)
    assert levels[0, 0] == 255
    assert levels[1, 0] == Image.new("RGB", (1, 1), (0x12, 0x56, 0x9A)).convert("L").getpixel((0, 0))


# --- BMP


def bmp_with_masks(header_size: int, alpha: bytes, masks: tuple[int, ...] = (0xFF0000, 0xFF00, 0xFF)) -> bytes:
    """4x4, 32 bits, BITFIELDS with an alpha mask; grey 90 with the given alphas, repeated."""
    pixels = b"".join(bytes((90, 90, 90, alpha[index % len(alpha)])) for index in range(16))
    info = struct.pack("<IiiHHIIiiII", header_size, 4, 4, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    info += struct.pack("<4I", *masks, 0xFF000000)
    info = info.ljust(header_size, b"\0")
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + pixels


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_a_bmp_whose_alpha_is_zero_everywhere_is_opaque(header_size: int) -> None:
    assert (shown(bmp_with_masks(header_size, b"\0")) == 90).all()


@pytest.mark.parametrize("header_size", [56, 108, 124])
def test_a_bmp_whose_alpha_is_zero_somewhere_is_transparent_there(header_size: int) -> None:
    assert set(shown(bmp_with_masks(header_size, b"\xff\0")).flat) == {90, 255}


def test_a_bmp_with_unusual_masks_is_refused_by_that_name() -> None:
    with pytest.raises(UndecodableImage, match="masks"):
        shown(bmp_with_masks(108, b"\xff", (0x3FF00000, 0xFFC00, 0x3FF)))


@pytest.mark.parametrize(("bits", "compression"), [(24, 4), (24, 5), (2, 0), (64, 0)])
def test_other_kinds_of_bmp_are_refused_by_name(bits: int, compression: int) -> None:
    with pytest.raises(UndecodableImage, match=f"{bits} bits a pixel and compression {compression}"):
        shown(make.bmp(4, 4, bits, compression, pixels=bytes(99)))


def run_lengths(bits: int, codes: bytes, width: int = 6, height: int = 4) -> bytes:
    """A BMP whose palette is 0: black, 1: grey 200, 2: grey 100."""
    palette = b"".join(bytes((level, level, level, 0)) for level in (0, 200, 100))
    return make.bmp(width, height, bits, 1 if bits == 8 else 2, 3, codes, palette)


def rows_of(*rows: str) -> NDArray[np.uint8]:
    """Rows of palette indices, from top to bottom."""
    return np.array([[(0, 200, 100)[int(index)] for index in row] for row in rows], np.uint8)


RUNS_OF_8 = {
    "a delta to the right and up": (b"\2\1\0\2\1\1\2\2\0\1", rows_of("000000", "000000", "000220", "110000")),
    "a delta over two rows": (b"\1\1\0\2\0\2\1\2\0\1", rows_of("000000", "020000", "000000", "100000")),
    "lines that end early": (b"\2\1\0\0\1\2\0\0\6\1\0\0\0\1", rows_of("000000", "111111", "200000", "110000")),
    "a bitmap that ends early": (b"\6\1\0\0\0\1", rows_of("000000", "000000", "000000", "111111")),
    "indices as they are, padded": (
        b"\0\3\1\2\1\0\3\2\0\0\0\5\2\1\2\1\2\0\0\1",
        rows_of("000000", "000000", "212120", "121222"),
    ),
    "a run beyond the row": (b"\xff\1\0\0\2\2\0\1", rows_of("000000", "000000", "220000", "111111")),
    "no end behind the last pixel": (b"\6\1\0\0" * 3 + b"\6\2", rows_of("222222", "111111", "111111", "111111")),
    "a delta beyond the picture": (b"\1\1\0\2\0\x09\1\2\0\1", rows_of("000000", "000000", "000000", "100000")),
}
RUNS_OF_4 = {
    "two indices in turn": (b"\5\x12\0\1", rows_of("000000", "000000", "000000", "121210")),
    "a delta": (b"\1\x10\0\2\2\1\2\x22\0\1", rows_of("000000", "000000", "000220", "100000")),
    "indices as they are, padded": (
        b"\0\5\x12\x12\x10\0\0\0\1\x20\0\1",
        rows_of("000000", "000000", "200000", "121210"),
    ),
}


@pytest.mark.parametrize(("codes", "expected"), RUNS_OF_8.values(), ids=RUNS_OF_8)
def test_run_lengths_of_8_bits(codes: bytes, expected: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(shown(run_lengths(8, codes)), expected)


@pytest.mark.parametrize(("codes", "expected"), RUNS_OF_4.values(), ids=RUNS_OF_4)
def test_run_lengths_of_4_bits(codes: bytes, expected: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(shown(run_lengths(4, codes)), expected)


@pytest.mark.parametrize("codes", [b"", b"\6\1", b"\6\1\0\0", b"\6\1\0\2\1", b"\0\x06\1\2"])
def test_run_lengths_that_stop_without_an_end_are_refused(codes: bytes) -> None:
    with pytest.raises(UndecodableImage):
        shown(run_lengths(8, codes))


def test_run_lengths_for_another_depth_are_refused_by_name() -> None:
    with pytest.raises(UndecodableImage, match="run lengths"):
        shown(make.bmp(4, 4, 8, 2, 2, b"\0\1", bytes(8)))
    with pytest.raises(TooManyPixels, match="1,048,576 pixels"):
        shown(make.bmp(2000, 2000, 8, 1, 2, b"\0\1", bytes(8)))


# --- orientation

_NUMBERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 11: "f", 12: "d"}


def exif_of(kind: int, count: int, endian: str, orientation: int = 6) -> bytes:
    """EXIF whose orientation is stored `count` times in another type."""
    values = struct.pack(f"{endian}{count}{_NUMBERS[kind]}", *[orientation] * count)
    inline = values.ljust(4, b"\0") if len(values) <= 4 else struct.pack(endian + "I", 26)
    head = (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "IHHHI", 8, 1, 0x0112, kind, count)
    return b"Exif\0\0" + head + inline + bytes(4) + (values if len(values) > 4 else b"")


@pytest.mark.parametrize("kind", _NUMBERS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_an_orientation_counts_in_every_type_of_number(kind: int, count: int, endian: str) -> None:
    assert read_orientation(exif_of(kind, count, endian)) == 6


@pytest.mark.parametrize("numbers", [(6, 1), (12, 2)])
def test_an_orientation_counts_as_a_ratio(numbers: tuple[int, int]) -> None:
    head = b"II*\0" + struct.pack("<IHHHII", 8, 1, 0x0112, 5, 1, 26) + bytes(4)
    assert read_orientation(head + struct.pack("<II", *numbers)) == 6
    assert read_orientation(head + struct.pack("<II", 6, 0)) == 1


def raw_profile(orientation: int = 6) -> bytes:
    block = make.exif(orientation)
    digits = block.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return b"\nexif\n%8d\n%s\n" % (len(block), lines)


@pytest.mark.parametrize("kind", ["tEXt", "zTXt", "iTXt", "iTXt compressed"])
@pytest.mark.parametrize("behind", [False, True])
def test_a_png_is_turned_by_the_exif_in_its_text(kind: str, behind: bool) -> None:
    text, key = raw_profile(), b"Raw profile type exif\0"
    body = {
        "tEXt": text,
        "zTXt": b"\0" + zlib.compress(text),
        "iTXt": b"\0\0\0\0" + text,
        "iTXt compressed": b"\1\0\0\0" + zlib.compress(text),
    }[kind]
    chunks = [make.chunk(kind[:4].encode(), key + body)]
    data = make.png(6, 3, before=[] if behind else chunks, after=chunks if behind else [])
    assert shown(data).shape == (6, 3)


def test_exif_of_a_png_comes_before_that_in_its_text() -> None:
    chunks = [
        make.chunk(b"eXIf", make.exif(3)[6:]),
        make.chunk(b"tEXt", b"Raw profile type exif\0" + raw_profile(orientation=6)),
    ]
    assert open_image(make.png(6, 3, before=chunks), 100).container.orientation == 3


@pytest.mark.parametrize(
    "text", [b"", b"\nexif\n", b"\nexif\n 10\nzz", b"\nexif\n 10\n123", zlib.compress(bytes(2**24))]
)
def test_a_damaged_profile_in_a_text_is_upright(text: bytes) -> None:
    for kind in (b"tEXt", b"zTXt", b"iTXt"):
        data = make.png(6, 3, before=[make.chunk(kind, b"Raw profile type exif\0\0" + text)])
        assert open_image(data, 100).container.orientation == 1


# --- formats by choice


def drawing() -> Image.Image:
    image = Image.new("RGB", (40, 30), (250, 200, 10))
    image.paste((0, 0, 0), (5, 5, 30, 20))
    return image


def test_avif_and_tiff_are_refused_by_name_unless_they_are_asked_for() -> None:
    for name in ("AVIF", "TIFF"):
        data = make.save(drawing(), name)
        with pytest.raises(UnsupportedFormat, match=f"{name} file.*GATE_FORMATS"):
            open_image(data, 10**6)
        assert open_image(data, 10**6, ALL_FORMATS).width == 40


def test_a_format_that_is_left_out_is_refused() -> None:
    with pytest.raises(UnsupportedFormat, match="a GIF file, which is not one of PNG, JPEG"):
        open_image(make.save(drawing(), "GIF"), 10**6, ("PNG", "JPEG"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["AVIF", "TIFF"])
def test_avif_and_tiff_show_what_they_show_and_upright(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = shown(make.save(drawing(), "PNG", exif=make.exif(orientation)))
    options = {"exif": exif, "quality": 100, "subsampling": "4:4:4"} if name == "AVIF" else {"tiffinfo": exif}
    difference = shown(make.save(drawing(), name, **options), formats=ALL_FORMATS).astype(int) - upright
    assert np.abs(difference).max() <= (8 if name == "AVIF" else 0)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA"])
def test_tiffs_of_every_mode(mode: str, compression: str | None) -> None:
    image = drawing().convert(mode)
    levels = shown(make.save(image, "TIFF", compression=compression), formats=ALL_FORMATS)
    np.testing.assert_array_equal(levels, np.asarray(image.convert("L")))


@pytest.mark.parametrize("big_endian", [False, True])
def test_16_bit_tiffs_are_scaled(big_endian: bool) -> None:
    wide = (np.arange(900, dtype=np.uint32) * 65535 // 899).reshape(30, 30).astype(">u2" if big_endian else "<u2")
    image = Image.frombytes("I;16B" if big_endian else "I;16", (30, 30), wide.tobytes())
    levels = shown(make.save(image, "TIFF"), formats=ALL_FORMATS)
    np.testing.assert_allclose(levels, wide / 257, atol=0.51)


def test_tiffs_of_other_kinds_are_refused_by_name() -> None:
    floats = make.save(Image.new("F", (4, 4)), "TIFF")
    for data, words in ((floats, "floating-point"), (make.save(drawing(), "TIFF", compression="zstd"), "compression")):
        with pytest.raises(UndecodableImage, match=words):
            open_image(data, 10**6, ALL_FORMATS)


def test_tags_that_make_no_pixels_do_not_reach_the_tiff_decoder() -> None:
    plain = make.save(drawing(), "TIFF")
    noisy = make.save(drawing(), "TIFF", tiffinfo={270: "words", 65000: "more"}, exif=make.exif(1)[6:])
    pixels = open_image(noisy, 10**6, ALL_FORMATS).container.pixels
    with Image.open(BytesIO(pixels)) as opened:
        assert not {270, 65000} & set(opened.tag_v2)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(shown(noisy, formats=ALL_FORMATS), shown(plain, formats=ALL_FORMATS))


def test_every_cut_and_changed_byte_of_a_tiff_or_avif_is_decoded_or_refused() -> None:
    for name, options in (("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {}), ("AVIF", {"quality": 30})):
        data = make.save(drawing().resize((8, 8)), name, **options)
        broken = [data[:cut] for cut in range(0, len(data), 3)]
        broken += [data[:at] + bytes((data[at] ^ 0xFF,)) + data[at + 1 :] for at in range(8, len(data), 2)]
        for one in broken:
            with suppress(Refusal):
                decode_image(one, Preprocessing(), 10**6, ALL_FORMATS)


def test_a_format_is_looked_for_at_the_beginning_only() -> None:
    """32 MB of blanks took three seconds, in which nothing else was answered."""
    assert known_format(b" " * 4000 + b"<svg ") == "SVG"
    assert known_format(b" " * 5000 + b"<svg ") is None


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*JPEG"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"\xff\x0a" + bytes(20), "JPEG XL"),
        (b"<?xml version='1.0'?>\n<svg xmlns='...'>", "SVG.*PNG"),
        (b"%PDF-1.7", "PDF"),
        (b"II+\0" + bytes(20), "BigTIFF"),
    ],
)
def test_other_formats_are_refused_by_name_with_what_to_do(start: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFormat, match=words):
        open_image(start, 10**6)
