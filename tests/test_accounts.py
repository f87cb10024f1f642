"""Accounts: who may do what, when tokens and cookies end, the second factor, the audit trail."""

import contextlib
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import argon2
import bcrypt
import FlaskSimpleAuth as fsa
import jwt
import pyotp
import pytest

from database import db
from security import audit, passwords, sessions
from test import ACME_BASIC, app, basic_auth
from tests.conftest import (
    PASSWORD,
    STORES,
    Target,
    configured,
    granian,
    new_name,
    until,
    wrong_code,
)

IN_PROCESS = pytest.mark.parametrize("target", STORES, indirect=True)
NEW_PASSWORD = "Other-Pass-2"
CURRENT = {"current": PASSWORD}
HASH = app.hash_password(PASSWORD)


def new_user(admin=False):
    """A user in the store of the target in process, without the time of a hash."""
    login = new_name("u")
    db.add_user(login, HASH, f"{login}@acme.org", admin)
    return login


def token_of(login):
    with app.test_request_context():
        return {"Authorization": f"Bearer {app.create_token(login)}"}


def call(method, path, value=None, headers=None):
    with app.test_client() as client:
        return client.open(path, method=method, json=value, headers=headers, buffered=True)


# --- users


@IN_PROCESS
def test_profiles(target):
    """Pages by login; a profile shows what it may, and never a hash."""
    logins = sorted(new_user() for _ in range(5))
    found, path = [], "/user?limit=2"
    headers = token_of(new_user(admin=True))
    while path:
        res = call("GET", path, headers=headers)
        assert b"argon2" not in res.data
        found += [user["login"] for user in res.json]
        link = res.headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0]
    assert found == sorted(found)
    assert set(logins) <= set(found)
    assert call("GET", f"/user/{logins[0]}", headers=headers).json == {
        **{"login": logins[0], "email": f"{logins[0]}@acme.org"},
        **{"admin": False, "active": True, "otp": False},
    }
    changed = call("PATCH", f"/user/{logins[0]}", {"admin": True, "email": "x@a.org"}, headers)
    assert (changed.json["admin"], changed.json["email"]) == (True, "x@a.org")
    assert call("GET", "/user", {"limit": 1}, token_of(logins[0])).status_code == 200


@IN_PROCESS
def test_delete_with_stuff(target):
    """409 while stuff is left, and everything goes with stuff=delete."""
    login, thing = new_user(), new_name()
    db.add_stuff(thing, login, 1)
    headers = token_of(new_user(admin=True))
    assert call("DELETE", f"/user/{login}", headers=headers).status_code == 409
    assert call("DELETE", f"/user/{login}?stuff=yes", headers=headers).status_code == 400
    assert call("DELETE", f"/user/{login}?stuff=delete", headers=headers).status_code == 204
    assert not db.user_exists(login)
    db.add_user(login, HASH, "again@acme.org", False)
    assert db.get_user_stuff(login) == []


@pytest.mark.parametrize("kind", STORES)
def test_last_admin(kind, new_database):
    """However many race to remove the last two administrators, one stays."""
    with configured(new_database(kind)):
        other = new_user(admin=True)
        ways = [
            lambda login: db.change_user(login, admin=False),
            lambda login: db.change_user(login, active=False),
            lambda login: db.delete_user(login),
        ]
        for n in range(30):
            way = ways[n % 3]

            def remove(login, way=way):
                try:
                    way(login)
                except fsa.ErrorResponse as e:
                    return e.status
                return 200

            with ThreadPoolExecutor(2) as pool:
                assert sorted(pool.map(remove, ["acme", other])) == [200, 409]
            for login in "acme", other:
                if db.user_exists(login):
                    db.change_user(login, admin=True, active=True)
                else:
                    db.add_user(login, HASH, "some@acme.org", True)
        db.delete_user(other)
        headers = token_of("acme")
        for value in {"admin": False}, {"active": False}:
            assert call("PATCH", "/user/acme", value, headers).status_code == 409
        assert call("DELETE", "/user/acme", None, headers).status_code == 409


