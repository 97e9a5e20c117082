"""Images that other decoders show differently, made by code: a grey square for this one, a black one for another."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.detection.images import Preprocessing, decode_image
from app.detection.readings import may_be_read_differently, other_readings, plain_png
from app.errors import UndecodableImage
from testing.pictures import encoded, picture

PIXELS = 10**6
WHITE = Preprocessing(background=255)


def transparent(mode: str, color: Any, image_format: str = "PNG") -> bytes:
    return encoded(
        Image.new(mode, (28, 28), color), image_format, **({"lossless": True} if image_format == "WEBP" else {})
    )


def keyed(mode: str, key: Any) -> bytes:
    return encoded(Image.new(mode, (28, 28), 0), transparency=key)


def palette_with_alpha() -> bytes:
    image = Image.new("P", (28, 28), 0)
    image.putpalette([0, 0, 0, 255, 255, 255])
    return encoded(image, transparency=b"\x00\xff")


def apng() -> bytes:
    frames = [Image.new("L", (28, 28), level) for level in (255, 0)]
    return encoded(frames[0], save_all=True, append_images=frames[1:], default_image=True)


def gif_beside_its_canvas() -> bytes:
    data = bytearray(picture(level=0, image_format="GIF"))
    data[6:10] = struct.pack("<HH", 200, 200)  # the canvas; the frame stays in its corner
    return bytes(data)


def sixteen_bits() -> bytes:
    return encoded(Image.fromarray(np.full((28, 28), 0xFF00, np.uint16)))


def three_times_sixteen_bits() -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = (b"\0" + b"\xff\x00" * 3 * 28) * 28
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 28, 28, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def animated(image_format: str) -> bytes:
    frames = [Image.new("RGB", (28, 28), color) for color in ("white", "black")]
    return encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100, lossless=True)


DIFFERENT = {
    "RGBA": transparent("RGBA", (0, 0, 0, 0)),
    "LA": transparent("LA", (0, 0)),
    "palette": palette_with_alpha(),
    "grey key": keyed("L", 0),
    "colour key": keyed("RGB", (0, 0, 0)),
    "WebP": transparent("RGBA", (0, 0, 0, 1), "WEBP"),
    "APNG": apng(),
    "GIF": gif_beside_its_canvas(),
    "16 bits": sixteen_bits(),
    "3 x 16 bits": three_times_sixteen_bits(),
    "animated GIF": animated("GIF"),
    "animated WebP": animated("WEBP"),
}
ALIKE = {
    "grey PNG": picture(),
    "RGB PNG": picture(mode="RGB"),
    "opaque RGBA": picture(mode="RGBA"),
    "16 bits of 8": encoded(Image.fromarray(np.full((28, 28), 0x8080, np.uint16))),
    **{name: picture(mode="RGB", image_format=name) for name in ("JPEG", "GIF", "WEBP", "BMP")},
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_each_way_of_reading_an_image_is_found(kind: str) -> None:
    data = DIFFERENT[kind]
    ours = decode_image(data, WHITE, PIXELS)
    assert may_be_read_differently(data)
    readings = other_readings(data, WHITE, PIXELS)
    assert ours.mean() > 0.95
    assert min(reading.mean() for reading in readings) < 0.05


@pytest.mark.parametrize("brand", [b"avif", b"avis"])
def test_the_frames_of_an_avif_are_found_whether_it_says_to_be_one_image_or_an_animation(brand: bytes) -> None:
    data = animated("AVIF")
    data = data[:8] + brand + data[12:]
    readings = other_readings(data, WHITE, PIXELS, ("AVIF",))
    assert decode_image(data, WHITE, PIXELS, ("AVIF",)).mean() > 0.95
    assert min(reading.mean() for reading in readings) < 0.05


def test_an_avif_whose_still_image_is_of_another_size_than_its_animation_is_refused() -> None:
    data = animated("AVIF")
    size = data.index(b"ispe") + 8
    data = data[:size] + struct.pack(">II", 32, 28) + data[size + 8 :]
    assert decode_image(data, WHITE, PIXELS, ("AVIF",)).mean() > 0.95
    with pytest.raises(UndecodableImage, match="differ in size"):
        other_readings(data, WHITE, PIXELS, ("AVIF",))


def test_an_avif_of_too_many_frames_is_refused() -> None:
    frames = [Image.new("L", (28, 28), 8 * level) for level in range(17)]
    data = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:])
    with pytest.raises(UndecodableImage, match="more than 16 frames"):
        other_readings(data, WHITE, PIXELS, ("AVIF",))


@pytest.mark.parametrize("kind", ALIKE)
def test_image_that_all_decoders_read_alike_has_no_other_reading(kind: str) -> None:
    data = ALIKE[kind]
    assert not may_be_read_differently(data) or not other_readings(data, WHITE, PIXELS)


@pytest.mark.parametrize("kind", ["grey PNG", "RGB PNG", "JPEG", "BMP"])
def test_ordinary_image_is_told_by_its_header_alone(kind: str) -> None:
    assert not may_be_read_differently(ALIKE[kind])


@pytest.mark.parametrize("kind", [*DIFFERENT, *ALIKE])
def test_plain_png_shows_what_was_judged_and_nothing_else(kind: str) -> None:
    data = {**DIFFERENT, **ALIKE}[kind]
    plain = plain_png(data, WHITE, PIXELS)
    with Image.open(BytesIO(plain)) as image:
        assert (image.format, image.mode in ("L", "RGB"), image.info) == ("PNG", True, {})
    assert not may_be_read_differently(plain)
    assert np.abs(decode_image(plain, WHITE, PIXELS) - decode_image(data, WHITE, PIXELS)).max() <= 1 / 255


def test_plain_png_is_upright_without_metadata_and_of_the_wanted_size() -> None:
    image = Image.new("RGB", (40, 20), "white")
    image.paste("black", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    data = encoded(image, "JPEG", exif=exif, quality=95, icc_profile=b"profile", dpi=(300, 300))
    with Image.open(BytesIO(plain_png(data, WHITE, PIXELS))) as upright:
        assert (upright.size, upright.info) == ((20, 40), {})
        assert upright.convert("L").getpixel((10, 5)) < 50  # type: ignore[operator]
    with Image.open(BytesIO(plain_png(data, WHITE, PIXELS, size=(2, 2)))) as small:
        assert np.asarray(small.convert("L")).tolist() == [[0, 0], [255, 255]]
