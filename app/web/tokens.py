"""Who may ask: bearer tokens, several at once so that they can be rotated."""

import hmac
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import SecretStr
from starlette.types import Scope

from app.errors import Unauthorized
from app.web.problems import documented

# The probes, whose callers cannot send a header everywhere, and the pages, which ask for a token.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/review"})
# Routes where `Authorization` is the classifier's, and ours is a header of our own.
_PROXY_PREFIXES = ("/v1/gate", "/v1/authz")
GATE_TOKEN_HEADER = "X-Gate-Token"  # noqa: S105  # the header's name


class TokenCheck:
    """Lets a request pass if it bears one of the tokens; with no tokens, every request."""

    def __init__(self, tokens: Iterable[SecretStr]) -> None:
        self._tokens = [token.get_secret_value().encode() for token in tokens]

    def check(self, scope: Scope) -> None:
        """Needs the request's header alone, so that a stranger's body is never read.

        Raises:
            Unauthorized: It bears none that fits, and its route needs one.
        """
        if not self._tokens or scope["path"] in OPEN_PATHS:
            return
        sent = _proxy_token(scope) if is_proxied(scope["path"]) else _bearer_token(scope)
        # All of them are compared, each in constant time: neither which one fits nor how much of it shows.
        fits = [hmac.compare_digest(sent, token) for token in self._tokens]
        if not any(fits):
            raise Unauthorized(_HINTS[is_proxied(scope["path"])])


def is_proxied(path: str) -> bool:
    """Whether a path belongs to the routes in front of a classifier."""
    return path.startswith(tuple(f"{prefix}/" for prefix in _PROXY_PREFIXES)) or path in _PROXY_PREFIXES


def document_tokens(schema: dict[str, Any], tokens_are_set: bool) -> None:
    """Adds to an OpenAPI document the security schemes, and 401 to every operation that needs a token."""
    schema["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "One of GATE_TOKENS."},
        "gateToken": {
            "type": "apiKey",
            "in": "header",
            "name": GATE_TOKEN_HEADER,
            "description": "One of GATE_TOKENS.",
        },
    }
    refusal: Mapping[str, Any] = {str(status): answer for status, answer in documented(Unauthorized).items()}
    for path, operations in schema["paths"].items():
        if path in OPEN_PATHS:
            continue
        for operation in operations.values():
            operation["responses"] = dict(sorted({**operation["responses"], **refusal}.items()))
            if tokens_are_set:
                operation["security"] = [{"gateToken" if is_proxied(path) else "bearer": []}]


_HINTS = {
    False: "Send a token: `Authorization: Bearer TOKEN`.",
    True: f"Send a token: `{GATE_TOKEN_HEADER}: TOKEN`; here `Authorization` belongs to the classifier.",
}


def _bearer_token(scope: Scope) -> bytes:
    scheme, _, token = _header(scope, b"authorization").partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


def _proxy_token(scope: Scope) -> bytes:
    return _header(scope, GATE_TOKEN_HEADER.lower().encode())


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
