"""The service with its model taken out: reading, decoding and the same JSON, through FastAPI and through bare ASGI."""

import orjson
from fastapi import FastAPI, Request, Response, UploadFile
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.detection.images import Preprocessing, decode_image
from app.payload.multipart import is_multipart, parse_multipart

_PREPROCESSING = Preprocessing()
_MAX_PIXELS = 25_000_000

fastapi_app = FastAPI()


@fastapi_app.post("/raw")
async def raw(request: Request) -> Response:
    return Response(_answer(await request.body()), media_type="application/json")


@fastapi_app.post("/multipart")
async def multipart(file: UploadFile) -> Response:
    return Response(_answer(await file.read()), media_type="application/json")


async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None:
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message["body"])
        more = message["more_body"]
    body = b"".join(chunks)
    headers = Headers(scope=scope)
    answer = _answer(parse_multipart(headers, body)[0].content if is_multipart(headers) else body)
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


def _answer(content: bytes) -> bytes:
    """What the service would answer if its model redrew everything as it is."""
    image = decode_image(content, _PREPROCESSING, _MAX_PIXELS)
    answer = {
        "is_anomaly": False,
        "loss": 0.0123456789,
        "score": 0.0123456789,
        "threshold": 0.0234567891,
        "p_value": 0.123456789,
        "model": {"name": "circles", "version": "sha256:1a2b3c4d5e6f"},
        "reconstruction": image,
    }
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
