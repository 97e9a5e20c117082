"""Nested lists of numbers in a JSON document, as arrays."""

from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import MalformedRequest

_NUMBERS = frozenset((int, float, bool))


def number_array(values: list[Any]) -> NDArray[Any]:
    """Turns a list of numbers or truth values, or of lists of them, into an array of what they are: b, i, u or f.

    The kinds of all elements are looked at first: beside one long text, NumPy would make a text as long of each number.

    Raises:
        MalformedRequest: An element is neither a number nor a list, lists differ in length or are nested too deeply,
            or an integer has more than 64 bits.
    """
    elements: list[Any] = values
    while (kinds := set(map(type, elements))) == {list}:
        elements = list(chain.from_iterable(elements))
    if list in kinds:
        raise MalformedRequest("The rows of a list of numbers differ in length.")
    if not kinds <= _NUMBERS:
        raise MalformedRequest("A list of numbers holds something else than numbers.")
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError) as error:
        raise MalformedRequest("The rows of a list of numbers differ in length, or are nested too deeply.") from error
    if array.dtype.kind == "O":
        raise MalformedRequest("A list of numbers holds an integer of more than 64 bits.")
    return array
