"""A strict JSON parser (RFC 8259), for bodies and for parameters in JSON."""

import json
import math
import re
from typing import Any

MAX_DEPTH = 100  # levels of arrays and objects
MAX_VALUES = 100_000  # arrays and objects, and what is in them

_TEXT = re.compile(r'"(?>[^"\\]+|\\.)*+"?', re.DOTALL)


def loads(text: str) -> Any:
    """A value from its JSON text (RFC 8259), strict where Python's `json` is lenient.

    Raises ValueError for what is malformed, ambiguous (a duplicate member), not storable by every
    store and client (NaN, infinities, lone surrogates), or too costly in time and memory (more than
    100 levels, more than 100,000 arrays, objects and values in them).
    """
    # cheap sufficient tests first, as most texts have few brackets and commas
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MAX_VALUES:
        _check_count(text)
    try:
        value = _decoder.decode(text)
        if "\\ud" in text.lower():  # surrogates: fine in pairs
            json.dumps(value, ensure_ascii=False).encode()
        if opened > MAX_DEPTH:
            _check_depth(value)
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None
    except ValueError as e:
        if "integer string conversion" in str(e):
            raise ValueError("an integer has too many digits") from None
        raise
    except RecursionError:
        raise ValueError(f"more than {MAX_DEPTH} levels") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("duplicate member of an object")
    return members


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError("a number is too large")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def _check_count(text: str) -> None:
    """Refuse too many values before they take memory: count brackets and commas outside strings."""
    text = _TEXT.sub("", text)
    if text.count("[") + text.count("{") + text.count(",") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES} arrays, objects and values in them")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        inside = (c.values() if isinstance(c, dict) else c for c in level)
        level = [v for values in inside for v in values if isinstance(v, (list, dict))]
        if not level:
            return
    raise RecursionError
