"""What the serving code makes of a file, in grey levels."""

import numpy as np
from numpy.typing import NDArray

from app.detection.images import Preprocessing, decode_image

RED, GREEN = 76, 150  # grey levels of pure red and pure green (ITU-R 601)


def levels(data: bytes, background: int = 255) -> NDArray[np.float64]:
    """(28, 28) grey levels of 255."""
    image = decode_image(data, Preprocessing(background=background), max_pixels=25_000_000)
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert 0 <= image.min() <= image.max() <= 1
    return image.astype(np.float64) * 255
