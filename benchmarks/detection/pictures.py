"""What is measured on: normal circles and anomalies, as files sent in many ways and decoded by the serving code.

Seeds are the benchmark's own: no image here was fitted, calibrated or looked at by anything that it measures.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from app.detection.images import Preprocessing
from benchmarks.detection.fresh import FRESH
from benchmarks.detection.ways import FOR_ANOMALIES, WITHIN
from testing.paths import ROOT
from training.data.anomalies import FAMILIES, FINAL, TUNING, Family
from training.data.circles import draw_circles, random_circles
from training.data.dataset import decode, decode_variants
from training.data.variants import Variant, parse_variants

Images = NDArray[np.uint8]
"""(..., 28, 28), grey levels 0 to 255."""
Groups = dict[str, dict[str, Images]]
"""Images of each family, by group: families looked at while choosing, kept apart until the end, and never seen."""

SEED = 20_261_122
WHITE_PAPER = Preprocessing()
# At random draws, for the models that the benchmark fits and calibrates itself.
VARIANTS = parse_variants("default").of_one_size().variants
# Of an anomaly too, clients send more than the original: these stand for all of them.
ANOMALY_VARIANTS = tuple(way.name for way in FOR_ANOMALIES)
RESOLVABLE = 0.1  # squared distance from every circle
_GROUPS = ("tuning", "final", "fresh")


@dataclass(frozen=True)
class Scale:
    """How much of everything; `--quick` is for trying the program, not for figures."""

    test: int = 3000
    family: int = 300
    references: int = 60_000
    train: int = 4000
    calibration: int = 2000
    quick: bool = False


QUICK = Scale(test=120, family=12, references=500, train=320, calibration=120, quick=True)


def circles(count: int, stream: int) -> list[bytes]:
    """PNG files of the tutorial's circles; each stream has circles of its own."""
    return draw_circles(random_circles(count, np.random.default_rng([SEED, stream])))


def training_circles(scale: Scale) -> Images:
    """(fitted variants, n, 28, 28), for the models that the benchmark fits itself; the original comes first."""
    fitted = tuple(variant.for_fitting() for variant in VARIANTS)
    return sent("train", circles(scale.train, 1), fitted, scale)


def calibration_circles(scale: Scale) -> Images:
    """(variants, n, 28, 28)"""
    return sent("calibration", circles(scale.calibration, 2), VARIANTS, scale)


def test_circles(scale: Scale) -> dict[str, Images]:
    """(n, 28, 28) for each exact way within the permitted kinds; the original comes first."""
    names = [way.name for way in WITHIN]
    return dict(zip(names, sent("test", circles(scale.test, 3), WITHIN, scale), strict=True))


def sent(name: str, originals: list[bytes], variants: tuple[Variant, ...], scale: Scale) -> Images:
    """(variants, n, 28, 28): kept on disk, since each takes minutes and several parts need it."""

    def make() -> Images:
        return decode_variants(originals, variants, WHITE_PAPER, SEED)

    return kept(f"circles-{name}", scale, make)


def anomalies(scale: Scale) -> Groups:
    """(anomaly variants, n, 28, 28) of every family, by group."""
    return {
        "tuning": _drawn("tuning", {name: FAMILIES[name] for name in sorted(TUNING)}, scale),
        "final": _drawn("final", {name: FAMILIES[name] for name in sorted(FINAL)}, scale),
        "fresh": _drawn("fresh", FRESH, scale),
    }


def _drawn(group: str, families: Mapping[str, Family], scale: Scale) -> dict[str, Images]:

    def make() -> Images:
        pictures = []
        for number, family in enumerate(tqdm(families.values(), group, leave=False, disable=None)):
            generator = np.random.default_rng([SEED, _GROUPS.index(group), number])
            files = [png(family(generator)) for _ in range(scale.family)]
            pictures.append(decode_variants(files, FOR_ANOMALIES, WHITE_PAPER, SEED))
        return np.stack(pictures)

    return dict(zip(families, kept(f"families-{group}", scale, make), strict=True))


def resolvable(groups: Groups, scale: Scale) -> dict[str, NDArray[np.bool_]]:
    """For each family which of its images, sent as originals, lie apart from every one of many circles."""
    originals = {name: images[0] for group in groups.values() for name, images in group.items()}

    def make() -> NDArray[np.bool_]:
        references = decode(circles(scale.references, 4), WHITE_PAPER).reshape(-1, 28 * 28)
        squares = np.square(references).sum(axis=1)
        masks = []
        for images in tqdm(originals.values(), "distances", leave=False, disable=None):
            flat = images.reshape(len(images), -1).astype(np.float32) / 255
            nearest = (squares - 2 * flat @ references.T).min(axis=1) + np.square(flat).sum(axis=1)
            masks.append(nearest > RESOLVABLE)
        return np.stack(masks)

    return dict(zip(originals, kept("resolvable", scale, make), strict=True))


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def cache_folder() -> Path:
    """Where pictures and MNIST are kept: outside the repository."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "imagegate-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(name: str, scale: Scale, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """What `make` returned the first time, as long as neither scale nor code has changed."""
    path = cache_folder() / f"{name}-{_digest(scale)}.npy"
    if not path.exists():
        for stale in cache_folder().glob(f"{name}-*.npy"):
            if scale.quick == ("quick" in stale.name):
                stale.unlink()
        aside = path.with_suffix(".part")
        with aside.open("wb") as file:
            np.save(file, make())
        aside.replace(path)
    result: NDArray[Any] = np.load(path)
    return result


@cache
def _digest(scale: Scale) -> str:
    """Of all code that draws, sends and decodes."""
    sources = [
        *(ROOT / "training" / "data" / "anomalies").glob("*.py"),
        Path(__file__),
        Path(__file__).with_name("fresh.py"),
        Path(__file__).with_name("ways.py"),
        ROOT / "training/data/sending.py",
    ]
    sources += [ROOT / "training/data/circles.py", ROOT / "training/data/variants.py", ROOT / "app/detection/images.py"]
    content = b"".join(path.read_bytes() for path in sorted(sources))
    digest = hashlib.sha256(content + repr(scale).encode()).hexdigest()[:12]
    return f"quick-{digest}" if scale.quick else digest