# --- passwords


@IN_PROCESS
def test_password(target):
    """A new password ends all sessions; it must be strong, and another one."""
    login = new_user()
    path, first = f"/user/{login}/password", token_of(login)
    for password, status in [("weak", 400), (PASSWORD, 400), ("Aa0" * 100, 400)]:
        res = call("PUT", path, {"password": password, "current": PASSWORD}, first)
        assert res.status_code == status
        assert password not in res.text
    res = call("PUT", path, {"password": NEW_PASSWORD, "current": PASSWORD}, first)
    assert res.status_code == 204
    assert call("GET", "/hello-me", headers=first).status_code == 401
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 401
    # at once, within the same second, a new session begins
    res = call("GET", "/token", headers=basic_auth(login, NEW_PASSWORD))
    headers = {"Authorization": f"Bearer {res.json['token']}"}
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    # an administrator for others, without the current one
    admin = token_of(new_user(admin=True))
    assert call("PUT", path, {"password": PASSWORD}, admin).status_code == 204
    assert call("GET", "/hello-me", headers=headers).status_code == 401


@IN_PROCESS
def test_change_during_reset(target):
    """Who has shown a password that is no more, or is disabled, sets no new one."""
    login = new_user()
    old = db.get_user_pass(login)
    db.set_user_pass(login, CHEAP)
    for changed in False, True:
        if changed:
            db.change_user(login, active=False)
        with pytest.raises(fsa.ErrorResponse) as error:
            db.set_user_pass(login, BCRYPT, CHEAP if changed else old)
        assert error.value.status == 403
        assert db.get_user_pass(login) == CHEAP


@IN_PROCESS
def test_otp_of_another_secret(target):
    """A code counts for the secret that it was checked against, as long as the user has it."""
    login = new_user()
    assert not db.use_otp("nobody", "ABC", 1)
    db.set_otp(login, "ABC")
    assert not db.use_otp(login, "DEF", 1, on=True)
    db.reset_otp(login)
    assert not db.use_otp(login, "ABC", 1, on=True)
    assert not db.get_user(login).otp
    db.set_otp(login, "ABC")
    assert [db.use_otp(login, "ABC", step) for step in (5, 5, 4, 6)] == [True, False, False, True]
    db.reset_otp(login)
    db.set_otp(login, "DEF")
    assert not db.use_otp(login, "ABC", 7)


@IN_PROCESS
def test_hash_that_is_none(target):
    """A user whose hash is broken gets 401 like any other."""
    login = new_name("u")
    db.add_user(login, "plain", "some@acme.org", False)
    assert call("GET", "/token", headers=basic_auth(login, "plain")).status_code == 401
    path, admin = f"/user/{login}/password", token_of(new_user(admin=True))
    assert call("PUT", path, {"password": NEW_PASSWORD}, admin).status_code == 204


def test_disabled_user_is_like_any_other(target):
    """Unknown, disabled, or with a wrong password: the same answer."""
    login = target.person(new_name("u"))
    admin = target.person("acme")
    path = f"/user/{login}"
    assert target.send_json("PATCH", path, {"active": False}, admin).status == 200
    answers = {
        target.send("GET", "/token", headers=basic_auth(name, password)).body
        for name, password in [(login, PASSWORD), (login, "wrong"), ("nobody", PASSWORD)]
    }
    assert len(answers) == 1
    # and what it had is gone for good
    assert target.send("GET", "/hello-me", who=login).status == 401
    assert target.send_json("PATCH", path, {"active": True}, admin).status == 200
    assert target.send("GET", "/hello-me", who=login).status == 401


BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
CHEAP = argon2.PasswordHasher(memory_cost=1000, time_cost=1, parallelism=1).hash(PASSWORD)


@IN_PROCESS
@pytest.mark.parametrize("old", [BCRYPT, CHEAP], ids=["bcrypt", "cheap"])
def test_old_hashes(target, old):
    """A hash of another scheme or other parameters verifies, and is renewed at the next sign-in."""
    login = new_name("u")
    db.add_user(login, old, "some@acme.org", False)
    assert call("GET", "/token", headers=basic_auth(login, "wrong")).status_code == 401
    assert db.get_user_pass(login) == old
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    new = db.get_user_pass(login)
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    assert db.get_user_pass(login) == new


