"""Tokens: the steps of a sign-in, refresh, sign-out, and the refresh cookie.

The `/token` routes of the tutorial are in app.py; docs/accounts.md describes the life of a token.
"""

import time
import urllib.parse

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict
from werkzeug.http import dump_cookie

from database import db
from openapi.returns import Accepted, Created, Done, Ok
from security.audit import audit
from security.caller import caller
from security.sessions import (
    OTP_REALM,
    SESSION_SECONDS,
    begin_session,
    first_step_token,
    refresh_session,
)
from security.totp import check_code, wrong_code
from values import Code
from web.csrf import refuse_cross_origin

REFRESH_COOKIE = "refresh"
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # which a browser reaches without a network

tokens = flask.Blueprint("tokens", __name__)


class Token(TypedDict):
    """An access token, valid for ten minutes: send it as `Authorization: Bearer …`."""

    token: str


class FirstStep(TypedDict):
    """A token for the second step of a sign-in, valid for five minutes at `/token/otp`."""

    otp: str


def sign_in(login: str) -> Ok[Token] | Accepted[FirstStep]:
    """Respond to a right password: with a token, or with the token for the second step."""
    refuse_cross_origin()  # GET /token begins a session
    if step := _first_step(login):
        return step
    token, _ = begin_session(login, with_cookie=False)
    return Token(token=token), 200


def sign_in_with_cookie(login: str) -> Created[Token] | Accepted[FirstStep]:
    """The same, with a refresh cookie."""
    return _first_step(login) or _with_cookie(login)


def _first_step(login: str) -> Accepted[FirstStep] | None:
    """The token for the second step of a sign-in, None for a user without a second factor."""
    credentials = caller().checked(login)
    assert credentials, "a sign-in begins with a password: authn=basic or param"
    if not credentials.otp:
        return None
    audit("first step of a sign-in", login)
    return {"otp": first_step_token(login, credentials)}, 202


def _with_cookie(login: str) -> Created[Token]:
    token, cookie = begin_session(login, with_cookie=True)
    headers = {
        "Location": url_for("users.get_sessions", login=login),
        "Set-Cookie": _cookie(cookie or "", time.time() + SESSION_SECONDS),
    }
    return {"token": token}, 201, headers


def _cookie(value: str, expires: float) -> str:
    """The refresh cookie, as `Set-Cookie`; an empty value deletes it.

    Its attributes follow the OWASP Session Management Cheat Sheet; browsers send it to the token
    routes only. `expires` is in seconds since 1970.
    """
    host = urllib.parse.urlsplit(flask.request.host_url).hostname
    return dump_cookie(
        REFRESH_COOKIE,
        value,
        max_age=max(0, int(expires - time.time())),
        path="/token",
        secure=flask.request.is_secure or host not in LOCAL_HOSTS,
        httponly=True,
        samesite="Strict",
    )


@tokens.post("/token/otp", authz="AUTH", authn="token", realm=OTP_REALM)
def post_token_otp(code: Code, user: fsa.CurrentUser) -> Created[Token]:
    """Complete a sign-in with a one-time password."""
    if not check_code(user, db.get_otp(user), code):
        raise wrong_code(401)
    return _with_cookie(user)


@tokens.post("/token/refresh", authz="OPEN")
def post_token_refresh(refresh: fsa.Cookie = fsa.Cookie("")) -> Created[Token]:
    """Get a new token for the refresh cookie, which a new one replaces (RFC 9700, rotation)."""
    refreshed = refresh_session(refresh) if refresh else None
    if not refreshed:
        message = "the session has ended: sign in at /token"
        raise fsa.ErrorResponse(message, 401, {"Set-Cookie": _cookie("", 0)} if refresh else {})
    token, successor, expires = refreshed
    location = url_for("post_token")
    return {"token": token}, 201, {"Location": location, "Set-Cookie": _cookie(successor, expires)}


@tokens.delete("/token", authz="AUTH", authn="token")
def delete_token(user: fsa.CurrentUser, all: bool = False) -> Done:  # noqa: A002
    """Sign out: end this session, or all sessions of the caller, at once in every process."""
    if all:
        db.delete_sessions(user)
    else:
        db.delete_session(user, caller().session)
    audit("sign-out of all" if all else "sign-out", user)
    return "", 204, {"Set-Cookie": _cookie("", 0)}


def init_app(app: fsa.Flask) -> None:
    """Register the token routes."""
    app.register_blueprint(tokens)
