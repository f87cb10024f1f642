"""Kinds of values: how a type hint checks JSON, and the text in a query string or a form.

`kind_of` reads a type hint once. What it returns makes values of the type, and refuses all others
with 400. A class that derives from `str`, `int`, `float`, `Decimal`, `list` or `dict` takes values
of that type only; its `__new__` or `__init__` checks its own rule and need not check the type. A
text is not a number, `true` is not 1, and NaN is refused.
"""

import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import inspect
import math
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import FlaskSimpleAuth as fsa
import orjson
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from typing_extensions import is_typeddict
from werkzeug.datastructures import FileStorage

from web import strict_json

MAX_OBJECT_VALUES = 1_000  # members and elements of an object that pydantic checks
MAX_FAULTS = 5  # that an error lists

Make = Callable[[Any, str], Any]  # a value of a JSON value and its name; raises 400
Parse = Callable[[str], Any]  # a JSON value of a text; ValueError if it is not JSON
Casts = Mapping[Any, Callable[[Any], Any]]


class Kind(NamedTuple):
    """What makes values of a type of JSON values, and these of text."""

    make: Make
    parse: Parse | None  # keeps a malformed text as text, which `make` refuses; None for files
    is_list: bool = False  # name=1&name=2, each of which is parsed


def refusal(name: str, what: str) -> fsa.ErrorResponse:
    """The error 400 for a parameter, or a part of one, that must be something else."""
    return fsa.ErrorResponse(f"{name} must be {what}", 400)


def wrong(name: str, reason: object) -> fsa.ErrorResponse:
    """The error 400 for a parameter that a type has refused, and why."""
    return fsa.ErrorResponse(f"{name} is wrong: {reason}", 400)


