"""The page at `/docs`: Swagger UI from files that are installed with the service, so that it works without internet."""

import importlib.util
from functools import lru_cache
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

# A Python package whose releases follow Swagger UI's; of it only the files are used, and none of its code.
_PACKAGE = "fastapi_offline"

_HTML = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>imagegate: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<noscript>This page needs JavaScript; <a href="openapi.json">openapi.json</a> does not.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# Routes that take any method are shown once; /openapi.json lists each of them, for programs.
_START = """"use strict";
(async () => {
  const spec = await (await fetch("openapi.json")).json();
  spec.servers ??= [{ url: new URL(".", location.href).pathname.replace(/\\/$/, "") || "/" }];
  for (const methods of Object.values(spec.paths)) {
    if (!methods.post || !methods.patch || !methods.options) continue;
    for (const method of Object.keys(methods)) if (method !== "post" && method !== "parameters") delete methods[method];
    methods.post.summary += " (any method)";
  }
  SwaggerUIBundle({ spec, dom_id: "#swagger-ui", deepLinking: true, defaultModelsExpandDepth: -1, validatorUrl: null });
})();
"""

_HEADERS = {
    # Swagger UI writes style attributes; scripts come from these files alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_CACHED = {"Cache-Control": "max-age=86400"}


def add_api_page(app: FastAPI) -> None:
    """Adds `GET /docs` and the files that it loads; not in OpenAPI."""

    async def page(request: Request) -> Response:
        return Response(_HTML, headers=_HEADERS, media_type="text/html")

    async def start(request: Request) -> Response:
        return Response(_START, headers=_HEADERS, media_type="text/javascript")

    async def script(request: Request) -> Response:
        return Response(_read("swagger-ui-bundle.js"), headers=_CACHED, media_type="text/javascript")

    async def style(request: Request) -> Response:
        return Response(_read("swagger-ui.css"), headers=_CACHED, media_type="text/css")

    for path, answer in (
        ("", page),
        ("/start.js", start),
        ("/swagger-ui-bundle.js", script),
        ("/swagger-ui.css", style),
    ):
        app.router.add_route(f"/docs{path}", answer, methods=["GET"], include_in_schema=False)


@lru_cache(maxsize=2)
def _read(name: str) -> bytes:
    """One of the two files, read when it is first asked for.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the Python package {_PACKAGE}, which has {name}, is not installed")
    return (Path(found.submodule_search_locations[0]) / "static" / name).read_bytes()
