"""Reads and writes OUTPUT of `--engine ray`: a folder of Parquet files with the columns of `Row`, each atomic."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq

from app.errors import ScoringError
from app.offline.locations import Location

SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "is_anomaly": pa.bool_(),
        "loss": pa.float64(),
        "score": pa.float64(),
        "p_value": pa.float64(),
        "model": pa.string(),
        "error": pa.string(),
        "status": pa.int32(),
        "detail": pa.string(),
    }
)
# Records what the rows were scored with. Readers of Parquet folders ignore names that begin with an underscore.
_ABOUT = "_imagegate.json"
# Names of the files that this module writes; it never removes any others.
_ROWS = re.compile(r"[0-9a-f]{32}\.parquet")
_UNFINISHED = re.compile(rf"\.({_ROWS.pattern}|{re.escape(_ABOUT)})-[0-9a-f]{{32}}\.tmp")
# Concurrent reads, to hide the latency of an object store.
_READERS = 16


@dataclass(frozen=True, slots=True)
class RowFiles:
    """The Parquet files of one OUTPUT folder. Many machines may write to it, but only for one run at a time.

    Attributes:
        location: The folder.
    """

    location: Location

    def claim(self, about: dict[str, Any]) -> None:
        """Creates the folder, or continues in one that an earlier run has left.

        Args:
            about: What the rows depend on besides the files, such as the model. It must be the same for all rows.

        Raises:
            ScoringError: It cannot be written, holds other things, or rows that depend on something else.
        """
        try:
            found = self._names()
            unfinished = [name for name in found if _UNFINISHED.fullmatch(name)]
            names = [name for name in found if name not in unfinished]
            if _ABOUT in names:
                self._check(about)
            elif names:
                raise ScoringError(f"{self.location.name} holds other files, such as {names[0]}: name a new folder.")
            else:
                self.location.filesystem.create_dir(self.location.path)
                self._put(_ABOUT, json.dumps(about).encode())
            for name in unfinished:  # by a machine that was lost
                self.location.filesystem.delete_file(self._path(name))
        except (pa.ArrowException, ValueError, OSError) as error:
            raise ScoringError(f"{self.location.name} cannot be written: {error}.") from error

    def written(self) -> pa.Table:
        """Returns `path`, `is_anomaly` and `error` of the rows that need not be scored again, and removes the others.

        Damaged Parquet files are deleted. Rows of images that could not be read are removed from their files, so that
        they are scored again: the cause, such as a disk that was not mounted, may be gone.

        Raises:
            ScoringError: Something cannot be read.
        """
        empty = SCHEMA.empty_table()
        try:
            with ThreadPoolExecutor(_READERS) as pool:
                found = [empty, *pool.map(self._settled, filter(_ROWS.fullmatch, self._names()))]
        except (pa.ArrowException, OSError) as error:
            raise ScoringError(f"{self.location.name} cannot be read: {error}.") from error
        return pa.concat_tables([rows.select(["path", "is_anomaly", "error"]) for rows in found])

    def write(self, rows: pa.Table) -> None:
        """Adds rows; the same paths again replace what was written of them.

        Raises:
            OSError: It could not be done.
        """
        # The name depends on the paths only: if a machine that was taken for lost still writes its batch, it overwrites
        # the same file as its replacement.
        digest = sha256(json.dumps(rows["path"].to_pylist()).encode())
        self._write(f"{digest.hexdigest()[:32]}.parquet", rows)

    def _settled(self, name: str) -> pa.Table:
        try:
            with self.location.filesystem.open_input_file(self._path(name)) as file:
                rows = pq.read_table(file)
        except pa.ArrowInvalid:
            self.location.filesystem.delete_file(self._path(name))
            return SCHEMA.empty_table()
        settled = rows.filter(pc.fill_null(pc.not_equal(rows["error"], "unreadable-file"), True))
        if len(settled) < len(rows):
            self._write(name, settled)
        return settled

    def _check(self, about: dict[str, Any]) -> None:
        with self.location.filesystem.open_input_file(self._path(_ABOUT)) as file:
            earlier = json.loads(file.read())
        if not isinstance(earlier, dict):
            raise ScoringError(f"{self.location.name} has a damaged {_ABOUT}: name a new folder.")
        for name, value in about.items():
            if earlier.get(name) != value:
                raise ScoringError(
                    f"{self.location.name} was scored with {name} {earlier.get(name)}, not {value}: name a new folder."
                )

    def _names(self) -> list[str]:
        selector = fs.FileSelector(self.location.path, allow_not_found=True)
        return [info.base_name for info in self.location.filesystem.get_file_info(selector)]

    def _path(self, name: str) -> str:
        return f"{self.location.path}/{name}"

    def _write(self, name: str, rows: pa.Table) -> None:
        buffer = pa.BufferOutputStream()
        pq.write_table(rows, buffer)
        self._put(name, buffer.getvalue())

    def _put(self, name: str, content: Any) -> None:
        path = self._path(name)
        # An object appears when it is complete; a file has to be renamed.
        renamed = self.location.filesystem.type_name in ("local", "hdfs")
        aside = self._path(f".{name}-{uuid4().hex}.tmp") if renamed else path
        with self.location.filesystem.open_output_stream(aside) as stream:
            stream.write(content)
        if renamed:
            self.location.filesystem.move(aside, path)
