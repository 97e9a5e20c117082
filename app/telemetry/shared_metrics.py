"""The folder in which several workers keep their numbers, so that a scrape of one of them gives the sum.

Apart from `app.telemetry.metrics`, so that the supervisor needs neither a model nor its runtime.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import multiprocess

# prometheus-client's own variable; it decides when the library is first imported, in the worker.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def shared_metrics() -> Iterator[Path]:
    """For as long as workers, which inherit its name by the environment, may serve.

    A folder that the environment names already is used, and emptied first: the numbers in it are of processes that
    have gone. Otherwise one is made, and removed at the end.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        for numbers in folder.glob("*.db"):
            numbers.unlink()
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="imagegate-metrics-", ignore_cleanup_errors=True) as made:
        os.environ[FOLDER_VARIABLE] = made
        try:
            yield Path(made)
        finally:
            del os.environ[FOLDER_VARIABLE]


def forget_worker(pid: int) -> None:
    """When a worker has ended: what it is doing now (gauges) goes, what it has done (counters) stays."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
