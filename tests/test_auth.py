"""Authentication by basic, param and token, and what an invalid attempt reveals."""

import base64
import concurrent.futures
import functools
import json
import os
import time

import argon2
import flask
import jwt
import pytest

import acme
import auth
import database
from test import app
from tests.conftest import LIVE, ROOT, SECRET

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def basic(text):
    text = text if isinstance(text, bytes) else text.encode()
    return {"Authorization": f"Basic {base64.b64encode(text).decode()}"}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def forged(secret=SECRET, algorithm="HS256", **claims):
    """A token like those of Acme, with other claims (None leaves a claim out)."""
    claims = {"sub": "acme", "aud": "acme", "exp": int(time.time()) + 600} | claims
    claims = {name: claim for name, claim in claims.items() if claim is not None}
    return jwt.encode(claims, secret, algorithm=algorithm)


PASS = os.environ["ACME_PASS"]

WRONG_PASSWORDS = [
    basic("acme:wrong"),
    basic("nobody:wrong"),
    basic(f"nobody:{PASS}"),
    basic(f"ACME:{PASS}"),
    basic(f"acme:{PASS} "),
    basic("acme:"),
    basic("acme"),
    basic(":"),
    basic(""),
    basic(b"\xff\xfe:\xff"),
    basic(b"acme:\0"),
    basic("acme:" + "x" * 4000),
    {"Authorization": "Basic"},
    {"Authorization": "basic ???"},
]


@pytest.mark.parametrize("headers", WRONG_PASSWORDS, ids=lambda h: h["Authorization"][:30])
def test_invalid_basic_credentials_get_one_response(target, headers):
    """The response is the same to the letter for each fault."""
    res = target.send("GET", "/hello-me", headers=headers)
    assert res.status == 401
    assert res.error == "invalid username or password"
    assert res.headers["WWW-Authenticate"] == f"{BASIC}, {BEARER}"


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"username": "acme", "password": PASS}, 201),
        ({"username": "acme", "password": "wrong"}, 401),
        ({"username": "nobody", "password": "wrong"}, 401),
        ({"username": "acme", "password": "x" * 100_000}, 401),
        ({"username": "acme", "password": "\0"}, 401),
        ({"username": "acme", "password": ""}, 401),
        ({"username": "", "password": ""}, 401),
        ({"username": "acme"}, 401),
        ({"password": PASS}, 401),
        ({}, 401),
        ({"username": "acme", "password": [PASS]}, 400),
        ({"username": ["acme"], "password": PASS}, 400),
        ({"username": 5, "password": 5}, 400),
        ({"username": {}, "password": {}}, 400),
        ({"username": True, "password": False}, 400),
    ],
)
def test_credentials_in_json(target, params, status):
    """Username and password of param authentication; no error repeats them."""
    res = target.send_json("POST", "/token", params)
    assert res.status == status
    if status == 201:
        assert res.headers["Location"]
        assert target.send("GET", "/hello-me", headers=bearer(res.json["token"])).status == 200
    else:
        assert "acme" not in res.error
        assert PASS not in res.error


BASIC = 'Basic realm="acme", charset="UTF-8"'
BEARER = 'Bearer realm="acme"'
INVALID = 'Bearer realm="acme", error="invalid_token"'
FETCH = {"X-Requested-With": "fetch"}


# method, path, headers, parameters, challenge
@pytest.mark.parametrize(
    ("method", "path", "headers", "params", "challenge"),
    [
        ("GET", "/stuff", {}, {}, f"{BASIC}, {BEARER}"),
        ("GET", "/stuff", FETCH, {}, BEARER),
        ("GET", "/stuff", basic("acme:wrong"), {}, f"{BASIC}, {BEARER}"),
        ("GET", "/stuff", basic("acme:wrong") | FETCH, {}, BEARER),
        ("GET", "/stuff", bearer("x.y.z"), {}, INVALID),
        ("GET", "/stuff", bearer("x.y.z") | FETCH, {}, INVALID),
        ("GET", "/token", {}, {}, BASIC),
        ("GET", "/token", basic("acme:wrong") | FETCH, {}, BEARER),
        ("POST", "/token", {}, {"username": "acme", "password": "wrong"}, BEARER),
        ("POST", "/token/refresh", {"Cookie": "refresh=x"}, {}, f"{BASIC}, {BEARER}"),
        ("POST", "/token/otp", bearer("x.y.z"), {"code": "123456"}, INVALID),
        ("GET", "/user/acme/sessions", {}, {}, BEARER),
    ],
)
def test_401_has_the_challenge_of_the_route(target, method, path, headers, params, challenge):
    """A front end that sends `X-Requested-With: fetch` gets no Basic challenge and no dialog."""
    res = target.send(method, path, json.dumps(params), JSON, headers=headers)
    assert res.status == 401, res
    assert res.headers["WWW-Authenticate"] == challenge


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/hello-me", {}, 200),
        ("/hello-me", basic("acme:wrong"), 401),
        ("/hello-me", {"Authorization": "Basic"}, 401),
        ("/hello-me", bearer("x.y.z"), 401),
        ("/token", basic("acme:wrong"), 401),
        ("/token", bearer("x.y.z"), 200),  # tokens are not accepted here
    ],
)
def test_valid_credentials_do_not_excuse_invalid_ones(target, path, headers, status):
    """Invalid ones are refused, even with valid ones in the same request."""
    params = json.dumps({"username": "acme", "password": PASS})
    assert target.send("GET", path, params, JSON, headers=headers).status == status


