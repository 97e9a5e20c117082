"""Files through scorers, with all cores: chunks go to processes, results come back in order."""

import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import active_children, get_context, parent_process
from os import _exit
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

from app.detection.artifact import Artifact
from app.errors import ScoringError
from app.offline.rows import Scorer
from app.settings import Settings

T = TypeVar("T")
# What a process does with one chunk: a function of a module, since it is sent there by name.
Work = Callable[[Sequence[Scorer], list[str]], list[T]]

# Large enough that a chunk's way to a worker and back costs nothing beside its decoding, small enough that the last
# chunks end together.
_CHUNK_FILES = 16
# So many chunks a worker are under way; more would only take memory.
_CHUNKS_AHEAD = 4


def in_processes(
    artifacts: tuple[Artifact, ...], settings: Settings, files: Iterable[str], workers: int, work: Work[T]
) -> Generator[T]:
    """Results in the order of `files`, of which no more are drawn than the workers have use for.

    Args:
        artifacts: Each process has a scorer for each of them.
        settings: The scorers' limits.
        files: Paths.
        workers: Processes; with one, or few files, it is done in this one.
        work: Gives one result for each path of a chunk.

    Raises:
        BrokenProcessPool: A worker process died.
    """
    remaining = iter(files)
    chunks = iter(lambda: list(islice(remaining, _CHUNK_FILES)), [])
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:  # not worth a process
        scorers = [Scorer(artifact, settings) for artifact in artifacts]
        for chunk in (*first, *chunks):
            yield from work(scorers, chunk)
        return
    # Not fork, which copies the locks of whatever threads this process has.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (artifacts, settings))
    try:
        with _interrupts_held_back():  # the processes that start here inherit it: Ctrl-C is for this one alone
            pending: deque[Future[list[T]]] = deque(pool.submit(_run_chunk, work, chunk) for chunk in first)
        while pending:
            for chunk in islice(chunks, workers * _CHUNKS_AHEAD - len(pending)):
                pending.append(pool.submit(_run_chunk, work, chunk))
            yield from pending.popleft().result()
    except BaseException:
        for process in active_children():
            process.terminate()  # else it would first finish its chunk
        raise
    finally:
        with _interrupts_held_back():  # a second Ctrl-C while the processes end
            pool.shutdown(cancel_futures=True)


_scorers: list[Scorer]  # of a worker process; never set in any other


def _start_worker(artifacts: tuple[Artifact, ...], settings: Settings) -> None:
    global _scorers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scorers = [Scorer(artifact, settings) for artifact in artifacts]


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    _exit(1)


def _run_chunk(work: Work[Any], paths: list[str]) -> list[Any]:
    return work(_scorers, paths)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Ctrl-C comes after what is inside."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


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


@contextmanager
def ended_in_one_line(output: Path | None, interrupted: str) -> Iterator[None]:
    """Runs a command so that whatever ends it early is said in one line.

    Args:
        output: Where it writes to.
        interrupted: What is said after Ctrl-C or SIGTERM, before KeyboardInterrupt goes on to the command line.

    Raises:
        ScoringError: A worker process died, or the output cannot be written.
    """
    try:
        with stopped_by_signals():
            yield
    except KeyboardInterrupt:
        print(f"imagegate: {interrupted}.", file=sys.stderr)
        raise
    except BrokenProcessPool as error:
        raise ScoringError("a worker process died (out of memory?); fewer --workers need less memory.") from error
    except OSError as error:
        raise ScoringError(f"{output} cannot be written: {error.strerror or error}.") from error
