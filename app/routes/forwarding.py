"""What a classifier gets with GATE_FORWARD=judged: a request written by the gate, each judged image as a plain PNG."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from app.detection.images import open_image
from app.detection.readings import plain_png
from app.errors import Refusal
from app.judging.judge import Admission
from app.payload.classifier_request import ClassifierRequest
from app.payload.parsed_body import Inference
from app.payload.tensors import HEADER_LENGTH
from app.routes.raw_headers import RawHeaders
from app.settings import Settings

Result = TypeVar("Result")

# Up to this size, and this number of pixels, writing a PNG takes less time than handing it to a thread and back.
_IN_PLACE_BYTES = 16 * 2**10
_IN_PLACE_PIXELS = 128 * 128
# A larger picture takes about as much memory as the largest decodes do, and waits until no other one runs.
_LIGHT_PIXELS = 2**21
# They belong to the body that was sent.
_OF_THE_BODY = (
    b"content-type",
    b"content-md5",
    b"digest",
    b"content-digest",
    b"repr-digest",
    HEADER_LENGTH.lower().encode(),
)


@dataclass(frozen=True, slots=True)
class WrittenRequest:
    """What goes to the classifier in place of what the client sent."""

    headers: RawHeaders
    query: bytes
    body: bytes


async def write_judged(
    admission: Admission, settings: Settings, request: ClassifierRequest, headers: RawHeaders, query: bytes
) -> WrittenRequest:
    """Writes a request anew, every image of which was judged.

    Args:
        headers: Those that the client sent, end to end.
        query: As the client sent it.

    Raises:
        Refusal: An image cannot be decoded in full.
    """
    fields = list(request.query.fields)
    for found in request.images.found:
        try:
            found.replace(await _plain_png(admission, settings, found.data))
        except Refusal as refusal:
            raise refusal.at(found.place) from refusal.__cause__
    if request.query.fields != fields:
        query = request.query.write()[1]
    if request.body is None:
        return WrittenRequest(headers, query, b"")
    content_type, body = request.body.write()
    kept = [field for field in headers if field[0] not in _OF_THE_BODY]
    if content_type:
        kept.append((b"content-type", content_type.encode("latin-1")))
    if isinstance(request.body, Inference):
        kept.append((HEADER_LENGTH.lower().encode(), str(request.body.header_length).encode()))
    return WrittenRequest(kept, query, body)


async def _plain_png(admission: Admission, settings: Settings, data: bytes) -> bytes:
    size = settings.forwarded_size
    preprocessing = admission.detector.artifact.preprocessing
    write = partial(plain_png, data, preprocessing, settings.max_image_pixels, settings.formats, size)
    return await run_by_size(admission, settings, data, write)


async def run_by_size(admission: Admission, settings: Settings, data: bytes, work: Callable[[], Result]) -> Result:
    """Runs work that decodes an image in full: in place, in a thread, or as the only such work, by the image's size."""
    image = open_image(data, settings.max_image_pixels, settings.formats)
    pixels = image.width * image.height
    if len(data) <= _IN_PLACE_BYTES and pixels <= _IN_PLACE_PIXELS:
        return work()
    return await (admission.run(work) if pixels <= _LIGHT_PIXELS else admission.run_heavy(work))
