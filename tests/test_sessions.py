"""Sessions: who may begin one, when it ends, and that nothing revives it."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import psycopg
import pytest

from database import db
from security import sessions
from store.base import ReusedError, Session
from test import app, basic_auth
from tests.accounts import (
    CHEAP,
    IN_PROCESS,
    NEW_PASSWORD,
    bearer,
    call,
    new_user,
    refresh,
    sign_in,
    token_of,
)
from tests.conftest import PASSWORD, STORES, Target, granian, new_name, opened, until

WEEK = 7 * 24 * 3600  # seconds: the life of a session


def cookie_of(client):
    return client.get_cookie("refresh", path="/token").value


def refresh_with(client, cookie):
    """The status of a refresh with a certain cookie."""
    client.set_cookie("refresh", cookie, path="/token")
    return refresh(client).status_code


# --- who may begin one


def switch_otp_on(login):
    db.set_otp(login, "ABC")
    assert db.use_otp(login, "ABC", 1, on=True)


@pytest.mark.parametrize("kind", STORES[1:])
def test_user_disabled_in_the_database_itself_has_no_session(kind, new_database):
    """By an operator's own statement, which deletes no session."""
    with contextlib.closing(opened(new_database(kind))) as store:
        store.add_user("susie", CHEAP, "susie@acme.org", False)
        session = Session("some", "susie", 1, 1, 9e9, "192.0.2.1")
        assert store.add_session(session, store.get_credentials("susie")) == 0
        assert store.get_session_user("some", 2) == "susie"
        with store.connection() as connection:
            connection.execute("UPDATE users SET active = FALSE")
            connection.commit()
        assert store.get_session_user("some", 2) is None


@IN_PROCESS
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "change",
    [
        lambda login: db.change_user(login, active=False),
        lambda login: db.set_user_pass(login, CHEAP),
        lambda login: db.delete_user(login),
        switch_otp_on,
    ],
    ids=["disabled", "new password", "deleted", "second factor"],
)
def test_user_changed_after_the_password_check_gets_no_session(target, after_check, method, change):
    """A sign-in ends where the user is not any more what the password was checked for."""
    login = new_user()
    after_check(lambda: change(login))
    res = call(method, "/token", {"username": login, "password": PASSWORD})
    assert (res.status_code, res.json) == (401, {"error": "invalid username or password"})
    assert db.get_sessions(login, time.time()) == []


@IN_PROCESS
def test_no_session_begins_for_a_user_deleted_a_moment_ago(target):
    """Where a route makes a token without a password, which nothing has checked yet."""
    login = new_user()
    db.delete_user(login)
    with app.test_request_context(), pytest.raises(fsa.ErrorResponse) as error:
        app.create_token(login)
    assert error.value.status == 401


@IN_PROCESS
def test_password_changed_after_the_check_of_current_stays(target, after_check):
    """Who has shown a password that has been changed meanwhile sets no new one."""
    login = new_user()
    headers = token_of(login)
    after_check(lambda: db.set_user_pass(login, CHEAP))
    value = {"current": PASSWORD, "password": "Other-Pass-2"}
    res = call("PUT", f"/user/{login}/password", value, headers)
    assert (res.status_code, db.get_user_pass(login)) == (403, CHEAP)


# --- the refresh cookie


@IN_PROCESS
def test_refresh_cookie_opens_refresh_only(client):
    """What the refresh cookie is, and that it opens nothing but the refresh."""
    login = new_user()
    res = sign_in(client, login)
    assert res.headers["Location"] == f"/user/{login}/sessions"
    cookie = res.headers["Set-Cookie"]
    for attribute in "HttpOnly", "SameSite=Strict", "Path=/token", "Max-Age=604":
        assert attribute in cookie
    assert client.get("/hello-me").status_code == 401
    assert client.delete("/token").status_code == 401


