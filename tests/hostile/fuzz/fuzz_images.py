"""Coverage-guided fuzzing of the image decoder: `make fuzz`, or a minute of it in `make test-fuzz`.

Every input either becomes an image or is refused as the contract says; anything else is a finding. libFuzzer leaves it
in build/fuzz/; its minimised form belongs into tests/fuzz/regressions/, where tests/hostile/test_hostile.py replays it.
"""

import sys
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["PIL", "app"]):
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin  # noqa: F401

    from app.detection.images import Preprocessing, decode_image
    from app.errors import Refusal

CLOSED_LIST = (413, 415, 422)


def judge(data: bytes) -> None:
    try:
        image = decode_image(data, Preprocessing(), max_pixels=2**20)
    except Refusal as refusal:
        if refusal.status not in CLOSED_LIST:
            raise
        return
    assert image.shape == (28, 28)
    assert image.dtype == np.float32
    assert np.isfinite(image).all()


def main() -> None:
    from tests.hostile.fuzz.seeds import write_image_seeds

    corpus = write_image_seeds(Path("build/fuzz/images"))
    # A finding is also: more than five seconds, or more than a gigabyte.
    limits = ["-timeout=5", "-rss_limit_mb=1024", "-max_len=20000", "-artifact_prefix=build/fuzz/"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *sys.argv[1:]], judge)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
