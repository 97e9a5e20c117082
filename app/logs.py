"""One line a record, for people or as JSON. Never image content."""

import json
import logging
import re
import sys
from datetime import UTC, datetime

import orjson

ACCESS = logging.getLogger("app.access")
_PLAIN = re.compile(r"[!#-<>-~]+")  # printable ASCII without space, quote and equals sign


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
        super().__init__("%(asctime)s %(levelname)-7s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        line = super().format(record)
        return line + "".join(f" {name}={_plain(value)}" for name, value in fields.items())


def _plain(value: object) -> str:
    """A value as it stands in a line of text: quoted and escaped unless it is one plain word.

    A path is the client's words: with a line break in it, it could forge a line of its own.
    """
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


def configure_logging(level: str, log_format: str) -> None:
    """Sends every record to standard error; uvicorn's own access lines are replaced by ours."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn.access").disabled = True
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it has a line for each request to the classifier


def log_request(fields: dict[str, object]) -> None:
    """One access line: method, path, status, request id, duration, and what the route added."""
    if ACCESS.isEnabledFor(logging.INFO):
        ACCESS.info("request", extra={"fields": fields})
