"""Who is calling, and what they may do: the hooks that FlaskSimpleAuth asks.

An authentication hook returns None where its credentials are absent, the login where they are
right, and raises 401 where they are wrong, the same for whatever is wrong with them.
"""

import functools
import logging
import secrets
from collections.abc import Callable

import argon2
import flask
import FlaskSimpleAuth as fsa
import jwt

# the database is needed!
from database import db

log = logging.getLogger("acme")

Hook = Callable[[fsa.Flask, flask.Request], str | None]

wrong_password = functools.partial(fsa.ErrorResponse, "invalid username or password", 401)
wrong_token = functools.partial(fsa.ErrorResponse, "invalid token: get a new one at /token", 401)


def get_user_pass(login: str) -> str | None:
    """The hash of a user's password, None for nobody."""
    return db.get_user_pass(login)


def user_is_admin(login: str) -> bool:
    """Whether a user is in the group `admin`."""
    return db.user_is_admin(login)


def user_owns_stuff(login: str, stuff: str, _mode: str | None) -> bool:
    """Whether a user owns some stuff: 404 if there is none of that name, 403 if not."""
    db.get_stuff(stuff, login)
    return True


def _loud(app: fsa.Flask, hook: Hook) -> Hook:
    """A scheme whose own failure is a 500, where FlaskSimpleAuth would call it a 401."""

    @functools.wraps(hook)
    def scheme(_manager: object, request: flask.Request) -> str | None:
        try:
            return hook(app, request)
        except Exception:
            log.exception("authentication failed of itself")
            raise fsa.ErrorResponse("internal error in authentication", 500) from None

    return scheme


def _check_password(app: fsa.Flask, login: object, password: object) -> str:
    """The login, if the password is right; an unknown user costs as much time as a known one."""
    if not isinstance(login, str) or not isinstance(password, str):
        raise fsa.ErrorResponse("username and password must be texts", 400)
    reference = get_user_pass(login)
    try:
        # FlaskSimpleAuth's own check logs an error for each wrong password
        argon2.PasswordHasher().verify(reference or app.config["ACME_NOBODY"], password)
    except argon2.exceptions.VerifyMismatchError:
        reference = None
    if not reference:
        raise wrong_password()
    return login


def basic(app: fsa.Flask, request: flask.Request) -> str | None:
    """HTTP Basic authentication (RFC 7617)."""
    scheme, _, _ = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = request.authorization
    except ValueError:  # Werkzeug's, of what is not ASCII
        credentials = None
    if not credentials:
        raise wrong_password()
    return _check_password(app, credentials.username, credentials.password)


def param(app: fsa.Flask, request: flask.Request) -> str | None:
    """Username and password as parameters of the body."""
    params = request.get_json() if request.is_json else request.form
    login = params.get(app.config["FSA_PARAM_USER"])
    password = params.get(app.config["FSA_PARAM_PASS"])
    if login is None or password is None:
        return None
    return _check_password(app, login, password)


def token(app: fsa.Flask, request: flask.Request) -> str | None:
    """Bearer token (RFC 6750), made by `app.create_token`, of a user who is still there."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims = jwt.decode(
            value.strip(),
            app.config["FSA_TOKEN_SECRET"],
            algorithms=["HS256"],
            audience=app.config["FSA_REALM"],
            options={"require": ["sub", "exp"]},
        )
    except jwt.InvalidTokenError:
        raise wrong_token() from None
    login = str(claims["sub"])
    if not db.user_exists(login):
        raise wrong_token()
    return login


def init_app(app: fsa.Flask) -> None:
    """Register the hooks; ValueError for a secret that is short and an unknown `ACME_AUTH`."""
    if len(app.config["FSA_TOKEN_SECRET"].encode()) < 32:
        raise ValueError(
            "ACME_TOKEN_SECRET must have 32 bytes or more: try openssl rand -base64 33"
        )
    if app.config["ACME_AUTH"] not in ("any", "token"):
        raise ValueError(f"ACME_AUTH={app.config['ACME_AUTH']} is unknown: use any or token")
    app.get_user_pass(get_user_pass)
    for scheme in basic, param, token:
        app.authentication(scheme.__name__, _loud(app, scheme))
    app.group_check("admin", user_is_admin)
    app.object_perms("stuff", user_owns_stuff)
    # what the passwords of unknown users are checked against
    app.config["ACME_NOBODY"] = app.hash_password(secrets.token_urlsafe(), check=False)
