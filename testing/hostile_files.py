"""Image files that real encoders do not write: bombs, lies and padding, each made by a few lines of code.

`LARGE` are the most expensive that the limits admit (32 MiB, 25 million pixels), or that must be refused before they
cost anything; `benchmarks/serving/hostile.py` measures them. Everything is made from its parameters
alone, without chance.
"""

import struct
import zlib
from collections.abc import Callable, Iterable
from io import BytesIO

import numpy as np
from PIL import Image

MIB = 2**20
MAX_BYTES = 32 * MIB
SIDE = 5000  # 25 million pixels


def save(image: Image.Image, image_format: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


# --- PNG

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int,
    height: int,
    depth: int = 8,
    color: int = 0,
    rows: bytes | None = None,
    before: Iterable[bytes] = (),
    after: Iterable[bytes] = (),
    interlace: int = 0,
    level: int = 9,
) -> bytes:
    """A PNG from its parts; `rows` are filtered rows, by default all zero; `before` and `after` go around IDAT."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    if rows is None:
        rows = bytes(height * (1 + (width * depth * samples + 7) // 8))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlace)
    return b"".join(
        (PNG_MAGIC, chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(rows, level)), *after, chunk(b"IEND"))
    )


def png_with_split_data(pieces: int) -> bytes:
    """28x28, its pixels spread over `pieces` chunks, nearly all of them empty."""
    whole = png(28, 28)
    data = whole[whole.index(b"IDAT") + 4 : -16]
    return b"".join((whole[:33], chunk(b"IDAT") * pieces, chunk(b"IDAT", data), chunk(b"IEND")))


def compressed_text(megabytes: int) -> list[bytes]:
    """Chunks of a few kilobytes that each expand to `megabytes`."""
    bomb = zlib.compress(bytes(megabytes * MIB), 9)
    return [
        chunk(b"zTXt", b"a\0\0" + bomb),
        chunk(b"iTXt", b"b\0\1\0\0\0" + bomb),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb),
        chunk(b"iCCP", b"c\0\0" + bomb),
    ]


def exif_bomb(entries: int, size: int) -> bytes:
    """An EXIF block of `size` bytes whose every entry claims nearly all of it: a reader that believes it, explodes."""
    directory = b"".join(
        struct.pack("<HHII", 0x8000 + entry % 0x7000, 7, size - 8, 8) for entry in range(min(entries, 65535))
    )
    body = b"II*\0" + struct.pack("<IH", 8, min(entries, 65535)) + directory + bytes(4)
    return b"Exif\0\0" + body + bytes(max(0, size - len(body)))


def exif(orientation: int, endian: str = "<") -> bytes:
    magic = b"II*\0" if endian == "<" else b"MM\0*"
    return b"Exif\0\0" + magic + struct.pack(endian + "IHHHIHH", 8, 1, 0x0112, 3, 1, orientation, 0) + bytes(4)


# --- JPEG


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(extra: bytes, side: int = 28) -> bytes:
    """A JPEG with `extra` right behind its first marker."""
    plain = save(Image.new("L", (side, side), 200), "JPEG")
    return plain[:2] + extra + plain[2:]


def jpeg_with_scans(scans: int, side: int = 256, mode: str = "L") -> bytes:
    """A progressive JPEG whose last scan is repeated until there are `scans` of them."""
    plain = save(Image.new(mode, (side, side), 200 if mode == "L" else (9, 200, 30)), "JPEG", progressive=True)
    starts = [at for at in range(len(plain) - 1) if plain[at : at + 2] == b"\xff\xda"]
    # Refining the last bit of all AC coefficients: may be said again and again.
    again = plain[starts[-1] : -2]
    tables = max(plain.rfind(b"\xff\xc4", 0, starts[-1]), 0)
    again = plain[tables:-2] if tables > starts[-2] else again
    return plain[:-2] + again * (scans - len(starts)) + plain[-2:]


# --- GIF


def gif(
    screen: tuple[int, int],
    frame: tuple[int, int, int, int],
    before: bytes = b"",
    after: bytes = b"",
    transparency: int | None = None,
    index: int = 1,
) -> bytes:
    """A GIF of two colours, black and white, whose one frame (left, top, width, height) has one colour."""
    left, top, width, height = frame
    header = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    control = b"" if transparency is None else b"\x21\xf9\x04\x01\x00\x00" + bytes((transparency, 0))
    return b"".join(
        (
            header,
            before,
            control,
            b"\x2c" + struct.pack("<HHHHB", left, top, width, height, 0),
            lzw_of_one_color(width * height, index),
            after,
            b";",
        )
    )


def lzw_of_one_color(count: int, index: int) -> bytes:
    """GIF pixel data: a clear code before every pixel, so that codes stay three bits wide."""
    bits = "".join(f"{code:03b}"[::-1] for _ in range(min(count, 4096)) for code in (4, index)) + f"{5:03b}"[::-1]
    bits += "0" * (-len(bits) % 8)
    packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    blocks = b"".join(
        bytes((len(piece),)) + piece for piece in (packed[at : at + 255] for at in range(0, len(packed), 255))
    )
    return b"\x02" + blocks + b"\x00"


# --- BMP


def bmp(
    width: int,
    height: int,
    bits: int = 8,
    compression: int = 0,
    colors: int = 0,
    pixels: bytes = b"",
    palette: bytes = b"",
    offset: int | None = None,
) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 0, 0, colors, 0)
    offset = 54 + len(palette) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 54 + len(palette) + len(pixels), 0, 0, offset) + info + palette + pixels


def rainbow_palette() -> bytes:
    return b"".join(bytes((level, 255 - level, level // 2, 0)) for level in range(256))


# --- WebP


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        kind + struct.pack("<I", len(content)) + content + bytes(len(content) & 1) for kind, content in chunks
    )
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_with_canvas(width: int, height: int, flags: int = 0x10) -> bytes:
    """A picture of 28x28 on a canvas that claims to be larger."""
    picture = save(Image.new("RGB", (28, 28), (200, 200, 200)), "WEBP", lossless=True)[12:]
    kind, content = picture[:4], picture[8 : 8 + struct.unpack_from("<I", picture, 4)[0]]
    claim = bytes((flags, 0, 0, 0)) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff((b"VP8X", claim), (kind, content))


def noise(mode: str, width: int, height: int | None = None) -> Image.Image:
    """Incompressible pixels, the same every time."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    size = (width, height or width)
    pixels = np.random.default_rng(0).integers(0, 256, size[0] * size[1] * bands, np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def fill(unit: bytes, size: int) -> bytes:
    return unit * (size // len(unit))


def _noisy_jpeg(**options: object) -> bytes:
    return save(noise("RGB", SIDE), "JPEG", quality=50, **options)


_BIG_PNGS = {
    "PNG grey": lambda: png(SIDE, SIDE, level=1),
    "PNG 1 bit": lambda: png(SIDE, SIDE, 1, 0, level=1),
    "PNG grey 16 bit": lambda: png(SIDE, SIDE, 16, 0, level=1),
    "PNG RGB": lambda: png(SIDE, SIDE, 8, 2, level=1),
    "PNG RGB 16 bit": lambda: png(SIDE, SIDE, 16, 2, level=1),
    "PNG RGBA 16 bit": lambda: png(SIDE, SIDE, 16, 6, level=1),
    "PNG grey + alpha": lambda: png(SIDE, SIDE, 8, 4, level=1),
    "PNG RGBA": lambda: png(SIDE, SIDE, 8, 6, level=1),
    "PNG RGBA interlaced": lambda: png(SIDE, SIDE, 8, 6, _interlaced_rows(SIDE, 4), interlace=1, level=1),
    "PNG palette + transparency": lambda: png(
        SIDE, SIDE, 8, 3, before=[chunk(b"PLTE", bytes(range(256)) * 3), chunk(b"tRNS", bytes(range(256)))], level=1
    ),
    "PNG noise 28 MB": lambda: save(noise("L", SIDE), "PNG", compress_level=1),
    "PNG tall": lambda: png(381, 65535, 8, 6, level=1),
    "PNG wide": lambda: png(65535, 381, 8, 6, level=1),
    "PNG of 25 million columns": lambda: png(25_000_000, 1, level=1),
    "PNG of 25 million rows": lambda: png(1, 25_000_000, level=1),
    "PNG 9000x9000": lambda: png(9000, 9000),
    "PNG empty chunks": lambda: png(28, 28, before=[chunk(b"abCd") * (MAX_BYTES // 12 - 100)]),
    "PNG 16000 data chunks": lambda: png_with_split_data(16_000),
    "PNG empty data chunks": lambda: png_with_split_data(MAX_BYTES // 12 - 100),
    "PNG compressed text": lambda: png(28, 28, before=compressed_text(32), after=compressed_text(32)),
    "PNG EXIF bomb": lambda: png(28, 28, before=[chunk(b"eXIf", exif_bomb(20_000, 16 * MIB)[6:])]),
    "PNG trailing data": lambda: png(28, 28) + bytes(MAX_BYTES - 1000),
    "PNG data behind the pixels": lambda: png(28, 28, rows=bytes(29 * 28 + 400 * MIB)),
}
_BIG_JPEGS = {
    "JPEG baseline noise": _noisy_jpeg,
    "JPEG progressive noise": lambda: _noisy_jpeg(progressive=True),
    "JPEG progressive 4:4:4": lambda: _noisy_jpeg(progressive=True, subsampling=0),
    "JPEG CMYK noise": lambda: save(noise("CMYK", SIDE), "JPEG", quality=30),
    "JPEG CMYK progressive": lambda: save(noise("CMYK", SIDE), "JPEG", quality=30, progressive=True),
    "JPEG narrow": lambda: save(noise("RGB", 381, 65500), "JPEG", quality=50),
    "JPEG 64 scans": lambda: jpeg_with_scans(64, SIDE),
    "JPEG 64 scans RGB": lambda: jpeg_with_scans(64, SIDE, "RGB"),
    "JPEG 60000 scans": lambda: jpeg_with_scans(60_000, SIDE),
    "JPEG empty segments": lambda: jpeg_with(fill(segment(0xFE, b""), MAX_BYTES - 5000)),
    "JPEG padding": lambda: jpeg_with(fill(b"\xff", MAX_BYTES - 5000)),
    "JPEG junk": lambda: jpeg_with(b"\xff\x01" + bytes(MAX_BYTES - 5000)),
    "JPEG escaped junk": lambda: jpeg_with(fill(b"\xff\x00", MAX_BYTES - 5000)),
    "JPEG tables": lambda: jpeg_with(fill(segment(0xDB, (b"\0" + b"\1" * 64) * 1000), MAX_BYTES - 100_000)),
    "JPEG Photoshop": lambda: jpeg_with(
        fill(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000), MAX_BYTES - 100_000)
    ),
    "JPEG EXIF segments": lambda: jpeg_with(fill(segment(0xE1, exif_bomb(5000, 65_000)), MAX_BYTES - 100_000)),
    "JPEG restarts": lambda: save(Image.new("L", (28, 28)), "JPEG")[:-2] + fill(b"\xff\xd0", MAX_BYTES - 5000),
}
_BIG_OTHERS = {
    "GIF": lambda: save(noise("P", SIDE), "GIF"),
    "GIF of clear codes": lambda: (
        gif((SIDE, SIDE), (0, 0, SIDE, SIDE))[:-3] + fill(b"\xff" + b"\x24\x49\x92" * 85, 25 * MIB)
    ),
    "GIF frame larger than its screen": lambda: gif((1, 1), (0, 0, 13_000, 13_000)),
    "GIF frame that is disposed of": lambda: gif(
        (1, 1), (0, 0, 13_000, 13_000), before=b"\x21\xf9\x04\x08\x00\x00\x00\x00"
    ),
    "GIF comments": lambda: gif(
        (28, 28), (0, 0, 28, 28), before=b"\x21\xfe" + fill(b"\x01a", MAX_BYTES - 2000) + b"\0"
    ),
    "GIF extensions": lambda: gif((28, 28), (0, 0, 28, 28), before=fill(b"\x21\xfe\0", MAX_BYTES - 2000)),
    "GIF junk": lambda: gif((28, 28), (0, 0, 28, 28), before=bytes(MAX_BYTES - 2000)),
    "GIF frames": lambda: gif((28, 28), (0, 0, 28, 28), after=fill(b"\x2c" + bytes(8) + b"\0\x02\0", MAX_BYTES - 5000)),
    "BMP 8 bit": lambda: bmp(SIDE, SIDE, 8, pixels=bytes(SIDE * SIDE), palette=rainbow_palette()),
    "BMP 1 bit": lambda: bmp(SIDE, SIDE, 1, pixels=bytes(632 * SIDE), palette=bytes(8)),
    "BMP 24 bit": lambda: bmp(3300, 3300, 24, pixels=bytes(9900 * 3300)),
    "BMP run lengths": lambda: bmp(
        SIDE, SIDE, 8, 1, pixels=b"\1\1" * (MAX_BYTES // 2 - 600), palette=rainbow_palette()
    ),
    "BMP run lengths, small": lambda: bmp(
        1024, 1024, 8, 1, pixels=b"\1\1" * (MIB // 2 - 600), palette=rainbow_palette()
    ),
    "BMP run lengths of 4 bits, small": lambda: bmp(
        1024, 1024, 4, 2, pixels=b"\xff\x12" * (MIB // 2 - 600), palette=rainbow_palette()[:64]
    ),
    "BMP run lengths, lines": lambda: bmp(1024, 1024, 8, 1, pixels=b"\1\1\0\0" * 1024, palette=rainbow_palette()),
    "BMP palette of 65536": lambda: bmp(28, 28, 8, colors=65536, pixels=bytes(784)),
    "WebP lossy noise": lambda: save(noise("RGB", SIDE), "WEBP", quality=30, method=0),
    "WebP lossless": lambda: save(
        Image.effect_mandelbrot((SIDE, SIDE), (-2, -2, 2, 2), 60).convert("RGBA"),
        "WEBP",
        lossless=True,
        method=0,
        quality=0,
    ),
    "WebP of one color": lambda: save(Image.new("RGB", (SIDE, SIDE), (9, 99, 200)), "WEBP", quality=1, method=0),
    "WebP animation": lambda: save(
        Image.new("RGBA", (SIDE, SIDE), (9, 99, 200, 9)),
        "WEBP",
        save_all=True,
        append_images=[Image.new("RGBA", (SIDE, SIDE))],
        quality=1,
        method=0,
    ),
    "WebP canvas": lambda: webp_with_canvas(SIDE, SIDE),
    "WebP canvas 13000x13000": lambda: webp_with_canvas(13_000, 13_000),
    "WebP EXIF bomb": lambda: riff(
        (b"VP8X", bytes((8, 0, 0, 0)) + (27).to_bytes(3, "little") * 2),
        (b"VP8L", save(Image.new("RGB", (28, 28)), "WEBP", lossless=True)[20:]),
        (b"EXIF", exif_bomb(20_000, 16 * MIB)),
    ),
}

LARGE: dict[str, Callable[[], bytes]] = {**_BIG_PNGS, **_BIG_JPEGS, **_BIG_OTHERS}


def _interlaced_rows(side: int, bytes_per_pixel: int) -> bytes:
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    size = 0
    for left, top, across, down in passes:
        columns, lines = -(-(side - left) // across), -(-(side - top) // down)
        size += lines * (1 + columns * bytes_per_pixel)
    return bytes(size)


def small_files() -> dict[str, bytes]:
    """One valid file of each kind, small enough to be broken at every byte."""
    image = Image.new("L", (28, 28), 200)
    image.paste(30, (5, 5, 20, 20))
    color = image.convert("RGB")
    return {
        "png": save(image, "PNG"),
        "png-palette": save(color.quantize(3), "PNG", transparency=1),
        "png-text": png(28, 28, before=[*compressed_text(0), chunk(b"eXIf", exif(6)[6:])]),
        "apng": save(image, "PNG", save_all=True, append_images=[Image.new("L", (28, 28))]),
        "jpeg": save(color, "JPEG", quality=20, exif=exif(6)),
        "jpeg-progressive": save(color, "JPEG", quality=20, progressive=True),
        "gif": save(image, "GIF", save_all=True, append_images=[Image.new("L", (28, 28))], transparency=3),
        "bmp": save(image.convert("1"), "BMP"),
        "bmp-rle": bmp(28, 28, 8, 1, 2, (b"\x0e\x00\x0e\x01\0\0") * 28 + b"\0\1", bytes(8)),
        "webp": save(color, "WEBP", quality=20, exif=exif(6)),
        "webp-lossless": save(image.convert("RGBA"), "WEBP", lossless=True),
    }
