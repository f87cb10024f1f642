"""The second factor: who sets it up, which codes are good, and how often."""

import contextlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pyotp
import pytest

import tokens
from database import db
from security.totp import check_code
from test import app, basic_auth
from tests.accounts import (
    CHEAP,
    CURRENT,
    IN_PROCESS,
    NEW_PASSWORD,
    bearer,
    call,
    new_user,
    refresh,
    sign_in,
    token_of,
)
from tests.conftest import PASSWORD, STORES, configured, new_name, wrong_code

SQL = pytest.mark.parametrize("target", STORES[1:], indirect=True)
WRONG = {"current": "Wrong-Pass-1"}


def set_up(login, headers, now):
    """Set up and switch on a second factor; what makes its codes."""
    secret = call("POST", f"/user/{login}/otp", CURRENT, headers).json["secret"]
    value = {"code": pyotp.TOTP(secret).at(now), "on": True}
    assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 200
    return pyotp.TOTP(secret)


@IN_PROCESS
def test_stolen_token_cannot_set_up_a_second_factor(target, strict, audit_trail):
    """It takes the password; wrong ones are audited, and rate limited like those of a sign-in."""
    login = new_user()
    path, headers = f"/user/{login}/otp", token_of(login)
    db.set_otp(login, "ABC")
    assert call("POST", path, {}, headers).status_code == 400
    for _ in range(3):
        res = call("POST", path, WRONG, headers)
        assert (res.status_code, res.json) == (403, {"error": "current is not the password"})
    for value in WRONG, CURRENT:
        res = call("POST", path, value, headers)
        assert (res.status_code, int(res.headers["Retry-After"]) > 0) == (429, True)
    assert call("PUT", f"/user/{login}/password", WRONG, headers).status_code == 400
    assert db.get_otp(login) == "ABC"
    events = [(line["event"], line["who"]) for line in audit_trail()]
    assert events == [("sign-in", login)] + [("failed attempt", login)] * 3


@IN_PROCESS
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda login: db.set_user_pass(login, CHEAP), 403),
        (lambda login: db.change_user(login, active=False), 403),
        (lambda login: db.delete_user(login), 404),
        (lambda login: db.use_otp(login, "ABC", 1, on=True), 409),
    ],
    ids=["new password", "disabled", "deleted", "switched on"],
)
def test_user_changed_after_the_check_of_current_gets_no_secret(
    target, after_check, change, status
):
    login = new_user()
    headers = token_of(login)
    db.set_otp(login, "ABC")
    after_check(lambda: change(login))
    assert call("POST", f"/user/{login}/otp", CURRENT, headers).status_code == status
    assert db.get_otp(login) in ("ABC", None)


@SQL
def test_switching_on_ends_other_sessions_or_fails_as_a_whole(target, monkeypatch):
    """A database that fails in between leaves the second factor off."""
    login = new_user()
    headers = token_of(login)
    secret = call("POST", f"/user/{login}/otp", CURRENT, headers).json["secret"]
    with monkeypatch.context() as patch:
        patch.delattr(db.queries, "delete_sessions")
        value = {"code": pyotp.TOTP(secret).now(), "on": True}
        assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 500
    assert not db.get_user(login).otp
    assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 200


@pytest.mark.parametrize("kind", STORES)
def test_new_secret_works_after_a_clock_that_was_ahead(kind, new_database, clock):
    """Steps used in the future do not count for another secret."""
    with configured(new_database(kind)):  # in a year all sessions have expired
        login = new_user()
        clock.now += 365 * 24 * 3600
        set_up(login, token_of(login), clock.now)
        clock.now -= 365 * 24 * 3600
        db.reset_otp(login)
        set_up(login, token_of(login), clock.now)
        assert db.get_user(login).otp


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
    assert res.status_code == 200
    return login, code, headers


@IN_PROCESS
def test_sign_in_with_second_factor_takes_two_steps(phone, clock):
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
def test_second_factor_is_switched_by_code_or_administrator(phone, clock):
    """On and off take a code; an administrator switches it off without."""
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
def test_switching_on_ends_other_sessions(client):
    """Whatever a password alone has opened, but for the session that switches it on."""
    login = new_user()
    other, this = sign_in(client, login), token_of(login)
    secret = call("POST", f"/user/{login}/otp", CURRENT, this).json["secret"]
    value = {"code": pyotp.TOTP(secret).now(), "on": True}
    assert call("PUT", f"/user/{login}/otp", value, this).status_code == 200
    assert call("GET", "/hello-me", headers=bearer(other)).status_code == 401
    assert refresh(client).status_code == 401
    assert call("GET", "/hello-me", headers=this).status_code == 200


@IN_PROCESS
@pytest.mark.parametrize("second", [0, 29.9])
def test_codes_of_three_steps_are_accepted(target, clock, second):
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
        assert (steps, status) == (steps, 200 if abs(steps) < 2 else 403)


def test_code_is_accepted_once_under_simultaneous_use(target):
    """One of eight simultaneous sign-ins with one code succeeds, whatever process it meets."""
    login = target.person(new_name("u"))
    secret = target.send_json("POST", f"/user/{login}/otp", CURRENT, login).json["secret"]
    totp, now = pyotp.TOTP(secret), time.time()
    on = {"code": totp.at(now), "on": True}
    assert target.send_json("PUT", f"/user/{login}/otp", on, login).status == 200
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


@IN_PROCESS
def test_password_changed_during_the_second_step_ends_the_sign_in(phone, monkeypatch):
    """The session depends on the password of the first step, not on the one of now."""
    login, code, _ = phone
    res = call("GET", "/token", headers=basic_auth(login, PASSWORD))
    step = {"Authorization": f"Bearer {res.json['otp']}"}

    def check_and_change(user, *args):
        is_right = check_code(user, *args)
        db.set_user_pass(user, CHEAP)
        return is_right

    monkeypatch.setattr(tokens, "check_any_code", check_and_change)
    assert call("POST", "/token/otp", {"code": code()}, step).status_code == 401
    assert db.get_sessions(login, 0) == []


@IN_PROCESS
def test_password_alone_is_refused_with_the_way_to_go_on(phone):
    login, *_ = phone
    res = call("GET", "/stuff", headers=basic_auth(login, PASSWORD))
    message = "a second factor is needed: get a token at /token"
    assert (res.status_code, res.json["error"]) == (401, message)


@pytest.mark.parametrize("target", ["memory"], indirect=True)
def test_simultaneous_wrong_codes_are_counted(phone, strict, clock, monkeypatch):
    """Of eight simultaneous wrong codes three are looked at: the others come too late."""
    login, _, headers = phone
    limiter = app.extensions["rate_limit"]
    check, everybody = limiter.check, threading.Barrier(8)

    def check_together(*args, **kwargs):
        check(*args, **kwargs)
        # each thread waits here for all others, which must not get here at the same time
        with contextlib.suppress(threading.BrokenBarrierError):
            everybody.wait(0.2)

    monkeypatch.setattr(limiter, "check", check_together)
    value = {"code": wrong_code(db.get_otp(login), clock.now), "on": False}

    def guess(_):
        return call("PUT", f"/user/{login}/otp", value, headers).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(guess, range(8))) == [403] * 3 + [429] * 5


@IN_PROCESS
def test_code_of_another_secret_is_wrong(target):
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
def test_failed_codes_are_rate_limited(phone, strict, clock):
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
