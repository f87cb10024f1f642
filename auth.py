"""Who is calling, and what they may do: the hooks that FlaskSimpleAuth asks.

An authentication hook returns None where its credentials are absent, the login where they are
right, and raises 401 where they are wrong, the same for whatever is wrong with them. A token is as
good as the session in the store that it names.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import getpass
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import argon2
import bcrypt
import flask
import FlaskSimpleAuth as fsa
import jwt
import pyotp

import values

# the database is needed!
from database import db
from security.rate_limit import Throttle
from store import base

log = logging.getLogger("acme")
audit_log = logging.getLogger("acme.audit")

SESSION = 7 * 24 * 3600.0  # seconds that a session lasts from the sign-in
GRACE = 10.0  # seconds in which a traded refresh cookie is taken once more
OTP_REALM = "acme-otp"
OTP_DELAY = 5.0  # minutes for the second step
TOKEN_ROUTES = {"get_token", "post_token"}  # where a password does for the first step
OTP_ROUTE = "account.post_token_otp"  # where only that step's token does

HASHES = 1  # how many passwords are hashed at the same time, in a process
WAITING = 4  # how many more may wait for that: far fewer than there are threads
_ROOM = threading.BoundedSemaphore(HASHES + WAITING)
_DESKS = threading.BoundedSemaphore(HASHES)
NICE = 10  # so much later than all others comes a thread that hashes (POSIX nice)
_CODES = threading.Lock()  # one code is checked at a time: guesses at once count as others do

Hook = Callable[[fsa.Flask, flask.Request], str | None]

wrong_password = functools.partial(fsa.ErrorResponse, "invalid username or password", 401)
wrong_code = functools.partial(fsa.ErrorResponse, "invalid code, or used before")


def wrong_token() -> fsa.ErrorResponse:
    """The one answer to every bad token, and its challenge (RFC 6750)."""
    flask.request.environ["acme.challenge"] = 'Bearer realm="acme", error="invalid_token"'
    return fsa.ErrorResponse("invalid token: get a new one at /token", 401)


def audit(event: str, who: str | None, whom: str | None = None) -> None:
    """Write a line to the audit trail: when, what, who, whom, from where; never a secret."""
    origin = flask.request.remote_addr if flask.has_request_context() else "command line"
    who = who if flask.has_request_context() else getpass.getuser()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"time": now, "event": event, "who": who, "whom": whom or who, "from": origin}
    audit_log.info(json.dumps(line))


# what a user is


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


def user_may_see(login: str, whom: str, mode: str | None) -> bool:
    """Whether a user may see to another one: oneself may, and an admin unless mode is `self`."""
    if login != whom and (mode == "self" or not db.user_is_admin(login)):
        raise fsa.ErrorResponse("that is somebody else's account", 403)
    if not re.fullmatch(values.Login.PATTERN, whom):  # which no store needs to be asked for
        raise base.no_user(whom)
    return True


# what a route's authz names: groups, and permissions on what a parameter names
GROUPS = {"admin": user_is_admin}
PERMISSIONS = {"stuff": user_owns_stuff, "user": user_may_see}


# passwords and codes


def _throttle() -> Throttle:
    throttle: Throttle = flask.current_app.extensions["throttle"]
    return throttle


def failed(login: str, everywhere: bool = False) -> None:
    """Count a failed attempt and audit it; what is no login may be a password, and is left out."""
    _throttle().fail(login, everywhere)
    try:
        audit("failed attempt", values.Login(login))
    except fsa.ErrorResponse:
        audit("failed attempt", None)


@contextlib.contextmanager
def _hashing() -> Iterator[Callable[..., Any]]:
    """A place to hash: the few who wait for one leave most threads to who has a token, else 503.

    Yields what calls a function with its arguments in a thread that gives way to all others.
    """
    if not _ROOM.acquire(blocking=False):
        message = "too many sign-ins at the same time: try again"
        raise fsa.ErrorResponse(message, 503, {"Retry-After": "1"})
    try:
        with _DESKS:
            yield lambda function, *args: _hasher().submit(function, *args).result()
    finally:
        _ROOM.release()


@functools.cache
def _hasher() -> concurrent.futures.ThreadPoolExecutor:
    """The threads of this process that hash, as many as desks: whoever has a token goes first."""

    def give_way() -> None:
        if sys.platform == "linux":  # where it is a thread's own, not the process's
            with contextlib.suppress(OSError):  # a sandbox may forbid it
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

    return concurrent.futures.ThreadPoolExecutor(HASHES, "hasher", give_way)


def is_password(password: str, reference: str) -> bool:
    """Whether a password is the one of a hash, argon2 or (from elsewhere) bcrypt."""
    with _hashing() as call:
        return bool(call(_verify, password, reference))


def _verify(password: str, reference: str) -> bool:
    if reference.startswith("$2"):
        return bcrypt.checkpw(password.encode()[:72], reference.encode())
    try:  # FlaskSimpleAuth's own check logs an error for each wrong one
        return argon2.PasswordHasher().verify(reference, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


def hash_password(password: str, check: bool = True) -> str:
    """The hash of a password; 400 if it is weak, unless it need not be checked."""
    app = flask.current_app
    assert isinstance(app, fsa.Flask)
    with _hashing() as call:
        return str(call(app.hash_password, password, check))


def _renewed(login: str, password: str, reference: str) -> str:
    """The hash that the store has from now on: another one if it was not made as ours are."""
    hasher = argon2.PasswordHasher(**flask.current_app.config["FSA_PASSWORD_OPTS"])
    if reference.startswith("$argon2") and not hasher.check_needs_rehash(reference):
        return reference
    new = hash_password(password, check=False)
    return new if db.renew_user_pass(login, reference, new) else reference


def check_password(login: object, password: object) -> base.Credentials | None:
    """A user's credentials if the password is right and the user active, else None.

    An unknown user takes as long as a known one. Raises 429 after too many failures.
    """
    if not isinstance(login, str) or not isinstance(password, str):
        raise fsa.ErrorResponse("username and password must be texts", 400)
    nobody: str = flask.current_app.config["ACME_NOBODY"]
    _throttle().check(login)
    with _hashing() as call:
        _throttle().check(login)  # once more: others may have failed while this one waited
        credentials = db.get_credentials(login)
        reference = credentials.password if credentials else nobody
        right = call(_verify, password, reference)
        if not right or not credentials or not credentials.active:
            failed(login)
            return None
    return credentials


def check_code(login: str, secret: str | None, code: str, on: bool | None = None) -> bool:
    """Whether a one-time password (RFC 6238) is right, and not used before; 429 as above.

    A clock may be 30 seconds off. `on` switches them on or off along with it.
    """
    now = int(time.time())
    totp = pyotp.TOTP(secret or pyotp.random_base32())
    with _CODES:
        _throttle().check(login, everywhere=True)
        for step in range(now // totp.interval - 1, now // totp.interval + 2):
            right = hmac.compare_digest(totp.generate_otp(step), code)
            if right and secret and db.use_otp(login, secret, step, on):
                return True
        failed(login, everywhere=True)
        return False


# sessions: a token's scope is its session


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def begin_session(app: flask.Flask, login: str, lasting: bool) -> tuple[str, str | None]:
    """A session's token, and its refresh cookie if it lasts longer than the token.

    Raises 401 if the user is not as he was when the password was checked.
    """
    now = time.time()
    secret = secrets.token_urlsafe(32) if lasting else None
    session = base.Session(
        id=secrets.token_urlsafe(16),
        login=login,
        created=now,
        used=now,
        expires=now + (SESSION if lasting else 60 * app.config["FSA_TOKEN_DELAY"]),
        origin=flask.request.remote_addr or "",
        secret=_hash(secret) if secret else None,
    )
    checked = flask.g.get("credentials") or db.get_credentials(login)
    if not checked or not db.add_session(session, checked):
        raise wrong_password()
    audit("sign-in", login)
    return _token(app, login, session.id), f"{session.id}.{secret}" if secret else None


def _token(app: flask.Flask, login: str, session: str) -> str:
    realm = app.config["FSA_REALM"]
    return str(app.extensions["create_token"](login, realm=realm, scope=[session]))


def _create_token(app: flask.Flask, login: str) -> str:
    """The tutorial's `app.create_token`, with a session that lasts as long as the token."""
    return begin_session(app, login, lasting=False)[0]


