"""Loads a new artifact without a restart: it is verified and warmed up in a thread, and then replaces the old one."""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from app.detection.artifact import ReadFile, read_file
from app.detection.detector import Detector
from app.detection.promise import load_with_rate
from app.detection.snapshot import RecordedFiles
from app.errors import ArtifactError
from app.judging.judge import Judge

logger = logging.getLogger(__name__)


def load_detector(folder: Path, rate: float | None = None, read: ReadFile = read_file) -> Detector:
    """Reads, verifies and warms up the artifact in a folder, or in the folder that a link points to at this moment.

    Args:
        folder: The folder.
        rate: GATE_TARGET_FALSE_POSITIVE_RATE; None for the artifact's own.
        read: Reads its files.

    Raises:
        ArtifactError: It cannot be served, or cannot promise the rate; the message says why.
    """
    return Detector(load_with_rate(folder, rate, read))


class Reloader:
    """Loads the artifact again whenever it is called; what is wrong with a new one is logged, and the old one stays.

    Attributes:
        on_artifact: Is given the files of each artifact that comes to serve, by name; called in a thread.
        also: Called in a thread at each reload, after the artifact; each logs what is wrong, and returns it.
        on_done: Called in a thread after each reload with the time at which it began (`time.time`), the version of the
            artifact that serves, and what is not used and why.
    """

    def __init__(self, judge: Judge, folder: Path, rate: float | None = None) -> None:
        """
        Args:
            judge: Gets the new detector.
            folder: The artifact, or a link to it.
            rate: GATE_TARGET_FALSE_POSITIVE_RATE.
        """
        self.on_artifact: Callable[[Mapping[str, bytes]], None] | None = None
        self.also: list[Callable[[], str | None]] = []
        self.on_done: Callable[[float, str, list[str]], None] | None = None
        self._judge = judge
        self._folder = folder
        self._rate = rate
        self._loading: asyncio.Task[None] | None = None
        self._again = False

    def __call__(self) -> None:
        """Starts a reload. If one is running, another follows it, since the folder may have changed meanwhile."""
        if self._loading is not None and not self._loading.done():
            self._again = True
            return
        self._loading = asyncio.create_task(self._reload_until_current())

    def on_hangup(self) -> None:
        """Makes SIGHUP call this, where signals can be handled: in the main thread of a POSIX system."""
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self)

    async def _reload_until_current(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            await self._reload()

    async def _reload(self) -> None:
        started = time.time()
        outcomes = [await self._reload_artifact()]
        outcomes += [await asyncio.to_thread(load) for load in self.also]
        if self.on_done is not None:
            problems = [outcome for outcome in outcomes if outcome is not None]
            await asyncio.to_thread(self.on_done, started, self._judge.detector.artifact.version, problems)

    async def _reload_artifact(self) -> str | None:
        """Returns why the new artifact is not used, or None if it is."""
        old = self._judge.detector.artifact
        try:
            detector = await asyncio.to_thread(self._load)
        except ArtifactError as error:
            self._judge.metrics.reload_failed()
            fields = {"serving": old.version, "reason": str(error)}
            logger.error("the new artifact is not used", extra={"fields": fields})
            return f"the new artifact is not used, {old.version} goes on: {error}"
        except Exception as error:
            self._judge.metrics.reload_failed()
            logger.exception("the new artifact is not used", extra={"fields": {"serving": old.version}})
            return f"the new artifact is not used, {old.version} goes on: {type(error).__name__}, see the log."
        self._judge.use(detector)
        name = detector.artifact.manifest.name
        fields = {"artifact": name, "version": detector.artifact.version, "before": old.version}
        if name != old.manifest.name:
            logger.warning(
                "the artifact has another name", extra={"fields": {"name": name, "before": old.manifest.name}}
            )
        logger.info("artifact reloaded", extra={"fields": fields})
        return None

    def _load(self) -> Detector:
        read = RecordedFiles()
        detector = load_detector(self._folder, self._rate, read)
        if self.on_artifact is not None:
            self.on_artifact(read.contents)
        return detector
