"""Preconditions: `ETag` and `If-Match` (RFC 9110, 13.1.1) prevent lost updates.

A path with a parameter, such as `/stuff/<sid>`, that has a GET and a PATCH, PUT or DELETE has both,
also in a fork: the strong tag of a GET is a hash of its body, and a change with `If-Match` is made
only if a GET would have one of these tags now. Both are one transaction.
"""

import functools
import hashlib
import inspect
import re
from collections.abc import Callable
from typing import Any

import flask
import FlaskSimpleAuth as fsa

from database import db
from flask_internals import current_request
from security.declarations import WRITES, may_be_stored
from web.kinds import without_none
from web.parameters import hint_of

TAG = r'(?:W/)?"[!#-~\x80-\xff]*"'
TAGS = re.compile(rf"\*|[ \t,]*{TAG}(?:[ \t]*,[ \t,]*{TAG})*[ \t,]*")


class Resource:
    """The routes of a path."""

    def __init__(self, rule: str) -> None:
        self.in_path = set(re.findall(r"<(?:[^<>]*:)?(\w+)>", rule))
        self.get: Callable[..., Any] | None = None
        self.user: str | None = None  # the name of the parameter that takes the caller's login
        self.changes: set[str] = set()

    def may_read(self, view: Callable[..., Any]) -> bool:
        """Whether a GET route can be called with what the routes of its path have in common."""
        for name, parameter in inspect.signature(view).parameters.items():
            if without_none(hint_of(parameter)) is fsa.CurrentUser:
                self.user = name
            elif name not in self.in_path and parameter.default is parameter.empty:
                return False
        return True

    def tag(self, app: fsa.Flask, values: dict[str, Any]) -> str:
        """The tag that a GET would have now; 404 if there is nothing."""
        assert self.get
        values = {name: values[name] for name in self.in_path}
        if self.user:
            values[self.user] = app._fsa.current_user()
        return tag_of(app.make_response(self.get(**values)))


def tag_of(response: flask.Response) -> str:
    """The strong tag of a complete response."""
    return f'"{hashlib.blake2b(response.get_data(), digest_size=16).hexdigest()}"'


def matches(header: str, tag: str) -> bool:
    """Whether a tag is in `If-Match`; a weak one never is. 400 for a malformed header."""
    header = header.strip(" \t")
    if not TAGS.fullmatch(header):
        raise fsa.ErrorResponse('If-Match must be * or a list of tags, such as "x", "y"', 400)
    return header == "*" or tag in re.findall(TAG, header)


def _view(view: Callable[..., Any], call: Callable[..., Any]) -> Any:
    """A function in place of a view, which FlaskSimpleAuth can inspect as if it were that."""

    class View:
        __call__ = staticmethod(call)

        def __init__(self) -> None:
            functools.update_wrapper(self, view)
            self.__code__ = view.__code__

    return View()


def _tagged(app: fsa.Flask, resource: Resource, view: Callable[..., Any]) -> Callable[..., Any]:
    """A GET whose response has a tag, if the path has a route that changes something."""

    def call(**values: Any) -> Any:
        answer = view(**values)
        if not resource.changes:
            return answer
        response = app.make_response(answer)
        if response.status_code == 200 and not response.is_streamed:
            response.headers["ETag"] = tag_of(response)
        return response

    return call


def _conditional(app: fsa.Flask, resource: Resource, view: Any) -> Callable[..., Any]:
    """A change that takes `If-Match`."""

    def call(**values: Any) -> Any:
        request = current_request()
        header = request.environ.get("HTTP_IF_MATCH")
        if header is None or request.method not in WRITES:
            return view(**values)
        # a route with a secret hashes passwords, for which other writers must not wait
        if not resource.get or not may_be_stored(app, request.endpoint or ""):
            raise fsa.ErrorResponse("precondition failed: there is no ETag for this", 412)
        with db.isolated():
            if not matches(header, resource.tag(app, values)):
                raise fsa.ErrorResponse("precondition failed: it has another ETag", 412)
            response = app.make_response(view(**values))
            if response.status_code < 400 and request.method != "DELETE":
                response.headers["ETag"] = resource.tag(app, values)
            return response

    return call


def path_of(rule: str) -> str:
    """The path of a rule as in OpenAPI, `/stuff/{sid}`; FlaskSimpleAuth adds converters to it."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def tagged_paths(app: fsa.Flask) -> set[str]:
    """The paths that have tags, as in OpenAPI."""
    resources = app.extensions.get("resources", {}).items()
    return {path_of(rule) for rule, resource in resources if resource.get and resource.changes}


def init_app(app: fsa.Flask) -> None:
    """Let the routes declared from now on have tags and take `If-Match`."""
    resources: dict[str, Resource] = {}
    app.extensions["resources"] = resources
    add_url_rule = app._fsa.add_url_rule

    def add(rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any) -> Any:
        methods = set(options.get("methods") or ["GET"])
        if "<" not in rule and methods.isdisjoint(WRITES):
            return add_url_rule(rule, endpoint, view_func, **options)
        resource = resources.setdefault(rule, Resource(rule))
        call = view_func
        if methods == {"GET"} and "<" in rule and resource.may_read(view_func):
            resource.get, call = view_func, _tagged(app, resource, view_func)
        elif not methods.isdisjoint(WRITES):
            resource.changes |= methods & WRITES
            call = _conditional(app, resource, view_func)
        if call is not view_func:
            call = _view(view_func, call)
        return add_url_rule(rule, endpoint or view_func.__name__, call, **options)

    setattr(app._fsa, "add_url_rule", add)  # noqa: B010
