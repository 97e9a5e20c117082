from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.detection.images import Preprocessing
from app.detection.shown import LOSSLESS_LARGE
from testing.artifacts import DEFAULT_ARTIFACT
from training.data.circles import draw_circles, random_circles
from training.fitting.other_decoders import describe_other_decoders


@pytest.fixture(scope="module")
def detector():
    return Detector(load_artifact(DEFAULT_ARTIFACT))


@pytest.fixture(scope="module")
def circles():
    return draw_circles(random_circles(8, np.random.default_rng(5)))


def transparent(circle, hidden):
    """The ink alone is opaque; the paper, which nobody is meant to see, has the grey level `hidden`."""
    ink = Image.open(BytesIO(circle)).convert("L").point(lambda level: 255 - level)
    colors = Image.new("L", ink.size, hidden)
    colors.paste(0, mask=ink)
    buffer = BytesIO()
    Image.merge("LA", (colors, ink)).save(buffer, "PNG")
    return buffer.getvalue()


def describe(detector, files):
    thresholds = detector.artifact.manifest.thresholds
    return describe_other_decoders(detector, files, LOSSLESS_LARGE, thresholds, Preprocessing())


def test_opaque_files_look_alike_to_every_decoder(detector, circles):
    assert describe(detector, circles) == {"images": 8, "read_differently": 0, "refused": 0, "words": ""}


def test_transparent_files_that_are_odd_to_other_decoders_are_told(detector, circles):
    files = [transparent(circle, hidden=0) for circle in circles[:6]]
    found = describe(detector, files + circles[6:])
    assert (found["images"], found["read_differently"], found["refused"]) == (8, 6, 6)
    assert found["words"].startswith("WARNING: of 8 normal files 6 show another picture")
    assert "GATE_FORWARD=judged" in found["words"]


def test_few_such_files_need_no_word(detector, circles):
    files = [transparent(circles[0], hidden=0), *[circles[1]] * 19]
    found = describe(detector, files)
    assert (found["refused"], found["words"]) == (1, "")
