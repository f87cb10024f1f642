"""API keys: what they open, what they never open, and when they end."""

import re
import zlib

import FlaskSimpleAuth as fsa
import pytest

from database import db
from openapi.routes import routes
from security import api_keys
from store.base import MAX_API_KEYS, ApiKey
from test import app
from tests.accounts import CHEAP, CURRENT, IN_PROCESS, call, new_user, token_of
from tests.conftest import new_name

DAY = 24 * 3600
KNOWN = f"{'ab' * 32}{zlib.crc32(b'ab' * 32):08x}"  # well-formed


def add_key(login, scope="write", **others):
    """A new key, and its headers."""
    body = {"name": "script", "scope": scope, **CURRENT, **others}
    res = call("POST", f"/user/{login}/keys", body, token_of(login))
    assert res.status_code == 201, res.text
    return res, {"Authorization": f"Bearer {res.json['key']}"}


def status(method, path, headers, body=None):
    return call(method, path, body, headers).status_code


@IN_PROCESS
def test_key_opens_stuff_as_far_as_its_scope(target):
    """It has a prefix and a checksum by which scanners recognize it."""
    login, name = new_user(), new_name()
    res, read = add_key(login, "read")
    secret, checksum = re.fullmatch("acme_([0-9a-f]{64})([0-9a-f]{8})", res.json["key"]).groups()
    assert f"{zlib.crc32(secret.encode()):08x}" == checksum
    _, write = add_key(login)
    body = {"stuff": name, "price": 1}
    assert target.send_json("POST", "/stuff", body, headers=read).status == 403
    assert target.send_json("POST", "/stuff", body, headers=write).status == 201
    for headers in read, write:
        assert target.send("GET", "/stuff", headers=headers).json == [[name, 1.0]]
        assert target.send("GET", f"/stuff/{name}", headers=headers).status == 200
        assert target.send("GET", "/hello-me", headers=headers).json["user"] == login
    assert target.send_json("PATCH", f"/stuff/{name}", {"price": 2}, headers=read).status == 403
    assert target.send("DELETE", f"/stuff/{name}", headers=read).status == 403
    assert target.send_json("PATCH", f"/stuff/{name}", {"price": 2}, headers=write).status == 200
    assert target.send("DELETE", f"/stuff/{name}", headers=write).status == 204
    other = new_name()
    db.add_stuff(other, new_user(), 1)
    assert target.send("GET", f"/stuff/{other}", headers=write).status == 403


@IN_PROCESS
def test_key_of_an_administrator_opens_nothing_but_what_its_user_owns(target):
    """Each route that does not declare to take keys refuses them, those of a fork included."""
    login, other = new_user(admin=True), new_user()
    _, headers = add_key(login)
    taken = set()
    for route in routes(app):
        for account in login, other:
            path = route.path.replace("{login}", account)
            found = status(route.method, re.sub("{.*?}", "x", path), headers, {})
            if "key" in route.schemes:
                taken.add(f"{route.method} {route.path}")
            elif route.schemes:
                assert found in (400, 401, 403), (route.method, path, found)
    for method, body in ("PATCH", {"email": "a@b.org"}), ("DELETE", None), ("GET", None):
        for account in login, other:
            assert status(method, f"/user/{account}", headers, body) == 403
    body = {"password": "Other-Pass-2", **CURRENT}
    assert status("PUT", f"/user/{login}/password", headers, body) == 403
    body = {"login": new_name("u"), "password": "Other-Pass-2", "email": "a@b.org"}
    assert status("POST", "/user", headers, body) == 403
    stuff = "/stuff/{sid}"
    assert {"GET /stuff", "POST /stuff", "GET /hello-me", f"PATCH {stuff}"} <= taken
    assert not [path for path in taken if "/user" in path or "/token" in path]
    assert db.get_user(login).active and db.get_user(other).active


@IN_PROCESS
def test_key_does_not_get_the_stored_answer_of_an_account(target):
    """That a token got with the same Idempotency-Key."""
    login = new_user()
    _, headers = add_key(login)
    sent = {"path": f"/user/{login}", "value": {"email": "other@acme.org"}}
    once = {"Idempotency-Key": new_name("key")}
    assert call("PATCH", **sent, headers=token_of(login) | once).status_code == 200
    assert call("PATCH", **sent, headers=headers | once).status_code == 403


@IN_PROCESS
def test_key_needs_no_second_factor_but_making_one_takes_the_password(target):
    """A script has no device; and a stolen token must not get what outlives it."""
    login = new_user()
    headers = token_of(login)
    body = {"name": "x", "scope": "write"}
    for current, expected in [({}, 400), ({"current": "Wrong-Pass-1"}, 403), (CURRENT, 201)]:
        assert status("POST", f"/user/{login}/keys", headers, body | current) == expected
    _, key = add_key(login)
    db.set_otp(login, "ABC")
    assert db.use_otp(login, "ABC", 1, on=True)
    assert status("GET", "/stuff", key) == 200