def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the only one."""
    return get_args(hint) if get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def without_none(hint: Any) -> Any:
    """The type within an optional type; any other hint unchanged."""
    others = [member for member in members(hint) if member is not type(None)]
    return others[0] if len(others) == 1 else hint


def kind_of(hint: Any, casts: Casts) -> Kind:
    """The kind of a type hint; TypeError for one that cannot be checked.

    A type in `casts` is made by the function there, as FlaskSimpleAuth does (`app.cast`).
    """
    hint = getattr(hint, "__supertype__", hint)  # of a NewType
    if (other := without_none(hint)) is not hint:
        return _optional(kind_of(other, casts))
    if hint in casts:
        return Kind(functools.partial(_call, casts[hint]), plain_text)
    if inspect.isroutine(hint):
        return _by_call(hint)
    if hint in (Any, object, fsa.JsonData):
        return Kind(lambda value, _: value, strict_json.loads)
    if hint is FileStorage:
        return Kind(_file, None)
    if get_origin(hint) is Annotated:
        return _annotated(hint, casts)
    if get_origin(hint) is Literal:
        return _choice([(value, value) for value in get_args(hint)])
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice([(member.value, member) for member in hint])
    if hint in FORMATS:
        return Kind(functools.partial(_formatted, *FORMATS[hint]), plain_text)
    if (item := item_of(hint)) is not None:
        return _list(hint, kind_of(item, casts))
    if dataclasses.is_dataclass(hint) and not is_pydantic_dataclass(hint):  # type: ignore[arg-type]
        return _dataclass(hint, casts)
    if not _is_pydantics(hint):
        for base in hint.__mro__:
            if base in BASES:
                return _based(hint, base)
    return _by_pydantic(hint) or _by_call(hint)


# text


def plain_text(text: str) -> str:
    """The JSON value of a text for types that take any text: itself."""
    return text


def _boolean_text(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


def _integer_text(text: str) -> int | str:
    return int(text) if re.fullmatch("-?[0-9]{1,1000}", text) else text


def _number_text(text: str) -> float | str:
    if len(text) <= 1000 and re.fullmatch(
        r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", text
    ):
        return float(text)
    return text


# types of JSON, and classes that derive from them


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, float):  # JavaScript writes 5.0 as 5
        value = float(_integer(value))
    if not math.isfinite(value):
        raise ValueError
    return float(value)


def _decimal(value: Any) -> decimal.Decimal:
    return decimal.Decimal(str(_number(value) if isinstance(value, float) else _integer(value)))


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


BASES: dict[Any, tuple[Callable[[Any], Any], str, Parse]] = {
    str: (_string, "a text", plain_text),
    bool: (_boolean, "true or false", _boolean_text),
    int: (_integer, "an integer", _integer_text),
    float: (_number, "a finite number", _number_text),
    decimal.Decimal: (_decimal, "a finite number", _number_text),
    dict: (_object, "an object", strict_json.loads),
}


def _based(hint: Any, base: Any) -> Kind:
    """A type of JSON, or a class that derives from it."""
    check, what, parse = BASES[base]

    def make(value: Any, name: str) -> Any:
        try:
            value = check(value)
        except (TypeError, ValueError, ArithmeticError):
            with contextlib.suppress(Exception):
                hint(value)  # the class may have a better message; if it takes the value, this one
            raise refusal(name, what) from None
        if hint is base:
            return value
        try:
            return hint(value)
        except Exception as e:
            raise wrong(name, e) from None

    return Kind(make, parse)


def _call(function: Callable[[Any], Any], value: Any, name: str) -> Any:
    """The result of a class or another function for a value; 400 if it raises an exception."""
    try:
        return function(value)
    except Exception as e:
        raise wrong(name, e) from None


def _by_call(hint: Any) -> Kind:
    if not callable(hint) or get_origin(hint) is not None:
        raise TypeError(f"a parameter cannot be {hint}: declare a class that checks its value")
    return Kind(functools.partial(_call, hint), plain_text)


def _file(value: Any, name: str) -> FileStorage:
    if not isinstance(value, FileStorage):
        raise refusal(name, "a file in multipart/form-data")
    return value


# texts with a format

_DATE, _TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}", r"[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
_ZONE = r"(Z|[-+][0-9]{2}:[0-9]{2})?"
_UUID = "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
FORMATS: dict[Any, tuple[Callable[[str], Any], str, str]] = {
    datetime.date: (datetime.date.fromisoformat, _DATE, "a date such as 2020-07-29"),
    datetime.time: (datetime.time.fromisoformat, _TIME + _ZONE, "a time such as 12:30:00"),
    datetime.datetime: (
        datetime.datetime.fromisoformat,
        f"{_DATE}[Tt ]{_TIME}{_ZONE}",
        "a date and time such as 2020-07-29T12:30:00Z",
    ),
    uuid.UUID: (uuid.UUID, _UUID, f"a UUID such as {uuid.UUID(int=0)}"),
}


def _formatted(
    convert: Callable[[str], Any], pattern: str, what: str, value: Any, name: str
) -> Any:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise refusal(name, what)
    try:
        return convert(value)
    except ValueError:
        raise refusal(name, what) from None


# None, and one of several


def _optional(kind: Kind) -> Kind:
    """The same or None, which is `null` in text too, unless any text is right."""
    parse = kind.parse
    if parse and parse is not plain_text and not kind.is_list:
        parse = functools.partial(_optional_text, parse)
    return kind._replace(
        make=lambda value, name: None if value is None else kind.make(value, name), parse=parse
    )


def _optional_text(parse: Parse, text: str) -> Any:
    return None if text == "null" else parse(text)


def _choice(options: list[tuple[Any, Any]]) -> Kind:
    """One of the values of a Literal or an Enum, of that exact type: 1 is not `true`, nor 1.0."""
    table = {(type(value), value): result for value, result in options}
    what = f"one of {', '.join(str(value) for value, _ in options)}"

    def make(value: Any, name: str) -> Any:
        try:
            if type(value) is int and (int, value) not in table:
                value = float(value)  # JavaScript writes 5.0 as 5
            return table[type(value), value]
        except (KeyError, TypeError, OverflowError):
            raise refusal(name, what) from None

    (kind, *others) = {kind for kind, _ in table}
    return Kind(make, strict_json.loads if others or kind not in BASES else BASES[kind][2])


# lists and objects


def item_of(hint: Any) -> Any:
    """The item type of a list or a class that derives from it; None for other hints."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (list, set, frozenset) or (origin is tuple and arguments[1:] == (...,)):
        return arguments[0]
    if not isinstance(hint, type) or not issubclass(hint, list):
        return None
    bases = [b for c in hint.__mro__ for b in getattr(c, "__orig_bases__", ())]
    return next((get_args(base)[0] for base in bases if get_origin(base) is list), Any)


