"""The /v1/kept routes: list, show and label kept images, and estimate live rates. 404 if no images are kept."""

import math
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import parse_qs

import orjson
from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from app.errors import InvalidQuery, KeepingFailed, MalformedRequest, NotKept
from app.judging.judge import Judge
from app.judging.queues import Lane
from app.keeping.index import Filter
from app.keeping.rates import LiveRates, live_rates
from app.keeping.record import ID, Kept, Label, first_id, judged_by
from app.keeping.store import KeptStore
from app.payload.body import BodyReader
from app.web.problems import BODY_REFUSALS, documented
from app.web.routing import add_lean_route

T = TypeVar("T")

NOT_KEEPING = partial(NotKept, "No images are kept; GATE_KEEP_FOLDER says where they would be.")
_MOST_LISTED, _LISTED = 1000, 100
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
# Keeps browsers from treating an uploaded file as anything other than an image.
_IMAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600, immutable",
}


class KeptList(BaseModel):
    kept: list[Kept]


class Labelling(BaseModel):
    label: Label | None


def add_kept_routes(app: FastAPI) -> None:
    """Adds them to an app whose state has `judge`, `bodies`, and `kept`, which is None unless images are kept."""
    app.state.kept_lane = Lane("kept", 1)
    add = partial(add_lean_route, app)
    add(
        "GET",
        "/v1/kept",
        list_kept,
        summary="Kept images, newest first",
        response_model=KeptList,
        responses=documented(NotKept, InvalidQuery, KeepingFailed),
        openapi_extra={"parameters": _FILTERS},
    )
    add(
        "GET",
        "/v1/kept/rates",
        rates,
        summary="Live false-positive and detection rate",
        response_model=LiveRates,
        responses=documented(NotKept, KeepingFailed),
    )
    _add_routes_of_one(add)


def _add_routes_of_one(add: Callable[..., None]) -> None:
    add(
        "GET",
        "/v1/kept/{id}",
        one_kept,
        summary="One kept image",
        response_model=Kept,
        responses=documented(NotKept, KeepingFailed),
        openapi_extra={"parameters": [_ID]},
    )
    add(
        "GET",
        "/v1/kept/{id}/image",
        kept_image,
        summary="A kept image as it came",
        response_class=Response,
        response_model=None,
        openapi_extra={"parameters": [_ID]},
        responses={200: {"content": {"image/*": {"schema": _BINARY}}}, **documented(NotKept, KeepingFailed)},
    )
    add(
        "PUT",
        "/v1/kept/{id}/label",
        put_label,
        summary="Say what a kept image is",
        response_model=Kept,
        responses=documented(*BODY_REFUSALS, NotKept, KeepingFailed),
        openapi_extra={"parameters": [_ID], "requestBody": _LABELLING},
    )


async def list_kept(request: Request) -> Response:
    """The newest kept images that match the filter. Pass the last id as `before` to get the next page."""
    store = _store(request)
    wanted, limit = read_filter(request.scope["query_string"])
    found = await _run(request, partial(store.newest, wanted, limit))
    return _json({"kept": [one.model_dump() for one in found]})


async def rates(request: Request) -> Response:
    """Live false-positive and detection rate of the serving artifact, estimated from the labelled random sample."""
    store = _store(request)
    judge: Judge = request.app.state.judge
    artifact = judge.detector.artifact
    rate = artifact.manifest.promise.target_false_positive_rate
    cells = await _run(request, partial(store.cells, judged_by(artifact.version, rate)))
    return _json(live_rates(cells, rate).model_dump())


async def one_kept(request: Request) -> Response:
    """What is known of one kept image."""
    store = _store(request)
    record = await _run(request, partial(store.folder.read, _id(request)))
    return _json(record.model_dump())


async def kept_image(request: Request) -> Response:
    """The file as it was sent; where pixels were sent, a PNG of them."""
    store = _store(request)
    record = await _run(request, partial(store.folder.read, _id(request)))
    content = await _run(request, partial(store.folder.read_image, record))
    media_type = "application/octet-stream" if record.format == "bin" else f"image/{record.format}"
    return Response(content, headers=_IMAGE_HEADERS, media_type=media_type)


async def put_label(request: Request) -> Response:
    """`{"label": "normal"}`, `"anomaly"`, or null to take a label back."""
    store, kept_id = _store(request), _id(request)
    bodies: BodyReader = request.app.state.bodies
    with bodies.hold() as held:
        label = _label(await bodies.read(request.scope["headers"], request.receive, held))
    record = await _run(request, partial(store.label, kept_id, label))
    return _json(record.model_dump())


