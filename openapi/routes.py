"""The declarations of the routes: path, parameters, return types, authentication, authorization."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

import FlaskSimpleAuth as fsa
from flask.typing import ResponseReturnValue

from auth import takes_keys
from security.bounded_queue import is_queued
from security.declarations import WRITES, declaration_of, may_be_stored
from web.kinds import members, without_none
from web.parameters import hint_of
from web.preconditions import path_of, tagged_paths

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SCHEMES = ["token", "key", "basic", "param"]  # the default, if FSA_AUTH_DEFAULT is not set
BODIES = ("POST", "PUT", "PATCH")  # methods whose parameters are in the body
SPECIAL = (fsa.CurrentUser, fsa.CurrentApp, fsa.Environ, fsa.Globals, fsa.Session, fsa.Header)


class Route(NamedTuple):
    """A path with one method, its function, its authorization and its authentication."""

    name: str
    method: str
    path: str
    function: Callable[..., Any]
    authz: list[Any]  # "OPEN", "AUTH", a group, or a permission with its parameter
    schemes: list[str]
    realm: str | None
    is_queued: bool  # whether it is 503 while its queue is full
    is_repeatable: bool  # whether it takes an Idempotency-Key
    has_tag: bool  # whether its path has an ETag

    @property
    def is_open(self) -> bool:
        """Whether it needs no authentication."""
        return self.authz == ["OPEN"]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The parameters of requests by their names there, without cookies."""
        found = inspect.signature(self.function).parameters.items()
        named = [(k, v) for k, v in found if v.kind is not v.VAR_KEYWORD]
        return {
            re.sub("^_(?=.)", "", k): v
            for k, v in named
            if kind_of(v) not in SPECIAL and not is_cookie(kind_of(v))
        }

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that authenticates a request, if any."""
        for name, hint in inspect.signature(self.function).parameters.items():
            if is_cookie(kind_of(hint)):
                return getattr(kind_of(hint), "NAME", name)
        return None

    @property
    def responses(self) -> dict[int, tuple[Any, str | None]]:
        """The declared statuses, each with the type of the body and the name of a header."""
        hint = inspect.signature(self.function).return_annotation
        if hint in (inspect.Signature.empty, ResponseReturnValue):
            return {200: (Any, None)}
        found: dict[int, tuple[Any, str | None]] = {}
        for kind in members(hint):
            parts = get_args(kind) if get_origin(kind) is tuple else (kind, Literal[200])
            (status,) = get_args(parts[1]) or (200,)  # a plain `int` does not have one
            found[status] = parts[0], getattr(parts[-1], "__metadata__", (None,))[0]
        return found


def kind_of(hint: inspect.Parameter) -> Any:
    """The type of a parameter without `| None`; `str` if it has no annotation."""
    return without_none(hint_of(hint))


def is_cookie(kind: Any) -> bool:
    """Whether a type is that of a cookie: `fsa.Cookie`, or one of its own with a `NAME`."""
    return isinstance(kind, type) and issubclass(kind, fsa.Cookie)


def routes(app: fsa.Flask) -> Iterator[Route]:
    """The routes of an application, one for each path and method."""
    usual = app.config["FSA_AUTH_DEFAULT"] or SCHEMES
    tagged = tagged_paths(app)
    for rule in app.url_map.iter_rules():
        declared = declaration_of(app, rule.endpoint)
        authz, authn, realm = declared
        function = inspect.unwrap(app.view_functions[rule.endpoint])
        authz = authz if isinstance(authz, list) else ["CLOSE" if authz is None else authz]
        authn = [authn] if isinstance(authn, str) else authn or usual
        schemes = [] if authz == ["OPEN"] else [scheme for scheme in authn if scheme != "none"]
        if "key" in schemes and not takes_keys(declared):
            schemes.remove("key")
        path = path_of(rule.rule)
        methods = [method for method in METHODS if method in (rule.methods or ())]
        for method in methods:
            yield Route(
                name=function.__name__ + ("" if method == methods[0] else f"_{method.lower()}"),
                method=method,
                path=path,
                function=function,
                authz=authz,
                schemes=schemes,
                realm=realm,
                is_queued=is_queued(app.view_functions[rule.endpoint]),
                is_repeatable=method in WRITES
                and authz != ["OPEN"]
                and may_be_stored(app, rule.endpoint),
                has_tag=path in tagged and may_be_stored(app, rule.endpoint),
            )
