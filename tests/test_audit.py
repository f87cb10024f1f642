"""The audit trail: a line for each event, from requests and from the command line."""

import datetime
import getpass
import json
import logging
import os
import re
import time

import pyotp
import pytest

from database import db
from security import audit
from test import app, basic_auth
from tests.accounts import CURRENT, NEW_PASSWORD, bearer, new_user, token_of
from tests.conftest import PASSWORD, new_name, wrong_code

pytestmark = pytest.mark.parametrize("target", ["memory"], indirect=True)


@pytest.fixture
def step(audit_trail):
    """Sends a request that must have a status and leave these lines: (event, who, whom)."""

    def send(status, events, method, path, value=None, headers=None):
        before = len(audit_trail())
        with app.test_client(use_cookies=False) as client:  # but those in the headers
            res = client.open(path, method=method, json=value, headers=headers)
        assert res.status_code == status, res.text
        lines = audit_trail()[before:]
        assert [(line["event"], line["who"], line["whom"]) for line in lines] == events
        for line in lines:
            shown = {"time", "event", "who", "whom", "from", "level", "request", "method", "route"}
            assert set(line) - {"session", "key"} == shown
            assert (line["method"], line["request"]) == (method, res.headers["X-Request-ID"])
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", line["time"])
            assert line["from"] == "127.0.0.1"
            assert not re.search(f"Wrong-|{PASSWORD}|{NEW_PASSWORD}|argon2", json.dumps(line))
        return res

    return send


def test_sign_ins_are_audited(target, step):
    """Those that succeed, those that fail, and how sessions end."""
    login = new_user()
    right, wrong = ({"username": login, "password": p} for p in (PASSWORD, "Wrong-Pass-1"))
    signed_in, failed = ("sign-in", login, login), ("failed attempt", login, login)
    step(401, [failed], "POST", "/token", wrong)
    step(401, [failed], "GET", "/token", None, basic_auth(login, "Wrong-Pass-1"))
    # a malformed login may be a password
    step(401, [("failed attempt", None, None)], "POST", "/token", wrong | {"username": "Wrong-2"})
    step(401, [], "GET", "/hello-me", None, {"Authorization": "Bearer x.y.z"})
    step(200, [signed_in], "GET", "/token", None, basic_auth(login, PASSWORD))
    one, two = (bearer(step(201, [signed_in], "POST", "/token", right)) for _ in range(2))
    step(200, [], "GET", "/hello-me", None, one)
    step(204, [("sign-out", login, login)], "DELETE", "/token", None, one)
    session = db.get_sessions(login, 0)[0].id
    ended = ("session ended", login, login)
    step(204, [ended], "DELETE", f"/user/{login}/sessions/{session}", None, two)
    step(204, [("sign-out of all", login, login)], "DELETE", "/token?all=true", None, two)
    assert db.get_sessions(login, 0) == []


def test_reused_refresh_cookie_is_audited(target, step):
    """With the name of the user; a normal refresh is not audited."""
    login = new_user()
    right = {"username": login, "password": PASSWORD}
    res = step(201, [("sign-in", login, login)], "POST", "/token", right)
    session = res.headers["Set-Cookie"].partition(".")[0]
    cookie = {"Cookie": res.headers["Set-Cookie"].partition(";")[0]}
    step(201, [], "POST", "/token/refresh", None, cookie)
    invented = {"Cookie": f"{session}.x"}
    reused = ("refresh token reused", login, login)
    step(401, [reused], "POST", "/token/refresh", None, invented)
    step(401, [], "POST", "/token/refresh", None, cookie)


