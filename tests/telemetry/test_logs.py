import base64
import io
import json
import logging
import re
from collections.abc import Callable

import pytest
from starlette.testclient import TestClient

from app.telemetry.logs import configure_logging, log_request
from testing.pictures import picture


@pytest.fixture
def lines(
    make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, object]]]:
    """Sends one request to an app that logs JSON, and gives the access lines that it left."""

    def send(method: str, path: str, **request: object) -> list[dict[str, object]]:
        client = make_client(log_level="info", log_format="json")
        capsys.readouterr()
        client.request(method, path, **request)  # type: ignore[arg-type]
        logged = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        return [line for line in logged if line["logger"] == "app.access"]

    return send


def test_a_judged_image_leaves_one_line_with_all_that_matters(lines: Callable[..., list[dict[str, object]]]) -> None:
    [line] = lines("POST", "/v1/predict", content=picture(level=0), headers={"X-Request-ID": "from-the-client"})
    assert line.pop("milliseconds") > 0  # type: ignore[operator]
    assert str(line.pop("time")).endswith("+00:00")
    assert str(line.pop("model")).startswith("sha256:")
    assert line == {
        "level": "info",
        "logger": "app.access",
        "message": "request",
        "request_id": "from-the-client",
        "method": "POST",
        "path": "/v1/predict",
        "status": 200,
        "verdict": "anomaly",
        "score": 1.0,
    }


def test_a_handler_of_somebody_else_gets_access_records_and_the_same_line_is_written(
    make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(log_level="info", log_format="text")
    written = []
    for handlers in ([], [caplog.handler]):
        capsys.readouterr()
        for handler in handlers:
            logging.root.addHandler(handler)
        client.get("/nowhere here", headers={"X-Request-ID": "7"})
        (line,) = capsys.readouterr().err.splitlines()
        written.append(re.sub(r"^[0-9-]{10} [0-9:,]{12}|milliseconds=\S+", "", line))
    assert written[0] == written[1]
    assert [record.__dict__["fields"]["status"] for record in caplog.records if record.name == "app.access"] == [404]


def test_a_closed_standard_error_fails_no_request(make_client: Callable[..., TestClient]) -> None:
    client = make_client(log_level="info")
    (handler,) = logging.root.handlers
    assert isinstance(handler, logging.StreamHandler)
    closed = io.StringIO()
    closed.close()
    before = handler.setStream(closed)
    assert client.get("/livez").status_code == 200
    handler.setStream(before)


def test_a_field_that_cannot_be_written_fails_no_request(make_client: Callable[..., TestClient]) -> None:
    make_client(log_level="info", log_format="json")
    log_request({"verdict": "\ud800"})  # half of a character, which JSON cannot hold


def test_a_refused_image_leaves_one_line_that_says_why(lines: Callable[..., list[dict[str, object]]]) -> None:
    [line] = lines("POST", "/v1/predict", content=b"GIF89a and then nothing")
    assert (line["status"], line["problem"]) == (422, "undecodable-image")


def test_a_batch_leaves_one_line_with_its_counts(lines: Callable[..., list[dict[str, object]]]) -> None:
    files = [("files", picture(level=level)) for level in (0, 0, 255)]
    [line] = lines("POST", "/v1/predict/batch", files=files)
    assert (line["images"], line["anomalies"]) == (3, 2)


def test_a_request_id_that_would_forge_lines_is_replaced(lines: Callable[..., list[dict[str, object]]]) -> None:
    [line] = lines("GET", "/livez", headers={"X-Request-ID": 'a" injected="b'})
    assert len(str(line["request_id"])) == 32


def test_control_characters_in_a_path_do_not_break_a_text_line(
    make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str]
) -> None:
    client = make_client(log_level="info", log_format="text")
    capsys.readouterr()
    client.get("/nowhere%0Aforged%20INFO%20line%1b[31m")
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_image_content_and_file_names_are_never_logged(
    make_client: Callable[..., TestClient], capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    client = make_client(log_level="info", log_format=log_format)
    marker = b"secret-pixels-within-the-image"
    for content in (marker, picture() + marker, b"\x89PNG\r\n\x1a\n" + marker):
        client.post("/v1/predict", files={"file": ("passport-of-mrs-smith.png", content)})
    logged = capsys.readouterr().err
    assert len(logged.splitlines()) >= 3
    for secret in (marker.decode(), base64.b64encode(marker).decode()[:16], "mrs-smith"):
        assert secret not in logged


def test_fields_of_a_line_stand_before_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    try:
        raise ZeroDivisionError("on purpose")
    except ZeroDivisionError:
        logging.getLogger("app.test").exception("it failed", extra={"fields": {"request_id": "abc"}})
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("it failed request_id=abc")
    assert rest[-1] == "ZeroDivisionError: on purpose"


def test_a_stack_that_is_asked_for_stands_behind_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "text")
    logging.getLogger("app.test").info("here", stack_info=True)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("here")
    assert second.startswith("Stack")