def test_crowd(monkeypatch):
    """Beyond those who hash and the few who wait, sign-ins are 503; tokens go on."""
    started, finish = threading.Semaphore(0), threading.Event()

    def verify(_self, _reference, _password):
        started.release()
        assert finish.wait(20)
        return True

    headers = token_of("acme")
    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    with ThreadPoolExecutor(16) as pool:
        inside = passwords.MAX_HASHES + passwords.MAX_WAITING
        first = [pool.submit(call, "GET", "/hello-me", None, ACME_BASIC) for _ in range(inside)]
        until(lambda: passwords.hash_queue._value == 0)
        for _ in range(passwords.MAX_HASHES):
            started.acquire()
        res = call("GET", "/hello-me", None, ACME_BASIC)
        assert (res.status_code, res.headers["Retry-After"]) == (503, "1")
        assert call("GET", "/hello-me", headers=headers).status_code == 200
        assert not started.acquire(blocking=False)
        finish.set()
        assert {answer.result().status_code for answer in first} == {200}
    assert passwords.hash_queue._value == inside


# --- sessions


def sign_in(client, login, password=PASSWORD):
    return client.post("/token", json={"username": login, "password": password})


def refresh(client):
    return client.post("/token/refresh")


@pytest.fixture
def browser(target):
    """A client in process that keeps cookies, and who signs in with it."""
    with app.test_client() as client:
        yield client, new_user()


@IN_PROCESS
def test_cookie(browser):
    """What the refresh cookie is, and that it opens nothing but the refresh."""
    client, login = browser
    res = sign_in(client, login)
    assert res.headers["Location"] == f"/user/{login}/sessions"
    cookie = res.headers["Set-Cookie"]
    for attribute in "HttpOnly", "SameSite=Strict", "Path=/token", "Max-Age=604":
        assert attribute in cookie
    assert client.get("/hello-me").status_code == 401
    assert client.delete("/token").status_code == 401


@IN_PROCESS
def test_refresh(browser):
    """A cookie is replaced by a new one at each refresh; the session lasts no longer for it."""
    client, login = browser
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


def bearer(res):
    return {"Authorization": f"Bearer {res.json['token']}"}


@IN_PROCESS
def test_tabs_restored_at_once_keep_the_session(browser, clock, audit_trail):
    """Each sends the same cookie within the grace period, and gets the same successor."""
    client, login = browser
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
def test_use_after_the_grace_period_ends_the_session(browser, clock, audit_trail):
    """However often the cookie was used within it: a use does not prolong the period."""
    client, login = browser
    sign_in(client, login)
    cookie = client.get_cookie("refresh", path="/token").value
    for seconds, status in [(0, 201), (5, 201), (5, 201), (0.5, 401)]:
        clock.now += seconds
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == status
    assert db.get_sessions(login, clock.now) == []
    assert "refresh cookie reused" in {line["event"] for line in audit_trail()}


@IN_PROCESS
def test_clock_set_back_does_not_prolong_the_grace_period(browser, clock):
    """Nor does it end a session whose clocks, of several machines, differ by a second."""
    client, login = browser
    sign_in(client, login)
    cookie = client.get_cookie("refresh", path="/token").value
    for seconds, status in [(0, 201), (-1, 201), (-3600, 401)]:
        clock.now += seconds
        client.set_cookie("refresh", cookie, path="/token")
        assert refresh(client).status_code == status


@IN_PROCESS
@pytest.mark.parametrize("theft", ["late", "successor used", "invented"])
def test_reused_cookie_ends_the_session(browser, theft, monkeypatch, caplog):
    """Its access tokens are refused too, and the audit trail tells."""
    client, login = browser
    caplog.set_level(logging.INFO, "acme.audit")
    monkeypatch.setattr(audit.log, "propagate", True)
    first = sign_in(client, login)
    stolen = client.get_cookie("refresh", path="/token").value
    assert refresh(client).status_code == 201
    if theft == "late":
        monkeypatch.setattr(sessions, "GRACE_SECONDS", -1.0)
    elif theft == "successor used":
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
    assert "refresh cookie reused" in caplog.text


