"""The audit trail in the store: written with the change, read by those it is about, and bounded."""

import contextlib
import re
import threading
import time

import pytest

import auth
from database import db
from security import audit
from security.api_keys import DAY_SECONDS
from store import events
from store.events import Event, event_id
from store.idempotency import Claim
from test import app
from tests.accounts import CURRENT, NEW_PASSWORD, bearer, call, new_user, sign_in, token_of
from tests.conftest import PASSWORD, SQL, STORES, configured, new_name, opened
from tests.trail import logged, names, read, stored

ROUTES = [
    ("GET", "/user/{login}/events", None, (401, 403, 200, 200, 401)),
    ("GET", "/user/nobody/events", None, (401, 403, 403, 404, 401)),
]
JAVASCRIPT = [
    ('acme.events("acme", { limit: 1 }).then((p) => [p.items.length, !!p.next])', [1, True]),
    ('acme.events("nobody").catch((e) => e.status)', 404),
]
YEAR = 365 * DAY_SECONDS


@pytest.fixture(scope="module", params=STORES)
def on(request, new_database):
    """Each store, with the application on it."""
    with configured(new_database(request.param)):
        yield request.param


@pytest.fixture(scope="module", params=SQL)
def sql(request, new_database):
    """The same, where what fails is undone."""
    with configured(new_database(request.param)):
        yield request.param


def add(login, name="something", now=None, who=None):
    now = time.time() if now is None else now
    event = Event(event_id(now), now, name, login, who or login, "192.0.2.1")
    db.add_event(event, now - YEAR)
    return event


# with the change


def test_change_and_its_event_are_stored_together(on):
    admin, login = new_user(admin=True), new_user()
    by, mine = token_of(admin), token_of(login)
    (session,) = db.get_sessions(login, 0)
    change = {"email": "new@acme.org", "active": True}
    assert call("PATCH", f"/user/{login}", change, by).status_code == 200
    res = call("POST", f"/user/{login}/keys", {"name": "x", "scope": "read", **CURRENT}, mine)
    call("DELETE", f"/user/{login}/sessions/{session.id}", None, mine)
    call("DELETE", f"/user/{login}", None, by)
    found = [(e.event, e.who, e.origin) for e in reversed(stored(login))]
    assert found == [
        ("address changed", admin, "127.0.0.1"),
        ("enabled", admin, "127.0.0.1"),
        ("API key added", login, "127.0.0.1"),
        ("session ended", login, "127.0.0.1"),
        ("user deleted", admin, "127.0.0.1"),
    ]
    ids = {e.event: (e.session, e.key) for e in stored(login)}
    assert ids["API key added"] == (session.id, res.json["id"])
    assert ids["session ended"] == (session.id, "")
    assert all(re.fullmatch("[0-9a-f]{22}", e.id) and e.times == 1 for e in stored(login))


def test_refused_change_leaves_no_event(on):
    login = new_user()
    db.add_stuff(new_name(), login, 1)
    assert call("DELETE", f"/user/{login}", None, token_of(login)).status_code == 409
    assert call("DELETE", f"/user/{login}/keys/none", None, token_of(login)).status_code == 404
    assert names(login) == []


def test_failed_commit_leaves_neither_change_nor_event_nor_line(sql, audit_trail, monkeypatch):
    """A plain, a keyed and a conditional one alike; in memory nothing is undone."""
    login = new_user()
    headers, email = token_of(login), db.get_user(login).email
    tag = call("GET", f"/user/{login}", headers=headers).headers["ETag"]
    commit = db.queries.commit

    def fail(_connection):
        raise db.driver_error("commit failed")

    for more in {}, {"Idempotency-Key": new_name("k")}, {"If-Match": tag}:
        monkeypatch.setattr(db.queries, "commit", fail)
        res = call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, headers | more)
        monkeypatch.setattr(db.queries, "commit", commit)
        assert res.status_code in (500, 503)
        assert (db.get_user(login).email, names(login)) == (email, [])
        assert logged(audit_trail) == []
        # and the next one works
    res = call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, headers | {"If-Match": tag})
    assert res.status_code == 200
    assert [line["event"] for line in logged(audit_trail)] == names(login) == ["address changed"]


def test_event_that_cannot_be_stored_undoes_the_change(sql, audit_trail, monkeypatch):
    login = new_user()
    headers, email = token_of(login), db.get_user(login).email

    def fail(_connection, **_values):
        raise db.driver_error("no space")

    monkeypatch.setattr(db.queries, "add_event", fail)
    res = call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, headers)
    assert (res.status_code, db.get_user(login).email) == (500, email)
    assert logged(audit_trail) == []


def test_keyed_change_is_one_event_however_often_it_is_repeated(on):
    login = new_user()
    headers = token_of(login) | {"Idempotency-Key": new_name("k")}
    for _ in range(3):
        res = call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, headers)
        assert res.status_code == 200
    assert names(login) == ["address changed"]


