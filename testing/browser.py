"""Visits to the gate's page with a real browser."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

PATIENCE_MILLISECONDS = 15_000


class Visit:
    """One visit, which notes whatever a visitor should not have to see."""

    def __init__(self, page: "Page", address: str, has_model: bool) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(PATIENCE_MILLISECONDS)
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", lambda request: self.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.goto(address)
        if has_model:
            page.wait_for_function("document.getElementById('model').textContent !== ''")
        self.address = address

    def verdict(self, word: str, about: str = "") -> str:
        """Waits until the headline has `word` and the queue or picture is that of `about`; gives all visible text."""
        self.page.wait_for_function(
            """([word, about]) => document.getElementById('verdict').textContent.includes(word)
                && document.getElementById('result').getAttribute('aria-busy') === 'false'
                && (about === '' || document.querySelector('#original').alt === about)""",
            arg=[word, about],
        )
        text: str = self.page.inner_text("body")
        return text

    def pixels(self, canvas: str) -> list[int]:
        """Grey levels (red channel) of one of the 28x28 pictures."""
        script = (
            "id => [...document.getElementById(id).getContext('2d').getImageData(0, 0, 28, 28).data]"
            ".filter((_, index) => index % 4 === 0)"
        )
        levels: list[int] = self.page.evaluate(script, canvas)
        return levels

    def screenshot(self, name: str) -> None:
        """Kept for people to look at where SCREENSHOTS says."""
        if folder := os.environ.get("SCREENSHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def upload(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "mimeType": "image/png", "buffer": content}