def first_step(app: flask.Flask, login: str) -> str:
    """The token for the second step, good as long as the password is the same."""
    mark = _hash(flask.g.credentials.password)
    create_token = app.extensions["create_token"]
    return str(create_token(login, realm=OTP_REALM, delay=OTP_DELAY, scope=[mark]))


def refresh_session(app: flask.Flask, cookie: str) -> tuple[str, str, float] | None:
    """A new token, a new refresh cookie and when it expires, None if the session has ended.

    The new secret follows from the old one, so that a cookie that is taken twice (a double reload,
    two tabs) gives the same successor. Any other second use is theft, and ends the session.
    """
    session, _, secret = cookie.partition(".")
    key = app.config["FSA_TOKEN_SECRET"].encode()
    new = hmac.new(key, f"refresh {session} {secret}".encode(), "sha256").hexdigest()
    try:
        traded = db.trade_session(session, _hash(secret), _hash(new), time.time(), GRACE)
    except base.ReusedError as e:
        audit("refresh cookie reused", e.login)
        return None
    if not traded:
        return None
    login, expires = traded
    return _token(app, login, session), f"{session}.{new}", expires


# schemes


def _loud(app: fsa.Flask, hook: Hook) -> Hook:
    """A scheme whose own failure is a 500, where FlaskSimpleAuth would call it a 401.

    Credentials that it refuses are not made good by others in the same request.
    """

    @functools.wraps(hook)
    def scheme(_manager: object, request: flask.Request) -> str | None:
        if refusal := request.environ.get("acme.refusal"):
            raise refusal
        try:
            return hook(app, request)
        except fsa.ErrorResponse as e:
            request.environ["acme.refusal"] = e
            raise
        except Exception:
            log.exception("authentication failed of itself")
            raise fsa.ErrorResponse("internal error in authentication", 500) from None

    return scheme


