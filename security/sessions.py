"""Sessions in the store, the access tokens (JWT) that name them, and refresh token rotation."""

import functools
import hashlib
import hmac
import secrets
import time
from typing import Any

import flask
import FlaskSimpleAuth as fsa
import jwt

from database import db
from monitoring import metrics
from security.audit import audit
from security.caller import caller
from security.passwords import wrong_password
from store.base import Credentials, ReusedError, Session

SESSION_SECONDS = 7 * 24 * 3600.0  # from the sign-in; a refresh does not prolong a session
GRACE_SECONDS = 10.0  # for which a refresh token is accepted after its rotation
OTP_REALM = "acme-otp"
OTP_MINUTES = 5.0  # for the second step of a sign-in


def wrong_token() -> fsa.ErrorResponse:
    """The 401 for every invalid token, always the same, and its challenge (RFC 6750)."""
    caller().challenge = 'Bearer realm="acme", error="invalid_token"'
    return fsa.ErrorResponse("invalid token: get a new one at /token", 401)


def sha256(secret: str) -> str:
    """The SHA-256 in hexadecimal of a random secret, which needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def begin_session(login: str, can_refresh: bool) -> tuple[str, str]:
    """Begin a session: its token, and its refresh token, "" if it cannot be refreshed.

    One that can lasts `SESSION_SECONDS`, another one as long as its token. Raises 401 if the user
    has been disabled, or the credentials have changed, since the password was checked.
    """
    now = time.time()
    seconds = 60 * flask.current_app.config["FSA_TOKEN_DELAY"]
    secret = None
    if can_refresh:
        seconds, secret = SESSION_SECONDS, secrets.token_urlsafe(32)
    session = Session(
        id=secrets.token_urlsafe(16),
        login=login,
        created=now,
        used=now,
        expires=now + seconds,
        origin=flask.request.remote_addr or "",
        secret=sha256(secret) if secret else None,
    )
    checked = caller().checked(login) or db.get_credentials(login)
    with db.atomic():
        ended = db.add_session(session, checked) if checked else None
        if ended is None:
            raise wrong_password()
        audit("sign-in", login, session=session.id)
        for _ in range(ended):
            audit("oldest session ended", login, session=session.id)
    metrics.add("acme_sign_ins", "right")
    return session_token(login, session.id), f"{session.id}.{secret}" if secret else ""


def _signing_secret() -> str:
    """The first of `ACME_TOKEN_SECRETS`; the others only verify tokens."""
    return str(flask.current_app.config["ACME_TOKEN_SECRETS"][0])


def _token(login: str, realm: str, scope: str, minutes: float) -> str:
    """A token (JWT, RFC 7519) with FlaskSimpleAuth's claims."""
    claims = {"sub": login, "aud": realm, "scope": scope, "exp": int(time.time() + 60 * minutes)}
    return jwt.encode(claims, _signing_secret(), "HS256")


def session_token(login: str, session: str) -> str:
    """The access token of a session."""
    config = flask.current_app.config
    return _token(login, config["FSA_REALM"], session, config["FSA_TOKEN_DELAY"])


def first_step_token(login: str, credentials: Credentials) -> str:
    """The token for the second step of a sign-in, valid until the password changes."""
    return _token(login, OTP_REALM, sha256(credentials.password), OTP_MINUTES)


def refresh_session(refresh: str) -> tuple[str, str, float] | None:
    """A new token, a new refresh token and when it expires; None if the session has ended.

    Refresh token rotation with reuse detection (RFC 9700, 4.14.2): if one is used again after
    `GRACE_SECONDS`, it or its successor has been stolen, and the session ends. The new secret is
    derived from the old one, so that browser tabs that are restored at once, all with the same
    cookie, get the same successor.
    """
    session, _, secret = refresh.partition(".")
    key = _signing_secret().encode()
    new = hmac.new(key, f"refresh {session} {secret}".encode(), "sha256").hexdigest()
    with db.atomic():
        try:
            rotated = db.rotate_session(
                session, sha256(secret), sha256(new), time.time(), GRACE_SECONDS
            )
        except ReusedError as e:
            audit("refresh token reused", e.login, session=session)
            return None
    if not rotated:
        return None
    login, expires = rotated
    return session_token(login, session), f"{session}.{new}", expires


@functools.lru_cache(4096)
def token_claims(token: str, keys: tuple[str, ...], realm: str) -> tuple[str, str, int]:
    """The login, scope and expiry of a token that one of the keys has signed for a realm; else 401.

    The result is cached, which saves 30 us a request: the caller must compare the expiry, in
    seconds since 1970, with the time. An invalid token is not cached.
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