def read_filter(query_string: bytes) -> tuple[Filter, int]:
    """The query parameters of a list, and how many images it has at most.

    Raises:
        InvalidQuery: One has a value that it cannot have.
    """
    query = {name: values[-1] for name, values in parse_qs(query_string.decode("latin-1")).items()}
    verdict = _choice(query, "verdict", {"normal": False, "anomaly": True})
    before, after = query.get("before"), None
    if before is not None and not ID.fullmatch(before):
        before = first_id(_moment(before, "before"))
    if (day := query.get("day")) is not None:
        if not _DAY.fullmatch(day):
            raise InvalidQuery("`day` is a date, as in 2026-01-31.")
        start = _moment(day, "day")
        after, end = first_id(start), first_id(start + timedelta(hours=24 if start.year < 9999 else 0))
        before = end if before is None else min(before, end)
    wanted = Filter(
        is_anomaly=verdict,
        label=_choice(query, "label", {one: one for one in ("normal", "anomaly", "none")}),
        sampled=_choice(query, "sampled", _YES_OR_NO),
        disagrees=_choice(query, "disagrees", _YES_OR_NO),
        before=before,
        after=after,
        least_score=_number(query, "least_score"),
        most_score=_number(query, "most_score"),
    )
    return wanted, _limit(query)


def _limit(query: dict[str, str]) -> int:
    limit = query.get("limit", str(_LISTED))
    if not re.fullmatch("[0-9]{1,4}", limit) or not 1 <= int(limit) <= _MOST_LISTED:
        raise InvalidQuery(f"`limit` is a number from 1 to {_MOST_LISTED}.")
    return int(limit)


def _choice(query: dict[str, str], name: str, values: dict[str, T]) -> T | None:
    if name not in query:
        return None
    if query[name] not in values:
        raise InvalidQuery(f"`{name}` is one of {', '.join(values)}.")
    return values[query[name]]


def _number(query: dict[str, str], name: str) -> float | None:
    if name not in query:
        return None
    try:
        number = float(query[name])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidQuery(f"`{name}` is a number.")
    return number


def _moment(text: str, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidQuery(f"`{name}` is an id of a kept image or a time, as in 2026-01-31T12:00:00Z.") from error


def _label(body: bytes) -> Label | None:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        content = None
    if (
        not isinstance(content, dict)
        or set(content) != {"label"}
        or content["label"] not in ("normal", "anomaly", None)
    ):
        raise MalformedRequest('The body is {"label": "normal"}, {"label": "anomaly"} or {"label": null}.')
    label: Label | None = content["label"]
    return label


def _store(request: Request) -> KeptStore:
    store: KeptStore | None = request.app.state.kept
    if store is None:
        raise NOT_KEEPING()
    return store


def _id(request: Request) -> str:
    kept_id: str = request.path_params["id"]
    if not ID.fullmatch(kept_id):
        raise NotKept("This is not the id of a kept image.")
    return kept_id


async def _run(request: Request, work: Callable[[], T]) -> T:
    """Runs disk access in a thread.

    Raises:
        KeepingFailed: The folder, or its index, cannot be used.
    """
    lane: Lane = request.app.state.kept_lane
    try:
        return await lane.run(work)
    except OSError as error:
        raise KeepingFailed(f"The folder of kept images cannot be used: {error.strerror or error}.") from error
    except sqlite3.Error as error:
        raise KeepingFailed(f"The index of the kept images cannot be used: {error}.") from error


def _json(body: dict[str, Any]) -> Response:
    headers = {"Cache-Control": "no-store"}
    return Response(orjson.dumps(body), headers=headers, media_type="application/json")


def _parameter(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


_YES_OR_NO = {"true": True, "false": False}
_BINARY = {"type": "string", "format": "binary"}
_ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
_FILTERS = [
    _parameter("verdict", "Of the gate.", {"type": "string", "enum": ["normal", "anomaly"]}),
    _parameter(
        "label", "Of people; none: not labelled yet.", {"type": "string", "enum": ["normal", "anomaly", "none"]}
    ),
    _parameter("sampled", "Drawn at random, or not.", {"type": "boolean"}),
    _parameter("disagrees", "Whether the candidate's verdict differs.", {"type": "boolean"}),
    _parameter("day", "In UTC.", {"type": "string", "format": "date"}),
    _parameter("least_score", "No lower score.", {"type": "number"}),
    _parameter("most_score", "No higher score.", {"type": "number"}),
    _parameter("before", "An id, or a time: only earlier ones.", {"type": "string"}),
    _parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
]
_LABELLING = {
    "required": True,
    "content": {"application/json": {"schema": Labelling.model_json_schema(), "example": {"label": "normal"}}},
}