@IN_PROCESS
def test_refresh_rotates_the_cookie(client):
    """A cookie is replaced by a new one at each refresh; the session lasts no longer for it."""
    login = new_user()
    sign_in(client, login)
    tokens = set()
    first = db.get_sessions(login, 0)[0]
    for _ in range(3):
        before = client.get_cookie("refresh", path="/token").value
        res = refresh(client)
        now = db.get_sessions(login, 0)[0]
        assert now.used > now.created
        assert now.expires == first.expires
        assert res.status_code == 201
        tokens.add(res.json["token"])
        assert call("GET", "/hello-me", headers=bearer(res)).status_code == 200
        after = client.get_cookie("refresh", path="/token").value
        assert before != after
    assert len(db.get_sessions(login, time.time())) == 1


@IN_PROCESS
def test_tabs_restored_at_once_keep_the_session(client, clock, audit_trail):
    """Each sends the same cookie within the grace period, and gets the same successor."""
    login = new_user()
    sign_in(client, login)
    cookie = client.get_cookie("refresh", path="/token").value
    successors = set()
    for seconds in 0, 1, 2, 2, 5:
        clock.now += seconds
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == 201
        successors.add(client.get_cookie("refresh", path="/token").value)
    assert len(successors) == 1
    assert refresh(client).status_code == 201
    assert {line["event"] for line in audit_trail()} == {"sign-in"}


@IN_PROCESS
def test_successor_depends_on_the_first_token_secret_only(client, monkeypatch):
    """Of `ACME_TOKEN_SECRETS`, which signs tokens as well: the same in all processes."""
    sign_in(client, new_user())
    cookie = client.get_cookie("refresh", path="/token").value
    successors = []
    for secret in "a" * 40, "b" * 40:
        monkeypatch.setitem(app.config, "FSA_TOKEN_SECRET", secret)
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == 201
        successors.append(client.get_cookie("refresh", path="/token").value)
    assert successors[0] == successors[1]


@IN_PROCESS
def test_use_after_the_grace_period_ends_the_session(client, clock, audit_trail):
    """However often the cookie was used within it: a use does not prolong the period."""
    login = new_user()
    sign_in(client, login)
    cookie = client.get_cookie("refresh", path="/token").value
    for seconds, status in [(0, 201), (5, 201), (5, 201), (0.5, 401)]:
        clock.now += seconds
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == status
    assert db.get_sessions(login, clock.now) == []
    assert "refresh token reused" in {line["event"] for line in audit_trail()}


@IN_PROCESS
def test_clock_set_back_does_not_prolong_the_grace_period(client, clock):
    """Nor does it end a session whose clocks, of several machines, differ by a second."""
    login = new_user()
    sign_in(client, login)
    cookie = client.get_cookie("refresh", path="/token").value
    for seconds, status in [(0, 201), (-1, 201), (-3600, 401)]:
        clock.now += seconds
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == status


@IN_PROCESS
def test_clock_set_back_ends_no_session_and_lets_new_ones_begin(client, clock):
    """By a day, with the newest refresh cookie."""
    login = new_user()
    sign_in(client, login)
    assert refresh(client).status_code == 201
    clock.now -= 24 * 3600
    assert refresh(client).status_code == 201
    sign_in(client, login)
    assert len(db.get_sessions(login, clock.now)) == 2


@IN_PROCESS
@pytest.mark.parametrize("reuse", ["late", "successor used", "invented"])
def test_reused_cookie_ends_the_session(client, reuse, clock, audit_trail):
    """Its access tokens are refused too, and the audit trail tells."""
    login = new_user()
    first = sign_in(client, login)
    stolen = client.get_cookie("refresh", path="/token").value
    assert refresh(client).status_code == 201
    if reuse == "late":
        clock.now += 11
    elif reuse == "successor used":
        assert refresh(client).status_code == 201
    else:
        stolen = stolen.partition(".")[0] + ".invented"
    good = client.get_cookie("refresh", path="/token").value
    client.set_cookie("refresh", stolen, path="/token")
    res = refresh(client)
    assert (res.status_code, list(res.json)) == (401, ["error"])
    assert "Max-Age=0" in res.headers["Set-Cookie"]
    client.set_cookie("refresh", good, path="/token")
    assert refresh(client).status_code == 401
    assert call("GET", "/hello-me", headers=bearer(first)).status_code == 401
    assert "refresh token reused" in {line["event"] for line in audit_trail()}