def test_changes_of_users_are_audited(target, step):
    """Who did what to whom; refused changes are not audited."""
    admin, login = new_user(admin=True), new_name("u")
    email = f"{login}@acme.org"
    new = {"login": login, "password": PASSWORD, "email": email}
    by = token_of(admin)

    def did(*events):
        return [(event, admin, login) for event in events]

    path = f"/user/{login}"
    step(400, [], "POST", "/user", new | {"password": "weak"}, by)
    step(201, did("user added"), "POST", "/user", new, by)
    step(409, [], "POST", "/user", new, by)
    step(200, did("promoted"), "PATCH", path, {"admin": True}, by)
    step(200, did("demoted"), "PATCH", path, {"admin": False}, by)
    step(200, did("disabled"), "PATCH", path, {"active": False}, by)
    step(200, did("enabled"), "PATCH", path, {"active": True}, by)
    changes = {"email": email, "admin": True, "active": True}
    step(200, did("address changed", "promoted", "enabled"), "PATCH", path, changes, by)
    step(204, did("password changed"), "PUT", f"{path}/password", {"password": NEW_PASSWORD}, by)
    step(400, [], "PUT", f"{path}/password", {"password": "weak"}, by)
    db.add_stuff(new_name(), login, 1)
    step(409, [], "DELETE", path, None, by)
    step(204, did("user deleted with stuff"), "DELETE", f"{path}?stuff=delete", None, by)
    step(404, [], "DELETE", path, None, by)
    login = new_user()
    step(204, did("user deleted"), "DELETE", f"/user/{login}", None, by)
    # by the user
    login = new_user()
    mine = token_of(login)
    step(403, [], "PATCH", f"/user/{login}", {"admin": True}, mine)
    changed = ("address changed", login, login)
    step(200, [changed], "PATCH", f"/user/{login}", {"email": email}, mine)
    change = {"password": NEW_PASSWORD, "current": "Wrong-Pass-1"}
    failed, changed = ((event, login, login) for event in ("failed attempt", "password changed"))
    step(403, [failed], "PUT", f"/user/{login}/password", change, mine)
    change["current"] = PASSWORD
    step(204, [changed], "PUT", f"/user/{login}/password", change, mine)


def test_second_factor_is_audited(target, clock, step):
    """Each step of it, and who switches it off."""
    admin, login = new_user(admin=True), new_user()
    by, mine = token_of(admin), token_of(login)

    def did(*events):
        return [(event, login, login) for event in events]

    path = f"/user/{login}/otp"
    res = step(201, did("new secret for one-time passwords"), "POST", path, CURRENT, mine)
    secret = res.json["secret"]

    def code():
        clock.now += 30
        return {"code": pyotp.TOTP(secret).at(clock.now)}

    wrong = {"code": wrong_code(secret, clock.now)}
    step(403, did("failed attempt"), "PUT", path, wrong | {"on": True}, mine)
    step(200, did("one-time passwords on"), "PUT", path, code() | {"on": True}, mine)
    password = basic_auth(login, PASSWORD)
    step(401, did("password without second factor"), "GET", "/hello-me", None, password)
    first = "first step of a sign-in"
    res = step(202, did(first), "GET", "/token", None, password)
    begun = {"Authorization": f"Bearer {res.json['otp']}"}
    right = {"username": login, "password": PASSWORD}
    step(202, did(first), "POST", "/token", right)
    step(401, did("failed attempt"), "POST", "/token/otp", wrong, begun)
    step(201, did("sign-in"), "POST", "/token/otp", code(), begun)
    step(204, did("one-time passwords off"), "PUT", path, code() | {"on": False}, mine)
    reset = ("one-time passwords reset", admin, login)
    step(204, [reset], "DELETE", path, None, by)


def test_audit_trail_goes_to_standard_error_once(target, monkeypatch, capsys):
    """However often the application is made, and whatever other loggers do."""
    trail = logging.getLogger("acme.audit")
    for name, value in {"handlers": [], "propagate": True, "level": logging.ERROR}.items():
        monkeypatch.setattr(trail, name, value)
    for _ in range(2):
        audit.init_app(app)
    with app.app_context():
        audit.audit("something", None)
    assert capsys.readouterr().err.count("something") == 1
    assert not trail.propagate


def test_time_is_in_utc_wherever_the_server_is(target, audit_trail, monkeypatch):
    monkeypatch.setenv("TZ", "Etc/GMT+5")
    time.tzset()
    try:
        with app.app_context():
            audit.audit("something", None)
    finally:
        monkeypatch.undo()
        time.tzset()
    (line,) = audit_trail()
    said = datetime.datetime.fromisoformat(line["time"])
    assert abs((datetime.datetime.now(datetime.UTC) - said).total_seconds()) < 60


@pytest.mark.parametrize("error", [None, KeyError, OSError])
def test_event_of_a_command_names_the_account_that_ran_it(target, audit_trail, monkeypatch, error):
    """In a container an account may have no name."""

    def getuser():
        if error:
            raise error
        return "operator"

    monkeypatch.setattr(getpass, "getuser", getuser)
    with app.app_context():
        audit.audit("something", "somebody")
    (line,) = audit_trail()
    who = f"uid {os.getuid()}" if error else "operator"
    assert (line["from"], line["who"], line["whom"]) == ("command line", who, who)