@IN_PROCESS
@pytest.mark.parametrize("end", ["deleted", "by an administrator", "expired", "disabled", "gone"])
def test_key_that_has_ended_is_refused_at_once(target, clock, end):
    login = new_user()
    res, headers = add_key(login, days=2)
    path = f"/user/{login}/keys/{res.json['id']}"
    assert status("GET", "/stuff", headers) == 200
    if end == "deleted":
        assert status("DELETE", path, token_of(login)) == 204
        assert status("DELETE", path, token_of(login)) == 404
    elif end == "by an administrator":
        assert status("DELETE", path, token_of(new_user(admin=True))) == 204
    elif end == "expired":
        clock.now += 2 * DAY - 1
        assert status("GET", "/stuff", headers) == 200
        clock.now += 2
    elif end == "disabled":
        db.change_user(login, active=False)
    else:
        db.delete_user(login)
    res = call("GET", "/stuff", None, headers)
    assert (res.status_code, res.json["error"][:15]) == (401, "invalid API key")
    assert "invalid_token" in res.headers["WWW-Authenticate"]
    if end == "disabled":
        db.change_user(login, active=True)
        assert status("GET", "/stuff", headers) == 200


@IN_PROCESS
def test_keys_are_listed_without_their_secrets(target, clock):
    """With the day of the last use, which is written once a day."""
    login = new_user()
    res, headers = add_key(login, "read", name="backup", days=7)
    listed = call("GET", f"/user/{login}/keys", None, token_of(login))
    (found,) = listed.json
    assert (found["id"], found["name"], found["scope"]) == (res.json["id"], "backup", "read")
    assert found["used"] == 0 and abs(found["expires"] - found["created"] - 7 * DAY) < 1
    for secret in res.json["key"], api_keys.sha256(res.json["key"]):
        assert secret not in listed.text
    for days in 0, 1:
        clock.now += days * DAY
        for _ in range(2):
            assert status("GET", "/stuff", headers) == 200
            (found,) = db.get_api_keys(login)
            assert found.used == clock.now - clock.now % DAY
            assert found.hash == ""
    assert status("GET", f"/user/{login}/keys", token_of(new_user(admin=True))) == 200
    assert status("GET", f"/user/{login}/keys", token_of(new_user())) == 403
    assert status("POST", f"/user/{login}/keys", token_of(new_user(admin=True)), {}) in (400, 403)


@IN_PROCESS
@pytest.mark.parametrize(
    "key",
    [
        "acme_",
        "acme_" + "0" * 72,
        "acme_" + "0" * 9_000,
        "acme_" + "é" * 72,
        f"acme_{KNOWN}",
        f"acme_{KNOWN[:-1]}x",
        f"acme_{KNOWN.upper()}",
    ],
)
def test_unknown_key_is_401(target, key):
    assert status("GET", "/stuff", {"Authorization": f"Bearer {key}"}) == 401


@IN_PROCESS
@pytest.mark.parametrize(
    "wrong",
    [
        *({"scope": "admin"}, {"scope": ""}, {"scope": None}, {"days": 0}, {"days": 367}),
        *({"days": True}, {"days": "9"}, {"name": ""}, {"name": "x" * 101}, {"other": 1}),
    ],
)
def test_key_with_wrong_values_is_400(target, wrong):
    login = new_user()
    body = {"name": "x", "scope": "read", **CURRENT, **wrong}
    assert status("POST", f"/user/{login}/keys", token_of(login), body) == 400
    assert db.get_api_keys(login) == []


@IN_PROCESS
def test_number_of_keys_is_bounded(target, clock):
    """Expired ones do not count, and are removed."""
    login = new_user()
    db.set_user_pass(login, CHEAP)

    def add(number, now):
        key = ApiKey(f"{login}{number}", login, "x", "read", now, now + DAY, hash=new_name("hash"))
        db.add_api_key(key, CHEAP)

    for number in range(MAX_API_KEYS):
        add(number, clock.now)
    body = {"name": "x", "scope": "read", **CURRENT}
    headers = token_of(login)
    db.set_user_pass(login, CHEAP)  # a sign-in has renewed the hash
    with pytest.raises(fsa.ErrorResponse, match="delete one before"):
        add("more", clock.now)
    assert status("POST", f"/user/{login}/keys", headers, body) == 401  # that ended the session
    assert status("POST", f"/user/{login}/keys", token_of(login), body) == 409
    clock.now += DAY + 1
    assert status("POST", f"/user/{login}/keys", token_of(login), body) == 201
    assert len(db.get_api_keys(login)) == 1


@IN_PROCESS
def test_key_is_not_added_after_the_password_has_changed(target):
    login = new_user()
    key = ApiKey(new_name("id"), login, "x", "read", 1, 9e9, hash=new_name("hash"))
    with pytest.raises(fsa.ErrorResponse, match="changed"):
        db.add_api_key(key, "another hash")
    assert db.get_api_keys(login) == []


@IN_PROCESS
def test_key_is_a_credential_of_the_header_only(client):
    login = new_user()
    res, _ = add_key(login)
    key = res.json["key"]
    assert client.get("/stuff", query_string={"key": key}).status_code in (400, 401)
    assert client.get("/stuff", headers={"Cookie": f"key={key}"}).status_code == 401
    step = client.post("/token", json={"username": login, "password": key})
    assert step.status_code == 401