def _list(hint: Any, item: Kind) -> Kind:
    convert = get_origin(hint) or hint

    def make(value: Any, name: str) -> Any:
        if not isinstance(value, list):
            raise refusal(name, "a list")
        made = [item.make(v, f"{name}[{place}]") for place, v in enumerate(value)]
        return made if convert is list else _call(convert, made, name)

    return Kind(make, strict_json.loads if item.is_list else item.parse, is_list=True)


_dataclasses: dict[Any, Kind] = {}


def _dataclass(hint: Any, casts: Casts) -> Kind:
    """A plain dataclass: its members are like parameters, and there are no others."""
    if hint in _dataclasses:  # of which a member may be of the same type
        return _dataclasses[hint]
    kinds: dict[str, Kind] = {}
    required: set[str] = set()

    def make(value: Any, name: str) -> Any:
        if not isinstance(value, dict):
            raise refusal(name, "an object")
        if unknown := value.keys() - kinds.keys():
            raise fsa.ErrorResponse(f"{name} has no member {min(unknown)}", 400)
        if missing := required - value.keys():
            raise fsa.ErrorResponse(f"{name} lacks {min(missing)}", 400)
        made = {key: kinds[key].make(v, f"{name}.{key}") for key, v in value.items()}
        return _call(lambda members: hint(**members), made, name)

    kind = _dataclasses[hint] = Kind(make, strict_json.loads)
    hints = typing.get_type_hints(hint, include_extras=True)
    for field in dataclasses.fields(hint):
        if field.init:
            kinds[field.name] = kind_of(hints[field.name], casts)
            if field.default is field.default_factory is dataclasses.MISSING:
                required.add(field.name)
    return kind


# types that pydantic checks


def _is_pydantics(hint: Any) -> bool:
    """Whether a hint is not a class, or a class with a pydantic schema."""
    said = hasattr(hint, "__get_pydantic_core_schema__") or is_typeddict(hint)
    return said or not isinstance(hint, type)


def _annotated(hint: Any, casts: Casts) -> Kind:
    """A type with constraints, which pydantic enforces."""
    kind = kind_of(get_args(hint)[0], casts)
    if all(isinstance(note, str) for note in hint.__metadata__):
        return kind
    by_pydantic = _by_pydantic(hint)
    if not by_pydantic:
        raise TypeError(f"the constraints of {hint} cannot be enforced: its type must do so")
    return kind._replace(make=by_pydantic.make)


def _by_pydantic(hint: Any) -> Kind | None:
    try:
        adapter = TypeAdapter(hint)
    except PydanticSchemaGenerationError:
        return None
    try:
        is_text = adapter.json_schema().get("type") == "string"
    except PydanticInvalidForJsonSchema:
        is_text = False
    config = getattr(hint, "model_config", None) or getattr(hint, "__pydantic_config__", {})
    extra: Literal["forbid"] | None = None if "extra" in config else "forbid"

    def make(value: Any, name: str) -> Any:
        if _is_large(value):
            # pydantic collects all faults, each of which takes a kilobyte
            raise refusal(name, f"of at most {MAX_OBJECT_VALUES} members and elements in all")
        try:
            return adapter.validate_json(orjson.dumps(value), strict=True, extra=extra)
        except ValidationError as e:
            raise wrong(name, _faults(e)) from None
        except Exception as e:  # from a validator, or for an integer of more than 64 bits
            raise wrong(name, e) from None

    return Kind(make, plain_text if is_text else strict_json.loads)


def _is_large(value: Any) -> bool:
    level, total = [value], 0
    while level:
        inside = [
            c.values() if isinstance(c, dict) else c for c in level if isinstance(c, (dict, list))
        ]
        total += sum(map(len, inside))
        if total > MAX_OBJECT_VALUES:
            return True
        level = [v for values in inside for v in values]
    return False


def _faults(error: ValidationError) -> str:
    """The reasons on one line, without the value itself."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    faults = []
    for fault in found[:MAX_FAULTS]:
        place = ".".join(map(str, fault["loc"]))
        message = fault["msg"].removeprefix("Value error, ")
        faults.append(f"{place}: {message}" if place else message)
    return "; ".join(faults)
