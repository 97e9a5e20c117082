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
    """Converts an exception of the framework, such as 404 or 405, to a refusal."""
    detail = {
        404: "There is nothing here; GET /openapi.json lists every route; a classifier's stand behind /v1/gate.",
        405: "This route does not have that method.",
    }.get(error.status_code, str(error.detail))
    return HttpRefusal(error.status_code, detail, dict(error.headers or {}))


def documented(*refusals: type[Refusal]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may raise `refusals`, for OpenAPI; statuses shared by several are joined."""
    by_status: dict[int | str, list[type[Refusal]]] = {}
    for refusal in dict.fromkeys(refusals):
        by_status.setdefault(refusal.status, []).append(refusal)
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {
            "description": "; or ".join(dict.fromkeys(one.title for one in those)),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": {one.slug: _example(one) for one in those}}},
        }
        for status, those in sorted(by_status.items())
    }


def _example(refusal: type[Refusal]) -> dict[str, Any]:
    detail = _DETAILS.get(refusal.slug, f"{refusal.title}.")
    problem = {
        "type": f"urn:imagegate:{refusal.slug}",
        "title": refusal.title,
        "status": refusal.status,
        "detail": detail,
        "error": detail,
    }
    return {"summary": refusal.title, "value": problem}


# One occurrence of each, for the examples; what is not here shows its title.
_DETAILS = {
    "malformed-request": "The form has no part named `file`; it has `image`.",
    "unauthorized": "Send a token: `Authorization: Bearer TOKEN`.",
    "body-too-slow": "The body took longer than 10 seconds.",
    "too-many-bytes": "The body has 40 MB; at most 32 MB are accepted.",
    "too-many-pixels": "The image has 9,000 x 9,000 pixels, 81 million; at most 25 million are accepted.",
    "unsupported-format": "The file is not one of PNG, JPEG, WebP, BMP, GIF, judged by its first bytes.",
    "compressed-body": "Send the body as it is, without Content-Encoding.",
    "undecodable-image": "The PNG file is damaged or ends early.",
    "invalid-query": "`reconstruction` is one of pixels, png, none.",
    "not-ready": "The artifact is not loaded yet.",
    "overloaded": "512 requests are in flight or waiting; try again.",
    "deadline-exceeded": "The request took longer than 30 seconds.",
    "anomalous-image": "The image is not like those that the classifier is made for.",
}
