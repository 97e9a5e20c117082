"""Several serving processes on one socket: started, replaced when they die, told to reload, drained together.

uvicorn's own supervisor restarts its workers on SIGHUP; here SIGHUP loads a new artifact without losing a request.
It is deliberately small: it does not load the model, so it needs little memory and a bad artifact cannot crash it.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from app.server.listener import log_address
from app.server.worker import LENGTH_BYTES
from app.settings import Settings
from app.telemetry.shared_metrics import forget_worker, shared_metrics

logger = logging.getLogger(__name__)

# A worker that ran longer than this is replaced at once. If it died sooner, there is a pause, which doubles each time.
_HEALTHY_SECONDS = 10.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.25, 30.0
# What a worker may take beyond its draining time and its last requests before it is killed.
_EXIT_SECONDS = 5.0


@dataclass(slots=True)
class _Worker:
    process: asyncio.subprocess.Process
    ready: bool = False
    reload_when_ready: bool = False
    artifacts: asyncio.Task[None] | None = None

    def send(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)


class Supervisor:
    """Keeps `settings.workers` processes serving on one listening socket."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._count = settings.workers
        self._command = _worker_command()
        self._patience_seconds = settings.drain_seconds + settings.request_timeout_seconds + _EXIT_SECONDS
        self._listener = listener
        self._workers: list[_Worker] = []
        self._stopping = asyncio.Event()
        self._clean = True
        # The artifact that serves, in one piece: a worker that is replaced gets it, whatever is in the folder by now.
        self._artifact: bytes | None = None
        # The pipe is closed when this process ends, even if it is killed; the workers notice that and stop.
        self._parent_pipe = os.pipe()

    async def run(self) -> int:
        """Serves until SIGTERM or SIGINT.

        Returns:
            0 after a drained stop; 1 if no worker can serve, or if one had to be killed at the end.
        """
        with shared_metrics():
            return await self._run()

    async def _run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        # Start one worker first, so that an error in the settings or the artifact is reported only once.
        first = await self._start()
        if not first.ready and not self._stopping.is_set():
            await first.process.wait()  # else the event loop would complain of a child that it has not seen end
            return 1
        if first.ready:
            log_address(self._listener)
        await asyncio.gather(self._keep(first), *(self._keep(None) for _ in range(self._count - 1)))
        return 0 if self._clean else 1

    async def _keep(self, worker: _Worker | None) -> None:
        """Keeps one worker running: starts it, waits for its end and replaces it, until the supervisor stops."""
        pause = 0.0
        while worker or not self._stopping.is_set():
            started = time.monotonic()
            worker = worker or await self._start()
            code = await self._wait(worker)
            worker = None
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started
            pause = (
                0.0 if lived > _HEALTHY_SECONDS else min(max(2 * pause, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
            )
            logger.error("a worker died", extra={"fields": {"exit_code": code, "replaced_in_seconds": pause}})
            await self._pause(pause)

    async def _start(self) -> _Worker:
        """Starts a worker, and returns when it accepts requests or has died."""
        ready_read, ready_write = os.pipe()
        artifact_read, artifact_write = os.pipe()
        snapshot = self._snapshot_file()
        inherited = (self._listener.fileno(), ready_write, self._parent_pipe[0], artifact_write, snapshot)
        # In a group of its own: Ctrl-C in a terminal reaches this process alone, which then drains the workers.
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *map(str, inherited),
            pass_fds=[descriptor for descriptor in inherited if descriptor >= 0],
            process_group=0,
        )
        worker = _Worker(process)
        self._workers.append(worker)
        os.close(ready_write)
        os.close(artifact_write)
        if snapshot >= 0:
            os.close(snapshot)
        worker.artifacts = asyncio.create_task(self._hold_artifacts(artifact_read))
        if self._stopping.is_set():
            worker.send(signal.SIGTERM)
        worker.ready = await _byte_comes(ready_read)
        if worker.ready:
            logger.info("worker started", extra={"fields": {"pid": process.pid}})
        if worker.reload_when_ready:
            worker.send(signal.SIGHUP)
        return worker

    async def _hold_artifacts(self, pipe: int) -> None:
        """Holds each artifact that a worker comes to serve, until the pipe ends with the worker."""
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                self._artifact = await reader.readexactly(length)
        except asyncio.IncompleteReadError:
            pass
        finally:
            transport.close()

    def _snapshot_file(self) -> int:
        """A file in memory with the artifact that serves, to inherit; -1 if there is none yet."""
        if self._artifact is None:
            return -1
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("artifact")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        with open(descriptor, "wb", closefd=False) as held:
            held.write(self._artifact)
        return descriptor

    async def _wait(self, worker: _Worker) -> int:
        code = await worker.process.wait()
        self._workers.remove(worker)
        if worker.artifacts is not None:
            await worker.artifacts
        forget_worker(worker.process.pid)
        # A worker that is stopped before it serves has not installed its signal handler, and dies of SIGTERM.
        expected = (0,) if worker.ready else (0, -signal.SIGTERM)
        self._clean = self._clean and (code in expected or not self._stopping.is_set())
        return code

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _stop(self) -> None:
        """Passes the signal on; workers take a second one as the end of their draining time."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._listener.close()
            asyncio.get_running_loop().call_later(self._patience_seconds, self._kill)
        for worker in self._workers:
            worker.send(signal.SIGTERM)

    def _reload(self) -> None:
        for worker in self._workers:
            if worker.ready:
                worker.send(signal.SIGHUP)
            else:
                worker.reload_when_ready = True

    def _kill(self) -> None:
        for worker in self._workers:
            logger.error("a worker does not stop and is killed", extra={"fields": {"pid": worker.process.pid}})
            worker.send(signal.SIGKILL)


def _worker_command() -> list[str]:
    """What starts a worker, but for its arguments; it finds the same packages as this process.

    `python -m app`, in a checkout and in the container, finds them in the working folder. The installed command does
    not look there: an `app` in that folder is the user's own, and -P keeps the worker from it as well.
    """
    is_found_here = Path(__file__).resolve().parents[2].samefile(".")
    return [sys.executable, *([] if is_found_here else ["-P"]), "-m", "app.server.worker"]


async def _byte_comes(pipe: int) -> bool:
    """Whether a byte comes before the pipe's end; closes it."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pipe)
        came = bool(os.read(pipe, 1))
        os.close(pipe)
    return came
