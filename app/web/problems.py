"""Refusals as HTTP answers: one problem body (RFC 9457), and how OpenAPI documents it."""

import http
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import Refusal

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """The body of every answer that is a refusal."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable, for programs.", examples=["urn:imagegate:unsupported-format"])
    title: str = Field(description="What kind of problem it is.")
    status: int = Field(description="The HTTP status.", examples=[415])
    detail: str = Field(description="What is wrong with this request.")
    error: str = Field(description="The text of `detail` again, where Open Inference clients look for it.")


def problem_response(refusal: Refusal) -> Response:
    return Response(
        orjson.dumps(refusal.problem(), option=orjson.OPT_SERIALIZE_NUMPY),
        refusal.status,
        refusal.headers(),
        MEDIA_TYPE,
    )


def http_problem_response(error: HTTPException) -> Response:
    """The problem for what the framework itself refuses: an unknown route, a method that a route does not have."""
    detail = {
        404: "There is nothing here; GET /openapi.json lists every route.",
        405: "This route does not have that method.",
    }.get(error.status_code, str(error.detail))
    body = {
        "type": f"urn:imagegate:http-{error.status_code}",
        "title": http.HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": detail,
        "error": detail,
    }
    return Response(orjson.dumps(body), error.status_code, dict(error.headers or {}), MEDIA_TYPE)


def unexpected_problem_response(request_id: str) -> Response:
    """The problem for a fault of our own: says nothing of its cause, which is logged with the request id."""
    detail = f"The service failed on this request; its log has the cause under request id {request_id}."
    body = {
        "type": "urn:imagegate:internal-error",
        "title": "Internal error",
        "status": 500,
        "detail": detail,
        "error": detail,
    }
    return Response(orjson.dumps(body), 500, media_type=MEDIA_TYPE)


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
