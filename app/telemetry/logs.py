"""One line a record, for people or as JSON. Never image content."""

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import TextIO

import orjson

ACCESS = logging.getLogger("app.access")
_PLAIN_FIELDS = re.compile(r"(?: [a-z_]+=[!#-<>-~]+)*")
_PLAIN = re.compile(r"[!#-<>-~]+")  # printable ASCII without space, quote and equals sign
_ACCESS_RECORD = vars(logging.LogRecord(ACCESS.name, logging.INFO, "", 0, "request", None, None))


class _Lines(logging.StreamHandler[TextIO]):
    """Writes to standard error, which needs no flushing: it writes whole lines at once."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(f"{self.format(record)}\n")
        except Exception:  # as the class above it does
            self.handleError(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY, default=str).decode()


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__()
        self._second = (0, "")

    def format(self, record: logging.LogRecord) -> str:
        line = (
            f"{self._time(record)} {record.levelname:<7} {record.getMessage()}{_words(getattr(record, 'fields', {}))}"
        )
        if record.exc_info:
            line += f"\n{self.formatException(record.exc_info)}"
        return f"{line}\n{record.stack_info}" if record.stack_info else line

    def _time(self, record: logging.LogRecord) -> str:
        """Formats the time like `logging` does, but computes the date and the second only once a second."""
        second = int(record.created)
        if self._second[0] != second:
            self._second = (second, time.strftime(self.default_time_format, time.localtime(second)))
        return f"{self._second[1]},{int(record.msecs):03d}"


def configure_logging(level: str, log_format: str) -> None:
    """Sends every record to standard error; uvicorn's own access lines are replaced by ours."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # not part of any line
    handler = _Lines()
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
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
    if ACCESS.isEnabledFor(logging.INFO):
        # Not ACCESS.info(), which looks through the stack for its caller's name, file and line, and not LogRecord(),
        # which takes them apart: nobody reads them.
        record = logging.LogRecord.__new__(logging.LogRecord)
        now = time.time()
        vars(record).update(_ACCESS_RECORD, created=now, msecs=now % 1 * 1000, fields=fields)
        ACCESS.handle(record)
