"""Rows as CSV or JSON lines: written, and read again to go on where a run ended."""

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from app.detection.folders import printable
from app.errors import ScoringError
from app.offline.rows import Row, Scored

Column = Literal["threshold", "reasons"]
# A spreadsheet takes a cell that begins so for a formula.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")


class RowTable:
    """One output of `score`."""

    def __init__(self, path: Path | None, output_format: Literal["csv", "jsonl"], columns: tuple[Column, ...]) -> None:
        """
        Args:
            path: The file; None is standard output.
            output_format: CSV with a header line, or one JSON object a line.
            columns: Those beside the fields of `Row`.
        """
        self._path = path
        self._is_csv = output_format == "csv"
        self._more = columns
        self._names = [*Row._fields, *columns]

    def name(self, path: str) -> str:
        """A path as it stands in this table: in CSV "./=1+1.png", the same file, rather than a formula."""
        name = printable(path)
        return f"./{name}" if self._is_csv and name.startswith(_FORMULA_SIGNS) else name

    @contextmanager
    def opened(self, append: bool) -> Iterator[Callable[[Scored], object]]:
        """Gives what writes one row.

        Args:
            append: Keep the rows that are there.

        Raises:
            ScoringError: The output cannot be written.
        """
        target: int | Path = 1 if self._path is None else self._path
        try:
            with open(
                target, "a" if append else "w", encoding="utf-8", newline="", closefd=self._path is not None
            ) as stream:
                yield self._writer(stream, has_header=append and self._size() > 0)
        except OSError as error:
            raise self._unwritable(error) from error

    def earlier(self, version: str, see: Callable[[Row], None]) -> set[str]:
        """Reads the rows of an earlier run, and drops a last one that was cut off.

        Args:
            version: Of the artifact that goes on.
            see: Is given each row.

        Returns:
            The paths that have a row, as `name` gives them.

        Raises:
            ScoringError: They are no rows of this artifact with these columns, or the file cannot be read or written.
        """
        if self._path is None:
            raise ScoringError("--resume goes on with a file: name it with --output.")
        if not self._size():
            return set()
        try:
            rows = list(self._complete_rows(self._path.read_bytes()))
            aside = self._path.with_name(f".{self._path.name}.resumed")
            with open(aside, "w", encoding="utf-8", newline="") as stream:
                write = self._raw_writer(stream, has_header=False)
                for row in rows:
                    self._check(row, version)
                    write(row)
            aside.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from error
        for row in rows:
            see(Row(row["path"], is_anomaly=_truth(row["is_anomaly"]), error=row["error"] or None))
        return {row["path"] for row in rows}

    def _complete_rows(self, content: bytes) -> Iterator[dict[str, Any]]:
        text = content.decode("utf-8", "replace")
        if not self._is_csv:
            for line in text.split("\n")[:-1]:  # behind the last line break nothing is whole
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise ScoringError(f"{self._path} has a line that is not JSON: name another output.") from error
            return
        found = csv.DictReader(StringIO(text, newline=""))
        if found.fieldnames != self._names:
            raise ScoringError(f"{self._path} has other columns than this run: name another output.")
        held: dict[str, Any] | None = None
        for row in found:
            if held is not None:
                yield held
            held = row
        # Cut off within the last row: it has no line break, or not all of its cells.
        if held is not None and text.endswith("\n") and None not in held.values():
            yield held

    def _check(self, row: dict[str, Any], version: str) -> None:
        if set(row) != set(self._names):
            raise ScoringError(f"{self._path} has other columns than this run: name another output.")
        if row["model"] not in ("", None, version):
            raise ScoringError(f"{self._path} has rows of another artifact, {row['model']}: name another output.")

    def _writer(self, stream: IO[str], has_header: bool) -> Callable[[Scored], object]:
        write = self._raw_writer(stream, has_header)

        def write_row(one: Scored) -> object:
            cells = one.row._asdict() | {"path": self.name(one.row.path)}
            if "threshold" in self._more:
                cells["threshold"] = one.threshold
            if "reasons" in self._more:
                cells["reasons"] = ";".join(one.reasons) if self._is_csv else list(one.reasons)
            return write(cells)

        return write_row

    def _raw_writer(self, stream: IO[str], has_header: bool) -> Callable[[dict[str, Any]], object]:
        if not self._is_csv:
            return lambda row: stream.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE).decode())
        writer = csv.writer(stream, lineterminator="\n")
        if not has_header:
            writer.writerow(self._names)
        # true, not Python's True: a CSV is read by other programs.
        return lambda row: writer.writerow(
            [str(row[name]).lower() if isinstance(row[name], bool) else row[name] for name in self._names]
        )

    def _size(self) -> int:
        try:
            return 0 if self._path is None else os.stat(self._path).st_size
        except OSError:
            return 0

    def _unwritable(self, error: OSError) -> ScoringError:
        return ScoringError(f"{self._path or 'standard output'} cannot be written: {error.strerror or error}.")


def _truth(cell: object) -> bool | None:
    return {"true": True, "false": False}.get(str(cell).lower())
