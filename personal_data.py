"""What is stored about a user: the audit trail."""

import flask
import FlaskSimpleAuth as fsa
from typing_extensions import TypedDict

from database import db
from openapi.returns import Page, next_page
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


def init_app(app: fsa.Flask) -> None:
    """Register the routes."""
    app.register_blueprint(personal_data)
