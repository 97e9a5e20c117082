"""Reads the size of HEIC files, checks what decoding them would cost, and decodes them by pillow-heif, an extra.

pillow-heif is not registered with Pillow, so nothing that opens files by Pillow accepts HEIC.
libheif reads all metadata as it opens a file, and decodes an item as often as others refer to it: a small file could
make it read and decode gigabytes. So the list of items is read here first, and only files pass that cost no more than
their bytes and their announced pixels. No picture is decoded that is larger than its item announces: libheif sees to
that itself.
"""

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image

from app.detection.heic_items import Items, read_items
from app.errors import UndecodableImage, UnsupportedFormat
from app.settings import HEIC_IS_MISSING, is_heic_installed

# Tiles stand over at two sides of their picture. Those of a small picture may have up to so many pixels more.
_MAX_TILE_SHARE, _SPARE_TILE_PIXELS = 2, 2**20
# An encoder that works in blocks fills a picture up at its right and lower sides, and announces what is to be cut off.
_MAX_FILLED_UP = 64
_MAX_THUMBNAILS = 16
_CODED = b"hvc1"
_NO_IMAGES = frozenset((b"Exif", b"mime", b"uri ", b"tmap"))
_ATTACHED = frozenset((b"auxl", b"thmb"))


class Heic(NamedTuple):
    """What a file's list of items says.

    Attributes:
        width, height: In pixels, as the picture is shown: cut and turned.
        is_alone: Whether the file holds no other picture that a reader may show, except for thumbnails.
    """

    width: int
    height: int
    is_alone: bool


def read_heic(data: bytes) -> Heic:
    """Reads the list of a file's items; nothing is decoded.

    Raises:
        UnsupportedFormat: pillow-heif is not installed.
        UndecodableImage: The list is damaged or of a kind that cameras do not write, or decoding would cost more than
            the picture's pixels explain.
        struct.error, IndexError: The list ends early.
    """
    if not is_heic_installed():
        raise UnsupportedFormat(f"{HEIC_IS_MISSING}.")
    items = read_items(data)
    if items.kinds.get(items.picture) not in (_CODED, b"grid"):
        raise UndecodableImage("The HEIC file's picture is neither coded by HEVC nor made of such tiles.")
    sizes = _coded_sizes(items)
    attached = _check_attached(items, sizes)
    _check_tiles(items, sizes, {items.picture} | attached)
    width, height = _shown_size(items.properties[items.picture], sizes[items.picture])
    images = {number for number, kind in items.kinds.items() if kind not in _NO_IMAGES}
    return Heic(width, height, images - items.hidden - attached <= {items.picture})


def decode_heic(data: bytes, size: tuple[int, int]) -> Image.Image:
    """The picture, cut and turned as its properties say, in mode L, RGB, RGBA or I;16. EXIF does not turn it.

    Raises:
        EOFError, IndexError, OSError, SyntaxError, ValueError: The pixels are damaged, or of another size.
    """
    try:
        image = _pixels(_picture(data))
    except RuntimeError as error:  # pillow-heif's for most of what libheif refuses
        raise ValueError("libheif does not decode the file") from error
    if image.size != size:
        raise ValueError("the decoder sees another size than was accepted")
    return image


def heic_thumbnails(data: bytes) -> Iterator[Image.Image]:
    """The thumbnails of a picture, which some readers show in its place where they are asked for a small one.

    Raises:
        UndecodableImage: A reader may show yet another picture, or there are too many thumbnails.
        Exception: Whatever `decode_heic` raises, or RuntimeError.
    """
    if not read_heic(data).is_alone:
        raise UndecodableImage("The HEIC file holds several images; readers differ in what they show.")
    picture = _picture(data)
    count = len(picture.info["thumbnails"])
    if count > _MAX_THUMBNAILS:
        raise UndecodableImage(f"The HEIC file has more than {_MAX_THUMBNAILS} thumbnails.")
    for number in range(count):
        yield _pixels(picture.get_thumbnail(number))


def _picture(data: bytes) -> Any:
    import pillow_heif  # an extra

    pillow_heif.options.DECODE_THREADS = 0  # none besides the caller's
    file = pillow_heif.open_heif(data)
    return file[file.primary_index]