@IN_PROCESS
def test_simultaneous_uses_of_a_cookie_keep_the_session(client):
    """All get the same successor."""
    login = new_user()
    for _ in range(10):
        sign_in(client, login)
        cookie = client.get_cookie("refresh", path="/token").value

        def use(_, cookie=cookie):
            with app.test_request_context():
                return sessions.refresh_session(cookie)

        with ThreadPoolExecutor(4) as pool:
            (successor,) = {refreshed[1] for refreshed in pool.map(use, range(4))}
        client.set_cookie("refresh", successor, path="/token")
        assert refresh(client).status_code == 201


@IN_PROCESS
@pytest.mark.parametrize("cookie", ["", "x", "x.y", ".", "\0.", "é.ü", "x" * 4000])
def test_malformed_cookie_is_401(client, cookie):
    client.set_cookie("refresh", cookie, path="/token")
    assert refresh(client).status_code == 401


@IN_PROCESS
def test_sign_out_ends_one_session_or_all(client):
    """Just this session, or all; token and cookie are refused from the next request on."""
    login = new_user()
    other = sign_in(client, login)
    this = sign_in(client, login)
    res = client.delete("/token", headers=bearer(this))
    assert res.status_code == 204
    assert "Max-Age=0" in res.headers["Set-Cookie"]
    assert not client.get_cookie("refresh", path="/token")
    client.set_cookie("refresh", this.headers["Set-Cookie"][8:].partition(";")[0], path="/token")
    assert call("GET", "/hello-me", headers=bearer(this)).status_code == 401
    assert refresh(client).status_code == 401
    assert call("GET", "/hello-me", headers=bearer(other)).status_code == 200
    third = sign_in(client, login)
    assert call("DELETE", "/token?all=true", headers=bearer(third)).status_code == 204
    for res in other, third:
        assert call("GET", "/hello-me", headers=bearer(res)).status_code == 401
    again = sign_in(client, login)
    assert call("GET", "/hello-me", headers=bearer(again)).status_code == 200


@pytest.mark.parametrize("kind", STORES[1:])
def test_session_ended_by_one_server_is_refused_by_another(kind, new_database):
    """A token that was revoked through one server is refused by the other at the next request."""
    url = new_database(kind)
    with granian(ACME_DATABASE=url) as one, granian(ACME_DATABASE=url) as other:
        one, other = Target(one), Target(other)
        other.people = one.people
        login = one.person(new_name("u"))
        endings = [
            ("DELETE", "/token", {}, login),
            ("PUT", f"/user/{login}/password", {"password": NEW_PASSWORD}, "acme"),
            ("PATCH", f"/user/{login}", {"active": False}, "acme"),
        ]
        for method, path, value, who in endings:
            assert other.send("GET", "/hello-me", who=login).status == 200
            assert one.send_json(method, path, value, one.person(who)).status in (200, 204)
            assert other.send("GET", "/hello-me", who=login).status == 401
            if "password" in path:
                res = one.send_json("PUT", path, {"password": PASSWORD}, "acme")
                assert res.status == 204
            del one.people[login]
            if method != "PATCH":
                res = other.send("GET", "/token", headers=basic_auth(login, PASSWORD))
                one.people[login] = res.json["token"]


@pytest.mark.parametrize("target", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("http://localhost:5000", False),
        ("http://127.0.0.1:5000", False),
        ("http://[::1]:5000", False),
        ("http://acme.org", True),
        ("http://localhost.acme.org", True),
        ("https://acme.org", True),
        ("https://localhost", True),
    ],
)
def test_cookie_is_secure_except_for_plain_http_on_localhost(client, url, secure):
    """A browser sends it in clear to this machine alone."""
    value = {"username": new_user(), "password": PASSWORD}
    signed_in = client.post("/token", json=value, base_url=url)
    headers = {"Authorization": f"Bearer {signed_in.json['token']}"}
    for res in [
        signed_in,
        client.post("/token/refresh", base_url=url),
        client.delete("/token", headers=headers, base_url=url),
    ]:
        assert ("; Secure" in res.headers["Set-Cookie"]) == secure


