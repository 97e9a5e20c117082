"""python -m benchmarks.decoding.decoding FOLDER: decodes every file with all cores: the yardstick of scoring."""

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path

from app.detection.images import Preprocessing, decode_image

_CHUNK_FILES = 16
_MAX_PIXELS = 25_000_000


def main() -> None:
    paths = sorted(Path(sys.argv[1]).iterdir())
    chunks = [paths[start : start + _CHUNK_FILES] for start in range(0, len(paths), _CHUNK_FILES)]
    with ProcessPoolExecutor(len(sched_getaffinity(0)), get_context("spawn")) as pool:
        print(sum(pool.map(_decode, chunks)))


def _decode(paths: list[Path]) -> int:
    for path in paths:
        decode_image(path.read_bytes(), Preprocessing(), _MAX_PIXELS)
    return len(paths)


if __name__ == "__main__":
    main()
