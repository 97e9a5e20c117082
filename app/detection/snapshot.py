"""An artifact as one piece of memory: what a process that holds no model keeps of the artifact that serves."""

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from app.detection.artifact import ReadFile, read_file
from app.errors import ArtifactError


class RecordedFiles:
    """Reads an artifact's files from the disk, and remembers them."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}

    def __call__(self, folder: Path, name: str) -> bytes:
        """See `read_file`."""
        self.contents[name] = read_file(folder, name)
        return self.contents[name]


def pack(contents: Mapping[str, bytes]) -> bytes:
    """Returns all files in one piece."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return packed.getvalue()


def reader_of(packed: bytes) -> ReadFile:
    """Returns what reads the files from that piece, whatever is in the folder by now."""
    with zipfile.ZipFile(BytesIO(packed)) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}

    def read(folder: Path, name: str) -> bytes:
        if name not in contents:
            raise ArtifactError(f"{folder / name} is not among the files that are held in memory.")
        return contents[name]

    return read
