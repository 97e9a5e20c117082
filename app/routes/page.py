"""The web page at `/`: one HTML file, with a Content-Security-Policy that allows only its own scripts and styles."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response

_FOLDER = Path(__file__).parent
_STYLES = "shared.css"
_SAYS_SO = (b"x-gate-source", b"page")


def add_page(app: FastAPI) -> None:
    """Adds `GET /`; not in OpenAPI."""
    html = read_page("page.html")
    content, headers = html.encode(), page_headers(html)

    async def page(request: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")

    app.router.add_route("/", page, methods=["GET"], include_in_schema=False)


def read_page(name: str) -> str:
    """Returns a page of this folder, with the styles that all pages share in their place."""
    html = (_FOLDER / name).read_text(encoding="utf-8")
    return html.replace(f"/* {_STYLES} */", (_FOLDER / _STYLES).read_text(encoding="utf-8"))


def is_from_page(headers: Headers) -> bool:
    """Whether a request says that the page sent it, and a browser that it is from a page of this service.

    Programs can say both. They gain that their images are no evidence of drift, and are counted as the page's.
    """
    return _SAYS_SO in headers.raw and headers.get("sec-fetch-site", "same-origin") == "same-origin"


def page_headers(html: str) -> dict[str, str]:
    """Returns the security headers of a page, which allow only the scripts and styles that are inlined in it.

    Args:
        html: The page. Its `<script>` and `<style>` tags must have no attributes, or their content is not found.
    """
    policy = (
        "default-src 'none'",
        f"script-src {_hashes(html, 'script')}",
        f"style-src {_hashes(html, 'style')}",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hashes(html: str, tag: str) -> str:
    bodies = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    digests = (base64.b64encode(hashlib.sha256(body.encode()).digest()).decode() for body in bodies)
    return " ".join(f"'sha256-{digest}'" for digest in digests)