@IN_PROCESS
def test_simultaneous_uses_of_a_cookie_keep_the_session(browser):
    """All get the same successor."""
    client, login = browser
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
def test_rubbish_cookies(browser, cookie):
    client, _ = browser
    client.set_cookie("refresh", cookie, path="/token")
    assert refresh(client).status_code == 401


@IN_PROCESS
def test_sign_out(browser):
    """Just this session, or all; token and cookie are refused from the next request on."""
    client, login = browser
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


@pytest.mark.parametrize("kind", STORES)
def test_list_of_sessions(kind, new_database, monkeypatch):
    """One's sessions, to end one by one; those that have expired are removed."""
    with configured(new_database(kind)), app.test_client() as client:
        check_sessions(client, new_user(), monkeypatch)


def check_sessions(client, login, monkeypatch):
    res = sign_in(client, login)
    call("GET", "/token", headers=basic_auth(login, PASSWORD))
    sessions = call("GET", f"/user/{login}/sessions", headers=bearer(res)).json
    assert [set(s) for s in sessions] == [{"id", "created", "used", "expires", "from"}] * 2
    lasts = [round(s["expires"] - s["created"]) for s in sessions]
    assert lasts == [7 * 24 * 3600, 600]
    assert {s["from"] for s in sessions} == {"127.0.0.1"}
    path = f"/user/{login}/sessions/{sessions[0]['id']}"
    assert call("DELETE", path, headers=token_of(new_user())).status_code == 403
    other = new_user()
    path_of_other = path.replace(login, other)
    assert call("DELETE", path_of_other, headers=token_of(other)).status_code == 404
    assert call("DELETE", path, headers=bearer(res)).status_code == 204
    assert call("GET", "/hello-me", headers=bearer(res)).status_code == 401
    # a week later
    monkeypatch.setattr(time, "time", lambda now=time.time(): now + 8 * 24 * 3600)
    token_of(login)
    assert len(db.get_sessions(login, 0)) == 1


@pytest.mark.parametrize("kind", STORES[1:])
def test_two_servers(kind, new_database):
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


# --- the second factor


@pytest.fixture
def phone(target, clock):
    """A user with one-time passwords on, and what shows them: a new one each time."""
    login = new_user()
    headers = token_of(login)
    secret = call("POST", f"/user/{login}/otp", CURRENT, headers).json["secret"]

    def code():
        clock.now += 30
        return pyotp.TOTP(secret).at(clock.now)

    res = call("PUT", f"/user/{login}/otp", {"code": code(), "on": True}, headers)
    assert res.status_code == 204
    return login, code, headers


@IN_PROCESS
def test_second_factor(phone, clock):
    """A password is the first step only; the second one takes a code, which is good once."""
    login, code, _ = phone
    wrong = {"code": wrong_code(db.get_otp(login), clock.now)}
    password = basic_auth(login, PASSWORD)
    change = {"username": login, "password": PASSWORD, "current": PASSWORD}
    assert call("PUT", f"/user/{login}/password", change).status_code == 401
    assert db.get_user(login).otp
    for path in "/hello-me", "/stuff", f"/user/{login}":
        res = call("GET", path, headers=password)
        assert res.status_code == 401
        params = {"username": login, "password": PASSWORD}
        assert call("GET", path, params).status_code == 401
    res = call("GET", "/token", headers=password)
    assert (res.status_code, list(res.json)) == (202, ["otp"])
    assert "Set-Cookie" not in res.headers
    step = {"Authorization": f"Bearer {res.json['otp']}"}
    claims = jwt.decode(res.json["otp"], options={"verify_signature": False})
    assert claims["exp"] == int(clock.now) + 300
    assert call("GET", "/hello-me", headers=step).status_code == 401
    assert call("POST", "/token/otp", wrong, step).status_code == 401
    good = code()
    res = call("POST", "/token/otp", {"code": good}, step)
    assert res.status_code == 201
    assert "refresh=" in res.headers["Set-Cookie"]
    assert call("GET", "/hello-me", headers=bearer(res)).status_code == 200
    # not again, nor an earlier one
    assert call("POST", "/token/otp", {"code": good}, step).status_code == 401
    assert call("POST", "/token/otp", {"code": code()}, bearer(res)).status_code == 401
    # the first step is worth nothing once the password is another one
    db.set_user_pass(login, app.hash_password(NEW_PASSWORD))
    assert call("POST", "/token/otp", {"code": code()}, step).status_code == 401


