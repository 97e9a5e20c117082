"""Web frameworks as classifiers use them, to see what each makes of a request: `python -m testing.stacks NAME PORT`.

Every route answers with all that the framework's own parsers found, as a JSON list of base64: the body, files, fields
of forms and of JSON, the query. What a classifier could take for its image is among it.
"""

import base64
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

_METHODS = ["GET", "POST", "PUT"]


def _answer(*found: Iterable[bytes | str]) -> str:
    values = [
        one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for values in found for one in values
    ]
    return json.dumps([base64.b64encode(value).decode() for value in values])


def texts_in(value: Any) -> list[str]:
    """Every text in a JSON value, and every list of numbers as text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for one in value.values() for text in texts_in(one))]
    if isinstance(value, list):
        return [text for one in value for text in texts_in(one)]
    return []


def _json(body: bytes) -> list[str]:
    try:
        return texts_in(json.loads(body))
    except (ValueError, RecursionError):
        return []


def serve_flask(port: int) -> None:
    import flask
    from werkzeug.serving import make_server

    app = flask.Flask(__name__)

    @app.route("/", defaults={"path": ""}, methods=_METHODS)
    @app.route("/<path:path>", methods=_METHODS)
    def everything(path: str) -> str:
        request = flask.request
        body = request.get_data(cache=True, parse_form_data=False)
        document = texts_in(request.get_json(force=True, silent=True))
        files = [file.read() for file in request.files.values()]
        return _answer([body], files, request.values.values(), document, [path])

    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def serve_django(port: int) -> None:
    import django
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import re_path
    from werkzeug.serving import make_server

    def everything(request: HttpRequest) -> HttpResponse:
        body = request.body
        files = [file.read() for values in request.FILES.lists() for file in values[1]]
        fields = [text for form in (request.POST, request.GET) for _, values in form.lists() for text in values]
        return HttpResponse(_answer([body], files, fields, _json(body), [request.path]))

    settings.configure(
        ALLOWED_HOSTS=["*"], ROOT_URLCONF=(re_path("", everything),), DATA_UPLOAD_MAX_MEMORY_SIZE=2**25, SECRET_KEY="x"
    )
    django.setup()
    make_server("127.0.0.1", port, get_wsgi_application(), threaded=True).serve_forever()


def serve_aiohttp(port: int) -> None:
    from aiohttp import web

    async def everything(request: web.Request) -> web.Response:
        # A multipart body can be read only once.
        body = b"" if request.content_type.startswith("multipart/") else await request.read()
        fields: list[bytes | str] = []
        for value in (await request.post()).values():
            fields.append(value.file.read() if isinstance(value, web.FileField) else value)
        try:
            document = texts_in(await request.json()) if body else []
        except ValueError:
            document = []
        return web.Response(text=_answer([body], fields, request.query.values(), document, [request.path]))

    app = web.Application(client_max_size=2**25)
    app.router.add_route("*", "/{path:.*}", everything)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


def serve_fastapi(port: int) -> None:
    import fastapi
    import uvicorn
    from starlette.datastructures import UploadFile

    app = fastapi.FastAPI()

    @app.api_route("/{path:path}", methods=_METHODS)
    async def everything(request: fastapi.Request, path: str) -> fastapi.Response:
        body = await request.body()
        fields: list[bytes | str] = []
        for value in (await request.form()).values():
            fields.append(await value.read() if isinstance(value, UploadFile) else value)
        return fastapi.Response(_answer([body], fields, request.query_params.values(), _json(body), [path]))

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


STACKS: dict[str, Callable[[int], None]] = {
    "flask": serve_flask,
    "django": serve_django,
    "aiohttp": serve_aiohttp,
    "fastapi": serve_fastapi,
}

if __name__ == "__main__":
    STACKS[sys.argv[1]](int(sys.argv[2]))
