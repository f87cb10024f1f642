"""Authentication and authorization: the hooks that FlaskSimpleAuth calls.

An authentication hook returns None if a request has no credentials of its scheme, and the login if
they are valid. Otherwise it raises 401: always with the same message, so that an attacker does not
learn which logins exist (OWASP Authentication Cheat Sheet). A token is valid as long as the session
in the store that it names.
"""

import functools
import logging
import re
import secrets
import time
from collections.abc import Callable

import flask
import FlaskSimpleAuth as fsa

# the database is needed!
from database import db
from flask_internals import current_request
from security import api_keys
from security.audit import audit_attempt
from security.caller import caller
from security.declarations import SAFE_METHODS, Declaration, declaration_of, password_is_enough
from security.passwords import check_guessable, check_password, wrong_password
from security.sessions import OTP_REALM, sha256, token_claims, wrong_token
from store.base import no_user
from values import Login

log = logging.getLogger("acme")

Hook = Callable[[fsa.Flask, flask.Request], str | None]


# users, groups and object permissions


def get_user_pass(login: str) -> str | None:
    """The hash of a user's password, None for an unknown user."""
    return db.get_user_pass(login)


def user_is_admin(login: str) -> bool:
    """Whether a user is in the group `admin`."""
    return db.user_is_admin(login)


def user_owns_stuff(login: str, stuff: str, _mode: str | None) -> bool:
    """Whether a user owns some stuff: 404 if it does not exist, 403 if it is another user's."""
    db.get_stuff(stuff, login)
    return True


def user_may_access(login: str, account: str, mode: str | None) -> bool:
    """Whether a user may access an account: its user may, and admins unless mode is `self`."""
    if login != account and (mode == "self" or not db.user_is_admin(login)):
        raise fsa.ErrorResponse("that is somebody else's account", 403)
    if not re.fullmatch(Login.PATTERN, account):  # no store has this login
        raise no_user(account)
    return True


# the names that a route's authz may use: groups, and permissions on the object of a parameter
GROUPS = {"admin": user_is_admin}
PERMISSIONS = {"stuff": user_owns_stuff, "user": user_may_access}


def takes_keys(route: Declaration) -> bool:
    """Whether API keys may open a route: not those of a group, an account or another realm.

    What is listed here takes keys, so that a group of a fork does not, wherever it is registered.
    """
    authz = [route.authz] if isinstance(route.authz, str | int | tuple) else route.authz or ()
    return route.realm is None and all(
        who[0] != "user" if isinstance(who, tuple) else who in ("AUTH", "OPEN") for who in authz
    )


# authentication schemes


def _scheme(app: fsa.Flask, hook: Hook) -> Hook:
    """A hook whose unexpected exceptions are a 500; FlaskSimpleAuth would make them a 401.

    Invalid credentials are final: valid ones of another scheme in the same request do not help.
    """

    @functools.wraps(hook)
    def scheme(_manager: object, _request: object) -> str | None:
        if refusal := caller().refusal:
            raise refusal
        try:
            return hook(app, current_request())
        except fsa.ErrorResponse as e:
            caller().refusal = e
            raise
        except Exception:
            log.exception("internal error in authentication")
            raise fsa.ErrorResponse("internal error in authentication", 500) from None

    return scheme


def _by_password(app: fsa.Flask, login: object, password: object) -> str:
    """The login if the password is right; 401 if it is not, or a second factor is needed."""
    credentials = check_password(login, password)
    if not credentials:
        raise wrong_password()
    login, endpoint = str(login), flask.request.endpoint or ""
    if credentials.otp and not password_is_enough(app, endpoint):
        audit_attempt("password without second factor", login)
        raise fsa.ErrorResponse("a second factor is needed: get a token at /token", 401)
    caller().login, caller().credentials = login, credentials
    return login


def basic(app: fsa.Flask, request: flask.Request) -> str | None:
    """HTTP Basic authentication (RFC 7617)."""
    scheme, _, _ = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = request.authorization
    except ValueError:  # Werkzeug's, if the header is not ASCII
        credentials = None
    if not credentials:
        raise wrong_password()
    return _by_password(app, credentials.username, credentials.password)


def param(app: fsa.Flask, request: flask.Request) -> str | None:
    """Username and password as parameters in the body."""
    params = request.get_json() if request.is_json else request.form
    if not params:
        return None
    login = params.get(app.config["FSA_PARAM_USER"])
    password = params.get(app.config["FSA_PARAM_PASS"])
    if login is None or password is None:
        return None
    return _by_password(app, login, password)


def _bearer(request: flask.Request) -> str | None:
    """The bearer token of a request (RFC 6750), None without one."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def key(app: fsa.Flask, request: flask.Request) -> str | None:
    """API key, as a bearer token: on routes that declare no `authn`, see also `takes_keys`."""
    value = _bearer(request)
    if not value or not value.startswith(api_keys.PREFIX):
        return None
    found = api_keys.check_key(value)
    if found.scope == "read" and request.method not in SAFE_METHODS:
        raise fsa.ErrorResponse("this API key may only read: its scope is not write", 403)
    # before a group, and before a stored answer: no layer after this one sees a key
    if not takes_keys(declaration_of(app, request.endpoint or "")):
        raise fsa.ErrorResponse("an API key opens no account: get a token at /token", 403)
    caller().login, caller().key = found.login, found.id
    return found.login


def token(app: fsa.Flask, request: flask.Request) -> str | None:
    """Bearer token (RFC 6750) of the realm that the route declares, with a session in the store.

    In the realm `OTP_REALM` it is the token of a sign-in's first step instead, without a session.
    """
    value = _bearer(request)
    if value is None or value.startswith(api_keys.PREFIX):
        return None
    realm = declaration_of(app, request.endpoint or "").realm or app.config["FSA_REALM"]
    login, scope, end = token_claims(value, tuple(app.config["ACME_TOKEN_SECRETS"]), realm)
    now = time.time()
    if end <= now:
        raise wrong_token()
    found = caller()
    if realm == OTP_REALM:
        credentials = db.get_credentials(login)
        if not credentials or not credentials.active or sha256(credentials.password) != scope:
            raise wrong_token()
        found.credentials = credentials
    elif db.get_session_user(scope, now) == login:
        found.session = scope
    else:
        raise wrong_token()
    found.login = login
    return login


def init_app(app: fsa.Flask) -> None:
    """Register the hooks; ValueError if a secret is too short, or `ACME_AUTH` is unknown."""
    if any(len(key.encode()) < 32 for key in app.config["ACME_TOKEN_SECRETS"]):
        raise ValueError(
            "ACME_TOKEN_SECRET must have 32 bytes or more (each, if there are several): "
            "try openssl rand -base64 33"
        )
    if app.config["ACME_AUTH"] not in ("any", "token"):
        raise ValueError(f"ACME_AUTH={app.config['ACME_AUTH']} is unknown: use any or token")
    # FlaskSimpleAuth knows the other schemes, and initializes itself after this one
    app.authentication(key.__name__, _scheme(app, key))
    app.get_user_pass(get_user_pass)
    for scheme in basic, param, token:
        app.authentication(scheme.__name__, _scheme(app, scheme))
    for group, is_in in GROUPS.items():
        app.group_check(group, is_in)
    for domain, may in PERMISSIONS.items():
        app.object_perms(domain, may)
    app.password_quality(functools.partial(check_guessable, app.config["ACME_PASSWORD_SCORE"]))
    # the password of an unknown user is checked against it, to take as long as that of a known one
    app.config["ACME_DUMMY_HASH"] = app.hash_password(secrets.token_urlsafe(), check=False)
