"""What the tests of the audit trail share."""

from database import db
from tests.accounts import call, token_of


def read(login, headers=None):
    """What GET returns, without what `token_of` has left."""
    res = call("GET", f"/user/{login}/events", headers=headers or token_of(login))
    assert res.status_code == 200, res.text
    return [row for row in res.json if row["from"] != ""]


def stored(login):
    """The events about a user, the newest first, without what `token_of` has left."""
    return [event for event in db.get_events(login) if event.origin]


def names(login):
    return [event.event for event in reversed(stored(login))]


def logged(lines):
    return [line for line in lines() if line["from"]]
