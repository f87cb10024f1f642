"""What is stored about a user: the audit trail, and all of it as one document."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict

from database import db
from openapi.returns import Page, next_page
from security.audit import audit
from store.base import no_user
from store.events import Event
from values import MAX_PAGE, EventKey, Limit

personal_data = flask.Blueprint("personal_data", __name__)

# users read None for `who` and `from` where others have done it; `time` is in seconds since 1970;
# `times` is how many attempts it stands for, the last of them at `time`
EventRow = TypedDict(
    "EventRow",
    {
        "id": str,
        "time": float,
        "event": str,
        "who": str | None,
        "from": str | None,
        "session": str | None,
        "key": str | None,
        "times": int,
    },
)


@personal_data.get("/user/<login>/events", authz=("user", "login"), authn="token")
def get_events(
    login: str, user: fsa.CurrentUser, limit: Limit = Limit(MAX_PAGE), after: EventKey | None = None
) -> Page[EventRow]:
    """List the events of the audit trail about a user, the newest first.

    A full page has a link to the next one (RFC 8288). Users see those since their account was
    added, administrators those of former accounts of that login as well.
    """
    page = events_for(user, login, limit, after)
    return next_page(page, limit, page[-1]["id"] if page else None)


def events_for(reader: str, login: str, limit: int, after: str | None) -> list[EventRow]:
    """The events about a user that a reader may see, the newest first; 404 for an unknown user."""
    is_admin = db.user_is_admin(reader)
    found = db.get_events(login, limit, after, 0.0 if is_admin else db.get_created(login))
    if not found and not db.user_exists(login) and not db.get_events(login, 1):
        raise no_user(login)
    return [_row(event, is_admin) for event in found]


def _row(event: Event, is_full: bool) -> EventRow:
    """An event as its reader sees it: users do not learn who administers, and from where."""
    is_shown = is_full or event.who == event.login
    return {
        "id": event.id,
        "time": event.time,
        "event": event.event,
        "who": event.who if is_shown else None,
        "from": event.origin if is_shown else None,
        "session": event.session or None if is_shown else None,
        "key": event.key or None,
        "times": event.times,
    }


# export

MAX_ROWS = 5_000  # of a part: at most 50 ms and 10 MiB


class Section(NamedTuple):
    """A section of the export: rows about a user that one reader may see."""

    # of the login, the login of the reader, how many, and the key that they follow, "" at first
    rows: Callable[[str, str, int, str], list[Any]]
    key: Callable[[Any], str] | None = None  # of a row; None if there are never many rows


def _user_rows(login: str, *_: object) -> list[Any]:
    profile = dataclasses.asdict(db.get_user(login))
    more = {"created": db.get_created(login), "confirmed": db.get_confirmed_address(login)}
    return [profile | more]


def _session_rows(login: str, *_: object) -> list[Any]:
    sessions = db.get_sessions(login, time.time())
    return [_without(session, "login", "secret") for session in sessions]


def _key_rows(login: str, *_: object) -> list[Any]:
    return [_without(key, "login", "hash") for key in db.get_api_keys(login)]


def _mail_rows(login: str, *_: object) -> list[Any]:
    # the client that has asked for a mail may be somebody else's
    mails = db.get_mails(login, db.get_created(login))
    return [_without(mail, "login", "hash", "origin") for mail in mails]


def _stuff_rows(login: str, _reader: str, limit: int, after: str) -> list[Any]:
    found = db.get_user_stuff(login, limit, after or None)
    return [{"name": name, "price": price} for name, price in found]


def _event_rows(login: str, reader: str, limit: int, after: str) -> list[Any]:
    return events_for(reader, login, limit, after or None)


def _without(record: Any, *secrets: str) -> dict[str, Any]:
    """The members of a record, without what is secret or the same in all of them."""
    return {k: v for k, v in dataclasses.asdict(record).items() if k not in secrets}


# the tables of a fork get a section here: tests/test_personal_data.py tells
SECTIONS = {
    "user": Section(_user_rows),
    "sessions": Section(_session_rows),
    "keys": Section(_key_rows),
    "mails": Section(_mail_rows),
    "stuff": Section(_stuff_rows, lambda row: str(row["name"])),
    "events": Section(_event_rows, lambda row: str(row["id"])),
}

Export = tuple[
    dict[str, list[dict[str, Any]]],
    Literal[200],
    Annotated[dict[str, str], "Link"],
]


@personal_data.get("/user/<login>/export", authz=("user", "login"), authn="token")
def get_export(login: str, user: fsa.CurrentUser, after: str = "") -> Export:
    """Get all that is stored about a user, without secrets, as a file.

    Of more than 5,000 rows the rest is behind a link to the next part (RFC 8288).
    """
    db.get_user(login)
    first, _, key = after.partition(",")
    if after and (first not in SECTIONS or not SECTIONS[first].key):
        raise fsa.ErrorResponse("after must be taken from the Link to the next part", 404)
    if not after:
        audit("data exported", user, login)
    part, left, following = {}, MAX_ROWS, ""
    names = itertools.dropwhile(lambda name: after and name != first, SECTIONS)
    for name in names:
        section = SECTIONS[name]
        part[name] = rows = section.rows(login, user, left, key if name == first else "")
        left -= len(rows)
        if left <= 0 and section.key:
            following = f"{name},{section.key(rows[-1])}"
            break
    headers = {"Content-Disposition": f'attachment; filename="{login}.json"'}
    if following:
        link = url_for("personal_data.get_export", login=login, after=following)
        headers["Link"] = f'<{link}>; rel="next"'
    return part, 200, headers


def init_app(app: fsa.Flask) -> None:
    """Register the routes."""
    app.register_blueprint(personal_data)