FORGED = [
    ({}, 200),
    ({"sub": "nobody"}, 401),
    ({"sub": "susie"}, 401),
    ({"sub": None}, 401),
    ({"sub": ""}, 401),
    ({"scope": None}, 401),
    ({"scope": ""}, 401),
    ({"scope": "x\0"}, 401),
    ({"aud": "acme-otp"}, 401),
    ({"aud": None}, 401),
    ({"exp": 1}, 401),
    ({"exp": None}, 401),
    ({"secret": "x" * 64}, 401),
    ({"algorithm": "HS512"}, 401),
    ({"secret": None, "algorithm": "none"}, 401),
]


@pytest.mark.parametrize(("claims", "status"), FORGED)
@pytest.mark.parametrize("target", LIVE, indirect=True)
def test_token_needs_signature_expiry_and_session(target, claims, status):
    """And the session must be that of the user in the token."""
    target.person("susie")
    token = target.bearer("acme")["Authorization"].split()[1]
    session = jwt.decode(token, options={"verify_signature": False})["scope"]
    res = target.send("GET", "/hello-me", headers=bearer(forged(**{"scope": session} | claims)))
    assert res.status == status, res
    if status == 401:
        assert res.error == "invalid token: get a new one at /token"
        assert res.headers["WWW-Authenticate"] == INVALID


@pytest.mark.parametrize(("claims", "status"), FORGED)
def test_token_without_a_claim_or_with_a_false_one_is_401(claims, status, monkeypatch):
    """The same in this process, and never 500."""
    for name, value in {"ACME_TOKEN_SECRETS": [SECRET], "FSA_TOKEN_SECRET": SECRET}.items():
        monkeypatch.setitem(app.config, name, value)
    with app.test_client() as client:
        session = jwt.decode(used_token(client), options={"verify_signature": False})["scope"]
        token = forged(**{"scope": session} | claims)
        assert client.get("/hello-me", headers=bearer(token)).status_code == status


@pytest.mark.parametrize("token", ["x.y.z", "x", "", "x" * 8000, "x y", " x"])
def test_malformed_token_is_not_echoed(target, token):
    """All get the same message."""
    res = target.send("GET", "/hello-me", headers=bearer(token))
    assert (res.status, res.error) == (401, "invalid token: get a new one at /token")


# method, path, scheme, status
@pytest.mark.parametrize(
    ("method", "path", "scheme", "status"),
    [
        ("GET", "/token", "basic", 200),
        ("GET", "/token", "param", 200),
        ("GET", "/token", "bearer", 401),
        ("POST", "/token", "basic", 401),
        ("POST", "/token", "param", 201),
        ("POST", "/token", "bearer", 401),
        ("GET", "/hello-me", "basic", 200),
        ("GET", "/hello-me", "param", 200),
        ("GET", "/hello-me", "bearer", 200),
        ("GET", "/stuff", "basic", 200),
        ("GET", "/stuff", "param", 200),
        ("GET", "/stuff", "bearer", 200),
    ],
)
def test_route_accepts_its_schemes(api, method, path, scheme, status):
    """And no other."""
    api.request(method, path, status, login="acme", auth=scheme)


def test_scheme_is_case_insensitive(target):
    """The name of a scheme is case-insensitive (RFC 9110)."""
    token = target.bearer("susie")["Authorization"].split()[1]
    for scheme in "bearer", "BEARER":
        headers = {"Authorization": f"{scheme} {token}"}
        assert target.send("GET", "/hello-me", headers=headers).status == 200


def test_open_route_ignores_credentials(target):
    """They are neither needed nor checked."""
    assert target.send("GET", "/hello", headers=basic("acme:wrong")).status == 200


def test_basic_header_that_is_not_ascii_is_401():
    """Werkzeug raises an exception for such a header."""
    with app.test_client() as client:
        res = client.get("/hello-me", headers={"Authorization": "Basic é"})
    assert (res.status_code, res.json["error"]) == (401, "invalid username or password")


