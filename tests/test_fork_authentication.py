"""Authentication of routes that a fork adds: they are protected as those of Acme are."""

import time

import flask
import FlaskSimpleAuth as fsa
import jwt
import pytest

import auth
import database
from security import api_keys
from security.declarations import accepts_password_alone, declaration_of
from security.sessions import OTP_REALM, begin_session, sha256
from store.base import ApiKey
from tests.application import new_application
from tests.conftest import PASSWORD
from tests.test_auth import PASS, basic, bearer, forged


@pytest.fixture
def fork():
    """The real application, with more routes, in memory; a client of it."""
    with new_application() as app:
        blueprint = flask.Blueprint("own", __name__)

        def get_token(user: fsa.CurrentUser):
            return {"user": user}, 200

        for path, how in {
            "/basic": {"authn": "basic"},
            "/param": {"authn": "param"},
            "/any": {},
            "/other": {"authn": "token", "realm": "other"},
            "/second": {"authn": "token", "realm": OTP_REALM},
        }.items():
            app.add_url_rule(path, path[1:], get_token, authz="AUTH", **how)
        blueprint.get("/own/token", authz="AUTH", authn="basic")(get_token)
        marked = accepts_password_alone(lambda user: get_token(user))
        marked.__annotations__ = {"user": fsa.CurrentUser}
        blueprint.get("/own/first", authz="AUTH", authn="basic", endpoint="first")(marked)
        app.register_blueprint(blueprint)
        with app.test_client() as client:
            yield client


def test_password_alone_opens_a_route_that_says_so(fork):
    """A fork's own route, whatever its name, asks users with a second factor for a token."""
    for login in "plain", "careful":
        database.db.add_user(
            login, fork.application.hash_password(PASSWORD), "some@acme.org", False
        )
    database.db.set_otp("careful", "ABC")
    assert database.db.use_otp("careful", "ABC", 1, on=True)
    found = {}
    for path in "/basic", "/param", "/any", "/own/token", "/own/first":
        for login in "plain", "careful":
            given = {"json": {"username": login, "password": PASSWORD}}
            if path != "/param":
                given = {"headers": basic(f"{login}:{PASSWORD}")}
            found.setdefault(path, []).append(fork.get(path, **given).status_code)
    refused = {path: [200, 401] for path in found if path != "/own/first"}
    assert found == refused | {"/own/first": [200, 200]}


def test_token_opens_routes_of_its_realm(fork):
    """A fork's route that declares another realm is closed to the tokens of a sign-in."""
    database.db.add_user("susie", fork.application.hash_password(PASSWORD), "some@acme.org", False)
    token = fork.get("/token", headers=basic(f"susie:{PASSWORD}")).json["token"]
    session = jwt.decode(token, options={"verify_signature": False})["scope"]
    database.db.set_otp("susie", "ABC")
    assert database.db.use_otp("susie", "ABC", 1, on=True, session=session)
    step = fork.get("/token", headers=basic(f"susie:{PASSWORD}")).json["otp"]
    secret = fork.application.config["ACME_TOKEN_SECRETS"][0]
    other = forged(secret, aud="other", sub="susie", scope=session)
    ended = forged(secret, aud="other", sub="susie", scope="none")
    found = {}
    for path in "/any", "/other", "/second":
        for value in token, other, ended, step:
            status = fork.get(path, headers=bearer(value)).status_code
            found.setdefault(path, []).append(status)
    assert found == {
        "/any": [200, 401, 401, 401],
        "/other": [401, 200, 401, 401],
        "/second": [401, 401, 401, 200],
    }


def test_each_way_to_add_a_route_records_its_declaration(fork):
    """By application or blueprint, method or decorator; what nobody declared is open."""
    app = fork.application

    @app.get("/late", authz="OPEN")
    def get_late():
        return "", 204

    assert {
        name: declaration_of(app, name)
        for name in ("basic", "second", "own.first", "get_late", "nothing")
    } == {
        "basic": ("AUTH", "basic", None),
        "second": ("AUTH", "token", OTP_REALM),
        "own.first": ("AUTH", "basic", None),
        "get_late": ("OPEN", None, None),
        "nothing": ("OPEN", None, None),
    }
    assert declaration_of(app, "users.get_users").authz == "admin"


def test_route_gives_a_token_to_another_user(fork):
    """What the caller's password was checked against does not count for the other one."""

    def post_deputy(user: fsa.CurrentUser):
        return {"token": fork.application.create_token("susie")}, 201

    database.db.add_user(
        "susie", fork.application.hash_password("Other-Pass-2"), "some@acme.org", False
    )
    fork.application.post("/deputy", authz="admin")(post_deputy)
    res = fork.post("/deputy", headers=basic(f"acme:{PASS}"))
    assert fork.get("/hello-me", headers=bearer(res.json["token"])).json["user"] == "susie"


def test_unknown_user_is_401_in_a_new_process(fork):
    """With a dummy hash of its own, of a password that no rule applies to."""
    res = fork.get("/hello-me", headers=basic("nobody:wrong"))
    assert (res.status_code, res.json["error"]) == (401, "invalid username or password")


def test_start_does_not_depend_on_the_password_of_the_dummy_hash(monkeypatch):
    monkeypatch.setattr(
        auth.secrets, "token_urlsafe", lambda *_: "x" * 32
    )  # without upper case or digit
    with new_application() as app:
        assert app.config["ACME_DUMMY_HASH"].startswith("$argon2id$")


def test_route_checks_a_password_by_itself(fork):
    """By FlaskSimpleAuth's own method, which asks the store."""
    with fork.application.test_request_context():
        assert fork.application.check_user_password("acme", PASS)
        assert not fork.application.check_user_password("acme", "wrong")


def test_token_for_a_user_that_there_is_not_is_401(fork):
    """Nor has a session without a cookie the value of one."""
    with fork.application.test_request_context():
        with pytest.raises(fsa.ErrorResponse) as error:
            fork.application.create_token("nobody")
        assert error.value.status == 401
        assert begin_session("acme", can_refresh=False)[1] == ""


def test_api_key_opens_no_group_or_realm_of_a_fork(fork):
    """Neither where a group is registered in FlaskSimpleAuth's way, and not in auth.py."""
    app = fork.application
    app.group_check("boss", lambda _login: True)

    def get_who(user: fsa.CurrentUser):
        return {"user": user}, 200

    declared = {
        "all": {"authz": "AUTH"},
        "boss": {"authz": "boss"},
        "bosses": {"authz": ["AUTH", "boss"]},
        "realm": {"authz": "AUTH", "realm": "other"},
        "listed": {"authz": "boss", "authn": ["key", "token"]},
    }
    for name, how in declared.items():
        app.add_url_rule(f"/keys/{name}", f"keys_{name}", get_who, **how)
    database.db.add_user("susie", app.hash_password(PASSWORD), "some@acme.org", True)
    secret, now = api_keys.generate(), time.time()
    key = ApiKey("id", "susie", "x", "write", now, now + 60, hash=sha256(secret))
    database.db.add_api_key(key, database.db.get_user_pass("susie"))
    found = {n: fork.get(f"/keys/{n}", headers=bearer(secret)).status_code for n in declared}
    assert found == dict.fromkeys(declared, 403) | {"all": 200}
