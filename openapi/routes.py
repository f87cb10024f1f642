"""The routes of an application, as they are declared: path, parameters, returns, who may call."""

import inspect
import re
import typing
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import FlaskSimpleAuth as fsa
from flask.typing import ResponseReturnValue

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SCHEMES = ["token", "basic", "param"]  # where neither a route nor the configuration names any
BODIES = ("POST", "PUT", "PATCH")  # methods whose parameters are in a body
SPECIAL = (fsa.CurrentUser, fsa.CurrentApp, fsa.Environ, fsa.Globals, fsa.Session, fsa.Header)


class Route(NamedTuple):
    """A path with a method, the function behind it, who may enter, and how."""

    name: str
    method: str
    path: str
    function: Callable[..., Any]
    authz: list[Any]  # "OPEN", "AUTH", a group, or a permission with the parameter that it is on
    schemes: list[str]
    realm: str | None

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.authz == ["OPEN"]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What it takes from a request, by the names in there."""
        found = inspect.signature(self.function).parameters.items()
        named = [(k, v) for k, v in found if v.kind is not v.VAR_KEYWORD]
        return {re.sub("^_(?=.)", "", k): v for k, v in named if kind_of(v) not in SPECIAL}

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that it takes, if any."""
        return next((k for k, v in self.parameters.items() if kind_of(v) is fsa.Cookie), None)

    @property
    def answers(self) -> dict[int, tuple[Any, str | None]]:
        """The statuses that it gives, each with the type of the body, and the name of a header."""
        hint = inspect.signature(self.function).return_annotation
        if hint in (inspect.Signature.empty, ResponseReturnValue):
            return {200: (Any, None)}
        found: dict[int, tuple[Any, str | None]] = {}
        for answer in members(hint):
            parts = get_args(answer) if get_origin(answer) is tuple else (answer, Literal[200])
            (status,) = get_args(parts[1])
            found[status] = parts[0], getattr(parts[-1], "__metadata__", (None,))[0]
        return found


def members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the only one."""
    return get_args(hint) if get_origin(hint) in (UnionType, typing.Union) else (hint,)


def kind_of(hint: inspect.Parameter) -> Any:
    """The type of a parameter without its being optional; text, where nothing is said."""
    if hint.annotation is inspect.Parameter.empty:
        return str
    kinds = [kind for kind in members(hint.annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else hint.annotation
    # FlaskSimpleAuth enforces nothing of what Annotated says
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def record_routes(app: fsa.Flask) -> None:
    """Record `authz`, `authn` and `realm` of each route that is declared from now on.

    FlaskSimpleAuth keeps none of these. Decorators and blueprints all pass through a method of its
    own, which is private: tests/test_openapi.py pins it.
    """
    declared = app.extensions["openapi"] = {}
    add_url_rule = app._fsa.add_url_rule

    def record(rule: str, endpoint: str | None = None, view_func: Any = None, **how: Any) -> None:
        who = how.get("authz"), how.get("authn"), how.get("realm")
        declared[endpoint or view_func.__name__] = who
        add_url_rule(rule, endpoint, view_func, **how)

    setattr(app._fsa, "add_url_rule", record)  # noqa: B010
    setattr(app, "add_url_rule", record)  # noqa: B010


def routes(app: fsa.Flask) -> Iterator[Route]:
    """All routes of an application, each with one method."""
    usual = app.config["FSA_AUTH_DEFAULT"] or SCHEMES
    for rule in app.url_map.iter_rules():
        # what FlaskSimpleAuth has not seen is open
        authz, authn, realm = app.extensions["openapi"].get(rule.endpoint, ("OPEN", None, None))
        function = inspect.unwrap(app.view_functions[rule.endpoint])
        authz = authz if isinstance(authz, list) else ["CLOSE" if authz is None else authz]
        authn = [authn] if isinstance(authn, str) else authn or usual
        methods = [method for method in METHODS if method in (rule.methods or ())]
        for method in methods:
            yield Route(
                name=function.__name__ + ("" if method == methods[0] else f"_{method.lower()}"),
                method=method,
                path=re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule),
                function=function,
                authz=authz,
                schemes=[scheme for scheme in authn if scheme != "none" and authz != ["OPEN"]],
                realm=realm,
            )
