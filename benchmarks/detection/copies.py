"""`python -m benchmarks.detection.copies`: what bursts and videos do to the promise, split by file and by scene.

The score is the distance to the nearest training image: it remembers everything, and so is what near-copies fool most.
No network is trained. Writes benchmarks/detection/copies.md.
"""

import math
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from app.detection.images import Preprocessing
from benchmarks.detection import fetched, folders
from training.data.circles import Canvas, Circle, random_circles
from training.data.copies import find_scenes, nearest
from training.data.dataset import decode
from training.data.folder import split

RESULTS = Path(__file__).with_suffix(".md")
SCENES, SHOTS, NEW = 200, 5, 1000
RATES = (0.05, 0.02)
SPLITS = 10

Images = NDArray[np.float32]


def jpeg(picture: Image.Image) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def written(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(n, 8, 8) written digits, dark on white."""
    found: NDArray[np.uint8] = (255 - load_digits().images[rows] * 255 / 16).astype(np.uint8)
    return found


def taken(generator: np.random.Generator, pictures: NDArray[np.uint8], shots: int) -> Images:
    """Shots of pictures on white: moved by 1% of the side, turned by 1 degree, in another light, with noise."""
    files = []
    for levels in np.repeat(pictures, shots, axis=0):
        picture = Image.fromarray(levels).resize((84, 84), Image.Resampling.BICUBIC)
        shift = tuple((generator.uniform(-0.01, 0.01, 2) * 84).tolist())
        turned = picture.rotate(generator.uniform(-1, 1), Image.Resampling.BICUBIC, translate=shift, fillcolor=255)
        levels = np.asarray(turned) * generator.uniform(0.98, 1.0) + generator.normal(0, 3, (84, 84))
        files.append(jpeg(Image.fromarray(levels.clip(0, 255).astype(np.uint8))))
    return decode(files, Preprocessing())


def circle_frames(generator: np.random.Generator, scenes: int, shots: int) -> Images:
    """Frames of circles that move by .2% of the side between them."""
    canvas, files = Canvas(), []
    for circle in random_circles(scenes, generator):
        for dx, dy, dr in generator.uniform(-0.002, 0.002, (shots, 3)):
            files.append(jpeg(canvas.draw(Circle(circle.x + dx, circle.y + dy, circle.radius + dr / 2)).convert("L")))
    return decode(files, Preprocessing())


def refused(images: Images, scenes: NDArray[np.int64], new: Images) -> list[float]:
    """The share of new scenes that is refused at each rate, mean of `SPLITS` splits."""
    shares = []
    for seed in range(SPLITS):
        train, calibration, _ = split(scenes, seed)
        known, unknown = (nearest(part, images[train], 1).distances[:, 0] for part in (images[calibration], new))
        ranks = [math.ceil((len(known) + 1) * (1 - rate)) for rate in RATES]
        shares.append(
            [float((unknown > np.sort(known)[rank - 1]).mean()) if rank <= len(known) else math.nan for rank in ranks]
        )
    return [float(share) for share in np.mean(shares, axis=0)]


def torn(scenes: NDArray[np.int64], true: NDArray[np.int64]) -> tuple[float, float]:
    """Shares of images whose scene is torn apart, and that are together with another scene."""
    apart = [len(set(scenes[true == scene])) > 1 for scene in true]
    together = [len(set(true[scenes == scene])) > 1 for scene in scenes]
    return float(np.mean(apart)), float(np.mean(together))


def row(name: str, images: Images, shots: int, ordered: bool, new: Images | None) -> str:
    true = np.arange(len(images)) // shots
    pairs = list(pairwise(range(len(images)))) if ordered else []
    scenes = find_scenes(images, np.array(pairs, np.int64).reshape(-1, 2))
    cells = [name, f"{len(images):,}", f"{true[-1] + 1:,}", f"{len(np.unique(scenes)):,}"]
    cells += [f"{share:.1%}" for share in torn(scenes, true)]
    if new is not None:
        for grouping in (np.arange(len(images)), scenes):
            cells.append(" / ".join(f"{share:.1%}" for share in refused(images, grouping, new)))
    else:
        cells += ["", ""]
    line = "| " + " | ".join(cells) + " |"
    print(line, flush=True)
    return line


def report() -> str:
    generator = np.random.default_rng(0)
    order = generator.permutation(len(load_digits().images))
    digits = taken(generator, written(order[:SCENES]), SHOTS)
    new_digits = taken(generator, written(order[SCENES : SCENES + NEW]), 1)
    clothes = 255 - fetched.fashion_mnist()[0][: SCENES + NEW]
    burst_clothes, new_clothes = taken(generator, clothes[:SCENES], SHOTS), taken(generator, clothes[SCENES:], 1)
    pages = decode(sorted(folders.pages().normal.iterdir()), Preprocessing())
    circles, new_circles = circle_frames(generator, SCENES, SHOTS), circle_frames(generator, NEW, 1)
    single_digits, single_circles = taken(generator, written(order[:NEW]), 1), circle_frames(generator, NEW, 1)
    rates = " / ".join(f"{rate:.0%}" for rate in RATES)
    lines = [
        "# Near-copies: what they do to the promise",
        "",
        "Written by `python -m benchmarks.detection.copies`; no network is trained. The score is the distance to the "
        "nearest training image, which remembers everything: the worst case of a network that learns by heart.",
        "",
        f"| folder | images | scenes | found | torn apart | together | refused at {rates}, by file | by scene |",
        "|---|" + "---:|" * 7,
        row("digits in bursts, names in order", digits, SHOTS, True, new_digits),
        row("digits in bursts, names at random", digits, SHOTS, False, new_digits),
        row("clothes in bursts, names in order", burst_clothes, SHOTS, True, new_clothes),
        row("clothes in bursts, names at random", burst_clothes, SHOTS, False, new_clothes),
        row("circles as video, names in order", circles, SHOTS, True, new_circles),
        row("circles as video, names at random", circles, SHOTS, False, new_circles),
        row("distinct digits", single_digits, 1, True, None),
        row("distinct circles", single_circles, 1, True, None),
        row("distinct clothes", new_clothes, 1, True, None),
        row("distinct pages of a manual", pages, 1, True, None),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    RESULTS.write_text(report())
