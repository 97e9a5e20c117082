"""The folder in which several workers keep their numbers, so that a scrape of one of them gives the sum.

Apart from `app.telemetry.metrics`, so that the supervisor needs neither a model nor its runtime; and without
prometheus-client, which decides when it is first imported whether a process shares its numbers.

The numbers lie in mapped files. Where a file's pages cannot be had any more, because the disk is full, writing to them
ends the process (SIGBUS). So the folder is in memory where the system has such a place, and each worker takes all the
pages that it will need before it uses one (`reserve`). A worker that cannot serves on with numbers of its own.
"""

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import SettingsError

# prometheus-client's own variable; it decides when the library is first imported, in the worker.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# In memory, and writable in a container whose root is read-only.
_MEMORY = "/dev/shm"  # noqa: S108  # a folder of our own is made in it
# By the beginning of a file's name, how many bytes of numbers a worker can have: several times what all routes,
# methods and statuses take.
RESERVED_BYTES = {
    "counter": 256 * 2**10,
    "gauge_livemax": 64 * 2**10,
    "gauge_livesum": 64 * 2**10,
    "histogram": 2**20,
}

logger = logging.getLogger(__name__)


def use_named_folder() -> None:
    """Sees to it that the folder is there, if the environment names one; an empty name is none.

    Raises:
        SettingsError: It cannot be made, or not be written to.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named is None:
        return
    if not named:
        del os.environ[FOLDER_VARIABLE]
        return
    try:
        Path(named).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=named):
            pass
    except OSError as error:
        raise SettingsError(f"{FOLDER_VARIABLE}={named} cannot be written to: {error.strerror or error}.") from error


@contextmanager
def shared_metrics() -> Iterator[Path | None]:
    """For as long as workers, which inherit its name by the environment, may serve.

    A folder that the environment names already is used, and emptied first: the numbers in it are of processes that
    have gone. Otherwise one is made, and removed at the end. Without a folder that can be used None is given, that is
    logged, and each worker counts for itself.
    """
    named = os.environ.pop(FOLDER_VARIABLE, None)
    try:
        folder = _made() if named is None else _emptied(Path(named))
    except OSError as error:
        fields = {"reason": error.strerror or str(error)}
        logger.error("no folder for the numbers of all workers: each counts for itself", extra={"fields": fields})
        yield None
        return
    os.environ[FOLDER_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        if named is None:
            del os.environ[FOLDER_VARIABLE]
            shutil.rmtree(folder, ignore_errors=True)


def reserve() -> None:
    """Takes the pages of this process's files, before prometheus-client is imported.

    Where that fails, the variable is removed, so that this worker counts for itself.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named is None:
        return
    files = {Path(named) / f"{prefix}_{os.getpid()}.db": size for prefix, size in RESERVED_BYTES.items()}
    try:
        for file, size in files.items():
            _allocate(file, size)
    except OSError as error:
        del os.environ[FOLDER_VARIABLE]
        for file in files:
            _remove(file)
        fields = {"folder": named, "reason": error.strerror or str(error)}
        logger.error("no room for shared numbers: this worker counts for itself", extra={"fields": fields})


def forget_worker(pid: int) -> None:
    """Removes the gauges of a worker that has ended. Its counters are kept."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        for file in Path(named).glob(f"gauge_live*_{pid}.db"):
            _remove(file)


def _made() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="imagegate-metrics-", dir=_MEMORY))
    except OSError:
        return Path(tempfile.mkdtemp(prefix="imagegate-metrics-"))


def _emptied(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for numbers in folder.glob("*.db"):
        numbers.unlink()
    with tempfile.TemporaryFile(dir=folder):
        return folder  # and it can be written to


def _allocate(file: Path, size: int) -> None:
    """Makes a file of zeros that has all its pages."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:  # macOS
            os.write(descriptor, bytes(size))
    finally:
        os.close(descriptor)


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):  # its folder went first
        file.unlink(missing_ok=True)
