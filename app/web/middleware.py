"""What surrounds every request: its id, its token, its access line, and the translation of refusals into problems."""

import asyncio
import logging
import random
import re
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import GateFailed, NotReady, Refusal
from app.telemetry.logs import log_request
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import trace_fields
from app.web.problems import as_refusal, problem_response
from app.web.tokens import TokenCheck

logger = logging.getLogger(__name__)

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_OUR_HEADERS = (b"x-request-id", _NO_SNIFFING[0])  # these replace the same fields of a classifier's response
_CLIENT_CLOSED_REQUEST = 499  # never sent; only for the access log and the metrics


class RequestMiddleware:
    """The outermost ASGI layer: checks tokens, turns exceptions into problem responses, counts and logs requests.

    Routes may raise `Refusal`, read `request.state.request_id`, and add fields of the access log line to the dictionary
    `request.state.log`.
    """

    def __init__(self, app: ASGIApp, tokens: TokenCheck, metrics: Metrics) -> None:
        self._app = app
        self._tokens = tokens
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        try:
            if token := self._tokens.check(scope):
                exchange.log["token"] = token
            await self._app(scope, receive, exchange.send)
        except Refusal as refusal:
            await exchange.refuse(refusal, receive)
        except HTTPException as error:
            await exchange.refuse(as_refusal(error), receive)
        except ClientDisconnect:
            exchange.status = _CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:
            # uvicorn cancels requests that are still running when the time for a graceful shutdown is over.
            await exchange.refuse(NotReady("The service stopped before this was done."), receive)
        except Exception:
            logger.exception("unexpected error", extra={"fields": {"request_id": exchange.request_id}})
            await exchange.refuse(GateFailed(exchange.request_id), receive)
        finally:
            exchange.finish(self._metrics)


class _Exchange:
    """The state of one request: its id, the status of its response, and the fields of its access log line."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self.request_id = _request_id(scope)
        self.status = 0
        self._problem = ""
        self.log: dict[str, Any] = trace_fields()
        scope.setdefault("state", {}).update(log=self.log, request_id=self.request_id)

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            others = [header for header in message["headers"] if header[0] not in _OUR_HEADERS]
            message["headers"] = [*others, (b"x-request-id", self.request_id.encode()), _NO_SNIFFING]
        await self._send(message)

    async def refuse(self, refusal: Refusal, receive: Receive) -> None:
        """Sends the problem as the response, unless a response has already started; in that case it is only logged."""
        self._problem = refusal.slug
        if not self.status:
            await problem_response(refusal)(self._scope, receive, self.send)

    def finish(self, metrics: Metrics) -> None:
        """Counts the request and writes its access line."""
        seconds = time.perf_counter() - self._started
        metrics.observe(self._scope, self.status, seconds, self._problem)
        if self._problem:
            self.log["problem"] = self._problem
        log_request(
            {
                "request_id": self.request_id,
                "method": self._scope["method"],
                "path": self._scope["path"],
                "status": self.status,
                "milliseconds": round(seconds * 1000, 2),
                **self.log,
            }
        )


def _request_id(scope: Scope) -> str:
    """The client's `X-Request-ID` if it is short and plain, so that it cannot forge log lines; else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode() if _SANE_REQUEST_ID.fullmatch(value) else _new_request_id()
    return _new_request_id()


def _new_request_id() -> str:
    # Nobody gains by guessing one, and asking the kernel for randomness takes twenty times as long.
    return f"{random.getrandbits(128):032x}"
