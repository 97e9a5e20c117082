"""Checks that the rest of a request, besides the images that were found, holds no image and no address of one.

It is impossible to recognise every encoding of an image. Therefore content that is not judged must be too short for an
image (texts of up to 256 characters, fewer than 64 numbers), and must not begin like an image or be an address.
"""

import re
from typing import Any

from app.errors import MalformedRequest, UnsupportedFormat
from app.payload.found_images import shown

MOST_CHARACTERS = 256
# Of all texts of a request together, so that an image in many short ones is refused too.
_MOST_CHARACTERS_IN_ALL = 2048
# Of texts, lists and objects, however short: each of them takes time to look at.
_MOST_THINGS = 10_000
# Fewer numbers are parameters; an image of 8x8 pixels has as many.
_LEAST_IMAGE_VALUES = 64
_MOST_INTEGER = 2**64
MOST_DEPTH = 64

_HINT = "GATE_IMAGE_AT says where a classifier's image is; then the rest passes."
_NUMBER = re.compile(r"\s*[+-]?[0-9.]+(?:e[+-]?[0-9]+)?\s*", re.IGNORECASE)
_BLANK = re.compile(r"[\x00-\x20]+")
_SCHEMES = "data|file|blob|cid|content|s3[an]?|gs|gcs|az|azure|abfss?|wasbs?|hdfs|ipfs|dav|nfs|smb|magnet"
# Applied after blanks are removed, since some URL parsers ignore them.
_ADDRESS = re.compile(rf"://|(?:https?|ftps?|sftp|gopher):|^(?:{_SCHEMES}):|^//|^\\\\|^www\.", re.IGNORECASE)
_HOST_AND_PATH = re.compile(r"\s*(?:[\w-]+\.)+(?:[a-z]{2,}|[0-9]{1,3})(?::[0-9]+)?[/?]\S*\s*", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile("png|jpe?g|jfif|gif|bmp|dib|webp|tiff?|avif|hei[cf]|ico|jp2|ppm|pgm|npy", re.IGNORECASE)
# PNG, JPEG, GIF, WebP, TIFF, gzip, zlib, PNM, JPEG 2000, ICO, DDS, SGI, ISO media (AVIF, HEIC), in base64 or hex.
_BASE64_BEGINNING = re.compile(
    "iVBORw0|/9j/|R0lGOD|UklGR[A-P]|SUkqA|TU0AK|H4sI|eJ[wxyz]|UD[EIMQUYc][JKNg]|AAAADGpQ|AAABAA|RERTI|AdoA|Z0eXB"
    "|Qk[0-3][A-Za-z0-9+/]{60}"
)
_HEX_BEGINNING = re.compile("89504e47|ffd8ff|47494638|524946|49492a00|4d4d002a|1f8b08", re.IGNORECASE)
_TEXT_BEGINNING = re.compile(r"\s*(?:P[1-7F]\s|#define\s|<\?xml|<svg|/\* XPM)", re.IGNORECASE)
_NOT_BASE64 = re.compile("[^A-Za-z0-9+/]+")
_LEAST_IMAGE_CHARACTERS = 32


class Unjudged:
    """Counts the content of one request that is not judged, and refuses content that could be an image."""

    def __init__(self) -> None:
        self._things = 0
        self._characters = 0
        self._values = 0

    def add_text(self, text: str, place: str) -> None:
        """
        Raises:
            MalformedRequest: It is too long, alone or with all others of the request.
            UnsupportedFormat: It holds an address, or begins like an image.
        """
        self.add_thing(place)
        if len(text) > MOST_CHARACTERS:
            raise MalformedRequest(
                f"{place}: {len(text)} characters that are not judged; up to {MOST_CHARACTERS} pass. {_HINT}"
            )
        if not text:
            return
        self._characters += len(text)
        if self._characters > _MOST_CHARACTERS_IN_ALL:
            raise MalformedRequest(
                f"{place}: with this text the request has more than {_MOST_CHARACTERS_IN_ALL} characters that are not "
                f"judged. {_HINT}"
            )
        if is_address(text):
            raise UnsupportedFormat(f"{place}: an address; an image can be judged only if it is sent along. {_HINT}")
        if may_begin_image(text):
            raise UnsupportedFormat(f"{place}: a text that begins like an image, and is not judged. {_HINT}")
        if _NUMBER.fullmatch(text):
            self.add_value(0, place)

    def add_thing(self, place: object) -> None:
        """Counts a text, a list or an object. Raises `MalformedRequest` for more than can be looked at in a request."""
        self._things += 1
        if self._things > _MOST_THINGS:
            raise MalformedRequest(
                f"{place}: up to here the request has more than {_MOST_THINGS:,} texts, lists and objects that are not "
                f"judged. {_HINT}"
            )

    def add_value(self, value: float | None, place: str) -> None:
        """Counts a number, a truth value, or null. Raises `UnsupportedFormat` for as many as an image has."""
        self._values += 1
        if isinstance(value, int) and abs(value) >= _MOST_INTEGER:
            raise UnsupportedFormat(f"{place}: a number of more than 64 bits.")
        if self._values >= _LEAST_IMAGE_VALUES:
            raise UnsupportedFormat(
                f"{place}: {_LEAST_IMAGE_VALUES} numbers or more. Grey levels can be judged as Open Inference tensors, "
                f"whose datatype tells their scale. {_HINT}"
            )

    def add_json(self, value: Any, place: str, depth: int = 0) -> None:
        """Adds every text and number in a JSON value, keys included. Raises what the two above raise."""
        if depth > MOST_DEPTH:
            raise MalformedRequest(f"{shown(place)}: nested too deeply.")
        if isinstance(value, str):
            self.add_text(value, place)
        elif isinstance(value, list):
            self.add_thing(place)
            self.add_list(value, place)
            for index, one in enumerate(value):
                self.add_json(one, f"{place}[{index}]", depth + 1)
        elif isinstance(value, dict):
            self.add_thing(place)
            for name, one in value.items():
                self.add_text(name, f"A key in {place}")
                self.add_json(one, f"{place}.{shown(name)}", depth + 1)
        else:
            self.add_value(value, place)

    def add_list(self, values: list[Any], place: str) -> None:
        """Raises `MalformedRequest` if the texts of a list are as many as pixels, or too long together."""
        texts = [one for one in values if isinstance(one, str)]
        characters = sum(map(len, texts))
        if characters > MOST_CHARACTERS or len(texts) >= _LEAST_IMAGE_VALUES:
            raise MalformedRequest(
                f"{place}: a list of {len(texts)} texts with {characters} characters that are not judged. {_HINT}"
            )


def is_address(text: str) -> bool:
    """Whether a text holds an address, or is a path of an image."""
    return bool(_ADDRESS.search(_BLANK.sub("", text)) or _HOST_AND_PATH.fullmatch(text) or _is_image_path(text))


def _is_image_path(text: str) -> bool:
    """Whether a text is a file name of an image with folders in front of it, without blanks, except at its end."""
    folders, dot, suffix = text.rstrip().rpartition(".")
    if not dot or ("/" not in folders and "\\" not in folders) or not _IMAGE_SUFFIX.fullmatch(suffix):
        return False
    return not any(map(str.isspace, folders))


def may_begin_image(text: str) -> bool:
    """Whether a text contains the beginning of an image file in base64 or hex, or begins like a text image format."""
    if _TEXT_BEGINNING.match(text):
        return True
    if len(text) < _LEAST_IMAGE_CHARACTERS:
        return False
    letters = _NOT_BASE64.sub("", text.replace("-", "+").replace("_", "/"))
    return bool(_BASE64_BEGINNING.search(letters) or _HEX_BEGINNING.search(letters))
