"""Folders of other people's pictures, as PNG files: what a user would point training at, and what should be refused.

Everything is made from packages (`fetched`), by fixed seeds, and kept in the cache; nothing of it is committed.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from benchmarks.detection import fetched
from benchmarks.detection.pictures import SEED, cache_folder

MNIST_THREES, SMALL_DIGITS, MOST_PAGES, MOST_FLAGS = 800, 900, 800, 450
# Of typefaces; those of symbols and of other scripts have no Latin letters.
MOST_TYPEFACES = 600
# Odd pictures of each kind.
ODD = 100
_GLYPH_SIDE, _PHOTO_SIDE = 100, 128
# Debian's packages of fonts, without "fonts-".
_FONTS = """
adf-accanthis adf-gillius adf-romande adf-switzera adf-tribun adf-verana arkpandora cabin cantarell clear-sans
comfortaa courier-prime dejavu-extra dustin ebgaramond-extra eurofurence fantasque-sans georgewilliams go gotico-antiqua
jetbrains-mono johnsmith-induni karla klaudia-berenika lato ldco league-mono league-spartan liberation linex
linuxlibertine lyx opendyslexic open-sans paratype pc pc-extra roboto-unhinted routed-gothic
sil-gentium-basic stix texgyre tiresias tuffy uralic vollkorn wine yrsa-rasa
"""


@dataclass(frozen=True)
class Folder:
    """One folder to train on, and what to try.

    Attributes:
        normal: A folder of files.
        rate: The false-positive rate to ask for.
        odd: Which groups of `odd_pictures` are odd here.
        own: Further groups of odd files, this folder's own, by name.
        fresh: Further normal files, which training does not see; none if all are needed.
    """

    normal: Path
    rate: float
    odd: tuple[str, ...]
    own: Mapping[str, Path]
    fresh: Path | None = None


Picture = Image.Image
Pictures = Iterable[Picture]


def letters() -> Folder:
    """The letter A of 600 typefaces; of the same typefaces, every other letter is odd."""
    typefaces = _typefaces()
    normal = _kept("letters", lambda: (_glyph(face, "A") for face in typefaces), MOST_TYPEFACES)
    others = {
        f"letters {group}": _kept(
            f"letters-{group}",
            lambda group=group: map(_glyph, typefaces, 100 * group),  # type: ignore[misc]
            2 * ODD,
        )
        for group in ("BCD", "EFG", "HKM", "NPR", "OQS", "TUV", "WXZ")
    }
    return Folder(normal, 0.01, _without("letters"), others)


def flags() -> Folder:
    """Flags of countries in two sets of emoji, 64 pixels wide; the other emoji are odd."""
    normal = _kept("flags", lambda: _emoji("flags", ("twitter", "google")), MOST_FLAGS)
    return Folder(normal, 0.05, _without(), {})


def threes() -> Folder:
    """Eight hundred threes of MNIST; the other digits are odd."""
    images, labels, test, test_labels = fetched.mnist()
    normal = _kept("threes", lambda: map(Image.fromarray, images[labels == 3][:MNIST_THREES]))
    fresh = _kept("threes-fresh", lambda: map(Image.fromarray, test[test_labels == 3]))
    others = {
        f"digit {digit}": _kept(
            f"digit-{digit}",
            lambda digit=digit: map(Image.fromarray, test[test_labels == digit]),  # type: ignore[misc]
            2 * ODD,
        )
        for digit in range(10)
        if digit != 3
    }
    return Folder(normal, 0.01, _without("digits"), others, fresh)


def pages() -> Folder:
    """Eight hundred pages of the reference manual of R."""
    return Folder(_kept("pages", lambda: _pages(range(MOST_PAGES))), 0.01, _without("pages"), {})


def small_digits() -> Folder:
    """Digits of 8x8 pixels (UCI, by scikit-learn)."""
    from sklearn.datasets import load_digits

    images = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    normal = _kept("small-digits", lambda: map(Image.fromarray, images[:SMALL_DIGITS]))
    fresh = _kept("small-digits-fresh", lambda: map(Image.fromarray, images[SMALL_DIGITS:]))
    return Folder(normal, 0.05, _without("digits"), {}, fresh)


def solar_cells() -> Folder:
    """Electroluminescence photographs of solar cells without defects; those that surely have one are odd."""
    package = fetched.python_package("elpv-dataset", "1.0.0.post1") / "elpv_dataset" / "data"
    rows = [line.split() for line in (package / "labels.csv").read_text().splitlines()]
    chance = {name: round(float(value), 2) for name, value, *_ in rows}

    def cells(defect: float) -> Iterator[Picture]:
        return (Image.open(package / name) for name, found in chance.items() if found == defect)

    normal = _kept("cells", lambda: cells(0.0))
    return Folder(normal, 0.05, _without(), {"defective cells": _kept("cells-defective", lambda: cells(1.0))})


def furniture() -> Folder:
    """Renders of 430 pieces of furniture: too varied for their number."""
    package = fetched.debian_packages(["sweethome3d-furniture"], "furniture") / "usr/share/sweethome3d/furniture"

    def renders() -> Iterator[Picture]:
        for catalogue in sorted(package.glob("*.sh3f")):
            with zipfile.ZipFile(catalogue) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(".png"):
                        picture = _opened(BytesIO(archive.read(name)))
                        if picture and min(picture.size) >= 64:
                            yield picture

    return Folder(_kept("furniture", renders, 430), 0.01, _without(), {})


FOLDERS: Mapping[str, Callable[[], Folder]] = {
    "letters": letters,
    "flags": flags,
    "threes": threes,
    "pages": pages,
    "digits of 8x8 pixels": small_digits,
    "furniture": furniture,
    "solar cells": solar_cells,
}


@cache
def odd_pictures() -> Mapping[str, Path]:
    """Folders of pictures that belong nowhere here, by group."""
    return {
        "faces": _kept("odd-faces", lambda: _emoji("Smileys & Emotion", ("google",)), ODD),
        "objects": _kept("odd-objects", lambda: _emoji("Objects", ("twitter",)), ODD),
        "clip art": _kept("odd-clip-art", _clip_art, ODD),
        "stamps": _kept("odd-stamps", _stamps, ODD),
        "photographs": _kept("odd-photographs", _photographs, ODD),
        "pages": _kept("odd-pages", lambda: _pages(range(MOST_PAGES, MOST_PAGES + ODD))),
        "clothes": _kept("odd-clothes", lambda: map(Image.fromarray, fetched.fashion_mnist()[2]), ODD),
        "digits": _kept("odd-digits", lambda: map(Image.fromarray, fetched.mnist()[2]), ODD),
        "letters": _kept("odd-letters", _some_letters, ODD),
        "noise": _kept("odd-noise", _noise),
        "blanks": _kept("odd-blanks", lambda: (Image.new("L", (64, 64), level) for level in range(3, 256, 5))),
    }


def _without(*names: str) -> tuple[str, ...]:
    return tuple(name for name in odd_pictures() if name not in names)


def _kept(name: str, make: Callable[[], Pictures], most: int | None = None) -> Path:
    """A folder of PNG files with the first `most` pictures; made the first time."""
    folder = cache_folder() / "folders" / name
    if not folder.exists():
        aside = folder.with_name(f"{name}.part")
        aside.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(islice(make(), most)):
            picture.save(aside / f"{number:05}.png")
        aside.replace(folder)
    return folder


def _opened(file: Path | BytesIO) -> Picture | None:
    try:
        picture = Image.open(file)
        picture.load()
    except (OSError, UnidentifiedImageError):
        return None
    return picture


@cache
def _typefaces() -> list[Path]:
    """Font files that draw a Latin A and B, each A as nobody else, in a fixed random order."""
    folder = fetched.debian_packages([f"fonts-{name}" for name in _FONTS.split()], "fonts")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".ttf", ".otf"))
    seen: dict[bytes, Path] = {}
    for path in files:
        first, second, absent = (_glyph(path, letter) for letter in "AB\uffff")
        if len({picture.tobytes() for picture in (first, second, absent)}) == 3:
            seen.setdefault(first.tobytes(), path)
    faces = list(seen.values())
    return [faces[row] for row in np.random.default_rng([SEED, 21]).permutation(len(faces))]


def _glyph(face: Path, letter: str) -> Picture:
    """One letter, black on white, 100 pixels a side, its ink in the middle; white if the typeface has no such ink."""
    picture = Image.new("L", (_GLYPH_SIDE, _GLYPH_SIDE), 255)
    try:
        font = ImageFont.truetype(str(face), 72)
        left, top, right, bottom = font.getbbox(letter)
        place = ((_GLYPH_SIDE - left - right) / 2, (_GLYPH_SIDE - top - bottom) / 2)
        ImageDraw.Draw(picture).text(place, letter, 0, font)
    except OSError:
        return Image.new("L", (_GLYPH_SIDE, _GLYPH_SIDE), 255)
    return picture


def _some_letters() -> Iterator[Picture]:
    faces, rng = _typefaces(), np.random.default_rng([SEED, 25])
    while True:
        letter = "BCDEFGHIJKLMNPQRSTUVWXYZ"[rng.integers(24)]
        yield _glyph(faces[rng.integers(len(faces))], letter)


def _emoji(category: str, sets: Iterable[str]) -> Iterator[Picture]:
    """Of a category, or the flags of countries; those of one set after those of the other."""
    for name in sets:
        package = fetched.npm_package(f"emoji-datasource-{name}", "16.0.0")
        for entry in json.loads((package / "emoji.json").read_text()):
            found = "flags" if entry["subcategory"] == "country-flag" else entry["category"]
            path = package / "img" / name / "64" / entry["image"]
            if found == category and path.exists():
                yield Image.open(path)


def _pages(rows: range) -> Iterator[Picture]:
    """Pages of R's reference manual, every second page from a fixed one on, 99 pixels wide."""
    import pypdfium2

    folder = fetched.debian_packages(["r-doc-pdf"], "r-doc-pdf")
    document = pypdfium2.PdfDocument(folder / "usr/share/R/doc/manual/fullrefman.pdf")
    for row in rows:
        yield document[10 + 2 * row].render(scale=1 / 3).to_pil().convert("L")


