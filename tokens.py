"""Tokens: the steps of a sign-in, refresh, sign-out, and the refresh cookie.

The `/token` routes of the tutorial are in app.py; docs/accounts.md describes the life of a token.
"""

import time
import urllib.parse
from typing import NotRequired

import flask
import FlaskSimpleAuth as fsa
from flask import url_for
from typing_extensions import TypedDict
from werkzeug.http import dump_cookie

from database import db
from openapi.returns import Accepted, Created, Done, Ok
from security.audit import audit, audit_attempt
from security.caller import caller
from security.declarations import returns_secret
from security.sessions import (
    OTP_REALM,
    SESSION_SECONDS,
    begin_session,
    first_step_token,
    refresh_session,
)
from security.totp import AnyCode, check_any_code, wrong_code
from values import RefreshToken
from web.csrf import refuse_cross_origin

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")  # which a browser reaches without a network

tokens = flask.Blueprint("tokens", __name__)


class RefreshCookie(fsa.Cookie):
    """The value of the refresh cookie."""

    NAME = "refresh"


class Token(TypedDict):
    """An access token, valid for ten minutes: send it as `Authorization: Bearer …`."""

    token: str


class Tokens(Token):
    """The same, with the refresh token for clients that keep no cookie."""

    refresh: NotRequired[str]


class FirstStep(TypedDict):
    """A token for the second step of a sign-in, valid for five minutes at `/token/otp`."""

    otp: str


def sign_in(login: str) -> Ok[Token] | Accepted[FirstStep]:
    """Respond to a right password: with a token, or with the token for the second step."""
    refuse_cross_origin()  # GET /token begins a session
    if step := _first_step(login):
        return step
    token, _ = begin_session(login, can_refresh=False)
    return Token(token=token), 200


def sign_in_to_stay(login: str, cookie: bool) -> Created[Tokens] | Accepted[FirstStep]:
    """The same, with a refresh token: as a cookie, or in the body."""
    return _first_step(login) or _begin_session(login, cookie)


def _first_step(login: str) -> Accepted[FirstStep] | None:
    """The token for the second step of a sign-in, None for a user without a second factor."""
    credentials = caller().checked(login)
    assert credentials, "a sign-in begins with a password: authn=basic or param"
    if not credentials.otp:
        return None
    audit_attempt("first step of a sign-in", login)
    return {"otp": first_step_token(login, credentials)}, 202


def _begin_session(login: str, cookie: bool) -> Created[Tokens]:
    token, refresh = begin_session(login, can_refresh=True)
    location = url_for("users.get_sessions", login=login)
    return _tokens(token, refresh, time.time() + SESSION_SECONDS if cookie else None, location)


def _tokens(token: str, refresh: str, expires: float | None, location: str) -> Created[Tokens]:
    """Two tokens; that for refreshes as a cookie, if it is given when that expires."""
    if expires is None:
        return {"token": token, "refresh": refresh}, 201, {"Location": location}
    headers = {"Location": location, "Set-Cookie": _cookie(refresh, expires)}
    return {"token": token}, 201, headers


def _cookie(value: str, expires: float) -> str:
    """The refresh cookie, as `Set-Cookie`; an empty value deletes it.

    Its attributes follow the OWASP Session Management Cheat Sheet; browsers send it to the token
    routes only. `expires` is in seconds since 1970.
    """
    host = urllib.parse.urlsplit(flask.request.host_url).hostname
    return dump_cookie(
        RefreshCookie.NAME,
        value,
        max_age=max(0, int(expires - time.time())),
        path="/token",
        secure=flask.request.is_secure or host not in LOCAL_HOSTS,
        httponly=True,
        samesite="Strict",
    )


@tokens.post("/token/otp", authz="AUTH", authn="token", realm=OTP_REALM)
@returns_secret
def post_token_otp(code: AnyCode, user: fsa.CurrentUser, cookie: bool = True) -> Created[Tokens]:
    """Complete a sign-in with a one-time password, or a recovery code."""
    if not check_any_code(user, db.get_otp(user), code):
        raise wrong_code(401)
    return _begin_session(user, cookie)


@tokens.post("/token/refresh", authz="OPEN")
@returns_secret
def post_token_refresh(
    refresh: RefreshToken | None = None, cookie: RefreshCookie = RefreshCookie("")
) -> Created[Tokens]:
    """Get a new token for the refresh token, or the cookie, which a new one replaces (RFC 9700)."""
    used = refresh or cookie
    refreshed = refresh_session(used) if used else None
    if not refreshed:
        message = "the session has ended: sign in at /token"
        ended = {"Set-Cookie": _cookie("", 0)} if cookie and not refresh else {}
        raise fsa.ErrorResponse(message, 401, ended)
    token, successor, expires = refreshed
    return _tokens(token, successor, None if refresh else expires, url_for("post_token"))


@tokens.delete("/token", authz="AUTH", authn="token")
def delete_token(user: fsa.CurrentUser, all: bool = False) -> Done:  # noqa: A002
    """Sign out: end this session, or all sessions of the caller, at once in every process."""
    with db.atomic():
        if all:
            db.delete_sessions(user)
        else:
            db.delete_session(user, caller().session)
        audit("sign-out of all" if all else "sign-out", user)
    return "", 204, {"Set-Cookie": _cookie("", 0)}


def init_app(app: fsa.Flask) -> None:
    """Register the token routes."""
    app.special_parameter(RefreshCookie, lambda _: flask.request.cookies[RefreshCookie.NAME])
    app.register_blueprint(tokens)
