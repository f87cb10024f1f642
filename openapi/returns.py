"""Return types of routes: body, status and headers, which the OpenAPI document shows."""

from typing import Annotated, Generic, Literal, TypeVar, cast

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

T = TypeVar("T")


class Error(TypedDict):
    """The body of every response with a status from 400 up."""

    error: str


class Message(TypedDict):
    """What the request has changed."""

    msg: str


class JsonResponse(flask.Response, Generic[T]):
    """A response whose body is a `T` as JSON, for types that Flask does not serialize."""


def jsonify(value: T) -> JsonResponse[T]:
    """The response with a value of any type as JSON."""
    return cast(JsonResponse[T], fsa.jsonify(value))


Ok = tuple[T, Literal[200]]
Page = tuple[list[T], Literal[200], Annotated[dict[str, str], "Link"]]
Created = tuple[T, Literal[201], Annotated[dict[str, str], "Location"]]
Accepted = tuple[T, Literal[202]]
Done = tuple[Literal[""], Literal[204]] | tuple[Literal[""], Literal[204], dict[str, str]]
# the only error that a route declares; the others follow from the rest of its declaration
Conflict = tuple[Error, Literal[409]]


def next_page(page: list[T], limit: int, last: str | None) -> Page[T]:
    """Keyset pagination: a full page of a list has a `Link` to the one after the name `last`."""
    if len(page) < limit:
        return page, 200, {}
    request = flask.request
    path = request.view_args or {}
    following = url_for(request.endpoint or "", **path, limit=limit, after=last)
    return page, 200, {"Link": f'<{following}>; rel="next"'}
