"""Refusals as HTTP answers: one problem body (RFC 9457), and how OpenAPI documents it."""

from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import (
    BodyTooSlow,
    CompressedBody,
    DeadlineExceeded,
    HttpRefusal,
    MalformedRequest,
    NotReady,
    Overloaded,
    Refusal,
    TooManyBytes,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
)

MEDIA_TYPE = "application/problem+json"
BODY_REFUSALS = (MalformedRequest, BodyTooSlow, TooManyBytes, CompressedBody, Overloaded, NotReady, DeadlineExceeded)
IMAGE_REFUSALS = (TooManyPixels, UnsupportedFormat, UndecodableImage)


class Problem(BaseModel):
    """The body of every answer that is a refusal."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable, for programs.", examples=["urn:imagegate:unsupported-format"])
    title: str = Field(description="What kind of problem it is.")
    status: int = Field(description="The HTTP status.", examples=[415])
    detail: str = Field(description="What is wrong with this request.")
    error: str = Field(description="The text of `detail` again, where Open Inference clients look for it.")


def problem_response(refusal: Refusal) -> Response:
    """Returns the answer to a refused request."""
    response = Response(
        orjson.dumps(refusal.problem(), option=orjson.OPT_SERIALIZE_NUMPY),
        refusal.status,
        refusal.headers(),
        MEDIA_TYPE,
    )
    response.raw_headers += refusal.more_headers
    return response


def as_refusal(error: HTTPException) -> Refusal:
    """Returns the refusal for what the framework raises."""
    detail = {
        404: "There is nothing here; GET /openapi.json lists every route.",
        405: "This route does not have that method.",
    }.get(error.status_code, str(error.detail))
    return HttpRefusal(error.status_code, detail, dict(error.headers or {}))


def documented(*refusals: type[Refusal]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise `refusals`, for OpenAPI; statuses shared by several are joined."""
    titles: dict[int | str, list[str]] = {}
    for refusal in refusals:
        titles.setdefault(refusal.status, []).append(refusal.title)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": "; or ".join(names), "content": {MEDIA_TYPE: {"schema": schema}}}
        for status, names in sorted(titles.items())
    }
