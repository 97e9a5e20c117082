"""What reaches a decoder, and what does not."""

import struct
import zlib

import pytest
from PIL import Image

from app.detection.exif import read_orientation
from app.detection.image_headers import read_image_header
from app.errors import TooManyPixels, UndecodableImage, UnsupportedFormat
from testing import hostile_files as make


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("endian", ["<", ">"])
def test_orientation_is_read_in_both_byte_orders(orientation: int, endian: str) -> None:
    assert read_orientation(make.exif(orientation, endian)) == orientation


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0XX*\0" + bytes(30),
        make.exif(9),
        make.exif(0),
        make.exif(6)[:-8],
        b"II*\0" + struct.pack("<I", 2**32 - 1),
        # A directory that points at itself, and claims more entries than it has.
        b"II*\0" + struct.pack("<IH", 8, 65535) + struct.pack("<HHII", 0x8769, 4, 1, 8) * 20,
    ],
)
def test_damaged_exif_is_upright(exif: bytes) -> None:
    assert read_orientation(exif) == 1


def test_text_profiles_and_exif_do_not_reach_the_png_decoder() -> None:
    data = make.png(3, 2, before=[*make.compressed_text(1), make.chunk(b"eXIf", make.exif(6)[6:])])
    container = read_image_header(data)
    assert container.plain_mode == "L"
    assert zlib.decompress(container.pixels) == bytes(2 * (1 + 3))
    assert (container.width, container.height, container.orientation) == (3, 2, 6)
    interlaced = make.png(3, 2, interlace=1, before=make.compressed_text(1))
    container = read_image_header(interlaced)
    assert container.plain_mode == ""
    assert container.pixels == make.png(3, 2, interlace=1)


def test_exif_behind_the_png_pixels_counts() -> None:
    assert read_image_header(make.png(3, 2, after=[make.chunk(b"eXIf", make.exif(8)[6:])])).orientation == 8


def test_comments_profiles_and_exif_do_not_reach_the_jpeg_decoder() -> None:
    noise = make.segment(0xFE, b"words") + make.segment(0xE2, b"ICC_PROFILE\0" + bytes(99))
    container = read_image_header(make.jpeg_with(noise + make.segment(0xE1, make.exif(3))))
    assert container.pixels == make.jpeg_with(b"")
    assert container.orientation == 3


def test_junk_and_padding_between_jpeg_segments_are_skipped() -> None:
    container = read_image_header(make.jpeg_with(b"\xff\x01junk\xff\x00junk\xff\xff"))
    assert container.pixels == make.jpeg_with(b"")


def test_extensions_do_not_reach_the_gif_decoder() -> None:
    plain = make.gif((9, 9), (1, 2, 3, 4), transparency=1)
    container = read_image_header(make.gif((9, 9), (1, 2, 3, 4), before=b"\x21\xfe\x05words\x00", transparency=1))
    assert container.pixels == plain
    assert container.frame == (1, 2, 4, 6)


def test_a_gif_frame_larger_than_its_screen_counts_with_its_own_size() -> None:
    container = read_image_header(make.gif((1, 1), (0, 0, 13_000, 13_000)))
    assert (container.width, container.height) == (13_000, 13_000)


@pytest.mark.parametrize("side", [1, 28, 300])
@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_size_is_read_in_every_kind(side: int, lossless: bool, mode: str) -> None:
    data = make.save(Image.new(mode, (side, side + 1)), "WEBP", lossless=lossless, exif=make.exif(5))
    container = read_image_header(data)
    assert (container.width, container.height, container.orientation) == (side, side + 1, 5)


def test_up_to_64_jpeg_scans_are_accepted_and_more_refused_wherever_they_hide() -> None:
    assert read_image_header(make.jpeg_with_scans(64)).width == 256
    with pytest.raises(UndecodableImage, match="64 scans"):
        read_image_header(make.jpeg_with_scans(65))
    # An end marker within a table is none: libjpeg would read on.
    hidden = make.segment(0xFE, b"\xff\xd9")
    data = make.jpeg_with_scans(300)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    with pytest.raises(UndecodableImage, match="64 scans"):
        read_image_header(data[:second] + hidden + data[second:])


def test_scan_markers_behind_the_picture_do_not_count() -> None:
    data = make.jpeg_with_scans(12) + b"\xff\xda" * 1000
    assert read_image_header(data).width == 256


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCF])
def test_jpegs_that_no_browser_shows_are_refused(marker: int) -> None:
    with pytest.raises(UndecodableImage, match="Arithmetic"):
        read_image_header(make.jpeg_with(b"").replace(b"\xff\xc0", bytes((0xFF, marker)), 1))


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"<svg/>", b"%PDF-1.4", b"II*\0" + bytes(99), b"RIFF1234WAVE"])
def test_other_formats_are_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        read_image_header(data)


def test_run_lengths_that_would_take_seconds_are_refused() -> None:
    with pytest.raises(TooManyPixels, match="run-length"):
        read_image_header(make.bmp(1025, 1024, 8, 1))
    assert read_image_header(make.bmp(1024, 1024, 8, 1)).height == 1024
    assert read_image_header(make.bmp(4, -3, 24)).height == 3
