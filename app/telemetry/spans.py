"""Spans made and exported by OpenTelemetry's SDK; `app.telemetry.tracing` loads this if traces are asked for."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any, Literal

from opentelemetry import context, propagate
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, get_current_span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import __version__
from app.telemetry.tracing import Kind, RawHeaders, current

_KINDS: dict[Kind, SpanKind] = {"internal": SpanKind.INTERNAL, "client": SpanKind.CLIENT}
# Requested every few seconds by probes and Prometheus; traces of them are of no use.
_NOT_TRACED = frozenset({"/livez", "/readyz", "/metrics"})
# How long the exit waits for the export of the last spans; a collector that hangs does not delay it any longer.
_FLUSH_SECONDS = 3.0


class Spans:
    """Makes the spans of one app's requests.

    The provider is the app's own and not the process's, so that several apps do not disturb each other.
    """

    def __init__(self, provider: TracerProvider) -> None:
        """
        Args:
            provider: Decides which spans are exported, and where to.
        """
        self._provider = provider
        self._tracer = provider.get_tracer("imagegate", __version__)

    def around(self, app: ASGIApp) -> ASGIApp:
        """Returns the ASGI app with a span around each request, which is the parent of the request's steps."""

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] in _NOT_TRACED:
                await app(scope, receive, send)
                return
            with self._request(scope) as span:

                async def noting_status(message: Message) -> None:
                    if message["type"] == "http.response.start":
                        _note_status(span, message["status"])
                    await send(message)

                await app(scope, receive, noting_status)

        return answer

    @contextmanager
    def step(self, name: str, kind: Kind = "internal") -> Iterator[None]:
        """Opens a child span. An exception sets its `error.type`: a refusal's slug, or the name of the class."""
        with self._tracer.start_as_current_span(
            name, kind=_KINDS[kind], record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", getattr(error, "slug", type(error).__name__))
                if getattr(error, "status", 500) >= 500:  # less is the client's fault, and no error of this service
                    span.set_status(StatusCode.ERROR)
                raise

    def trace_id(self) -> str:
        """Returns the current trace's id: 32 hex digits."""
        return format_trace_id(get_current_span().get_span_context().trace_id)

    def propagate(self, headers: RawHeaders) -> RawHeaders:
        """Returns the headers with the current span as parent, in place of those that name another."""
        ours: dict[str, str] = {}
        propagate.inject(ours)
        replaced = {name.encode() for name in propagate.get_global_textmap().fields}
        kept = [field for field in headers if field[0] not in replaced]
        return kept + [(name.encode(), value.encode()) for name, value in ours.items()]

    def close(self) -> None:
        """Exports what is left, for a few seconds at most."""
        flush = Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        flush.start()
        flush.join(_FLUSH_SECONDS)

    @contextmanager
    def _request(self, scope: Scope) -> Iterator[Span]:
        """The span of a whole request, below the client's if it names one."""
        parent = context.attach(propagate.extract(_trace_headers(scope)))
        spans = current.set(self)
        try:
            with self._tracer.start_as_current_span(scope["method"], kind=SpanKind.SERVER) as span:
                yield span
                _describe(span, scope)
        finally:
            current.reset(spans)
            context.detach(parent)


def exporting_spans(exporter: Literal["otlp", "console"]) -> Spans:
    """Returns spans that a thread exports in batches; sampler, endpoint, headers and the like are OTEL_* variables."""
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)  # the app's lifespan closes it
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter()))
    return Spans(provider)


def _resource() -> Resource:
    ours = {"service.version": __version__}
    # What is given here would win over the environment.
    if not os.environ.get("OTEL_SERVICE_NAME") and "service.name=" not in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    ):
        ours["service.name"] = "imagegate"
    return Resource.create(ours)


def _trace_headers(scope: Scope) -> dict[str, list[str]]:
    """The header fields that name a parent, such as `traceparent`."""
    found: dict[str, list[str]] = {}
    wanted = propagate.get_global_textmap().fields
    for name, value in scope["headers"]:
        text = name.decode("latin-1")
        if text in wanted:
            found.setdefault(text, []).append(value.decode("latin-1"))
    return found


def _note_status(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)


def _describe(span: Span, scope: Scope) -> None:
    """Names a request's span by its route, and adds what its access line says."""
    span.set_attributes(
        {"http.request.method": scope["method"], "url.path": scope["path"], "url.scheme": scope["scheme"]}
    )
    template = getattr(scope.get("route"), "path_format", None)
    if template is not None:
        span.update_name(f"{scope['method']} {template}")
        span.set_attribute("http.route", template)
    state: dict[str, Any] = scope.get("state", {})
    span.set_attribute("gate.request_id", state.get("request_id", ""))
    for name, value in state.get("log", {}).items():
        if name != "trace_id":
            span.set_attribute(f"gate.{name}", value)
