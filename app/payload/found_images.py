"""The images that were found in one request, and where each of them stands."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.detection.images import SIDE
from app.detection.known_formats import known_format
from app.errors import MalformedRequest, Refusal
from app.payload.image_end import check_image_end
from app.payload.tensors import MAX_IMAGES

_SHOWN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class FoundFile:
    """An encoded image.

    Attributes:
        place: As refusals name it, such as "Part `picture`".
        replace: Puts another file in its place, in the parsed body that it was found in.
    """

    data: bytes
    place: str
    replace: Callable[[bytes], None]


@dataclass(slots=True)
class Images:
    """What a request asks a classifier to look at.

    Attributes:
        found: Encoded images, in the order in which they stand.
        tensors: (N, 28, 28) each, grey levels in [0, 1].
        tensor_places: The place of each tensor.
        count: The number of all images.
    """

    found: list[FoundFile] = field(default_factory=list)
    tensors: list[NDArray[np.float32]] = field(default_factory=list)
    tensor_places: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def files(self) -> list[bytes]:
        return [one.data for one in self.found]

    @property
    def pixels(self) -> NDArray[np.float32]:
        """(N, 28, 28), the images of all tensors."""
        return np.concatenate([np.empty((0, SIDE, SIDE), np.float32), *self.tensors])

    @property
    def places(self) -> list[str]:
        """The place of each image: of the files, then of each row of the tensors."""
        rows = zip(self.tensor_places, self.tensors, strict=True)
        return [one.place for one in self.found] + [place for place, images in rows for _ in images]

    def add_file(self, data: bytes, place: str, replace: Callable[[bytes], None]) -> None:
        """Adds an encoded image. Raises `MalformedRequest` if there are more images than are accepted."""
        self._count(1)
        self.found.append(FoundFile(data, place, replace))

    def add_tensor(self, images: NDArray[np.float32], place: str) -> None:
        """Adds the images of a tensor. Raises `MalformedRequest` if there are more images than are accepted."""
        self._count(len(images))
        self.tensors.append(images)
        self.tensor_places.append(place)

    def _count(self, more: int) -> None:
        self.count += more
        if self.count > MAX_IMAGES:
            raise MalformedRequest(f"The request holds more than the {MAX_IMAGES} images that are accepted.")

    def check_ends(self, formats: tuple[str, ...]) -> None:
        """
        Args:
            formats: The accepted ones. Files of others pass here, since judging refuses them by the format's name.

        Raises:
            MalformedRequest: Data follows the end of an image; some readers would use it and others would not.
            UndecodableImage: An image has no end.
        """
        for one in self.found:
            if known_format(one.data) not in formats:
                continue
            try:
                check_image_end(one.data)
            except Refusal as refusal:
                raise refusal.at(one.place) from refusal


def shown(name: str) -> str:
    """A client's name for something, as a refusal may repeat it."""
    plain = "".join(sign if sign.isprintable() and sign != "`" else "?" for sign in name[:_SHOWN_CHARACTERS])
    return f"{plain}..." if len(name) > _SHOWN_CHARACTERS else plain
