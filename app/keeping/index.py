"""An index of the kept images: an SQLite file in the folder, rebuilt from the JSON files if it is missing.

All serving processes share it. The JSON files are authoritative. If the file cannot be created, as in a read-only
folder, each process has its own index in memory.
"""

import contextlib
import sqlite3
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from app.errors import NotKept
from app.keeping.folder import KeptFolder, encode
from app.keeping.record import Kept, Label

# The number changes with the schema.
_NAME = "index-1.sqlite"
_BUSY_SECONDS = 10
_AT_ONCE = 1000
# Pages are small so that a small folder's index is too; the file counts among the bytes that are kept.
_SCHEMA = """
PRAGMA page_size = 1024;
PRAGMA synchronous = OFF;
CREATE TABLE IF NOT EXISTS kept (id TEXT PRIMARY KEY, is_anomaly INTEGER, score REAL, sampled INTEGER,
    probability REAL, label TEXT, disagrees INTEGER, judged_by TEXT, bytes INTEGER) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unlabelled ON kept (id) WHERE label IS NULL;
CREATE TABLE IF NOT EXISTS total (bytes INTEGER);
CREATE TABLE IF NOT EXISTS sampled (judged_by TEXT, is_anomaly INTEGER, probability REAL, images INTEGER,
    PRIMARY KEY (judged_by, is_anomaly, probability)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON kept BEGIN
    UPDATE total SET bytes = bytes + new.bytes;
    INSERT INTO sampled SELECT new.judged_by, new.is_anomaly, new.probability, 1 WHERE new.sampled
        ON CONFLICT DO UPDATE SET images = images + 1;
END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON kept BEGIN UPDATE total SET bytes = bytes - old.bytes; END;
INSERT INTO total SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM total);
"""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter for kept images. A field that is None does not restrict the result.

    Attributes:
        is_anomaly: The verdict.
        label: "normal", "anomaly", or "none" for those without.
        sampled: Whether drawn at random.
        disagrees: Whether the candidate's verdict differs.
        before: Ids that sort before this one.
        after: Ids that sort after this one.
        least_score, most_score: Bounds of the score.
    """

    is_anomaly: bool | None = None
    label: str | None = None
    sampled: bool | None = None
    disagrees: bool | None = None
    before: str | None = None
    after: str | None = None
    least_score: float | None = None
    most_score: float | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        """The same for SQL, and its arguments."""
        asked: list[tuple[str, Any]] = [
            ("is_anomaly = ?", self.is_anomaly),
            ("sampled = ?", self.sampled),
            ("disagrees = ?", self.disagrees),
            ("id < ?", self.before),
            ("id > ?", self.after),
            ("score >= ?", self.least_score),
            ("score <= ?", self.most_score),
        ]
        if self.label is not None:
            asked.append(("label IS ?", self.label) if self.label != "none" else ("label IS NULL OR ?", False))
        wanted = [(f"({condition})", value) for condition, value in asked if value is not None]
        return " AND ".join(condition for condition, _ in wanted) or "1", [value for _, value in wanted]


class Cell(NamedTuple):
    """A group of images of the random sample with the same verdict, sampling probability and label, and its size."""

    is_anomaly: bool
    probability: float
    label: Label | None
    images: int


class KeptIndex:
    """Answers which images are kept. Safe to call from several threads at once.

    Attributes:
        path: The file.
        is_shared: Whether it is in that file, where other processes see it, and not in memory.
    """

    def __init__(self, folder: KeptFolder) -> None:
        """Opens the index, or makes it, and brings it up to date with the folder."""
        self._folder = folder
        self._lock = threading.Lock()
        self.path = folder.path / _NAME
        self.is_shared = True
        with contextlib.suppress(OSError):
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._connection = self._open(str(self.path))
        except sqlite3.DatabaseError as error:
            self._connection = self._open_again(error)
        # Also without `close`, once the last thread has left it.
        weakref.finalize(self, self._connection.close)
        self._identity = self._identity_of_file()
        self._bring_up_to_date()

    def is_lost(self) -> bool:
        """Whether the file was removed or replaced, so that what is noted here reaches nobody."""
        return self.is_shared and self._identity_of_file() != self._identity

    def add(self, record: Kept) -> None:
        """Adds an image whose files are written."""
        with self._lock, self._connection as connection:
            connection.execute(_INSERT, _row(record))

    def label(self, kept_id: str, label: Label | None) -> None:
        """Notes the label that the JSON file has."""
        with self._lock, self._connection as connection:
            connection.execute("UPDATE kept SET label = ? WHERE id = ?", (label, kept_id))

    def remove(self, ids: Iterable[str]) -> None:
        """Forgets images; how many of the random sample there were is still known."""
        with self._lock, self._connection as connection:
            connection.executemany("DELETE FROM kept WHERE id = ?", [(one,) for one in ids])

    def ids(self, wanted: Filter, limit: int) -> list[str]:
        """The newest ids that fit, newest first."""
        conditions, values = wanted.conditions()
        query = f"SELECT id FROM kept WHERE {conditions} ORDER BY id DESC LIMIT ?"  # noqa: S608  # no value in it
        return [one for (one,) in self._rows(query, [*values, limit])]

    def oldest(self, limit: int) -> list[str]:
        """What goes first when room is needed: the oldest without a label, or else the oldest."""
        unlabelled = "SELECT id FROM kept WHERE label IS NULL ORDER BY id LIMIT ?"
        rows = self._rows(unlabelled, [limit]) or self._rows("SELECT id FROM kept ORDER BY id LIMIT ?", [limit])
        return [one for (one,) in rows]

    def total_bytes(self) -> int:
        """Of all images, their JSON files, and the index itself."""
        ((total,),) = self._rows("SELECT bytes FROM total", [])
        try:
            return int(total) + self.path.stat().st_size
        except OSError:
            return int(total)

    def cells(self, judged_by: str) -> list[Cell]:
        """The labelled part of the random sample, and, as cells without a label, how many were drawn in all."""
        labelled = (
            "SELECT is_anomaly, probability, label, COUNT(*) FROM kept "
            "WHERE sampled AND label IS NOT NULL AND judged_by = ? GROUP BY 1, 2, 3"
        )
        drawn = "SELECT is_anomaly, probability, NULL, images FROM sampled WHERE judged_by = ?"
        rows = [*self._rows(labelled, [judged_by]), *self._rows(drawn, [judged_by])]
        return [Cell(bool(is_anomaly), *rest) for is_anomaly, *rest in rows]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _rows(self, query: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _identity_of_file(self) -> tuple[int, int] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _open(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            connection.executescript(_SCHEMA)
            connection.execute("UPDATE total SET bytes = bytes")  # a file that cannot be written to shows here
            connection.commit()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _open_again(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        """A damaged file is made anew; without a file that can be written, the index is in memory."""
        try:
            if error.sqlite_errorcode in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                self.path.unlink()
                return self._open(str(self.path))
        except (OSError, sqlite3.DatabaseError):
            pass
        self.is_shared = False
        return self._open(":memory:")

    def _bring_up_to_date(self) -> None:
        """Adds what the folder has and the index lacks, and the other way round.

        The index is read first: what another process adds meanwhile is then not taken for removed.
        """
        known = {one for (one,) in self._rows("SELECT id FROM kept", [])}
        there = {kept_id for kept_id, _ in self._folder.ids()}
        self.remove(known - there)
        missing = sorted(there - known)
        for start in range(0, len(missing), _AT_ONCE):
            rows = [row for one in missing[start : start + _AT_ONCE] if (row := self._row_of(one))]
            with self._lock, self._connection as connection:
                connection.executemany(_INSERT, rows)

    def _row_of(self, kept_id: str) -> tuple[Any, ...] | None:
        try:
            return _row(self._folder.read(kept_id))
        except NotKept:
            return None


_INSERT = "INSERT OR IGNORE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


def _row(record: Kept) -> tuple[Any, ...]:
    return (
        record.id,
        record.is_anomaly,
        record.score,
        record.sampled,
        record.sample_probability,
        record.label,
        record.disagrees,
        record.judged_by,
        record.image_bytes + len(encode(record)),
    )
