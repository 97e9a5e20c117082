"""The folder of kept images: a folder a day, in it an image and a JSON file for each id.

    2026-01-31/019a3f5c7d21-5f0c9a7be1d24433.png
    2026-01-31/019a3f5c7d21-5f0c9a7be1d24433.json

Files are written under a temporary name and renamed, and the JSON file is written last. So an image with a JSON file is
complete, even if the process was killed. Several processes may write to one folder; `locked` serialises them.
"""

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from pydantic import ValidationError

from app.errors import NotKept
from app.keeping.record import ID, Kept, Label, day_of

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_FORMAT = re.compile(r"[a-z0-9]{1,8}")
_LOCK = ".lock"
_UNFINISHED = ".unfinished-"
# An unfinished file that is older belongs to a process that was killed.
_ABANDONED_SECONDS = 60.0


class KeptFolder:
    """Reads and writes one folder.

    Attributes:
        path: The folder; it is made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process that uses this from writing.

        Raises:
            OSError: The folder cannot be written to.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            lock = os.open(self.path / _LOCK, flags, 0o600)
        except FileNotFoundError:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path / _LOCK, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)  # and so unlocked

    def write(self, record: Kept, content: bytes) -> None:
        """Writes an image, then its JSON file.

        Raises:
            OSError: The folder cannot be written to, or the disk is full; nothing of the image is left then.
        """
        image = self._file(record.id, record.format)
        try:
            _write(image, content)
        except FileNotFoundError:  # the first of its day
            image.parent.mkdir(mode=0o700, exist_ok=True)
            _write(image, content)
        try:
            self.write_record(record)
        except OSError:
            image.unlink(missing_ok=True)
            raise

    def write_record(self, record: Kept) -> None:
        """Writes the JSON file of an image alone.

        Raises:
            OSError: It cannot be written; an earlier one is as it was.
        """
        _write(self._file(record.id, "json"), encode(record))

    def read(self, kept_id: str) -> Kept:
        """Returns what is known of an image.

        Raises:
            NotKept: There is no such image, or its JSON file is not one of ours.
        """
        try:
            return Kept.model_validate_json(self._file(kept_id, "json").read_bytes())
        except (OSError, ValidationError, ValueError) as error:
            raise NotKept("No image is kept under this id.") from error

    def image_path(self, record: Kept) -> Path:
        """Where the image of a record is."""
        return self._file(record.id, record.format)

    def read_image(self, record: Kept) -> bytes:
        """Returns an image as it came.

        Raises:
            NotKept: It was removed meanwhile.
        """
        try:
            return self.image_path(record).read_bytes()
        except OSError as error:
            raise NotKept("No image is kept under this id.") from error

    def label(self, kept_id: str, label: Label | None) -> Kept:
        """Writes a person's label into the JSON file of an image. The caller must hold `locked`.

        Raises:
            NotKept: There is no such image.
            OSError: The folder cannot be written to.
        """
        record = self.read(kept_id).model_copy(update={"label": label})
        self.write_record(record)
        return record

    def remove(self, kept_id: str) -> None:
        """Forgets an image: the picture first, so that no picture stays without its JSON file."""
        for file in self._file(kept_id, "json").parent.glob(f"{kept_id}.*"):
            if file.suffix != ".json":
                file.unlink(missing_ok=True)
        self._file(kept_id, "json").unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # as long as others of that day are kept
            self._file(kept_id, "json").parent.rmdir()

    def ids(self) -> Iterator[tuple[str, float]]:
        """Every id that has a JSON file, oldest first, and when that was written, in seconds since 1970."""
        for day in self._days():
            with os.scandir(day) as entries:
                found = [(entry.name[:-5], entry.stat().st_mtime) for entry in entries if _is_record(entry.name)]
            yield from sorted(found)

    def records(self) -> Iterator[Kept]:
        """Everything that is kept, oldest first; what is removed meanwhile is left out."""
        for kept_id, _ in self.ids():
            with contextlib.suppress(NotKept):
                yield self.read(kept_id)

    def sweep(self) -> None:
        """Removes what a killed process left unfinished; call it `locked`."""
        abandoned = time.time() - _ABANDONED_SECONDS
        for day in self._days():
            with os.scandir(day) as entries:
                names = {entry.name: entry for entry in entries}
            for name, entry in names.items():
                kept_id, _, suffix = name.partition(".")
                is_orphan = bool(ID.fullmatch(kept_id)) and suffix != "json" and f"{kept_id}.json" not in names
                if (is_orphan or name.startswith(_UNFINISHED)) and entry.stat().st_mtime < abandoned:
                    os.unlink(entry.path)

    def _days(self) -> list[Path]:
        try:
            with os.scandir(self.path) as entries:
                return sorted(Path(one.path) for one in entries if _DAY.fullmatch(one.name) and one.is_dir())
        except OSError:  # there is none yet, or it cannot be read
            return []

    def _file(self, kept_id: str, suffix: str) -> Path:
        # Checked so that no client can make this return a path outside of the folder.
        if not ID.fullmatch(kept_id) or not _FORMAT.fullmatch(suffix):
            raise NotKept("This is not the id of a kept image.")
        return self.path / day_of(kept_id) / f"{kept_id}.{suffix}"


def encode(record: Kept) -> bytes:
    """Returns the content of a JSON file."""
    return orjson.dumps(record.model_dump(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _is_record(name: str) -> bool:
    return name.endswith(".json") and bool(ID.fullmatch(name[:-5]))


def _write(path: Path, content: bytes) -> None:
    aside = path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb", buffering=0) as file:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
        aside.rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
