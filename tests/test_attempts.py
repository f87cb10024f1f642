"""Attempts in the audit trail, such as failed sign-ins: each in the log, few rows in the store."""

import time

import FlaskSimpleAuth as fsa
import pytest

from database import db
from security import audit
from test import app, basic_auth
from tests.accounts import HASH, call, new_user
from tests.conftest import STORES, configured, new_name
from tests.trail import logged, names, read


@pytest.fixture(scope="module", params=STORES)
def on(request, new_database):
    """Each store, with the application on it."""
    with configured(new_database(request.param)):
        yield request.param


def fail(login, times=1):
    for _ in range(times):
        call("GET", "/token", headers=basic_auth(login, "Wrong-Pass-1"))


@pytest.fixture
def trail(on, monkeypatch):
    """The trail of attempts, which the test stores itself."""
    trail = audit.Trail("365")
    monkeypatch.setitem(app.extensions, "audit", trail)
    monkeypatch.setattr(trail, "_run", lambda: None)
    return trail


def test_failed_attempts_on_a_login_are_a_row_now_and_then(trail, audit_trail, monkeypatch):
    """Each is in the log."""
    login, now = new_user(), time.monotonic()
    fail(login, 3)
    assert names(login) == []
    trail.store_attempts()
    (row,) = read(login)
    assert (row["event"], row["times"], row["from"]) == ("failed attempt", 3, "127.0.0.1")
    fail(login, 2)
    trail.store_attempts()
    assert len(names(login)) == 1
    monkeypatch.setattr(time, "monotonic", lambda: now + audit.QUIET_SECONDS + 60)
    trail.store_attempts()
    assert [row["times"] for row in read(login)] == [2, 3]
    assert [line["event"] for line in logged(audit_trail)] == ["failed attempt"] * 5
    monkeypatch.setattr(time, "monotonic", lambda: now + 3 * audit.QUIET_SECONDS)
    trail.store_attempts()
    assert trail._attempts == {}


def test_attempts_on_unknown_logins_are_not_stored_and_forgotten(trail, audit_trail):
    unknown = new_name("u")
    fail(unknown)
    call("GET", "/token", headers=basic_auth("not a login", "Wrong-Pass-1"))
    assert len(logged(audit_trail)) == 2
    trail.store_attempts()
    assert (db.get_events(unknown), trail._attempts) == ([], {})


def test_attempt_on_a_login_before_it_was_taken_is_not_the_new_users(trail):
    login = new_name("u")
    fail(login)
    db.add_user(login, HASH, "u@acme.org", False)
    trail.store_attempts()
    assert names(login) == []


def test_flood_of_attempts_writes_few_rows_and_keeps_few(trail, monkeypatch):
    monkeypatch.setattr(audit, "MAX_ATTEMPTS", 5)
    login = new_user()
    with app.test_request_context():
        audit.audit_attempt("failed attempt", login)
        for _ in range(50):
            audit.audit_attempt("failed attempt", new_name("u"))
            audit.audit_attempt("failed attempt", login)
        assert len(trail._attempts) == 5
    trail.store_attempts()
    assert [event.times for event in db.get_events(login)] == [51]
    assert list(trail._attempts) == [(login, "failed attempt")]


def test_attempts_wait_for_a_database_that_is_unavailable(trail, monkeypatch):
    login = new_user()
    fail(login)

    def unavailable(*_):
        raise fsa.ErrorResponse("the database is unavailable: try again", 503)

    with monkeypatch.context() as patch:
        patch.setattr(type(database_store()), "add_attempts", unavailable)
        with pytest.raises(fsa.ErrorResponse):
            trail.store_attempts()
    trail.store_attempts()
    assert names(login) == ["failed attempt"]


def database_store():
    """The store behind the reference."""
    return db._get_obj()


def test_attempts_are_stored_in_the_background(on, monkeypatch):
    """By a thread that ends once nothing is left, and starts again."""
    monkeypatch.setattr(audit, "STORE_SECONDS", 0.01)
    monkeypatch.setattr(audit, "QUIET_SECONDS", 0.02)
    trail = audit.Trail("365")
    monkeypatch.setitem(app.extensions, "audit", trail)
    for _ in range(2):
        login = new_user()
        fail(login)
        thread = trail._thread
        if thread:
            thread.join(20)
        assert names(login) == ["failed attempt"]
        assert not trail._attempts
