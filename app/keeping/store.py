"""Folder and index together: kept images are added, found, labelled and forgotten."""

import logging
import threading
from pathlib import Path

from app.errors import NotKept
from app.keeping.folder import KeptFolder, encode
from app.keeping.index import Cell, Filter, KeptIndex
from app.keeping.record import Kept, Label

logger = logging.getLogger(__name__)

_EVICTED_AT_ONCE = 16
# Beside its files an image takes a row of the index.
_ROW_BYTES = 512


class KeptStore:
    """What one process has open of a folder of kept images. Safe to call from several threads at once.

    Attributes:
        folder: Where the files are.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """
        Args:
            path: The folder; it may not be there yet, or not be writable.
            max_bytes: The most that is kept, index included.
        """
        self.folder = KeptFolder(path)
        self._max_bytes = max_bytes
        self._opening = threading.Lock()
        self._index: KeptIndex | None = None

    @property
    def index(self) -> KeptIndex:
        """The index, opened on first use, and again if its file was removed, as together with the folder.

        Building a missing index takes about a second for 100,000 images.
        """
        with self._opening:
            if self._index is not None and self._index.is_lost():
                logger.warning(
                    "the kept images are no longer there", extra={"fields": {"folder": str(self.folder.path)}}
                )
                self._index = None  # not closed, since other threads may be in it
            if self._index is None:
                self._index = KeptIndex(self.folder)
            return self._index

    def add(self, record: Kept, content: bytes) -> bool:
        """Stores one image. If there is not enough room, older images are deleted, those without a label first.

        Returns:
            Whether it is kept; an image larger than all that may be kept is not.

        Raises:
            OSError: The folder cannot be written to.
        """
        needed = len(content) + len(encode(record)) + _ROW_BYTES
        if needed > self._max_bytes:
            return False
        with self.folder.locked():
            if not self._make_room(needed):
                return False
            self.folder.write(record, content)
            self.index.add(record)
        if not self.index.is_shared:  # the disk was full or read-only before, and is no longer
            self._reopen()
        return True

    def newest(self, wanted: Filter, limit: int) -> list[Kept]:
        """The newest images that fit, newest first."""
        found: list[Kept] = []
        for kept_id in self.index.ids(wanted, limit):
            try:
                found.append(self.folder.read(kept_id))
            except NotKept:  # removed by hand
                self.index.remove([kept_id])
        return found

    def label(self, kept_id: str, label: Label | None) -> Kept:
        """Says what an image is.

        Raises:
            NotKept: There is no such image.
            OSError: The folder cannot be written to.
        """
        self.folder.read(kept_id)  # before a folder is made that was not there
        with self.folder.locked():
            record = self.folder.label(kept_id, label)
            self.index.label(kept_id, label)
        return record

    def cells(self, judged_by: str) -> list[Cell]:
        """See `KeptIndex.cells`."""
        return self.index.cells(judged_by)

    def sweep(self) -> None:
        """Removes what killed processes left unfinished.

        Raises:
            OSError: The folder cannot be written to.
        """
        with self.folder.locked():
            self.folder.sweep()

    def close(self) -> None:
        with self._opening:
            if self._index is not None:
                self._index.close()

    def _make_room(self, needed: int) -> bool:
        while self.index.total_bytes() + needed > self._max_bytes:
            oldest = self.index.oldest(_EVICTED_AT_ONCE)
            if not oldest:
                return False
            excess = self.index.total_bytes() + needed - self._max_bytes
            self._forget(oldest, excess)
        return True

    def _forget(self, ids: list[str], excess: int) -> None:
        """Removes images one after another until `excess` bytes are free."""
        for kept_id in ids:
            before = self.index.total_bytes()
            self.folder.remove(kept_id)
            self.index.remove([kept_id])
            excess -= before - self.index.total_bytes()
            if excess <= 0:
                return

    def _reopen(self) -> None:
        with self._opening:
            self._index = None  # as above