def test_parts_of_an_atomic_change_are_undone_together(sql):
    login, said = new_user(), []

    def fail():
        with db.atomic():
            db.add_stuff(login, login, 1)
            with db.atomic():
                add(login)
                db.after_commit(lambda: said.append("inner"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (db.get_user_stuff(login), names(login), said) == ([], [], [])
    claim = Claim(login, "key", "print", time.time())
    with db.once(claim) as keep, db.atomic():
        add(login)
        db.after_commit(lambda: said.append("once"))
        keep("answer")
        assert said == []
    assert (names(login), said) == (["something"], ["once"])


def test_sign_in_by_the_key_of_the_session(on):
    """What ends a session by reuse is stored, though the request fails."""
    login = new_user()
    with app.test_client(use_cookies=False) as client:
        body = {"username": login, "password": PASSWORD, "cookie": False}
        res = client.post("/token", json=body)
        (session,) = db.get_sessions(login, 0)
        wrong = res.json["refresh"].partition(".")[0] + ".wrong"
        assert client.post("/token/refresh", json={"refresh": wrong}).status_code == 401
    assert db.get_sessions(login, 0) == []
    found = [(e.event, e.session) for e in reversed(stored(login))]
    assert found == [("sign-in", session.id), ("refresh token reused", session.id)]


def test_line_of_a_caller_with_an_api_key_has_its_id(on, audit_trail):
    """As that of a route of a fork."""
    login = new_user()
    body = {"name": "x", "scope": "write", **CURRENT}
    key = call("POST", f"/user/{login}/keys", body, token_of(login)).json
    headers = {"Authorization": f"Bearer {key['key']}"}
    with app.test_request_context("/stuff", headers=headers) as context:
        assert auth.key(app, context.request) == login
        audit.audit("note added", login)
    assert audit_trail()[-1]["key"] == key["id"]
    assert db.get_events(login, 1)[0].key == key["id"]


# reading


def test_pages_are_newest_first_and_stable_while_events_are_added(on):
    login = new_user()
    added = [add(login, f"event {n}").id for n in range(7)]
    headers, found = token_of(login), []
    path = f"/user/{login}/events?limit=3"
    while path:
        res = call("GET", path, headers=headers)
        found += [row["id"] for row in res.json if row["from"]]
        add(login, "later")
        path = res.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == added[::-1]
    assert call("GET", f"/user/{login}/events?after=x", headers=headers).status_code == 400


def test_new_user_of_a_login_sees_nothing_of_the_former_one(on, clock):
    """An administrator sees both, also while nobody has the login."""
    admin, login = new_user(admin=True), new_user()
    add(login, "of the former user")
    clock.now += 1
    call("DELETE", f"/user/{login}", None, token_of(admin))
    by = token_of(admin)
    all_of_it = [row["event"] for row in read(login, by)]
    assert all_of_it == ["user deleted", "of the former user"]
    clock.now += 1
    body = {"login": login, "password": PASSWORD, "email": "new@acme.org"}
    assert call("POST", "/user", body, by).status_code == 201
    assert [row["event"] for row in read(login)] == ["user added"]
    assert [row["event"] for row in read(login, by)] == ["user added", *all_of_it]


def test_user_does_not_learn_who_administers(on):
    admin, login = new_user(admin=True), new_user()
    call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, token_of(admin))
    with app.app_context():
        audit.audit("password changed", None, login)
    for row in read(login):
        assert (row["who"], row["from"], row["session"]) == (None, None, None)
    by_command, by_admin = read(login, token_of(admin))
    assert (by_admin["who"], by_admin["from"]) == (admin, "127.0.0.1")
    assert by_command["from"] == "command line"


# how long


@pytest.mark.parametrize("kind", STORES)
def test_events_expire_and_are_removed_in_small_batches(kind, new_database):
    with contextlib.closing(opened(new_database(kind))) as store:
        now = time.time()

        def add_to(login, when, expired=now - YEAR):
            store.add_event(Event(event_id(when), when, "x", login, login, ""), expired)

        for n in range(20):
            add_to("ann", now - 2 * YEAR + n, 0.0)
        found = len(store.get_events("ann"))
        counts = []
        for n in range(8):
            add_to("bob", now + n)
            counts.append(found - len(store.get_events("ann")))
            found = len(store.get_events("ann"))
        assert max(counts) == events.EVENTS_REMOVED
        assert (found, len(store.get_events("bob"))) == (0, 8)
        assert len(store.get_events(None)) == 8


def test_memory_is_bounded(new_database, monkeypatch):
    monkeypatch.setattr(events, "MAX_IN_MEMORY", 10)
    store = opened("memory:")
    now = time.time()
    for n in range(30):
        login = f"u{n % 3}"
        store.add_event(Event(event_id(now + n), now + n, f"{n}", login, login, ""), 0)
    assert [event.event for event in store.get_events(None)] == [str(n) for n in range(29, 19, -1)]
    assert [event.event for event in store.get_events("u0")] == ["27", "24", "21"]


@pytest.mark.parametrize("kind", STORES)
def test_events_are_found_by_time_and_name(kind, new_database):
    with contextlib.closing(opened(new_database(kind))) as store:
        for n in range(10):
            when = 1e9 + n
            who = f"u{n % 2}"
            store.add_event(Event(event_id(when), when, f"e{n % 3}", who, who, ""), 0)

        def found(*arguments, **named):
            return [round(event.time - 1e9) for event in store.get_events(*arguments, **named)]

        assert found(None, 3) == [9, 8, 7]
        assert found(None, since=1e9 + 7) == [9, 8, 7]
        assert found(None, until=1e9 + 3, since=1e9 + 1) == [2, 1]
        assert found(None, event="e0") == [9, 6, 3, 0]
        assert found("u1", event="e0") == [9, 3]
        assert found("u1", until=1e9 + 4) == [3, 1]
        assert found("nobody") == []


@pytest.mark.parametrize("kind", SQL)
def test_events_are_found_and_removed_by_indexes(kind, new_database):
    """However many there are: of a user, and those that have expired."""
    with contextlib.closing(opened(new_database(kind))) as store, store.connection() as connection:
        explain = "EXPLAIN QUERY PLAN " if kind == "sqlite" else "EXPLAIN "
        if kind == "postgresql":
            connection.execute("SET enable_seqscan = off")  # the table is empty
        for name, bound in {
            "get_user_events": "login",
            "get_events": "id",
            "delete_expired_events": "id",
        }.items():
            query = re.sub(r"(?<!:):\w+", "'1'", getattr(store.queries, name).sql)
            query = re.sub(r"\$\d+", "'1'", query)
            plan = [str(row[-1]) for row in connection.execute(explain + query).fetchall()]
            if kind == "sqlite":
                assert all(" USING " in step for step in plan if "events" in step), plan
            assert any(
                re.search(rf"USING .*\({bound}[=<>]|Index Cond: .*{bound} ", s) for s in plan
            ), f"{name}: {plan}"


def test_ids_are_in_the_order_of_calls_whatever_the_clock_does():
    now = 1e9
    ids = [event_id(now + step) for step in (0, 0, 0.5, 0.2, 0, 0.6)]
    assert ids == sorted(ids)
    later = event_id(now + 1000)
    assert event_id(now) < later  # a clock that was set back by more is believed
    with_threads = []
    threads = [
        threading.Thread(target=lambda: with_threads.extend(event_id(2e9) for _ in range(200)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({name[:14] for name in with_threads}) == 800


# commands


def test_command_shows_the_trail(new_database):
    with configured(new_database("sqlite")):
        for n in range(5):
            add("susie", f"event {n}", 1e9 + n)
        add("calvin", "odd \x1b[2J", 1e9 + 9, who="susie")
        runner = app.test_cli_runner()

        def run(*arguments):
            res = runner.invoke(args=["audit", *arguments])
            assert res.exit_code == 0, res.output
            return res.output.splitlines()

        assert run("--login", "susie", "--limit", "1") == [
            "2001-09-09T01:46:44Z susie: event 4, from 192.0.2.1"
        ]
        assert "\x1b" not in run()[0]
        assert "calvin: odd" in run()[0]
        assert " by susie" in run()[0]
        assert len(run("--since", "2001-09-09T01:46:43Z", "--until", "2001-09-10")) == 3
        assert len(run("--event", "event 1")) == 1
        (line,) = run("--event", "event 1", "--json")
        shown = app.json.loads(line)
        assert set(shown) == {"id", "time", "event", "whom", "who", "from", "times"}
        assert runner.invoke(args=["audit", "--since", "x"]).exit_code == 2


def test_password_change_on_the_command_line_is_in_the_trail(new_database):
    with configured(new_database("sqlite")):
        login = new_user()
        runner = app.test_cli_runner()
        res = runner.invoke(args=["user", "password", login], input=f"{NEW_PASSWORD}\n")
        assert res.exit_code == 0, res.output
        assert [(e.event, e.origin) for e in db.get_events(login)] == [
            ("password changed", "command line")
        ]


def test_session_of_a_sign_in_is_stored_with_its_event(on):
    login = new_user()
    with app.test_client() as client:
        res = sign_in(client, login)
        (session,) = db.get_sessions(login, 0)
        assert [e.session for e in db.get_events(login)] == [session.id]
        client.delete("/token", headers=bearer(res))
    assert names(login) == ["sign-in", "sign-out"]