@IN_PROCESS
def test_switch_second_factor(phone, clock):
    """On and off take a code; an administrator takes it away without."""
    login, code, headers = phone
    path = f"/user/{login}/otp"
    assert call("POST", path, CURRENT, headers).status_code == 409
    wrong = {"code": wrong_code(db.get_otp(login), clock.now), "on": False}
    assert call("PUT", path, wrong, headers).status_code == 403
    for bad in 123456, "12345", "1234567", "abcdef", None, ["123456"]:
        assert call("PUT", path, {"code": bad, "on": False}, headers).status_code == 400
    assert db.get_user(login).otp
    assert call("PUT", path, {"code": code(), "on": False}, headers).status_code == 204
    assert not db.get_user(login).otp
    assert call("GET", "/hello-me", headers=basic_auth(login, PASSWORD)).status_code == 200
    secret = call("POST", path, CURRENT, headers).json["secret"]
    new = call("POST", path, CURRENT, headers).json
    assert new["secret"] != secret
    assert new["uri"].startswith(f"otpauth://totp/Acme:{login}?secret={new['secret']}")
    db.change_user(login, admin=True)
    assert call("DELETE", path, headers=headers).status_code == 403
    assert call("DELETE", path, headers=token_of(new_user(admin=True))).status_code == 204
    assert db.get_otp(login) is None


@IN_PROCESS
def test_switching_on_ends_other_sessions(browser):
    """Whatever a password alone has opened, but for the session that switches it on."""
    client, login = browser
    other, this = sign_in(client, login), token_of(login)
    secret = call("POST", f"/user/{login}/otp", CURRENT, this).json["secret"]
    value = {"code": pyotp.TOTP(secret).now(), "on": True}
    assert call("PUT", f"/user/{login}/otp", value, this).status_code == 204
    assert call("GET", "/hello-me", headers=bearer(other)).status_code == 401
    assert refresh(client).status_code == 401
    assert call("GET", "/hello-me", headers=this).status_code == 200


@IN_PROCESS
@pytest.mark.parametrize("second", [0, 29.9])
def test_codes_of_three_steps_are_good(target, clock, second):
    """A clock may be half a minute off, and not more, at either end of a step of 30 seconds."""
    clock.now += 30 - clock.now % 30 + second
    secrets = iter(pyotp.random_base32, None)
    for steps in range(-3, 4):
        codes = []
        while len(set(codes)) < 7:  # chance may make one right for another step as well
            totp = pyotp.TOTP(next(secrets))
            codes = [totp.at(clock.now + 30 * n) for n in range(-3, 4)]
        login = new_user()
        headers = token_of(login)
        db.set_otp(login, totp.secret)
        value = {"code": totp.at(clock.now + 30 * steps), "on": True}
        status = call("PUT", f"/user/{login}/otp", value, headers).status_code
        assert (steps, status) == (steps, 204 if abs(steps) < 2 else 403)