def _pixels(image: Any) -> Image.Image:
    image.load()  # its size is what the file announces until then, for which Pillow would allocate half a gigabyte
    pixels = Image.frombytes(image.mode, image.size, image.data, "raw", image.mode, image.stride)
    return pixels.convert("RGBA") if image.mode == "RGBa" else pixels


# --- what decoding costs


def _coded_sizes(items: Items) -> dict[int, tuple[int, int]]:
    """Of each item that is a picture its width and height, before it is cut and turned."""
    sizes = {}
    for number, properties in items.properties.items():
        own = [struct.unpack_from(">II", content, 4) for kind, content in properties if kind == b"ispe"]
        if len(own) > 1:
            raise UndecodableImage("The HEIC file has a picture of several sizes.")
        if own:
            sizes[number] = own[0]
    if items.picture not in sizes:
        raise UndecodableImage("The HEIC file has a picture without a size.")
    return sizes


def _check_attached(items: Items, sizes: dict[int, tuple[int, int]]) -> set[int]:
    """The thumbnails and masks; raises if one belongs to another one, or is larger than the picture it belongs to."""
    references = [one for one in items.references if one.kind in _ATTACHED]
    attached = {one.source for one in references}
    if items.picture in attached or attached & {target for one in references for target in one.targets}:
        raise UndecodableImage("The HEIC file's picture is a thumbnail, or it has thumbnails of thumbnails.")
    for one in references:
        if any(_area(sizes, one.source) > _area(sizes, target) for target in one.targets):
            raise UndecodableImage("The HEIC file has a thumbnail or a mask that is larger than its picture.")
    thumbnails = {one.source for one in references if one.kind == b"thmb"}
    if sum(_area(sizes, thumbnail) for thumbnail in thumbnails) > _area(sizes, items.picture):
        raise UndecodableImage("The HEIC file's thumbnails have more pixels in all than its picture.")
    return attached


def _check_tiles(items: Items, sizes: dict[int, tuple[int, int]], decoded: set[int]) -> None:
    """Raises if pictures are made of others than plain tiles, of tiles with many more pixels, or of one tile twice."""
    made = [one for one in items.references if one.kind == b"dimg" and items.kinds.get(one.source) != b"tmap"]
    if any(items.kinds.get(target) != _CODED for one in made for target in one.targets):
        raise UndecodableImage("The HEIC file has a picture that is made of others than plain tiles.")
    made = [one for one in made if one.source in decoded]
    count = sum(len(one.targets) for one in made)
    if len({one.source for one in made}) < len(made) or len({tile for one in made for tile in one.targets}) < count:
        raise UndecodableImage("The HEIC file has a tile that is used twice.")
    for one in made:
        area = sum(_area(sizes, tile) for tile in one.targets)
        if area > _MAX_TILE_SHARE * _area(sizes, one.source) + _SPARE_TILE_PIXELS:
            raise UndecodableImage("The HEIC file has tiles of many more pixels than the picture that they make.")


def _area(sizes: dict[int, tuple[int, int]], number: int) -> int:
    if number not in sizes:
        raise UndecodableImage("The HEIC file has a picture without a size.")
    width, height = sizes[number]
    return width * height


def _shown_size(properties: list[tuple[bytes, bytes]], size: tuple[int, int]) -> tuple[int, int]:
    width, height = size
    for kind, content in properties:
        if kind == b"irot" and content[0] & 1:
            width, height = height, width
        elif kind == b"clap":
            width, height = _cut(content, width), _cut(content[8:], height)
    return width, height


def _cut(aperture: bytes, length: int) -> int:
    """What is left of a side without what an encoder filled up at its end. Other cuts are refused.

    Args:
        aperture: The new length as a fraction, and eight bytes behind it how far its centre lies from the old one.
        length: Of the side.
    """
    over, under, way_over, way_under = struct.unpack_from(">II8xiI", aperture)
    left = over // under if under else 0
    is_at_the_beginning = 2 * way_over == (left - length) * way_under
    if left * under != over or not is_at_the_beginning or not way_under or not 0 <= length - left < _MAX_FILLED_UP:
        raise UndecodableImage("HEIC files whose picture is a part of the stored one are not accepted.")
    return left
