"""Every format and mode comes out as the grey levels that a person sees, on the background, upright."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from app.detection.images import Preprocessing, decode_image, open_image, to_large_grayscale
from app.errors import TooManyPixels, UndecodableImage
from testing import hostile_files as make
from testing.grey_levels import GREEN, RED, levels
from testing.pictures import drawing

GRADIENT = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28) % 256


def rows(pixels: NDArray[np.generic]) -> bytes:
    """PNG rows, big-endian and unfiltered."""
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)


def png(depth: int, color: int, pixels: NDArray[np.generic], *before: bytes) -> bytes:
    return make.png(28, 28, depth, color, rows(pixels), before)


# --- grey levels of each mode


def test_28x28_grey_levels_are_not_touched() -> None:
    np.testing.assert_allclose(levels(png(8, 0, GRADIENT.astype(np.uint8))), GRADIENT, atol=1e-4)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_grey_levels_span_black_to_white(depth: int) -> None:
    steps = 2**depth
    samples = np.tile(np.arange(28) % steps, (28, 1)).astype(np.uint8)
    bits = np.unpackbits(samples[..., np.newaxis], axis=2)[..., 8 - depth :].reshape(28, -1)
    data = png(depth, 0, np.packbits(bits, axis=1))
    np.testing.assert_allclose(levels(data), samples * (255 / (steps - 1)), atol=1e-4)


@pytest.mark.parametrize(("color", "bands"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_a_plain_png_is_what_pillows_own_reader_makes_of_it_and_refused_when_it_fails(color: int, bands: int) -> None:
    rng = np.random.default_rng(color)
    rows = [bytes((rng.integers(5),)) + rng.bytes(40 * bands) for _ in range(30)]
    whole = make.png(40, 30, color=color, rows=b"".join(rows), level=0)
    header, data = whole[:33], zlib.decompress(whole[41:-16])
    end = make.chunk(b"IEND")

    def with_data(*pieces: bytes) -> bytes:
        return header + b"".join(make.chunk(b"IDAT", piece) for piece in pieces) + end

    stream = zlib.compress(data)
    files = [
        whole,
        with_data(stream[:50], b"", stream[50:]),
        with_data(stream + b"more", b"and more"),
        with_data(stream[:-4]),  # without its checksum
        with_data(zlib.compress(data + b"\0" * 500)),
        with_data(stream[:300]),
        with_data(zlib.compress(data[:-1])),
        with_data(zlib.compress(b"\5" + data[1:])),  # no such filter
        with_data(b"no stream"),
        with_data(),
        whole[:-30],
        whole[:29] + b"\0\0\0\0" + whole[33:],  # the header's checksum
        with_data(stream).replace(b"IDAT", b"PLTE", 1),
    ]
    outcomes = set()
    for file in files:
        try:
            opened = Image.open(BytesIO(file))
            opened.load()
        except (OSError, SyntaxError, ValueError):
            with pytest.raises(UndecodableImage):
                decode_image(file, Preprocessing(), 10**6)
            outcomes.add("refused")
        else:
            expected = to_large_grayscale(open_image(_twin_for_pillow(opened), 10**6), Preprocessing())
            assert to_large_grayscale(open_image(file, 10**6), Preprocessing()).tobytes() == expected.tobytes()
            outcomes.add("decoded")
    assert outcomes == {"refused", "decoded"}


def _twin_for_pillow(image: Image.Image) -> bytes:
    """The same pixels in a file that goes to Pillow's own reader: with a palette suggested, which changes nothing."""
    file = make.save(image, "PNG")
    return file[:33] + make.chunk(b"PLTE", bytes(3)) + file[33:]


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    wide = (np.arange(784, dtype=np.uint32) * 65535 // 783).reshape(28, 28)
    np.testing.assert_allclose(levels(png(16, 0, wide.astype(np.uint16))), wide / 257, atol=0.51)


@pytest.mark.parametrize(("color", "bands"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_color_and_alpha_are_scaled(color: int, bands: int) -> None:
    pixels = np.zeros((28, 28, bands), np.uint16)
    pixels[..., : bands if color == 2 else bands - 1] = 40_000
    if color != 2:
        pixels[..., -1] = 65_535
    np.testing.assert_allclose(levels(png(16, color, pixels.reshape(28, -1))), 40_000 / 257, atol=1)


def test_colors_become_their_luminance() -> None:
    image = Image.new("RGB", (28, 28), (255, 0, 0))
    image.paste((0, 255, 0), (0, 0, 28, 14))
    for image_format, tolerance in (("PNG", 0.01), ("BMP", 0.01), ("WEBP", 3), ("JPEG", 3)):
        result = levels(make.save(image, image_format))
        np.testing.assert_allclose(result[:12], GREEN, atol=tolerance, err_msg=image_format)
        np.testing.assert_allclose(result[16:], RED, atol=tolerance, err_msg=image_format)


def test_palette_is_looked_up() -> None:
    palette = make.chunk(b"PLTE", bytes((255, 0, 0, 0, 255, 0, 10, 10, 10)))
    indices = np.tile(np.arange(28) % 3, (28, 1)).astype(np.uint8)
    expected = np.array([RED, GREEN, 10])[indices]
    np.testing.assert_allclose(levels(png(8, 3, indices, palette)), expected, atol=0.01)


def test_cmyk_and_ycck_jpegs_have_the_levels_of_their_colors() -> None:
    image = drawing(224, "RGB")
    cmyk = make.save(image.convert("CMYK"), "JPEG", quality=95)
    np.testing.assert_allclose(levels(cmyk), levels(make.save(image, "PNG")), atol=4)
    # Of Y, Cb, Cr libjpeg makes inverted C, M, Y, which Adobe's files hold inverted again; K is only inverted.
    inks = np.asarray(image.convert("CMYK"))
    y_cb_cr = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    planes = np.dstack((y_cb_cr, 255 - inks[..., 3]))
    ycck = make.save(Image.frombytes("CMYK", image.size, (255 - planes).tobytes()), "JPEG", quality=95)
    adobe = ycck.index(b"Adobe")  # Pillow writes CMYK; with a transform of 2 the same bytes mean YCCK
    ycck = ycck[: adobe + 11] + b"\2" + ycck[adobe + 12 :]
    np.testing.assert_allclose(levels(ycck), levels(make.save(image, "PNG")), atol=6)


# --- transparency


def test_alpha_is_composited_on_the_background_before_the_resize() -> None:
    # Left half opaque black, right half transparent white-on-black noise: a resize of either alone would bleed.
    side = 280
    image = Image.new("RGBA", (side, side), (0, 0, 0, 255))
    image.paste((0, 255, 0, 0), (side // 2, 0, side, side))
    flat = Image.new("L", (side, side), 0)
    for background in (255, 100):
        flat.paste(background, (side // 2, 0, side, side))
        expected = np.asarray(flat.resize((28, 28), Image.Resampling.BICUBIC), np.float64)
        np.testing.assert_allclose(levels(make.save(image, "PNG"), background), expected, atol=1)
        np.testing.assert_allclose(levels(make.save(image, "WEBP", lossless=True), background), expected, atol=1)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("color", "bands"), [(4, 2), (6, 4)])
def test_half_transparent_black_is_half_the_background(depth: int, color: int, bands: int) -> None:
    pixels = np.zeros((28, 28, bands), np.uint8 if depth == 8 else np.uint16)
    pixels[..., -1] = 2 ** (depth - 1)
    np.testing.assert_allclose(levels(png(depth, color, pixels.reshape(28, -1)), 200), 100, atol=1)


@pytest.mark.parametrize(
    ("depth", "key", "other"),
    [(1, 0, 255), (1, 1, 0), (2, 1, 170), (4, 3, 255), (8, 7, 30), (16, 40_000, 30)],
)
def test_a_transparent_grey_level_shows_the_background(depth: int, key: int, other: int) -> None:
    other_sample = other * (2**depth - 1) // 255
    samples = np.where(np.arange(28) < 14, key, other_sample)
    bits = (samples[:, np.newaxis] >> np.arange(depth)[::-1] & 1).astype(np.uint8).reshape(-1)
    row = b"\0" + np.packbits(bits).tobytes()
    data = make.png(28, 28, depth, 0, row * 28, [make.chunk(b"tRNS", key.to_bytes(2, "big"))])
    result = levels(data, background=123)
    np.testing.assert_allclose(result[:, :14], 123, atol=1e-4)
    np.testing.assert_allclose(result[:, 14:], other, atol=1)


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_color_shows_the_background(depth: int) -> None:
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = np.zeros((28, 28, 3), dtype)
    pixels[:14] = (np.array([255, 0, 0]) * (1 if depth == 8 else 257)).astype(dtype)
    key = make.chunk(b"tRNS", pixels[0, 0].astype(">u2").tobytes())
    result = levels(png(depth, 2, pixels.reshape(28, -1), key), background=123)
    np.testing.assert_allclose(result[:14], 123, atol=1e-4)
    np.testing.assert_allclose(result[14:], 0, atol=1e-4)


@pytest.mark.parametrize("alphas", [b"\0", b"\xff\0", b"\x80\xff\0"])
def test_transparent_palette_entries_show_the_background(alphas: bytes) -> None:
    palette = make.chunk(b"PLTE", bytes((0, 0, 0, 30, 30, 30, 60, 60, 60)))
    indices = np.tile(np.arange(28) % 3, (28, 1)).astype(np.uint8)
    alpha = np.frombuffer(alphas.ljust(3, b"\xff"), np.uint8) / 255
    expected = (np.array([0, 30, 60]) * alpha + 200 * (1 - alpha))[indices]
    data = png(8, 3, indices, palette, make.chunk(b"tRNS", alphas))
    np.testing.assert_allclose(levels(data, background=200), expected, atol=1)


def test_strips_of_a_large_transparent_image_join_without_a_seam() -> None:
    side = 1600
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[..., :3] = ramp[:, np.newaxis, np.newaxis]
    pixels[..., 3] = ramp[np.newaxis, :]
    image = Image.fromarray(pixels)
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    expected = Image.alpha_composite(white, image).convert("L").resize((28, 28), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(levels(make.save(image, "PNG", compress_level=1)), np.asarray(expected), atol=1.1)


def test_strips_of_a_large_16_bit_image_join_without_a_seam() -> None:
    wide = np.linspace(0, 65535, 1600).astype(np.uint16)
    data = make.save(Image.fromarray(np.tile(wide[:, np.newaxis], (1, 1600))), "PNG", compress_level=1)
    assert open_image(data, 10**7).container.bytes_per_pixel == 2
    result = levels(data)
    np.testing.assert_allclose(result[:, 0], np.linspace(0, 255, 29)[:-1] + 255 / 56, atol=1)


# --- orientation

_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(image_format: str, orientation: int) -> None:
    upright = drawing(100)
    turned = upright.transpose(_TRANSPOSED[orientation]) if orientation > 1 else upright
    options = {"JPEG": {"quality": 100}, "PNG": {}, "WEBP": {"lossless": True}}[image_format]
    data = make.save(turned, image_format, exif=make.exif(orientation), **options)
    with Image.open(BytesIO(data)) as opened:
        by_pillow = ImageOps.exif_transpose(opened).convert("L").resize((28, 28), Image.Resampling.BICUBIC)
    result = levels(data)
    np.testing.assert_allclose(result, np.asarray(by_pillow), atol=1)
    expected = levels(make.save(upright, "PNG"))
    np.testing.assert_allclose(result, expected, atol=1 if image_format != "JPEG" else 4)


def test_orientation_of_a_picture_that_is_not_square() -> None:
    upright = drawing(120).resize((60, 120))
    data = make.save(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=make.exif(6))
    np.testing.assert_allclose(levels(data), levels(make.save(upright, "PNG")), atol=1)


def test_a_jpeg_with_further_pictures_is_its_first_and_keeps_its_orientation() -> None:
    """Phones write several pictures into one JPEG (MPO)."""
    first = drawing(100)
    data = make.save(
        first.transpose(Image.Transpose.ROTATE_90).convert("RGB"),
        "MPO",
        save_all=True,
        append_images=[Image.new("RGB", (50, 50))],
        exif=make.exif(6),
        quality=95,
    )
    np.testing.assert_allclose(levels(data), levels(make.save(first, "PNG")), atol=6)


# --- animations: the first frame


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG"])
def test_an_animation_is_judged_by_its_first_frame(image_format: str) -> None:
    frames = [Image.new("L", (40, 40), level) for level in (90, 0, 255)]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = make.save(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_allclose(levels(data), 90, atol=1)


@pytest.mark.parametrize("transparency", [None, 0])
def test_what_a_gif_frame_leaves_uncovered_is_background(transparency: int | None) -> None:
    data = make.gif((28, 28), (7, 0, 14, 28), transparency=transparency, index=1)
    result = levels(data, background=120)
    np.testing.assert_allclose(result[:, 7:21], 255, atol=1e-4)
    np.testing.assert_allclose(result[:, :7], 120, atol=1e-4)
    np.testing.assert_allclose(result[:, 21:], 120, atol=1e-4)


def test_a_gif_frame_of_the_transparent_color_is_background() -> None:
    np.testing.assert_allclose(levels(make.gif((28, 28), (0, 0, 28, 28), transparency=1), 120), 120, atol=1e-4)


# --- sizes


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("side", [500, 1000, 2000])
def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(mode: str, side: int, progressive: bool) -> None:
    image = drawing(side, mode)
    data = make.save(image, "JPEG", quality=90, progressive=progressive)
    with Image.open(BytesIO(data)) as opened:
        whole = np.asarray(opened.convert("L").resize((28, 28), Image.Resampling.BICUBIC), np.float64)
    difference = np.abs(levels(data) - whole)
    assert difference.max() <= 4
    assert difference.mean() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_jpeg_keeps_its_place_where_its_size_does_not_divide(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = drawing(1000).resize((905, 451))  # at a quarter 226.25 x 112.75: the last column is mostly outside
    data = make.save(image, "JPEG", exif=exif, quality=95)
    with Image.open(BytesIO(data)) as whole:
        expected = np.asarray(ImageOps.exif_transpose(whole).resize((28, 28), Image.Resampling.BICUBIC), np.float64)
    difference = np.abs(levels(data) - expected)
    assert difference.max() <= 8
    assert difference.mean() < 0.3


@pytest.mark.parametrize("size", [(1000, 1000), (3000, 900), (900, 3000), (1, 5000), (5000, 1), (1, 1), (65535, 2)])
def test_a_large_image_is_averaged_first_and_looks_the_same(size: tuple[int, int]) -> None:
    image = drawing(1000).resize(size)
    whole = np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC), np.float64)
    difference = np.abs(levels(make.save(image, "PNG", compress_level=1)) - whole)
    assert difference.max() <= 6.01
    assert difference.mean() <= 0.3


def test_too_many_pixels_are_refused_before_decoding() -> None:
    with pytest.raises(TooManyPixels, match="9,000 x 9,000 pixels, 81 million; at most 25 million"):
        open_image(make.png(9000, 9000), 25_000_000)
    assert open_image(make.png(50, 20), 1000).width == 50
    with pytest.raises(TooManyPixels):
        open_image(make.png(50, 20), 999)


def test_a_side_that_costs_more_than_its_pixels_is_refused() -> None:
    with pytest.raises(TooManyPixels, match="a side"):
        open_image(make.png(1, 65_536), 25_000_000)


def test_an_image_without_pixels_is_refused() -> None:
    for data in (make.png(0, 5, rows=b"\0"), make.gif((0, 0), (0, 0, 0, 7)), make.bmp(0, 7)):
        with pytest.raises(UndecodableImage):
            decode_image(data, Preprocessing(), 1000)


@pytest.mark.parametrize("side", [27, 100, 1000])
def test_nearest_takes_the_pixels_that_pillow_takes_and_smooths_nothing(side: int) -> None:
    image = drawing(side)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    decoded = decode_image(buffer.getvalue(), Preprocessing(resize_filter="nearest"), 10**6)
    expected = np.asarray(image.resize((28, 28), Image.Resampling.NEAREST), np.float32) / np.float32(255)
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("side", [28, 300])
def test_a_colour_that_is_clipped_when_it_is_shown_counts_as_it_is_shown(side: int) -> None:
    """White in brightness everywhere, and red to the eye in the middle: a JPEG may say so."""
    red = Image.new("L", (side, side), 128)
    ImageDraw.Draw(red).rectangle((side // 4, side // 4, 3 * side // 4, 3 * side // 4), fill=255)
    white, blue = Image.new("L", (side, side), 255), Image.new("L", (side, side), 128)
    buffer = BytesIO()
    Image.merge("YCbCr", (white, blue, red)).save(buffer, "JPEG", quality=95)
    pixels = decode_image(buffer.getvalue(), Preprocessing(), 10**6)
    assert pixels[14, 14] < 0.85
    assert pixels[1, 1] > 0.97
