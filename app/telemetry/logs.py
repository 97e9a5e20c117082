"""One line a record, for people or as JSON. Never image content."""

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime

import orjson

ACCESS = logging.getLogger("app.access")
_NUMBERS = (int, float)
_PLAIN = re.compile(r"[!#-<>-~]+")  # printable ASCII without space, quote and equals sign
_ACCESS_RECORD = vars(logging.LogRecord(ACCESS.name, logging.INFO, "", 0, "request", None, None))


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
        line = f"{self._time(record)} {record.levelname:<7} {record.getMessage()}"
        for name, value in getattr(record, "fields", {}).items():
            text = str(value)
            # A path is the client's words: with a line break in it, it could forge a line of its own.
            is_plain = type(value) in _NUMBERS or _PLAIN.fullmatch(text)
            line += f" {name}={text if is_plain else json.dumps(text)}"
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True


def log_request(fields: dict[str, object]) -> None:
    """One access line: method, path, status, request id, duration, and what the route added."""
    if ACCESS.isEnabledFor(logging.INFO):
        # Not ACCESS.info(), which looks through the stack for its caller's name, file and line, and not LogRecord(),
        # which takes them apart: nobody reads them.
        record = logging.LogRecord.__new__(logging.LogRecord)
        now = time.time()
        vars(record).update(_ACCESS_RECORD, created=now, msecs=now % 1 * 1000, fields=fields)
        ACCESS.handle(record)
