"""The web page at `/`: one file, which its own policy allows to run nothing but itself."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

_PAGE = Path(__file__).parent / "page.html"


def add_page(app: FastAPI) -> None:
    """Adds `GET /`; not in OpenAPI."""
    content = _PAGE.read_bytes()
    headers = page_headers(content.decode())

    async def page(request: Request) -> Response:
        return Response(content, headers=headers, media_type="text/html")

    app.router.add_route("/", page, methods=["GET"], include_in_schema=False)


def page_headers(html: str) -> dict[str, str]:
    """What keeps a page from loading or running anything that it does not hold itself.

    Args:
        html: Its scripts and styles stand in it, without attributes on their tags; their hashes are what may run.
    """
    policy = (
        "default-src 'none'",
        # The page evaluates no strings, but the tools that test pages do (Playwright's wait_for_function); what
        # cannot get a script in here cannot call eval either.
        f"script-src {_hashes(html, 'script')} 'unsafe-eval'",
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
