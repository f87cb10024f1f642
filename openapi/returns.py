"""What a route returns, as its return annotation says: body, status, headers."""

from typing import Annotated, Generic, Literal, TypeVar, cast

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict  # of Python's own, pydantic takes only that of 3.12

T = TypeVar("T")


class Error(TypedDict):
    """What every status from 400 up has for a body."""

    error: str


class Message(TypedDict):
    """What has been done."""

    msg: str


class Answer(flask.Response, Generic[T]):
    """A response whose body is a `T` that Flask would not make JSON of by itself."""


def jsonify(value: T) -> Answer[T]:
    """The response with a value of any type."""
    return cast(Answer[T], fsa.jsonify(value))


Ok = tuple[T, Literal[200]]
Page = tuple[list[T], Literal[200], Annotated[dict[str, str], "Link"]]
Created = tuple[T, Literal[201], Annotated[dict[str, str], "Location"]]
Accepted = tuple[T, Literal[202]]
Done = tuple[Literal[""], Literal[204]] | tuple[Literal[""], Literal[204], dict[str, str]]
# what only a route itself knows to refuse; all other errors follow from its declaration
Conflict = tuple[Error, Literal[409]]


def next_page(page: list[T], limit: int, last: str | None) -> Page[T]:
    """A page of a list with, if it is full, the link to what comes after its `last` name."""
    if len(page) < limit:
        return page, 200, {}
    following = url_for(flask.request.endpoint or "", limit=limit, after=last)
    return page, 200, {"Link": f'<{following}>; rel="next"'}
