"""GATE_PID_FILE: where a gate can be found, for as long as it runs.

The gate holds a lock on the file, which ends with the process however that ends: a number that is left behind is never
taken for a gate, and no signal goes to somebody else's process.
"""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.settings import SettingsError


@contextmanager
def pid_file(path: Path | None) -> Iterator[None]:
    """Holds the file for as long as this process serves, and removes it at the end.

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
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def reload(path: Path | None) -> int:
    """Tells the gate that holds the file to load its artifact, its candidate and its tokens again.

    Returns:
        Its process id.

    Raises:
        SettingsError: No gate holds it.
    """
    if path is None:
        raise SettingsError("reload finds the gate by its GATE_PID_FILE, which is not set.")
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