@IN_PROCESS
@pytest.mark.parametrize(("seconds", "status"), [(10, 201), (11, 401)])
def test_replaced_cookie_is_accepted_for_ten_seconds(client, clock, seconds, status):
    """For a second tab; later use is reuse, which ends the session."""
    login = new_user()
    sign_in(client, login)
    before = cookie_of(client)
    assert refresh(client).status_code == 201
    after = cookie_of(client)
    clock.now += seconds
    assert refresh_with(client, before) == status
    assert refresh_with(client, after) == status


@IN_PROCESS
def test_expired_session_cannot_refresh(client, clock, audit_trail):
    """A week after the sign-in neither the cookie nor the one that it replaced is good."""
    login = new_user()
    sign_in(client, login)
    before = cookie_of(client)
    clock.now += WEEK - 5
    assert refresh(client).status_code == 201
    after = cookie_of(client)
    clock.now += 4
    assert refresh_with(client, before) == 201
    clock.now += 1
    assert [refresh_with(client, cookie) for cookie in (after, before)] == [401, 401]
    assert db.get_session_user(before.partition(".")[0], clock.now) is None
    # it has expired: this is not reuse
    assert {line["event"] for line in audit_trail()} == {"sign-in"}


@IN_PROCESS
def test_expired_session_cannot_refresh_with_the_replaced_cookie(client, clock):
    """Nor is the replaced cookie good where it has not been used again before."""
    sign_in(client, new_user())
    before = cookie_of(client)
    clock.now += WEEK - 5
    assert refresh(client).status_code == 201
    clock.now += 5
    assert refresh_with(client, before) == 401


# --- PostgreSQL, where others are at work at the same time


@IN_PROCESS
def test_secret_of_another_session_is_refused(target):
    """A refresh takes the secret of the session that the cookie names, and of no other."""
    login = new_user()
    for name in "first", "second":
        session = Session(f"{login}-{name}", login, 1.0, 1.0, 9e9, "192.0.2.1", f"secret-{name}")
        assert db.add_session(session, db.get_credentials(login)) == 0
    with pytest.raises(ReusedError):
        db.rotate_session(f"{login}-first", "secret-second", "new", 2.0, 10.0)
    assert db.rotate_session(f"{login}-second", "secret-second", "new", 2.0, 10.0) == (login, 9e9)
    # the wrong secret has ended the session that it was used for
    assert db.rotate_session(f"{login}-first", "secret-first", "new", 2.0, 10.0) is None


@pytest.fixture
def locking(new_database):
    """A store with a user, its URL, and a connection in a transaction of its own."""
    url = new_database("postgresql")
    with contextlib.closing(opened(url)) as found, psycopg.connect(url) as other:
        found.add_user("susie", "hash", "susie@acme.org", False)
        yield found, url, other


def add_session(found, created, expires):
    session = Session(str(created), "susie", created, created, expires, "127.0.0.1")
    return found.add_session(session, found.get_credentials("susie"))


def test_sign_in_waits_for_a_user_who_is_being_disabled(locking):
    """Else the session would begin after all others of the user have ended."""
    found, url, other = locking
    waiting = (
        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock')"
    )
    other.execute("UPDATE users SET active = FALSE")
    with psycopg.connect(url, autocommit=True) as observer, ThreadPoolExecutor(1) as pool:
        begun = pool.submit(add_session, found, 1.0, 9e9)
        until(lambda: begun.done() or observer.execute(waiting).fetchone()[0])
        other.commit()
        assert begun.result() is None
    assert found.get_sessions("susie", 0) == []


def test_sign_in_does_not_wait_for_expired_sessions_that_are_being_removed(locking):
    """The transaction that removes them goes on."""
    found, _, other = locking
    assert add_session(found, 1.0, 2.0) is not None
    other.execute("DELETE FROM sessions")
    assert add_session(found, 3.0, 9e9) is not None
    other.commit()
    assert [session.created for session in found.get_sessions("susie", 0)] == [3.0]
