"""Traces: which spans a request leaves, whose children they are, and that without the settings nothing is loaded."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.testclient import TestClient

from app.main import create_app
from app.settings import Settings
from app.telemetry.spans import Spans
from app.telemetry.tracing import read_tracing
from testing.artifacts import DEFAULT_ARTIFACT
from testing.fake_classifier import FakeClassifier
from testing.pictures import picture
from tests.test_imports import run_python

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
SERVE_ONE = f"""
import sys
from starlette.testclient import TestClient
from app.main import create_app
from app.settings import Settings
with TestClient(create_app(Settings(artifact="{DEFAULT_ARTIFACT}"))) as client:
    print(client.post("/v1/predict", content=open("docs/duck.png", "rb").read()).status_code)
"""


@pytest.fixture
def exported() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def client(
    make_client: Callable[..., TestClient], exported: InMemorySpanExporter, classifier: FakeClassifier
) -> TestClient:
    return traced_client(make_client, exported, classifier_url=classifier.url)


def traced_client(
    make_client: Callable[..., TestClient], exported: InMemorySpanExporter, **settings: object
) -> TestClient:
    """An app like any other, whose spans stay in memory."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exported))
    client = make_client(**settings)
    app = client.app
    app.state.spans = Spans(provider)  # type: ignore[attr-defined]
    app.middleware_stack = app.build_middleware_stack()  # type: ignore[attr-defined]
    return client


def by_name(exported: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exported.get_finished_spans()}


def span_id(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.span_id:016x}"


def test_each_step_is_a_child_of_its_request(client: TestClient, exported: InMemorySpanExporter) -> None:
    client.post("/v1/predict", content=picture())
    spans = exported.get_finished_spans()
    assert [span.name for span in spans] == ["read body", "parse", "decode", "network", "POST /v1/predict"]
    request = spans[-1]
    assert request.kind is SpanKind.SERVER
    assert request.parent is None
    assert all(span.parent == request.context for span in spans[:-1])


def test_a_batch_goes_through_the_network_in_one_step(client: TestClient, exported: InMemorySpanExporter) -> None:
    client.post("/v1/predict/batch", files=[("files", picture()), ("files", picture())])
    names = [span.name for span in exported.get_finished_spans()]
    assert names == ["read body", "parse", "decode", "network", "POST /v1/predict/batch"]


def test_the_client_s_traceparent_is_the_parent(client: TestClient, exported: InMemorySpanExporter) -> None:
    client.post("/v1/predict", content=picture(), headers=TRACEPARENT)
    request = by_name(exported)["POST /v1/predict"]
    assert request.parent is not None
    assert (f"{request.parent.trace_id:032x}", f"{request.parent.span_id:016x}") == (TRACE, PARENT)
    assert request.parent.is_remote


def test_the_classifier_gets_the_forwarding_step_as_its_parent(
    client: TestClient, exported: InMemorySpanExporter, classifier: FakeClassifier
) -> None:
    more = {"tracestate": "vendor=1", "baggage": "user=7"}
    client.post("/v1/gate/classify", content=picture(), headers={**TRACEPARENT, **more})
    (received,) = classifier.requests
    forward = by_name(exported)["forward"]
    assert forward.kind is SpanKind.CLIENT
    assert received.values(b"traceparent") == [f"00-{TRACE}-{span_id(forward)}-01".encode()]
    assert received.values(b"tracestate") == [b"vendor=1"]
    assert received.values(b"baggage") == [b"user=7"]


def test_while_traces_are_off_the_client_s_own_traceparent_goes_to_the_classifier(
    make_client: Callable[..., TestClient], classifier: FakeClassifier
) -> None:
    make_client(classifier_url=classifier.url).post("/v1/gate/classify", content=picture(), headers=TRACEPARENT)
    assert classifier.requests[0].values(b"traceparent") == [TRACEPARENT["traceparent"].encode()]


def test_a_request_s_span_says_what_its_access_line_says(client: TestClient, exported: InMemorySpanExporter) -> None:
    answer = client.post("/v1/gate/classify?secret=1", content=picture(), headers={"x-request-id": "seven"})
    attributes = by_name(exported)["POST /v1/gate/{path}"].attributes
    assert attributes is not None
    assert attributes["http.request.method"] == "POST"
    assert attributes["http.route"] == "/v1/gate/{path}"
    assert attributes["http.response.status_code"] == answer.status_code == 200
    assert attributes["gate.verdict"] == "normal"
    assert attributes["gate.request_id"] == "seven"
    assert "secret" not in repr(attributes)