def test_unknown_user_takes_a_hash(monkeypatch):
    """As a known one with a wrong password: the time does not tell whether a user exists."""
    checked = []

    def verify(_self, reference, _password):
        checked.append(reference)
        raise argon2.exceptions.VerifyMismatchError

    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    with app.test_client() as client:
        for login in "acme", "nobody":
            assert client.get("/hello-me", headers=basic(f"{login}:wrong")).status_code == 401
    assert len(checked) == 2
    assert all(reference.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for reference in checked)


@pytest.mark.parametrize(
    ("hook", "headers"),
    [("get_credentials", basic("acme:x")), ("get_session_user", bearer(forged(scope="x")))],
    ids=["password", "token"],
)
def test_exception_in_a_hook_is_500(monkeypatch, hook, headers):
    """In JSON; FlaskSimpleAuth by itself would make it a 401."""
    monkeypatch.setitem(app.config, "ACME_TOKEN_SECRETS", [SECRET])
    store = acme.AcmeData()
    monkeypatch.setattr(store, hook, None)
    before = database.use(store)
    try:
        res = app.test_client().get("/hello-me", headers=headers)
    finally:
        database.use(before)
    assert (res.status_code, list(res.json)) == (500, ["error"])


def test_token_expires_after_ten_minutes(target):
    """Its audience is acme."""
    before = int(time.time())
    token = target.client().get("/token", 200, login="acme", auth="basic").json["token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    assert before <= claims["exp"] - 600 <= time.time()
    assert claims["aud"] == "acme"


def test_first_secret_signs_and_all_verify(monkeypatch):
    """As `ACME_TOKEN_SECRET` lists them, so that a new one can be put before the old one."""
    new, old, other = "n" * 40, "o" * 40, "x" * 40
    monkeypatch.setenv("ACME_TOKEN_SECRET", f"{new},{old}")
    config = flask.Config(ROOT)
    config.from_pyfile("acme.conf")
    monkeypatch.setitem(app.config, "ACME_TOKEN_SECRETS", config["ACME_TOKEN_SECRETS"])
    with app.test_client() as client:
        token = client.get("/token", headers=basic(f"acme:{PASS}")).json["token"]
        claims = jwt.decode(token, new, ["HS256"], audience="acme")
        statuses = [
            client.get("/hello-me", headers=bearer(forged(secret, **claims))).status_code
            for secret in (new, old, other)
        ]
    assert statuses == [200, 200, 401]


def used_token(client):
    """A new token, which Acme has seen and found good."""
    token = client.get("/token", headers=basic(f"acme:{PASS}")).json["token"]
    assert client.get("/hello-me", headers=bearer(token)).status_code == 200
    return token


def test_cached_token_expires(monkeypatch):
    """On time, although the session lasts for days."""
    with app.test_client() as client:
        res = client.post("/token", json={"username": "acme", "password": PASS})
        token = res.json["token"]
        assert client.get("/hello-me", headers=bearer(token)).status_code == 200
        end = jwt.decode(token, options={"verify_signature": False})["exp"]
        statuses = []
        for now in end - 1, end, end + 1:
            monkeypatch.setattr(time, "time", lambda now=now: now)
            statuses.append(client.get("/hello-me", headers=bearer(token)).status_code)
    assert statuses == [200, 401, 401]


@pytest.mark.parametrize("realm", ["acme-otp", "other"])
def test_cached_token_is_valid_for_its_realm_only(realm):
    """And with its own signature only."""
    with app.test_client() as client:
        token = used_token(client)
        code = {"code": "111111"}
        assert client.post("/token/otp", headers=bearer(token), json=code).status_code == 401
        claims = jwt.decode(token, options={"verify_signature": False})
        other = jwt.encode(claims | {"aud": realm}, app.config["ACME_TOKEN_SECRETS"][0])
        assert client.get("/hello-me", headers=bearer(other)).status_code == 401
        header, payload, _ = token.split(".")
        _, _, signature = other.split(".")
        mixed = f"{header}.{payload}.{signature}"
        assert client.get("/hello-me", headers=bearer(mixed)).status_code == 401


def test_cached_tokens_under_load(monkeypatch):
    """Many threads, and more tokens than the cache holds: those of ended sessions are refused."""
    claims = functools.lru_cache(8)(auth.token_claims.__wrapped__)
    monkeypatch.setattr(auth, "token_claims", claims)
    live, ended = ([], [])
    with app.test_client() as client:
        for tokens in live, ended:
            tokens.extend(used_token(client) for _ in range(6))
        for token in ended:
            assert client.delete("/token", headers=bearer(token)).status_code == 204

    def statuses(n):
        with app.test_client() as client:
            tokens = [(live, ended)[k % 2][(n + k) % 6] for k in range(200)]
            found = [client.get("/hello-me", headers=bearer(t)).status_code for t in tokens]
        return set(found[::2]), set(found[1::2])

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert set(map(str, pool.map(statuses, range(8)))) == {str(({200}, {401}))}
