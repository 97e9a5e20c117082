from typing import Any

import pytest

from app.payload.places import read_places
from app.settings import Settings, SettingsError


@pytest.mark.parametrize("written", ["auto", "body", "form:picture", "json:/a~1b/*/~2/0", "json:", "tensor:x,body"])
def test_places_are_read_as_they_are_written(written: str) -> None:
    assert str(read_places(Settings(image_at=written))) == written


@pytest.mark.parametrize("written", ["image", "form:", "json:a", "json:/a~3", "tensor:", "body,", "auto,body"])
def test_place_that_cannot_be_understood_stops_the_start_by_name(written: str) -> None:
    with pytest.raises(SettingsError, match="GATE_IMAGE_AT"):
        read_places(Settings(image_at=written))


@pytest.mark.parametrize(
    "written", ["/a", "get /a", "GET a", "GET /a*b", "GET /a//b", "GET /%61", "GET /a?b", "GET /a/../b"]
)
def test_route_that_cannot_be_understood_stops_the_start_by_name(written: str) -> None:
    with pytest.raises(SettingsError, match="GATE_UNJUDGED"):
        read_places(Settings(unjudged=written))


@pytest.mark.parametrize(
    ("method", "path", "answer"),
    [
        ("POST", "/feedback", True),
        ("GET", "/feedback", False),
        ("POST", "/feedback/", False),
        ("POST", "/jobs/7/cancel", True),
        ("DELETE", "/anything", True),
        ("POST", "/classify", False),
        ("POST", "/jobs/../classify", False),
        ("POST", "/jobs//classify", False),
        ("POST", "/jobs/%2e%2e/classify", False),
        ("POST", "/jobs/..;/classify", False),
        ("POST", "/jobs\\..\\classify", False),
    ],
)
def test_unjudged_routes_are_those_that_are_named_and_no_other_reading_of_them(
    method: str, path: str, answer: bool
) -> None:
    settings: dict[str, Any] = {"unjudged": "POST /feedback, POST /jobs/*, DELETE /*"}
    assert read_places(Settings(**settings)).is_unjudged(method, path) is answer
