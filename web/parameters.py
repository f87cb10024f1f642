"""Parameters of routes: the conversion of each to the type that its route declares.

The signature of a route declares its parameters. It is read once, when the route is declared;
`web/kinds.py` says how values are made and checked, so that a fork registers nothing.
"""

import contextlib
import functools
import inspect
import re
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flask
import FlaskSimpleAuth as fsa
from werkzeug.datastructures import CombinedMultiDict, FileStorage
from werkzeug.routing import FloatConverter, IntegerConverter

from flask_internals import current_request
from security.bounded_queue import BoundedQueue
from web.kinds import Casts, Kind, kind_of, plain_text, refusal, without_none

# bodies above this size are parsed, and their parameters checked, in a queue
LARGE_BYTES = 2**16
parse_queue = BoundedQueue("large requests", running=1, waiting=4)
# FlaskSimpleAuth makes Flask's converters of these in a path
PATH_TYPES = (str, int, float, uuid.UUID, fsa.path, fsa.string)


class Declared(NamedTuple):
    """The names of the parameters of a route: all, those of lists, and those of secrets."""

    names: frozenset[str]
    lists: frozenset[str]
    secrets: frozenset[str]


NOTHING_DECLARED = Declared(frozenset(), frozenset(), frozenset())


class Parameter:
    """A parameter of a route, in place of its type hint: FlaskSimpleAuth calls it."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name = name
        self.kind = kind
        self.make = kind.make
        self.is_text = kind.parse is plain_text and not kind.is_list

    def __call__(self, value: Any) -> Any:
        """The value for the route, from that in the request; 400 if it is invalid."""
        # a number came in JSON, and text is the same in JSON: neither needs to be parsed
        if isinstance(value, int | float) or (
            self.is_text and isinstance(value, str) and len(value) <= LARGE_BYTES
        ):
            return self.make(value, self.name)
        request: Any = current_request()
        if request.is_large:
            with parse_queue:
                return self._make(request, value)
        return self._make(request, value)

    def _make(self, request: Any, value: Any) -> Any:
        if self.name not in request.json_members:
            value = self._parse_all(request, value)
        return self.make(value, self.name)

    def _parse_all(self, request: flask.Request, value: Any) -> Any:
        if not self.kind.is_list:
            return self._parse(value)
        sources = request.args, request.form, request.files
        return [self._parse(text) for source in sources for text in source.getlist(self.name)]

    def _parse(self, text: str | FileStorage) -> Any:
        if self.kind.parse is None:
            return text
        if isinstance(text, FileStorage):
            raise refusal(self.name, "no file")
        try:
            return self.kind.parse(text)
        except ValueError as e:
            raise refusal(self.name, f"JSON: {e}") from None


# this many digits fit in 64 bits; more is 404


class _Integer(IntegerConverter):
    regex = "[0-9]{1,18}"


class _Float(FloatConverter):
    regex = r"[0-9]{1,18}\.[0-9]{1,18}"


def hint_of(parameter: inspect.Parameter) -> Any:
    """The type of a parameter, as FlaskSimpleAuth finds it: that of its default, else text."""
    if parameter.annotation is not parameter.empty:
        return parameter.annotation
    return type(parameter.default) if parameter.default not in (None, parameter.empty) else str


def _declare(
    manager: Any, rule: str, signature: inspect.Signature, casts: Casts
) -> tuple[inspect.Signature, Declared]:
    """The signature that FlaskSimpleAuth gets, and the declared names."""
    in_path = set(re.findall(r"<(?:[^<>]*:)?(\w+)>", rule))
    shown, names, lists, secrets = [], set(), set(), set()
    for key, parameter in signature.parameters.items():
        hint = hint_of(parameter)
        one = without_none(hint)
        is_in_path = key in in_path and hint in PATH_TYPES
        is_special = one in manager._special_parameters or parameter.kind is parameter.VAR_KEYWORD
        if not is_special and not is_in_path:
            name, kind = re.sub("^_(?=.)", "", key), kind_of(hint, casts)
            parameter = parameter.replace(annotation=Parameter(name, kind))
            names.add(name)
            if kind.is_list:
                lists.add(name)
            if getattr(one, "SECRET", False):
                secrets.add(name)
        shown.append(parameter)
    declared = Declared(frozenset(names), frozenset(lists), frozenset(secrets))
    return signature.replace(parameters=shown), declared


@contextlib.contextmanager
def _signature(function: Any, signature: inspect.Signature) -> Iterator[None]:
    """Replace the signature of a function temporarily."""
    function.__signature__ = signature
    try:
        yield
    finally:
        del function.__signature__


def _all_parameters(manager: Any) -> Mapping[str, Any]:
    """The parameters of a request, in place of a method of FlaskSimpleAuth's.

    That one makes a `CombinedMultiDict` of all sources at each call, of which there are several.
    """
    request = current_request()
    is_json = request.is_json
    manager._fsa._local.params = "json" if is_json else "http"  # for its error messages
    body = (request.get_json(),) if is_json else (request.form, request.files)
    sources: list[Any] = [source for source in (*body, request.args) if source]
    return CombinedMultiDict(sources) if len(sources) > 1 else sources[0] if sources else {}


def init_app(app: fsa.Flask) -> None:
    """From the next route on, make and check parameters as their type hints say.

    FlaskSimpleAuth has no public hook for some types: lists, dataclasses, `fsa.JsonData` and the
    simple ones never reach `app.cast`. But it accepts any callable as a type, so it gets a
    signature with a `Parameter` for each hint, except for those that are not from the request,
    such as `fsa.CurrentUser`. Its method is private: tests/test_openapi.py pins it.
    """
    manager = app._fsa._pm
    built_in = {*manager._casts}
    setattr(manager, "_params", functools.partial(_all_parameters, manager))  # noqa: B010
    add_url_rule = app._fsa.add_url_rule
    routes: dict[str, Declared] = {}
    app.extensions["parameters"] = routes
    app.url_map.converters |= {"int": _Integer, "float": _Float}

    def add(rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any) -> Any:
        methods = options.get("methods") or getattr(view_func, "methods", None)
        if methods and not isinstance(methods, str):  # Flask refuses a text
            options["methods"] = [method.upper() for method in methods]  # as Flask does later
        casts = {kind: cast for kind, cast in manager._casts.items() if kind not in built_in}
        signature, declared = _declare(manager, rule, inspect.signature(view_func), casts)
        routes[endpoint or view_func.__name__] = declared
        with _signature(view_func, signature):
            return add_url_rule(rule, endpoint, view_func, **options)

    setattr(app._fsa, "add_url_rule", add)  # noqa: B010
    setattr(app, "add_url_rule", add)  # noqa: B010
