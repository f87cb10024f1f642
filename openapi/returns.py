"""Return types of routes: body, status and headers, which the OpenAPI document shows."""

from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, TypeVar, cast

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from values import MAX_PAGE

MAX_SEARCHED = 20_000  # rows that a request looks at

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
# the errors that a route declares; the others follow from the rest of its declaration
Conflict = tuple[Error, Literal[409]]
NotFound = tuple[Error, Literal[404]]  # follows for a path with a parameter
TooMany = tuple[Error, Literal[429]]  # follows for a route that takes a password


def next_page(page: list[T], limit: int, last: str | None) -> Page[T]:
    """Keyset pagination: a full page of a list has a `Link` to the one after the name `last`."""
    if len(page) < limit:
        return page, 200, {}
    return _linked(page, {"limit": limit, "after": last})


def search_page(
    load: Callable[[int, str | None], list[T]],
    texts: Callable[[T], list[str]],
    q: str,
    limit: int,
    after: str | None,
) -> Page[T]:
    """A page of the rows with a text that contains `q`, whatever the case (`str.casefold`).

    `load` gets how many rows there may be and the key that they follow; `texts` gives those of a
    row, of which the first one is its key. A request looks at no more than `MAX_SEARCHED` rows:
    then there is a `Link` to the rest after a page that is not full, or even empty.
    """
    folded = q.casefold()
    page: list[T] = []
    for _ in range(MAX_SEARCHED // MAX_PAGE):
        rows = load(MAX_PAGE, after)
        for row in rows:
            if any(folded in text.casefold() for text in texts(row)):
                page.append(row)
                if len(page) == limit:
                    return _linked(page, {"limit": limit, "after": texts(row)[0], "q": q})
        if len(rows) < MAX_PAGE:
            return page, 200, {}
        after = texts(rows[-1])[0]
    return _linked(page, {"limit": limit, "after": after, "q": q})


def _linked(page: list[T], parameters: dict[str, Any]) -> Page[T]:
    """The page with a link to the route itself with other parameters."""
    request = flask.request
    path = request.view_args or {}
    following = url_for(request.endpoint or "", **path, **parameters)
    return page, 200, {"Link": f'<{following}>; rel="next"'}
