"""Parses untrusted JSON strictly, so that the gate and the classifier cannot read the same document differently."""

import json
import unicodedata
from typing import Any, NoReturn

from app.errors import MalformedRequest, TooManyBytes

_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
# Two bytes of JSON may become a Python number of thirty bytes, so the number of commas is limited before parsing. A
# thousand images of 784 pixels are accepted.
_MAX_VALUES = 1_000_000
# Of combining marks behind one letter, as in Unicode's Stream-Safe Text Format (UAX 15).
_MOST_MARKS = 30
# No marks themselves, but NFKC turns them into some.
_BECOME_MARKS = frozenset("\u0f73\u0f75\u0f81\uff9e\uff9f")


def parse_json(body: bytes) -> Any:
    """Parses a UTF-8 document, more strictly than the standard asks for.

    Raises:
        MalformedRequest: Not JSON, nested too deeply, with a byte order mark, in UTF-16 or UTF-32, with NaN or
            Infinity, with half a character, or with a key twice in one object, its case aside (of which different
            readers take different ones).
        TooManyBytes: It holds more values than any request that could be judged.
    """
    if body.count(b",") > _MAX_VALUES:
        raise TooManyBytes(f"The JSON document holds more than {_MAX_VALUES:,} values.")
    _check_encoding(body)
    try:
        document = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise MalformedRequest("The JSON document is nested too deeply.") from error
    except UnicodeDecodeError as error:
        raise MalformedRequest("The JSON document is not UTF-8.") from error
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"The JSON document is broken: {error}.") from error
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise MalformedRequest("The JSON document holds an integer of thousands of digits.") from error
    if b"\\ud" in body or b"\\uD" in body:
        _check_surrogates(document)
    return document


def _check_encoding(body: bytes) -> None:
    if body.startswith(_BYTE_ORDER_MARKS):
        raise MalformedRequest("The JSON document begins with a byte order mark; send it as UTF-8 without one.")
    if b"\0" in body[:4]:
        raise MalformedRequest("The JSON document is in UTF-16 or UTF-32; send it as UTF-8.")


def _check_surrogates(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise MalformedRequest("The JSON document holds half a character (a lone surrogate).") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    # Go's reader takes `IMAGE` for `image`, and readers in C end a key at its first zero.
    if len(fields) != len(pairs) or len({folded(name) for name in fields}) != len(pairs):
        raise MalformedRequest("The JSON document has a key twice in one object.")
    if any("\0" in name for name in fields):
        raise MalformedRequest("The JSON document has a key with a zero character in it.")
    return fields


def folded(name: str) -> str:
    """Normalises a name, so that names that some readers treat as the same become equal.

    Raises:
        MalformedRequest: More combining marks stand in a row than any language has. Normalising sorts them, in a time
            that grows with the square of their number.
    """
    if name.isascii():
        return name.casefold()
    if len(name) > _MOST_MARKS:
        _check_marks(name)
    return unicodedata.normalize("NFKC", name).casefold()


def _check_marks(name: str) -> None:
    marks = 0
    for sign in name:
        marks = marks + 1 if unicodedata.combining(sign) or sign in _BECOME_MARKS else 0
        if marks > _MOST_MARKS:
            raise MalformedRequest(f"The request has a name with more than {_MOST_MARKS} combining marks in a row.")


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"The JSON document holds {name}, which is not JSON.")