def _clip_art() -> Iterator[Picture]:
    folder = fetched.debian_packages(["openclipart-png"], "openclipart")
    return _some_files(folder, 22)


def _stamps() -> Iterator[Picture]:
    """Photographs and drawings of things, cut out."""
    folder = fetched.debian_packages(["tuxpaint-stamps-default"], "stamps")
    return _some_files(folder, 23)


def _some_files(folder: Path, stream: int) -> Iterator[Picture]:
    files = sorted(folder.rglob("*.png"))
    for row in np.random.default_rng([SEED, stream]).permutation(len(files)):
        picture = _opened(files[row])
        if picture is not None and 48 <= min(picture.size) <= max(picture.size) <= 3000:
            picture.thumbnail((200, 200))
            yield picture


def _noise() -> Iterator[Picture]:
    return map(Image.fromarray, np.random.default_rng([SEED, 20]).integers(0, 256, (ODD, 64, 64), np.uint8))


def _photographs() -> Iterator[Picture]:
    """Pieces of two photographs (scikit-learn's)."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng([SEED, 24])
    photographs = [Image.fromarray(image) for image in load_sample_images().images]
    while True:
        picture = photographs[rng.integers(len(photographs))]
        side = int(rng.integers(80, 400))
        left, top = (int(rng.integers(0, length - side)) for length in picture.size)
        yield picture.crop((left, top, left + side, top + side)).resize((_PHOTO_SIDE, _PHOTO_SIDE))