def _by_password(login: object, password: object) -> str:
    """The login of who signs in with a password; where one-time passwords are on, not far."""
    credentials = check_password(login, password)
    if not credentials:
        raise wrong_password()
    if credentials.otp and flask.request.endpoint not in TOKEN_ROUTES:
        audit("password without second factor", str(login))
        raise fsa.ErrorResponse("a second factor is needed: get a token at /token", 401)
    password = _renewed(str(login), str(password), credentials.password)
    flask.g.credentials = dataclasses.replace(credentials, password=password)
    return str(login)


def basic(_app: fsa.Flask, request: flask.Request) -> str | None:
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
    return _by_password(credentials.username, credentials.password)


def param(app: fsa.Flask, request: flask.Request) -> str | None:
    """Username and password as parameters of the body."""
    params = request.get_json() if request.is_json else request.form
    if not params:
        return None
    login = params.get(app.config["FSA_PARAM_USER"])
    password = params.get(app.config["FSA_PARAM_PASS"])
    if login is None or password is None:
        return None
    return _by_password(login, password)


@functools.lru_cache(4096)
def _claims(token: str, keys: tuple[str, ...], realm: str) -> tuple[str, str, int]:
    """A token's login, scope and end, if one of the secrets has signed it for the realm; else 401.

    What is refused is not remembered, and whoever asks must look at the clock.
    """
    for key in keys:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["HS256"],
                audience=realm,
                options={"require": ["sub", "exp", "scope"]},
            )
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidTokenError:
            break
        return str(claims["sub"]), str(claims["scope"]), int(claims["exp"])
    raise wrong_token()


def token(app: fsa.Flask, request: flask.Request) -> str | None:
    """Bearer token (RFC 6750) of a session that has not ended, or of a sign-in's first step."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    second_step = request.endpoint == OTP_ROUTE
    realm = OTP_REALM if second_step else app.config["FSA_REALM"]
    login, scope, end = _claims(value.strip(), tuple(app.config["ACME_TOKEN_SECRETS"]), realm)
    now = time.time()
    if end <= now:
        raise wrong_token()
    if second_step:
        credentials = db.get_credentials(login)
        if not credentials or not credentials.active or _hash(credentials.password) != scope:
            raise wrong_token()
        flask.g.credentials = credentials
    elif db.get_session_user(scope, now) != login:
        raise wrong_token()
    flask.g.session = scope
    return login


def init_app(app: fsa.Flask) -> None:
    """Register the hooks; ValueError for a secret that is short and an unknown `ACME_AUTH`."""
    if any(len(key.encode()) < 32 for key in app.config["ACME_TOKEN_SECRETS"]):
        raise ValueError(
            "ACME_TOKEN_SECRET must have 32 bytes or more (each, if there are several): "
            "try openssl rand -base64 33"
        )
    if app.config["ACME_AUTH"] not in ("any", "token"):
        raise ValueError(f"ACME_AUTH={app.config['ACME_AUTH']} is unknown: use any or token")
    app.get_user_pass(get_user_pass)
    for scheme in basic, param, token:
        app.authentication(scheme.__name__, _loud(app, scheme))
    for group, is_in in GROUPS.items():
        app.group_check(group, is_in)
    for domain, may in PERMISSIONS.items():
        app.object_perms(domain, may)
    # what the passwords of unknown users are checked against
    app.config["ACME_NOBODY"] = app.hash_password(secrets.token_urlsafe(), check=False)
    # as in the tutorial, but for the session that each token needs
    app.extensions["create_token"] = app.create_token
    setattr(app, "create_token", functools.partial(_create_token, app))  # noqa: B010
    if not audit_log.handlers:
        audit_log.addHandler(logging.StreamHandler(sys.stderr))
    audit_log.setLevel(logging.INFO)
    audit_log.propagate = False
