"""The hooks for traces: where a span begins and ends, at next to no cost while traces are off.

This module does not import OpenTelemetry. Only `app.telemetry.spans` does, and it is loaded only if the environment
asks for traces and the extra `[otel]` is installed.
"""

import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

if TYPE_CHECKING:
    from app.telemetry.spans import Spans

P = ParamSpec("P")
Result = TypeVar("Result")
RawHeaders = list[tuple[bytes, bytes]]
Kind = Literal["internal", "client"]

# The spans of the request that is being answered; None while traces are off.
current: ContextVar["Spans | None"] = ContextVar("spans", default=None)
_NOTHING: AbstractContextManager[None] = nullcontext()
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOL = "http/protobuf"
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

logger = logging.getLogger(__name__)


def span(name: str) -> AbstractContextManager[None]:
    """Returns a context manager that records its block as a span, or does nothing while traces are off."""
    spans = current.get()
    return _NOTHING if spans is None else spans.step(name)


def traced(
    name: str, kind: Kind = "internal"
) -> Callable[[Callable[P, Coroutine[Any, Any, Result]]], Callable[P, Coroutine[Any, Any, Result]]]:
    """Makes each call of a coroutine function one step of the request.

    Args:
        name: Of the step.
        kind: "client" if the step is a call of another service.
    """

    def decorate(function: Callable[P, Coroutine[Any, Any, Result]]) -> Callable[P, Coroutine[Any, Any, Result]]:
        async def in_span(spans: "Spans", *args: P.args, **kwargs: P.kwargs) -> Result:
            with spans.step(name, kind):
                return await function(*args, **kwargs)

        @wraps(function)
        def begin(*args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Result]:
            spans = current.get()
            # Not awaited here: while traces are off, the caller gets the function's own coroutine.
            return function(*args, **kwargs) if spans is None else in_span(spans, *args, **kwargs)

        return begin

    return decorate


def trace_fields() -> dict[str, Any]:
    """Returns what an access line says of its trace: `trace_id`, or nothing while traces are off."""
    spans = current.get()
    return {} if spans is None else {"trace_id": spans.trace_id()}


def with_trace(headers: RawHeaders) -> RawHeaders:
    """Returns headers for the next service, with the current step as parent in place of the client's."""
    spans = current.get()
    return headers if spans is None else spans.propagate(headers)


def read_tracing(environment: Mapping[str, str] = os.environ) -> "Spans | None":
    """Returns what makes spans and exports them, or None if the environment does not ask for traces.

    Traces that are asked for but cannot be exported are off too, with a warning: such variables are often set for a
    whole cluster.
    """
    if not _are_asked_for(environment):
        return None
    reason = _why_not(environment)
    if not reason:
        try:
            from app.telemetry.spans import exporting_spans
        except ImportError as error:
            reason = f"the extra is missing (pip install 'imagegate[otel]'): {error}"
        else:
            return exporting_spans("console" if _exporter(environment) == "console" else "otlp")
    logger.warning("traces are off", extra={"fields": {"reason": reason}})
    return None


def _are_asked_for(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or _exporter(environment) == "none":
        return False
    return bool(_exporter(environment)) or any(environment.get(name) for name in _ENDPOINTS)


def _why_not(environment: Mapping[str, str]) -> str:
    """Why traces cannot be exported as the environment says, or ""."""
    exporter = _exporter(environment)
    if exporter == "console":
        return ""
    if exporter not in ("", "otlp"):
        return f"OTEL_TRACES_EXPORTER is otlp, console or none, not {exporter}"
    protocol = next(filter(None, map(environment.get, _PROTOCOLS)), _PROTOCOL)
    return "" if protocol == _PROTOCOL else f"the only OTLP protocol is {_PROTOCOL}, not {protocol}"


def _exporter(environment: Mapping[str, str]) -> str:
    return environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
