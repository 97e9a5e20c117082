"""Checks whether a parsed JSON document can be written again so that it means the same (GATE_FORWARD=judged).

Numbers with a point or an exponent are written as the 64-bit floats as which they are read: further digits are lost.
"""

import math
from typing import Any

from app.errors import MalformedRequest
from app.payload.found_images import shown

# What orjson writes: this many lists and objects within each other, and integers of 64 bits with or without a sign.
_MOST_LEVELS = 254
_LEAST, _MOST = -(2**63), 2**64 - 1


def check_writable(document: Any, part: str = "") -> None:
    """
    Args:
        document: A parsed document.
        part: What the document is a part of, as refusals name it; "" if it is the whole body.

    Raises:
        MalformedRequest: A number would change or cannot be written, or the document is nested too deeply.
    """
    found = _unwritable(document, 0)
    if found is not None:
        keys, why = found
        path = shown("".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix("."))
        place = f"`{path}`" if path else "the document"
        raise MalformedRequest(f"{part}{place}: {why}, which the gate cannot write anew for the classifier.")


def _unwritable(value: Any, levels: int) -> tuple[list[str | int], str] | None:
    """The keys that lead to the first value that cannot be written, and what it is; None if all can be."""
    items: Any
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    elif isinstance(value, float):
        return None if math.isfinite(value) else ([], "a number beyond the largest of 64 bits, about 1.8e308")
    elif isinstance(value, int):
        return None if _LEAST <= value <= _MOST else ([], "an integer of more than 64 bits")
    else:
        return None
    if levels == _MOST_LEVELS:
        return [], f"more than {_MOST_LEVELS} lists and objects within each other"
    for key, one in items:
        kind = type(one)
        # Most values are of these kinds; a million numbers take .13 s so, and .35 s with a call for each.
        if kind is str or (kind is float and -math.inf < one < math.inf) or (kind is int and _LEAST <= one <= _MOST):
            continue
        found = _unwritable(one, levels + 1)
        if found is not None:
            found[0].insert(0, key)
            return found
    return None
