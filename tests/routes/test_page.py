"""What the answers of the page and of its routes say; `test_page_in_browser` and others open it in Chromium."""

import base64
import hashlib
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from app.main import create_app
from app.routes.page import page_headers
from app.settings import Settings
from testing.artifacts import write_tiny_artifact
from testing.pictures import DUCK, picture, thin_circle

WHITE, BLACK = picture(level=255), picture(level=0)


def test_the_page_allows_itself_and_nothing_else(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy


def test_exactly_the_inline_blocks_are_admitted_to_the_last_space() -> None:
    script, style = "\n  if (1 < 2 && 'é') { a('&amp;</b>') }\n", "\n body { color: red } "
    policy = page_headers(f"<style>{style}</style><p onclick='evil()'>text</p><script>{script}</script>")
    for block in (script, style):
        digest = base64.b64encode(hashlib.sha256(block.encode()).digest()).decode()
        assert f"-src 'sha256-{digest}'" in policy["Content-Security-Policy"]


def test_the_pages_have_the_styles_that_they_share(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    client = make_client(keep_folder=tmp_path)
    for path in ("/", "/review"):
        text = client.get(path).text
        assert text.count("--paper: #faf8f4") == 1
        assert "shared.css" not in text


def test_the_page_needs_no_other_host(client: TestClient) -> None:
    text = client.get("/").text
    assert set(re.findall(r"https?://[^'\"\s)]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|href)=\"(?!data:|docs|report|metrics)", text)


def test_the_report_is_served_as_the_manifest_lists_it_and_nothing_else(tmp_path: Path) -> None:
    report = {"index.html": b"<h1>Report</h1>", "roc.png": WHITE}
    folder = write_tiny_artifact(tmp_path / "tiny", report=report)
    (folder / "report" / "added.html").write_bytes(b"nobody listed this")
    with TestClient(create_app(Settings(artifact=folder))) as client:
        page = client.get("/report")
        assert page.text == "<h1>Report</h1>"
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'none'; img-src 'self' data:; ")
        assert client.get("/report/roc.png").headers["content-type"] == "image/png"
        for path in ("/report/added.html", "/report/..%2Fmanifest.json", "/report/%2e%2e/manifest.json", "/report/"):
            assert client.get(path).status_code == 404, path
        assert client.get("/v1/model").json()["has_report"]


def test_samples_of_the_artifact_are_pngs(tmp_path: Path) -> None:
    folder = write_tiny_artifact(
        tmp_path / "tiny", samples=(thin_circle(5)[np.newaxis], DUCK[np.newaxis]), name="Round-things"
    )
    with TestClient(create_app(Settings(artifact=folder))) as client:
        answer = client.get("/v1/model/samples").json()
        assert client.get("/v1/model").json()["noun"] == "round things"
    for found, image in ((answer["normal"], thin_circle(5)), (answer["odd"], DUCK)):
        with Image.open(BytesIO(base64.b64decode(found[0]))) as opened:
            np.testing.assert_array_equal(np.asarray(opened), image)


def test_an_artifact_without_samples_and_report_says_so(client: TestClient) -> None:
    assert client.get("/v1/model/samples").json() == {"normal": [], "odd": []}
    assert client.get("/v1/model").json()["has_report"] is False
    assert client.get("/v1/model").json()["noun"] == "images of tiny"
    assert client.get("/report").status_code == 404


@pytest.mark.parametrize(
    ("headers", "counts"),
    [
        ({}, True),
        ({"X-Gate-Source": "page"}, False),
        ({"X-Gate-Source": "page", "Sec-Fetch-Site": "cross-site"}, True),
    ],
)
def test_only_what_the_page_sends_is_no_evidence_of_drift_and_it_is_counted_apart(
    client: TestClient, headers: dict[str, str], counts: bool
) -> None:
    for _ in range(12):
        assert client.post("/v1/predict", content=BLACK, headers=headers).json()["is_anomaly"]
    metrics = client.get("/metrics").text
    assert ("gate_drift_evidence_log10 0.0" in metrics) != counts
    assert f"gate_page_images_total {0 if counts else 12}.0" in metrics


def test_the_page_is_not_an_api_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert not {"/", "/metrics"} & set(paths)
