"""`python -m app score`: files and folders in, one row a file out, with all cores."""

import csv
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from types import FrameType
from typing import IO, Literal, NoReturn

import orjson
from tqdm import tqdm

from app.detection.artifact import Artifact, load_artifact
from app.detection.folders import files_below
from app.offline.rows import Row, Scorer
from app.settings import Settings

# Large enough that a chunk's way to a worker and back costs nothing beside its decoding, small enough that the last
# chunks end together.
_CHUNK_FILES = 16
# So many chunks a worker are under way; more would only take memory.
_CHUNKS_AHEAD = 4

SCORED, FAILED, ANOMALOUS, INTERRUPTED = 0, 1, 3, 130


class ScoringError(Exception):
    """The run ends early; the message says why, and how far it came."""


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """What the command line asks for.

    Attributes:
        paths: Files, and folders that are searched.
        output: Where rows go; None is standard output.
        output_format: CSV with a header line, or one JSON object a line.
        workers: Processes.
        fail_on_anomaly: Whether a file that the gate would not let through changes the exit code.
    """

    paths: tuple[str, ...]
    output: Path | None
    output_format: Literal["csv", "jsonl"]
    workers: int
    fail_on_anomaly: bool


@dataclass(slots=True)
class Tally:
    """How many rows there were, by outcome."""

    files: int = 0
    anomalies: int = 0
    problems: int = 0

    def add(self, row: Row) -> None:
        self.files += 1
        self.anomalies += row.is_anomaly is True
        self.problems += row.error is not None

    def exit_code(self, fail_on_anomaly: bool) -> int:
        """`SCORED` if any file was; `ANOMALOUS`, if that is asked for, unless all of them are normal images."""
        if fail_on_anomaly and self.anomalies + self.problems:
            return ANOMALOUS
        return SCORED if self.files > self.problems else FAILED

    def __str__(self) -> str:
        return f"{self.files} files: {self.anomalies} anomalies, {self.problems} could not be judged"


def score(settings: Settings, options: ScoreOptions) -> int:
    """Scores every file and writes the rows in the order of the paths.

    Returns:
        The exit code: see `Tally.exit_code`; `INTERRUPTED` after Ctrl-C or SIGTERM, with the rows so far written.

    Raises:
        ArtifactError: The artifact cannot be used.
        ScoringError: The output cannot be written, or a worker process died.
    """
    artifact = load_artifact(settings.artifact)
    tally = Tally()
    try:
        with (
            stopped_by_signals(),
            _open_output(options.output) as stream,
            closing(
                score_files(artifact, settings, find_files(options.paths, options.output), options.workers)
            ) as rows,
            _progress(options) as bar,
        ):
            write = _row_writer(stream, options.output_format)
            for row in rows:
                write(row)
                tally.add(row)
                bar.update()
    except KeyboardInterrupt:
        print(f"imagegate: interrupted after {tally}.", file=sys.stderr)
        return INTERRUPTED
    except BrokenProcessPool as error:
        raise ScoringError(
            f"a worker process died (out of memory?) after {tally}; fewer --workers need less memory."
        ) from error
    print(f"imagegate: {tally}.", file=sys.stderr)
    return tally.exit_code(options.fail_on_anomaly)


def find_files(paths: Iterable[str], leave_out: Path | None = None) -> Iterator[str]:
    """The files to score, lazily.

    Args:
        paths: A folder stands for all files below it, in the order of their names, whatever they are called, except
            hidden ones (a leading dot); linked folders are followed, each once. Everything else stands for itself,
            a folder that cannot be listed included.
        leave_out: A file that is not looked for: the one that results are written to.
    """
    left_out = None if leave_out is None else os.path.abspath(leave_out)
    for path in paths:
        found = files_below(path) if os.path.isdir(path) else iter([path])
        yield from (file for file in found if left_out is None or os.path.abspath(file) != left_out)


def score_files(artifact: Artifact, settings: Settings, files: Iterable[str], workers: int) -> Generator[Row]:
    """Rows in the order of `files`, of which no more are drawn than the workers have use for.

    Raises:
        BrokenProcessPool: A worker process died.
    """
    remaining = iter(files)
    chunks = iter(lambda: list(islice(remaining, _CHUNK_FILES)), [])
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:  # not worth a process
        scorer = Scorer(artifact, settings)
        for chunk in (*first, *chunks):
            yield from scorer.score(chunk)
        return
    # Not fork, which copies the locks of whatever threads this process has.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (artifact, settings))
    try:
        pending: deque[Future[list[Row]]] = deque(pool.submit(_score_chunk, chunk) for chunk in first)
        while pending:
            for chunk in islice(chunks, workers * _CHUNKS_AHEAD - len(pending)):
                pending.append(pool.submit(_score_chunk, chunk))
            yield from pending.popleft().result()
    except BaseException:
        for process in active_children():
            process.terminate()  # else it would first finish its chunk
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_scorer: Scorer  # of a worker process; never set in any other


def _start_worker(artifact: Artifact, settings: Settings) -> None:
    global _scorer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scorer = Scorer(artifact, settings)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _score_chunk(paths: list[str]) -> list[Row]:
    return _scorer.score(paths)


@contextmanager
def _open_output(path: Path | None) -> Iterator[IO[str]]:
    try:
        with open(1 if path is None else path, "w", encoding="utf-8", newline="", closefd=path is not None) as stream:
            yield stream
    except OSError as error:
        raise ScoringError(f"{path or 'standard output'} cannot be written: {error.strerror or error}.") from error


def _row_writer(stream: IO[str], output_format: Literal["csv", "jsonl"]) -> Callable[[Row], object]:
    if output_format == "jsonl":
        return lambda row: stream.write(orjson.dumps(row._asdict(), option=orjson.OPT_APPEND_NEWLINE).decode())
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(Row._fields)
    # true, not Python's True: a CSV is read by other programs.
    return lambda row: writer.writerow([str(cell).lower() if isinstance(cell, bool) else cell for cell in row])


def _progress(options: ScoreOptions) -> tqdm:
    """A bar on standard error; none where nobody looks, or where the rows themselves run over the same terminal."""
    shown = sys.stderr.isatty() and not (options.output is None and sys.stdout.isatty())
    total = sum(1 for _ in find_files(options.paths, options.output)) if shown else None
    return tqdm(total=total, unit="file", file=sys.stderr, disable=not shown)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run alike: the rows so far are written, and no worker outlives it.

    Ctrl-C is set too, since Python leaves it ignored in a process that a script started in the background.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    earlier = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
