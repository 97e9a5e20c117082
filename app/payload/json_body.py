"""JSON from a stranger: one meaning only, and bounded, so that gate and classifier cannot read it differently."""

import json
from typing import Any, NoReturn

from app.errors import MalformedRequest, TooManyBytes

# A number in JSON takes two bytes, in memory thirty. A thousand images of 784 pixels fit.
_MAX_VALUES = 1_000_000


def parse_json(body: bytes) -> Any:
    """Parses a UTF-8 document, more strictly than the standard asks for.

    Raises:
        MalformedRequest: Not JSON, nested too deeply, with NaN or Infinity, or with a key twice in one object (of
            which different readers take different ones).
        TooManyBytes: It holds more values than any request that could be judged.
    """
    if body.count(b",") > _MAX_VALUES:
        raise TooManyBytes(f"The JSON document holds more than {_MAX_VALUES} values.")
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MalformedRequest("The JSON document is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise MalformedRequest("The JSON document is not UTF-8.") from error
    except ValueError as error:
        raise MalformedRequest(f"The JSON document is broken: {error}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedRequest("The JSON document has a key twice in one object.")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"The JSON document holds {name}, which is not JSON.")