def test_an_access_line_names_its_trace(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "app.access"):
        client.post("/v1/predict", content=picture(), headers=TRACEPARENT)
    assert [vars(record)["fields"]["trace_id"] for record in caplog.records if record.name == "app.access"] == [TRACE]


def test_a_refusal_is_named_and_is_no_error_of_the_service(client: TestClient, exported: InMemorySpanExporter) -> None:
    assert client.post("/v1/predict", content=b"not an image").status_code == 415
    spans = by_name(exported)
    for span in (spans["decode"], spans["POST /v1/predict"]):
        assert span.status.status_code is StatusCode.UNSET
    assert (spans["decode"].attributes or {})["error.type"] == "unsupported-format"


def test_a_classifier_that_is_down_is_an_error(
    make_client: Callable[..., TestClient], exported: InMemorySpanExporter
) -> None:
    client = traced_client(make_client, exported, classifier_url="http://127.0.0.1:1")
    assert client.post("/v1/gate/classify", content=picture()).status_code == 502
    spans = by_name(exported)
    for span in (spans["forward"], spans["POST /v1/gate/{path}"]):
        assert span.status.status_code is StatusCode.ERROR


def test_probes_and_metrics_leave_no_span(client: TestClient, exported: InMemorySpanExporter) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert client.get(path).status_code == 200
    assert not exported.get_finished_spans()


def test_unless_traces_are_asked_for_neither_sdk_nor_exporter_is_loaded() -> None:
    # FastAPI itself imports opentelemetry's API, which makes no span.
    loaded = "print(*(m for m in sys.modules if m.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))))"
    assert run_python(SERVE_ONE + loaded).split() == ["200"]


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}], ids=str)
def test_the_standard_variables_turn_traces_off(off: dict[str, str]) -> None:
    assert read_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **off}) is None


def test_without_the_extra_traces_are_off_and_the_log_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "app.telemetry.spans")
    with caplog.at_level(logging.WARNING):
        assert read_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}) is None
    assert "imagegate[otel]" in vars(caplog.records[-1])["fields"]["reason"]


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "not zipkin"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "not grpc"),
    ],
)
def test_an_exporter_that_is_not_there_turns_traces_off_with_a_warning(
    environment: dict[str, str], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert read_tracing(environment) is None
    assert reason in vars(caplog.records[-1])["fields"]["reason"]


def test_the_standard_variables_choose_the_exporter_and_name_the_service() -> None:
    printed = run_python(
        SERVE_ONE, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="gate-of-digits", OTEL_RESOURCE_ATTRIBUTES="zone=a"
    )
    spans = list(spans_of(printed.partition("\n")[2]))
    assert {span["name"] for span in spans} >= {"decode", "POST /v1/predict"}
    resource = spans[0]["resource"]["attributes"]
    assert (resource["service.name"], resource["zone"]) == ("gate-of-digits", "a")


def test_spans_arrive_at_the_collector_by_the_time_the_service_has_stopped(
    monkeypatch: pytest.MonkeyPatch, classifier: FakeClassifier, tiny_artifact: Path
) -> None:
    collector = classifier
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=secret")
    with TestClient(create_app(Settings(artifact=tiny_artifact))) as client:
        client.post("/v1/predict", content=picture())
    (received,) = collector.requests
    assert received.line == b"POST /v1/traces HTTP/1.1"
    assert received.values(b"x-key") == [b"secret"]
    (resource_spans,) = ExportTraceServiceRequest.FromString(received.body).resource_spans
    assert {field.key: field.value.string_value for field in resource_spans.resource.attributes}[
        "service.name"
    ] == "imagegate"
    names = [span.name for scope in resource_spans.scope_spans for span in scope.spans]
    assert names == ["read body", "parse", "decode", "network", "POST /v1/predict"]


def spans_of(text: str) -> Iterator[dict[str, dict[str, dict[str, str]]]]:
    """The JSON objects that stand in a text one after another."""
    decoder = json.JSONDecoder()
    while text := text.lstrip():
        span, end = decoder.raw_decode(text)
        yield span
        text = text[end:]