def test_code_is_good_once_however_many_use_it_at_once(target):
    """One of eight simultaneous sign-ins with one code succeeds, whatever process it meets."""
    login = target.person(new_name("u"))
    secret = target.send_json("POST", f"/user/{login}/otp", CURRENT, login).json["secret"]
    totp, now = pyotp.TOTP(secret), time.time()
    on = {"code": totp.at(now), "on": True}
    assert target.send_json("PUT", f"/user/{login}/otp", on, login).status == 204
    res = target.send("GET", "/token", headers=basic_auth(login, PASSWORD))
    step = {"Authorization": f"Bearer {res.json['otp']}"}
    body = json.dumps({"code": totp.at(now + 30)})

    def use(_):
        return target.send("POST", "/token/otp", body, "application/json", headers=step).status

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(use, range(8))) == [201] + [401] * 7


@IN_PROCESS
def test_user_disabled_between_the_steps_of_a_sign_in(phone):
    """The first step is worth nothing from then on, and no code is used up."""
    login, code, _ = phone
    res = call("GET", "/token", headers=basic_auth(login, PASSWORD))
    step = {"Authorization": f"Bearer {res.json['otp']}"}
    good = {"code": code()}
    db.change_user(login, active=False)
    res = call("POST", "/token/otp", good, step)
    assert (res.status_code, res.json["error"]) == (401, "invalid token: get a new one at /token")
    db.change_user(login, active=True)
    assert call("POST", "/token/otp", good, step).status_code == 201


@pytest.mark.parametrize("target", ["memory"], indirect=True)
def test_guesses_at_once_are_counted(phone, strict, clock, monkeypatch):
    """Of eight simultaneous wrong codes three are looked at: the others come too late."""
    login, _, headers = phone
    limiter = app.extensions["rate_limit"]
    check, everybody = limiter.check, threading.Barrier(8)

    def check_together(*args, **kwargs):
        check(*args, **kwargs)
        # whoever gets here waits for all others, who should not be able to
        with contextlib.suppress(threading.BrokenBarrierError):
            everybody.wait(0.2)

    monkeypatch.setattr(limiter, "check", check_together)
    value = {"code": wrong_code(db.get_otp(login), clock.now), "on": False}

    def guess(_):
        return call("PUT", f"/user/{login}/otp", value, headers).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(guess, range(8))) == [403] * 3 + [429] * 5


# --- too many attempts


@IN_PROCESS
def test_throttle(strict):
    """Right or wrong, by basic, param or `current`, a password is not looked at; tokens go on."""
    login, other = new_user(), new_user()
    headers = token_of(login)
    for _ in range(3):
        assert call("GET", "/token", headers=basic_auth(login, "wrong")).status_code == 401
    for password in "wrong", PASSWORD:
        res = call("GET", "/token", headers=basic_auth(login, password))
        assert res.status_code == 429
        assert 1 <= int(res.headers["Retry-After"]) <= 60
        assert "seconds" in res.json["error"]
    params = {"username": login, "password": PASSWORD}
    assert call("POST", "/token", params).status_code == 429
    change = {"password": NEW_PASSWORD, "current": PASSWORD}
    assert call("PUT", f"/user/{login}/password", change, headers).status_code == 429
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    assert call("GET", "/token", headers=basic_auth(other, PASSWORD)).status_code == 200
    # and from one address, whoever it tries
    for _ in range(2):
        call("GET", "/token", headers=basic_auth(new_user(), "wrong"))
    assert call("GET", "/token", headers=basic_auth(other, PASSWORD)).status_code == 429


@IN_PROCESS
def test_throttle_of_codes(phone, strict, clock):
    """Failed codes count as failed passwords do."""
    login, code, headers = phone
    path = f"/user/{login}/otp"
    wrong = {"code": wrong_code(db.get_otp(login), clock.now), "on": False}
    for _ in range(3):
        assert call("PUT", path, wrong, headers).status_code == 403
    value = {"code": code(), "on": False}
    assert call("PUT", path, value, headers).status_code == 429
    # from everywhere, as only who has the password gets that far
    elsewhere = {"environ_base": {"REMOTE_ADDR": "127.0.0.2"}, "headers": headers}
    with app.test_client() as client:
        assert client.put(path, json=value, **elsewhere).status_code == 429
        elsewhere["headers"] = basic_auth(login, PASSWORD)
        assert client.get("/token", **elsewhere).status_code == 202
