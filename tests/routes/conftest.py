"""Fixtures of the tests in a real browser: Chromium by Playwright (`make test-browser`)."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from testing.artifacts import write_tiny_artifact
from testing.browser import Visit
from testing.pictures import DUCK, thin_circle
from testing.servers import Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """White is normal; a thin circle on white as well; a duck and black are not."""
    samples = (np.stack([thin_circle(radius) for radius in range(3, 13)]), np.stack([DUCK, np.zeros_like(DUCK)]))
    folder = tmp_path_factory.mktemp("browser") / "tiny"
    return write_tiny_artifact(
        folder,
        0.025,
        samples,
        {"index.html": b"<link rel=icon href=data:,><h1>The report</h1>"},
        data={"kind": "circles"},
    )


@pytest.fixture(scope="module")
def address(artifact: Path) -> Iterator[str]:
    with Server(artifact=artifact) as server:
        yield f"{server.url}/"


@pytest.fixture
def visit(browser: "Browser", address: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def start(url: str = address, has_model: bool = True, **context: Any) -> Visit:
        # The tools that wait for something on the page evaluate strings in it, which the page itself does not allow.
        context = {"viewport": {"width": 1180, "height": 860}, "bypass_csp": True, **context}
        visits.append(Visit(browser.new_context(**context).new_page(), url, has_model))
        return visits[-1]

    yield start
    for one in visits:
        one.screenshot(request.node.name)
        one.page.context.close()
        assert one.complaints == [] or request.node.get_closest_marker("complains")
        assert one.hosts <= {one.address.split("/")[2], ""}
