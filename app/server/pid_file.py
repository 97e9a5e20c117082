"""GATE_PID_FILE: where a gate can be found, for as long as it runs.

The gate holds a lock on the file, which ends with the process however that ends: a number that is left behind is never
taken for a gate, and no signal goes to somebody else's process. Beside it lies a file with a line for each reload of
each serving process, so that whoever asks for one learns what became of it.
"""

import fcntl
import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from app.errors import ArtifactError
from app.settings import SettingsError

logger = logging.getLogger(__name__)

# An artifact takes about a second to load.
_PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.05


class Reloaded(NamedTuple):
    """What a gate has done.

    Attributes:
        pid: Its process.
        version: The artifact that serves from now on.
    """

    pid: int
    version: str


@contextmanager
def pid_file(path: Path | None, workers: int = 1) -> Iterator[None]:
    """Holds the file for as long as this process serves, and removes it at the end.

    Args:
        path: None for no file.
        workers: How many processes serve, each of which reloads.

    Raises:
        SettingsError: It cannot be written, or another gate holds it.
    """
    if path is None:
        yield
        return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SettingsError(f"GATE_PID_FILE {path} cannot be written: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SettingsError(f"GATE_PID_FILE {path} is held by another gate.") from error
    try:
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        _begin_reports(path, workers)
        yield
    finally:
        path.unlink(missing_ok=True)
        _reports(path).unlink(missing_ok=True)
        os.close(descriptor)


def _begin_reports(path: Path, workers: int) -> None:
    try:
        _reports(path).write_bytes(b"%d\n" % workers)
    except OSError as error:
        raise SettingsError(f"{_reports(path)}, beside GATE_PID_FILE, cannot be written: {error.strerror}.") from error


def report_reload(path: Path, started: float, version: str, problems: Sequence[str]) -> None:
    """Notes for `reload` what became of one in this process.

    Args:
        path: GATE_PID_FILE.
        started: When the process began to load, by `time.time`.
        version: The artifact that serves now.
        problems: What is not used, and why; empty if everything new is.
    """
    told = {"pid": os.getpid(), "started": started, "version": version, "problems": problems}
    line = orjson.dumps(told) + b"\n"
    try:
        descriptor = os.open(_reports(path), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, line)  # in one piece, since several processes write
        finally:
            os.close(descriptor)
    except OSError as error:
        fields = {"file": str(_reports(path)), "reason": error.strerror}
        logger.warning("nobody is told of this reload", extra={"fields": fields})


def reload(path: Path | None) -> Reloaded:
    """Has the gate that holds the file load its artifact, its candidate and its tokens again, and waits until it has.

    Raises:
        SettingsError: No gate holds it.
        ArtifactError: Something new is not used, and the old goes on; or the gate does not say so in time.
    """
    if path is None:
        raise SettingsError(
            "reload finds the gate by its GATE_PID_FILE, which is not set: start the gate with GATE_PID_FILE=gate.pid, "
            "and call reload with the same setting, or with --pid-file gate.pid."
        )
    started = time.time()
    pid = _signal_holder(path)
    done = 0
    while time.time() < started + _PATIENCE_SECONDS:
        workers, reports = _read_reports(path, started)
        problems = dict.fromkeys(str(problem) for one in reports for problem in one["problems"])
        if problems:
            raise ArtifactError(" ".join(problems))
        done = len({one["pid"] for one in reports})  # a process that is told twice may write two lines
        if done >= workers:
            return Reloaded(pid, str(reports[-1]["version"]))
        time.sleep(_LOOK_SECONDS)
    raise ArtifactError(
        f"process {pid} was told to reload, and has not said within {_PATIENCE_SECONDS:g} seconds that it did "
        f"({done} of its processes have); its log says more."
    )


def _signal_holder(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"no gate runs: GATE_PID_FILE {path}: {error.strerror}.") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pid = int(os.read(descriptor, 32))
            os.kill(pid, signal.SIGHUP)
            return pid
        raise SettingsError(f"no gate runs: GATE_PID_FILE {path} is left from one that has ended.")
    finally:
        os.close(descriptor)


def _read_reports(path: Path, started: float) -> tuple[int, list[dict[str, Any]]]:
    """How many processes serve, and what they said of reloads that began later than `started`."""
    try:
        first, *lines = _reports(path).read_bytes().splitlines()
    except (OSError, ValueError):
        return 1, []
    reports = [orjson.loads(line) for line in lines]
    return int(first), [one for one in reports if one["started"] >= started]


def _reports(path: Path) -> Path:
    return path.with_name(f"{path.name}.reloads")
