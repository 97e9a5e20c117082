"""The service with its model taken out: three programs that read, decode and answer with as much JSON.

- `plain_app`: FastAPI as it is commonly written: Pillow decodes in full, pydantic validates and writes the answer.
- `tuned_app`: FastAPI by somebody who knows it: `UploadFile` or the raw body, Pillow's reduced decoding, orjson.
- `asgi_app`: no framework; the service's own decoder and reader of forms, and orjson.
"""

from io import BytesIO

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response, UploadFile
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from app.detection.images import Preprocessing, decode_image
from app.payload.multipart import is_multipart, parse_multipart

_PREPROCESSING = Preprocessing()
_MAX_PIXELS = 25_000_000
_DRAFT_SIDE = 112
# What a network would redraw: grey levels with as many digits as a network gives, unlike those of the image itself.
_RECONSTRUCTION = np.random.default_rng(1).uniform(0, 1, (28, 28)).astype(np.float32)
_VERDICT = {
    "is_anomaly": False,
    "loss": 0.0123456789,
    "score": 0.0123456789,
    "threshold": 0.0234567891,
    "p_value": 0.123456789,
    "model": {"name": "circles", "version": "sha256:1a2b3c4d5e6f"},
}

plain_app, tuned_app = FastAPI(), FastAPI()


class Model(BaseModel):
    name: str
    version: str


class Prediction(BaseModel):
    is_anomaly: bool
    loss: float
    score: float
    threshold: float
    p_value: float
    model: Model
    reconstruction: list[list[float]]


@plain_app.post("/raw")
async def plain_raw(request: Request) -> Prediction:
    return _plain_answer(await request.body())


@plain_app.post("/multipart")
async def plain_form(file: UploadFile) -> Prediction:
    return _plain_answer(await file.read())


@tuned_app.post("/raw")
async def tuned_raw(request: Request) -> Response:
    _decode_reduced(await request.body())
    return Response(_answer(), media_type="application/json")


@tuned_app.post("/multipart")
async def tuned_form(file: UploadFile) -> Response:
    _decode_reduced(await file.read())
    return Response(_answer(), media_type="application/json")


async def asgi_app(scope: Scope, receive: Receive, send: Send) -> None:
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message["body"])
        more = message["more_body"]
    body = b"".join(chunks)
    headers = Headers(scope=scope)
    content = parse_multipart(headers, body)[0].content if is_multipart(headers) else body
    decode_image(content, _PREPROCESSING, _MAX_PIXELS)
    answer = _answer()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


def _plain_answer(content: bytes) -> Prediction:
    picture = Image.open(BytesIO(content)).convert("L").resize((28, 28))
    np.asarray(picture, dtype=np.float32) / 255
    return Prediction(**_VERDICT, reconstruction=_RECONSTRUCTION.tolist())  # type: ignore[arg-type]


def _decode_reduced(content: bytes) -> NDArray[np.float32]:
    picture = Image.open(BytesIO(content))
    picture.draft("L", (_DRAFT_SIDE, _DRAFT_SIDE))  # does nothing for a PNG
    levels: NDArray[np.float32] = np.asarray(picture.convert("L").resize((28, 28)), dtype=np.float32) / 255
    return levels


def _answer() -> bytes:
    return orjson.dumps({**_VERDICT, "reconstruction": _RECONSTRUCTION}, option=orjson.OPT_SERIALIZE_NUMPY)
