"""Data behind the end of an image, in every format that can be accepted."""

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.errors import MalformedRequest, UndecodableImage
from app.payload.image_end import check_image_end
from testing.pictures import encoded

FORM = b"\r\n--b\r\nContent-Disposition: form-data; name=f\r\n\r\n"
LEVELS = np.arange(61 * 47, dtype=np.uint8).reshape(61, 47)
PICTURE = Image.fromarray(LEVELS)

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "PNG": ("PNG", {}),
    "JPEG": ("JPEG", {}),
    "WebP": ("WEBP", {}),
    "GIF": ("GIF", {}),
    "BMP": ("BMP", {}),
    "AVIF": ("AVIF", {}),
    "AVIF animation": ("AVIF", {"save_all": True, "append_images": [PICTURE.rotate(180)]}),
    "TIFF": ("TIFF", {}),
    "TIFF by LZW": ("TIFF", {"compression": "tiff_lzw"}),
    "TIFF by deflate": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "TIFF by JPEG": ("TIFF", {"compression": "jpeg"}),
    "TIFF in strips": ("TIFF", {"strip_size": 47 * 4}),
    "TIFF of two pages": ("TIFF", {"save_all": True, "append_images": [PICTURE.rotate(180)]}),
    "TIFF with texts": ("TIFF", {"description": "circles " * 9, "software": "test", "dpi": (300, 300)}),
    "TIFF with EXIF": ("TIFF", {"exif": bytes(0)}),
}


def file_of(kind: str) -> bytes:
    image_format, options = KINDS[kind]
    if "exif" in options:
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0a comment that does not fit into four bytes"
        options = {"exif": exif}
    return encoded(PICTURE, image_format, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_file_passes_and_the_same_with_data_behind_it_does_not(kind: str) -> None:
    data = file_of(kind)
    check_image_end(data)
    for more in (b"x", FORM, data, bytes(40), b"\r\nx"):
        with pytest.raises(MalformedRequest, match=r"stands? behind the image's end"):
            check_image_end(data + more)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_file_that_was_cut_has_no_end(kind: str, share: float) -> None:
    data = file_of(kind)
    with pytest.raises((UndecodableImage, MalformedRequest)):
        check_image_end(data[: int(len(data) * share)])


def test_tiff_that_does_not_say_how_long_its_strips_are_has_no_end() -> None:
    data = file_of("TIFF")
    lengths = struct.pack("<HH", 279, 4)
    assert data.count(lengths) == 1
    with pytest.raises(UndecodableImage):
        check_image_end(data.replace(lengths, struct.pack("<HH", 280, 4)))


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "GIF", "BMP"])
def test_padding_that_some_programs_write_passes(image_format: str) -> None:
    data = encoded(PICTURE, image_format)
    for padding in (b"\n", b"\r\n", bytes(1), bytes(15)):
        check_image_end(data + padding)
    with pytest.raises(MalformedRequest):
        check_image_end(data + bytes(16))


def test_tiff_may_be_filled_up_with_a_few_zeros() -> None:
    data = file_of("TIFF")
    check_image_end(data + bytes(15))
    for more in (b"\1", bytes(16), bytes(14) + b"x"):
        with pytest.raises(MalformedRequest):
            check_image_end(data + more)


def test_tiff_whose_directories_refer_to_each_other_is_walked_once() -> None:
    entries = struct.pack("<HHII", 330, 4, 1, 8) + struct.pack("<HHII", 34665, 4, 1, 8)
    check_image_end(b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 2) + entries + struct.pack("<I", 8))


def test_tiff_of_more_directories_than_any_file_has_is_refused() -> None:
    """10,000 directories that name the same 64 KiB as the lengths of their strips."""
    count = 10_000
    directories = b"".join(
        struct.pack("<HHHII", 1, 279, 4, 2**14, 8) + struct.pack("<I", 2**16 + 8 + 18 * (index + 1))
        for index in range(count)
    )
    with pytest.raises(UndecodableImage):
        check_image_end(b"II*\0" + struct.pack("<I", 2**16 + 8) + bytes(2**16) + directories)


def test_tiff_of_many_empty_directories_is_refused_before_all_are_walked_through() -> None:
    """A million of them took three seconds; a file of 32 MB has room for five."""
    directories = b"".join(struct.pack("<HI", 0, 8 + 6 * (index + 1)) for index in range(40_000))
    with pytest.raises(UndecodableImage, match="no end"):
        check_image_end(b"II*\0" + struct.pack("<I", 8) + directories[:-4] + bytes(4))


def test_tiff_that_names_one_further_directory_many_times_is_refused() -> None:
    count = 40_000
    directory = struct.pack("<HHHIII", 1, 330, 4, count, 26, 0)
    with pytest.raises(UndecodableImage, match="no end"):
        check_image_end(b"II*\0" + struct.pack("<I", 8) + directory + struct.pack("<I", 8) * count)


def test_last_box_of_an_avif_may_go_on_to_the_end_of_the_file() -> None:
    data = file_of("AVIF")
    at = data.index(b"mdat") - 4
    check_image_end(data[:at] + bytes(4) + data[at + 4 :])


def test_form_in_front_of_the_data_of_an_avif_is_no_box() -> None:
    data = file_of("AVIF")
    with pytest.raises(MalformedRequest):
        check_image_end(data + struct.pack(">I4s", 8 + len(FORM), b"form") + FORM)
