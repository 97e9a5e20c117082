"""What decoding JPEGs at a fraction of their size does to grey levels and to verdicts (`make bench-reduction`).

Pictures of many sizes are decoded as /v1/predict does, and in full as /v1/gate does; then both are judged.
"""

import time
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.detection.images import Preprocessing, open_image, to_grayscale
from app.settings import read_settings
from benchmarks.decoding.pictures import encoded, photograph
from training.data.circles import draw_circles, random_circles

_PICTURES = 200
_LEAST_SIDE, _MOST_SIDE = 240, 1400
_MAX_PIXELS = 25_000_000


def main() -> None:
    detector = Detector(load_artifact(read_settings().artifact))
    print(
        "| pictures | largest difference | mean difference | refused, reduced | refused, in full | other verdict | "
        "CPU ms, reduced | in full |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, files in (("circles", _circles()), ("photographs", _photographs())):
        reduced, whole = [], []
        taken = [0.0, 0.0]
        for data in files:
            for number, (images, reduces) in enumerate(((reduced, True), (whole, False))):
                began = time.process_time()
                images.append(to_grayscale(open_image(data, _MAX_PIXELS, reduces=reduces), Preprocessing()))
                taken[number] += 1000 * (time.process_time() - began) / _PICTURES
        difference = np.abs(np.stack(reduced) - np.stack(whole))
        verdicts, expected = _verdicts(detector, reduced), _verdicts(detector, whole)
        print(
            f"| {_PICTURES} {name} | {difference.max():.4f} | {difference.mean():.5f} | {verdicts.sum()} | "
            f"{expected.sum()} | {(verdicts != expected).sum()} | {taken[0]:.2f} | {taken[1]:.2f} |"
        )


def _verdicts(detector: Detector, images: list[NDArray[np.float32]]) -> NDArray[np.bool_]:
    return np.array([detector.detect(image[np.newaxis])[0].is_anomaly for image in images])


def _circles() -> Iterator[bytes]:
    """The tutorial's circles, enlarged."""
    random = np.random.default_rng(1)
    for drawn in draw_circles(random_circles(_PICTURES, random)):
        side = int(random.integers(_LEAST_SIDE, _MOST_SIDE))
        large = Image.open(BytesIO(drawn)).convert("L").resize((side, side), Image.Resampling.BICUBIC)
        yield encoded(large)


def _photographs() -> Iterator[bytes]:
    random = np.random.default_rng(2)
    for seed in range(_PICTURES):
        width, height = (int(side) for side in random.integers(_LEAST_SIDE, _MOST_SIDE, 2))
        yield encoded(photograph(width, height, seed))


if __name__ == "__main__":
    main()
