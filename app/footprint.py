"""What decoding an opened image will take, told from its header: so that large decodes can take turns."""

from PIL import Image

# Peak bytes a pixel over the whole way to 28x28, measured at 25 megapixels (benchmarks/footprint.py) and rounded up.
# A plain JPEG is reduced while it is decoded; a progressive one first holds every coefficient of every channel.
_JPEG, _PROGRESSIVE_JPEG = 1, 8
# libwebp's animation decoder keeps two RGBA canvases beside the frame that it hands over and Pillow's copy of it.
_WEBP = 20
_OPAQUE, _TRANSPARENT_OR_DEEP = 5, 12


def decoding_bytes(image: Image.Image) -> int:
    """An upper estimate of the memory that decoding takes at its peak.

    Args:
        image: Opened, not loaded.
    """
    return image.width * image.height * _bytes_per_pixel(image)


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.format == "JPEG":
        return _PROGRESSIVE_JPEG if "progressive" in image.info else _JPEG
    if image.format == "WEBP":
        return _WEBP
    deep = image.mode.startswith("I") or image.mode == "F"
    return _TRANSPARENT_OR_DEEP if deep or image.has_transparency_data else _OPAQUE
