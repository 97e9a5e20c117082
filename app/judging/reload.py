"""A new artifact without a restart: loaded aside, verified, warmed up, and swapped in at once."""

import asyncio
import logging
import signal
import threading
from pathlib import Path

from app.detection.artifact import load_artifact
from app.detection.detector import Detector
from app.errors import ArtifactError
from app.judging.judge import Judge

logger = logging.getLogger(__name__)


def load_detector(folder: Path) -> Detector:
    """Reads, verifies and warms up the artifact in a folder, or in the folder that a link points to at this moment.

    Raises:
        ArtifactError: It cannot be served; the message says why.
    """
    # Resolved once: a link that is pointed elsewhere meanwhile must not mix the files of two artifacts.
    return Detector(load_artifact(folder.resolve()))


class Reloader:
    """Loads the artifact again whenever it is called; what is wrong with a new one is logged, and the old one stays."""

    def __init__(self, judge: Judge, folder: Path) -> None:
        self._judge = judge
        self._folder = folder
        self._loading: asyncio.Task[None] | None = None
        self._again = False

    def __call__(self) -> None:
        """Starts a reload, or another one after that which runs: the folder may have changed since it began."""
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
        old = self._judge.detector.artifact.version
        try:
            detector = await asyncio.to_thread(load_detector, self._folder)
        except ArtifactError as error:
            logger.error("the new artifact is not used", extra={"fields": {"serving": old, "reason": str(error)}})
        except Exception:
            logger.exception("the new artifact is not used", extra={"fields": {"serving": old}})
        else:
            self._judge.use(detector)
            fields = {"artifact": detector.artifact.manifest.name, "version": detector.artifact.version, "before": old}
            logger.info("artifact reloaded", extra={"fields": fields})
