"""Who may ask: bearer tokens, several at once so that they can be rotated."""

import hmac
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from starlette.types import Scope

from app.errors import Unauthorized
from app.settings import SettingsError
from app.web.problems import documented

# The probes, whose callers cannot send a header everywhere, and the pages, which ask for a token.
OPEN_PATHS = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready", "/", "/review"})
# On these routes `Authorization` is passed on to the classifier, so the gate's token is in a header of its own.
_PROXY_PREFIXES = ("/v1/gate", "/v1/authz")
GATE_TOKEN_HEADER = "X-Gate-Token"  # noqa: S105  # the header's name


_METRICS = "/metrics"
_OPEN = "open"
_LINE = re.compile(r"([A-Za-z0-9._-]{1,64}):([!-~]+)")


class TokenCheck:
    """Lets a request pass if it bears one of the tokens; with no tokens, every request.

    `/metrics` has a token of its own beside them, or none at all, where the operator says so.
    """

    def __init__(
        self, tokens: Iterable[SecretStr], tokens_file: Path | None = None, metrics_token: SecretStr | None = None
    ) -> None:
        """
        Args:
            tokens: Those without a name.
            tokens_file: GATE_TOKENS_FILE, one a line as `name:token`.
            metrics_token: GATE_METRICS_TOKEN: one for `/metrics` alone, or "open".

        Raises:
            SettingsError: The file cannot be used; the message shows no token.
        """
        self._own = [("", token.get_secret_value().encode()) for token in tokens]
        self._file = tokens_file
        self._named = read_tokens(tokens_file) if tokens_file is not None else []
        self._metrics = None if metrics_token is None else metrics_token.get_secret_value().encode()

    @property
    def shortest(self) -> int | None:
        """How many characters the shortest token has; None without one."""
        return min((len(token) for _, token in [*self._own, *self._named]), default=None)

    def read_again(self) -> None:
        """Reads the file again; the tokens that were in force stay if it cannot be used.

        Raises:
            SettingsError: It cannot be used.
        """
        if self._file is not None:
            self._named = read_tokens(self._file)

    def check(self, scope: Scope) -> str:
        """Needs the request's header alone, so that a stranger's body is never read.

        Returns:
            The name of the token; "" for one without, and where none is needed.

        Raises:
            Unauthorized: It bears none that fits, and its route needs one.
        """
        path = scope["path"]
        tokens = [*self._own, *self._named]
        if path == _METRICS and self._metrics is not None:
            if self._metrics == _OPEN.encode():
                return ""
            tokens.append(("", self._metrics))
        if not tokens or path in OPEN_PATHS:
            return ""
        sent = _proxy_token(scope) if is_proxied(path) else _bearer_token(scope)
        # Compare with all tokens, each in constant time, so that the timing reveals nothing about them.
        fits = [name for name, token in tokens if hmac.compare_digest(sent, token)]
        if not fits:
            raise Unauthorized(_HINTS[is_proxied(path)])
        return fits[0]


def read_tokens(file: Path) -> list[tuple[str, bytes]]:
    """Names and tokens of a file, one a line as `name:token`; empty lines and those that begin with # are left out.

    Raises:
        SettingsError: It cannot be read, has another line, or no token; the message shows no token.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"GATE_TOKENS_FILE {file} cannot be read: {reason}.") from None
    tokens = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise SettingsError(f"GATE_TOKENS_FILE {file}: line {number} is not `name:token`.")
        tokens.append((found[1], found[2].encode()))
    if not tokens:
        raise SettingsError(f"GATE_TOKENS_FILE {file} holds no token; leave the variable out to serve everybody.")
    return tokens


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
