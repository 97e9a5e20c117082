"""Pictures that belong nowhere, made from normal ones with NumPy alone: does a threshold still find them?"""

import numpy as np
from numpy.typing import NDArray

Pictures = NDArray[np.float32]

_SIDE = 28
_BLOCK = 7
_SEED = 0


def made_up_pictures(images: Pictures) -> dict[str, Pictures]:
    """Makes as many pictures of each family as there are images.

    Args:
        images: (N, 28, 28), at least two, grey levels in [0, 1].

    Returns:
        For each family (N, 28, 28), grey levels in [0, 1]; the same for the same images.
    """
    random = np.random.default_rng(_SEED)
    others = np.roll(images, 1, axis=0)
    halves = images.copy()
    halves[:, :, _SIDE // 2 :] = others[:, :, _SIDE // 2 :]
    return {
        "noise": random.random(images.shape, np.float32),
        "blank": np.broadcast_to(np.linspace(0, 1, len(images), dtype=np.float32)[:, None, None], images.shape),
        "shuffled pixels": np.stack([random.permutation(image.ravel()).reshape(image.shape) for image in images]),
        "shuffled blocks": np.stack([_shuffle_blocks(image, random) for image in images]),
        "negatives": 1 - images,
        "two at once": (images + others) / 2,
        "two halves": halves,
    }


def _shuffle_blocks(image: Pictures, random: np.random.Generator) -> Pictures:
    """(28, 28): its sixteen blocks of 7x7 in another order."""
    count = _SIDE // _BLOCK
    blocks = image.reshape(count, _BLOCK, count, _BLOCK).swapaxes(1, 2).reshape(-1, _BLOCK, _BLOCK)
    shuffled = random.permutation(blocks).reshape(count, count, _BLOCK, _BLOCK)
    return shuffled.swapaxes(1, 2).reshape(_SIDE, _SIDE)
