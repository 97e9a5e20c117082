"""Header fields that tell a browser what it may do with an answer."""

import base64
import hashlib
from html.parser import HTMLParser


def page_headers(html: str) -> dict[str, str]:
    """The headers of a page that is one file: nothing but its own inline scripts and styles runs in it.

    Each `<script>` and `<style>` block is admitted by its hash. Inline event handlers (`onclick=`), `style=`
    attributes and `javascript:` links are not admitted; requests go to this service alone; images come from it, from
    `data:` and from `blob:` URLs.

    Args:
        html: Exactly what is sent.
    """
    inline = _InlineBlocks()
    inline.feed(html)
    inline.close()
    policy = {
        "default-src": "'none'",
        "script-src": _sources(inline.blocks["script"]),
        "style-src": _sources(inline.blocks["style"]),
        "img-src": "'self' data: blob:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _sources(blocks: list[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
    return " ".join(f"'sha256-{value}'" for value in hashes) or "'none'"


class _InlineBlocks(HTMLParser):
    """Collects what stands between the tags of each script and style, to the last space: that is what is hashed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.blocks: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self.blocks:
            self._inside = tag
            self.blocks[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.blocks[self._inside][-1] += data
