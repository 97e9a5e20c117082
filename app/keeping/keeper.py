"""Writes images to the folder of kept ones, in a thread behind a bounded queue: no request waits for a disk."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.detection.image_headers import read_image_header
from app.errors import Refusal
from app.keeping.record import Kept, new_id
from app.keeping.store import KeptStore

logger = logging.getLogger(__name__)

Outcome = Literal["kept", "dropped", "failed"]

# More than this does not wait to be written: the rest is dropped, and counted.
_MOST_WAITING = 256
_MOST_WAITING_BYTES = 32 * 2**20
# At the end what waits is still written, if the disk is quick enough.
_CLOSE_SECONDS = 5.0
# Errors are logged at most once in this time, since a full disk makes every write fail.
_SILENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Offer:
    """One image to keep.

    Attributes:
        content: The file as it came, or (28, 28) grey levels in [0, 1] where pixels came.
        describe: Gives the fields of `Kept` that are known before the file is written; called in the thread.
        judged: When it was.
    """

    content: bytes | NDArray[np.float32]
    describe: Callable[[], dict[str, Any]]
    judged: datetime

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.nbytes


class Keeper:
    """Writes the images it is offered to the store. Errors are logged and counted, and never reach the caller.

    Attributes:
        store: Where images are kept.
    """

    def __init__(self, store: KeptStore, count: Callable[[Outcome], None]) -> None:
        """
        Args:
            store: Opened in the thread.
            count: Is told what became of each image.
        """
        self.store = store
        self._count = count
        self._queue: SimpleQueue[Offer | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._waiting = 0
        self._waiting_bytes = 0
        self._said = -_SILENCE_SECONDS
        self._thread = threading.Thread(target=self._run, name="keep", daemon=True)
        self._thread.start()

    def offer(self, content: bytes | NDArray[np.float32], describe: Callable[[], dict[str, Any]]) -> None:
        """Takes one image at once, or drops it when too many wait already."""
        offered = Offer(content, describe, datetime.now(UTC))
        with self._lock:
            fits = self._waiting < _MOST_WAITING and self._waiting_bytes + offered.size <= _MOST_WAITING_BYTES
            if fits:
                self._waiting += 1
                self._waiting_bytes += offered.size
        if fits:
            self._queue.put(offered)
        else:
            self._count("dropped")

    def close(self) -> None:
        """Writes what waits, within a few seconds, and takes no more."""
        self._queue.put(None)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self.store.close()

    def _run(self) -> None:
        self._attempt(self._open)
        while (offered := self._queue.get()) is not None:
            self._attempt(lambda one=offered: self._keep(one))  # type: ignore[misc]
            with self._lock:
                self._waiting -= 1
                self._waiting_bytes -= offered.size

    def _open(self) -> None:
        self.store.sweep()
        _ = self.store.index.is_shared

    def _keep(self, offered: Offer) -> None:
        content = offered.content if isinstance(offered.content, bytes) else _png(offered.content)
        record = Kept(
            id=new_id(offered.judged),
            time=offered.judged.isoformat(timespec="milliseconds"),
            format=_format(content),
            image_bytes=len(content),
            **offered.describe(),
        )
        self._count("kept" if self.store.add(record, content) else "dropped")

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # whatever it is, the next image is tried again
            self._count("failed")
            if time.monotonic() - self._said < _SILENCE_SECONDS:
                return
            self._said = time.monotonic()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            usual = isinstance(error, OSError | sqlite3.Error)
            fields = {"folder": str(self.store.folder.path), "reason": reason}
            logger.error("images are not kept", extra={"fields": fields}, exc_info=None if usual else error)


def _png(pixels: NDArray[np.float32]) -> bytes:
    buffer = BytesIO()
    Image.fromarray((np.clip(np.nan_to_num(pixels), 0, 1) * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def _format(content: bytes) -> str:
    """The format as the end of a file's name; nothing of a client's goes into it."""
    try:
        return read_image_header(content).format.lower()
    except Refusal:
        return "bin"
