"""One line a record, for people or as JSON. Never image content."""

import contextlib
import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

import orjson

ACCESS = logging.getLogger("app.access")
_MESSAGE = "request"
_PLAIN_FIELDS = re.compile(r"(?: [a-z_]+=[!#-<>-~]+)*")
_PLAIN = re.compile(r"[!#-<>-~]+")  # printable ASCII without space, quote and equals sign


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": self.formatException(record.exc_info)}
        return self.line(record.created, record.levelname, record.name, record.getMessage(), fields)

    def line(self, created: float, level: str, logger: str, message: str, fields: dict[str, object]) -> str:
        line = {
            "time": datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds"),
            "level": level.lower(),
            "logger": logger,
            "message": message,
            **fields,
        }
        return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode()


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        line = self.line(record.created, record.levelname, record.name, record.getMessage(), fields)
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return f"{line}\n{record.stack_info}" if record.stack_info else line

    def line(self, created: float, level: str, logger: str, message: str, fields: dict[str, object]) -> str:
        return f"{self._time(created)} {level:<7} {message}{_words(fields)}"

    def _time(self, created: float) -> str:
        """Formats the time like `logging` does, but computes the date and the second only once a second."""
        second = int(created)
        if self._second[0] != second:
            self._second = (second, time.strftime(self.default_time_format, time.localtime(second)))
        return f"{self._second[1]},{int((created - second) * 1000):03d}"


class _Lines(logging.StreamHandler[TextIO]):
    """Writes to standard error, which needs no flushing: it writes whole lines at once."""

    def __init__(self, formatter: _JsonFormatter | _TextFormatter) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(formatter)
        self._lines = formatter

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:  # as the class above it does
            self.handleError(record)

    def write_access(self, fields: dict[str, object]) -> None:
        """Writes what `emit` would write of an access record, without making one: that saves two fifths of the time."""
        # As `emit`, it never fails: where standard error is closed, or a field cannot be written, nobody is told.
        with self.lock, contextlib.suppress(OSError, ValueError, TypeError):  # type: ignore[union-attr]
            self.stream.write(f"{self._lines.line(time.time(), 'INFO', ACCESS.name, _MESSAGE, fields)}\n")


def configure_logging(level: str, log_format: str) -> None:
    """Sends every record to standard error; uvicorn's own access lines are replaced by ours."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not part of any line
    handler = _Lines(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True


def _words(fields: dict[str, object]) -> str:
    """Fields of a text line, each with a space in front of it."""
    words = "".join([f" {name}={value}" for name, value in fields.items()])
    if words.count(" ") == len(fields) and _PLAIN_FIELDS.fullmatch(words):
        return words
    # A path is the client's words: with a line break in it, it could forge a line of its own.
    texts = [(name, str(value)) for name, value in fields.items()]
    return "".join([f" {name}={text if _PLAIN.fullmatch(text) else json.dumps(text)}" for name, text in texts])


def log_request(fields: dict[str, object]) -> None:
    """One access line: method, path, status, request id, duration, and what the route added."""
    if not ACCESS.isEnabledFor(logging.INFO):
        return
    handlers = logging.root.handlers
    if len(handlers) == 1 and isinstance(handlers[0], _Lines) and not ACCESS.handlers:
        handlers[0].write_access(fields)
    else:  # somebody else listens too
        ACCESS.info(_MESSAGE, extra={"fields": fields})
