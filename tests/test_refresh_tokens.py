"""Refresh tokens in the body: for clients that keep no cookie, and for pages of other origins."""

import pyotp
import pytest

from database import db
from test import app
from tests.accounts import CURRENT, IN_PROCESS, bearer, call, new_user
from tests.conftest import PASSWORD

ORIGIN = "https://www.example.org"


def sign_in(client, login, **others):
    """Sign in without a cookie."""
    body = {"username": login, "password": PASSWORD, "cookie": False}
    return client.post("/token", json=body, **others)


def use(client, refresh, **others):
    return client.post("/token/refresh", json={"refresh": refresh}, **others)


@IN_PROCESS
@pytest.mark.parametrize("headers", [{}, {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}])
def test_refresh_token_in_the_body_rotates(client, clock, headers, monkeypatch):
    """As the cookie does, which such a client never gets."""
    monkeypatch.setitem(app.config, "ACME_ORIGINS", [ORIGIN])
    res = sign_in(client, new_user(), headers=headers)
    assert (res.status_code, set(res.json)) == (201, {"token", "refresh"})
    used = [res.json["refresh"]]
    for _ in range(3):
        clock.now += 600
        res = use(client, used[-1], headers=headers)
        assert (res.status_code, set(res.json)) == (201, {"token", "refresh"})
        assert "Set-Cookie" not in res.headers
        assert call("GET", "/hello-me", headers=bearer(res)).status_code == 200
        used.append(res.json["refresh"])
    assert len({*used}) == 4


@IN_PROCESS
def test_reused_refresh_token_ends_the_session(client, clock):
    res = sign_in(client, new_user())
    stolen = res.json["refresh"]
    good = use(client, stolen).json["refresh"]
    assert use(client, stolen).json["refresh"] == good  # at once: a repeated request
    clock.now += 11
    res = use(client, stolen)
    assert (res.status_code, list(res.json)) == (401, ["error"])
    assert "Set-Cookie" not in res.headers
    assert use(client, good).status_code == 401


@IN_PROCESS
def test_second_step_without_a_cookie(client, clock):
    login = new_user()
    secret = pyotp.random_base32()
    db.set_otp(login, secret)
    assert db.use_otp(login, secret, int(clock.now) // 30, on=True)
    step = sign_in(client, login)
    assert (step.status_code, list(step.json)) == (202, ["otp"])
    clock.now += 30
    body = {"code": pyotp.TOTP(secret).at(clock.now), "cookie": False}
    headers = {"Authorization": f"Bearer {step.json['otp']}"}
    res = client.post("/token/otp", json=body, headers=headers)
    assert (res.status_code, set(res.json)) == (201, {"token", "refresh"})
    assert "Set-Cookie" not in res.headers
    assert use(client, res.json["refresh"]).status_code == 201


@IN_PROCESS
def test_cookie_never_becomes_a_token_in_the_body(client):
    """A script that cannot read the cookie does not get it from a response either."""
    res = client.post("/token", json={"username": new_user(), "password": PASSWORD})
    assert list(res.json) == ["token"]
    assert list(client.post("/token/refresh", json={"refresh": None}).json) == ["token"]


@IN_PROCESS
def test_refresh_token_precedes_the_cookie(client):
    """And its failure leaves the cookie alone."""
    client.post("/token", json={"username": new_user(), "password": PASSWORD})
    assert use(client, "un.known").status_code == 401
    assert client.get_cookie("refresh", path="/token")
    other = new_user()
    res = use(client, sign_in(client, other).json["refresh"])
    assert call("GET", "/hello-me", headers=bearer(res)).json["user"] == other


@IN_PROCESS
@pytest.mark.parametrize("refresh", ["", "x", "x.", "x.y.z", "é.ü", "x." + "y" * 65, 5, ["x.y"]])
def test_malformed_refresh_token_is_400(client, refresh):
    assert use(client, refresh).status_code == 400


@IN_PROCESS
def test_refresh_token_in_a_url_is_400(client):
    token = sign_in(client, new_user()).json["refresh"]
    assert client.post("/token/refresh", query_string={"refresh": token}).status_code == 400
    assert use(client, token).status_code == 201


@IN_PROCESS
def test_new_password_ends_sessions_without_a_cookie(client):
    login = new_user()
    res = sign_in(client, login)
    body = {"password": "Other-Pass-2", "current": CURRENT["current"]}
    assert call("PUT", f"/user/{login}/password", body, bearer(res)).status_code == 204
    assert use(client, res.json["refresh"]).status_code == 401
