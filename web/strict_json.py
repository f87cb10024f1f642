"""A strict JSON parser (RFC 8259), for bodies and for parameters that are JSON."""

import json
import math
from typing import Any

MAX_DEPTH = 100  # levels of arrays and objects
MAX_CONTAINERS = 100_000  # arrays and objects


def loads(text: str) -> Any:
    """A value from its JSON text (RFC 8259), strict where Python's `json` is lenient.

    Raises ValueError for what is malformed, ambiguous (a member twice), beyond what every store and
    client can hold (NaN, infinities, lone surrogates), or takes too long to look through (more than
    100 levels, more than 100,000 arrays and objects).
    """
    try:
        value = _decoder.decode(text)
        if "\\ud" in text.lower():  # surrogates: fine in pairs
            json.dumps(value, ensure_ascii=False).encode()
        # a cheap sufficient test first, as most bodies have few brackets
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_containers(value)
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
        raise ValueError("a member is there twice")
    return members


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError("a number is too large")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def _check_containers(value: Any) -> None:
    """Level by level, refuse too many levels and too many arrays and objects in all."""
    level, total = [value], 0
    for _ in range(MAX_DEPTH):
        inside = (c.values() if isinstance(c, dict) else c for c in level)
        level = [v for values in inside for v in values if isinstance(v, (list, dict))]
        total += len(level)
        if total > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} arrays and objects")
    if level:
        raise RecursionError
