"""Reads a request's body, admits the request, and judges its images.

/v1/predict and /v2 use `take_in` for all of it. The gate's routes, which decide between the steps, use the parts.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from starlette.requests import Request

from app.errors import Refusal
from app.judging.decoding import Pixels
from app.judging.judge import Admission, Judge, Judgement
from app.payload.body import BodyReader
from app.settings import Settings
from app.telemetry.tracing import traced

Found = TypeVar("Found")
Result = TypeVar("Result")

# Parsing up to this size takes less time than handing it to a thread and back.
FORM_IN_PLACE_BYTES = 2**20
JSON_IN_PLACE_BYTES = 2**16


async def take_in(
    request: Request,
    parse: Callable[[bytes], Found],
    judge: Callable[[Admission, Found], Awaitable[Result]],
    in_place_bytes: int = JSON_IN_PLACE_BYTES,
) -> Result:
    """Reads a request's body within its budget, admits the request, parses the body and judges what is in it.

    Args:
        request: Its app's state has `judge` and `bodies`.
        parse: Finds the images in a whole body.
        judge: Judges them, and returns what the route answers with.
        in_place_bytes: A larger body is parsed in a thread.

    Raises:
        Refusal: What reading, admitting, parsing and judging raise.
        ClientDisconnect: The client went away.
    """
    bodies: BodyReader = request.app.state.bodies
    judges: Judge = request.app.state.judge
    settings: Settings = request.app.state.settings
    with bodies.hold() as reservation:
        body = await bodies.read(request.scope["headers"], request.receive, reservation)
        with judges.admit(request.receive, request.scope, settings.reduce_jpegs) as admission:
            found = await parse_body(admission, parse, body, in_place_bytes)
            del body  # the images found are copies; keeping the body too would double the memory of an upload
            return await judge(admission, found)


@traced("parse")
async def parse_body(
    admission: Admission, parse: Callable[[bytes], Found], body: bytes, in_place_bytes: int = JSON_IN_PLACE_BYTES
) -> Found:
    """Parses a body, a large one in a thread."""
    return parse(body) if len(body) <= in_place_bytes else await admission.run(partial(parse, body))


async def judge_found(
    admission: Admission, files: Sequence[bytes], pixels: Pixels | None = None, places: Sequence[str] = ()
) -> list[Judgement]:
    """Judges all images of a request. A single image that cannot be judged refuses the whole request.

    Args:
        files: Encoded images.
        pixels: (N, 28, 28), grey levels in [0, 1].
        places: The place of each file in the request, which refusals then mention.

    Returns:
        A judgement for each file, then for each of `pixels`.

    Raises:
        Refusal: Of the first file that cannot be judged.
    """
    judgements: list[Judgement] = []
    if len(files) == 1:
        try:
            judgements.append(await admission.judge(files[0]))
        except Refusal as refusal:
            raise (refusal.at(places[0]) if places and refusal.status < 500 else refusal) from refusal.__cause__
    elif files:
        for index, outcome in enumerate(await admission.judge_all(files)):
            if isinstance(outcome, Refusal):
                raise outcome.at(places[index]) if places else outcome
            judgements.append(outcome)
    if pixels is not None and len(pixels):
        judgements += await admission.judge_pixels(list(pixels))
    return judgements
