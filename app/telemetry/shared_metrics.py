"""The folder in which several workers keep their numbers, so that a scrape of one of them gives the sum.

Apart from `app.telemetry.metrics`, so that the supervisor needs neither a model nor its runtime.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import SettingsError

# prometheus-client's own variable; it decides when the library is first imported, in the worker.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Writable in a container whose root is not, unless its engine is told otherwise.
_SHARED_MEMORY = "/dev/shm"  # noqa: S108  # a folder of its own is made in it


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
def shared_metrics() -> Iterator[Path]:
    """For as long as workers, which inherit its name by the environment, may serve.

    A folder that the environment names already is used, and emptied first: the numbers in it are of processes that
    have gone. Otherwise one is made, and removed at the end.

    Raises:
        SettingsError: There is no folder that can be written to.
    """
    use_named_folder()
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        folder = Path(named)
        for numbers in folder.glob("*.db"):
            numbers.unlink()
        yield folder
        return
    with _temporary_folder() as made:
        os.environ[FOLDER_VARIABLE] = made
        try:
            yield Path(made)
        finally:
            del os.environ[FOLDER_VARIABLE]


def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    for parent in (None, _SHARED_MEMORY):
        try:
            return tempfile.TemporaryDirectory(prefix="imagegate-metrics-", dir=parent, ignore_cleanup_errors=True)
        except OSError:
            continue  # a root that is read only
    raise SettingsError(
        "Several workers keep their metrics in a folder that they share, and none can be written to: run the container "
        f"with `--tmpfs /tmp`, or name a folder in {FOLDER_VARIABLE}."
    )


def forget_worker(pid: int) -> None:
    """When a worker has ended: what it is doing now (gauges) goes, what it has done (counters) stays."""
    from prometheus_client import multiprocess  # not above: it reads the variable when it is first imported

    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
