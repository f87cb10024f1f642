"""Users, their accounts and their sessions: who is let in, until when, and who is not any more.

docs/accounts.md tells the life of a token.
"""

import time
import urllib.parse
from collections.abc import Sequence

import flask
import FlaskSimpleAuth as fsa
import pyotp
from flask import current_app, url_for
from flask.typing import ResponseReturnValue as Answer

import auth
from acme import MAX_PAGE, Code, Delete, Email, Limit, Login, Password
from auth import audit
from database import db

COOKIE = "refresh"
LOCAL = ("localhost", "127.0.0.1", "::1")

account = flask.Blueprint("account", __name__)


# sign in and out


def sign_in(login: str, status: int, lasting: bool) -> Answer:
    """The answer to who has shown a password: a token, or the way to the second step (202)."""
    if flask.g.credentials.otp:
        audit("first step of a sign-in", login)
        return {"otp": auth.first_step(current_app, login)}, 202
    return _signed_in(login, status, lasting)


def _signed_in(login: str, status: int, lasting: bool) -> Answer:
    token, cookie = auth.begin_session(current_app, login, lasting)
    location = url_for("account.get_sessions", login=login)
    return _token(token, status, location, cookie, time.time() + auth.SESSION)


def _token(
    token: str, status: int, location: str, cookie: str | None, expires: float
) -> flask.Response:
    """The answer with a token, and the refresh cookie that goes with it, if there is one."""
    response = flask.jsonify(token=token)
    response.status_code = status
    if status == 201:
        response.headers["Location"] = location
    if cookie:
        _set_cookie(response, cookie, expires)
    return response


def _set_cookie(response: flask.Response, cookie: str, expires: float) -> None:
    """Set the refresh cookie, which only the token routes get; an empty one takes it away."""
    host = urllib.parse.urlsplit(flask.request.host_url).hostname
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=max(0, int(expires - time.time())),
        path="/token",
        secure=flask.request.is_secure or host not in LOCAL,
        httponly=True,
        samesite="Strict",
    )


@account.post("/token/otp", authz="AUTH", authn="token", realm=auth.OTP_REALM)
def post_token_otp(code: Code, user: fsa.CurrentUser) -> Answer:
    """The second step of a sign-in: a token for a one-time password."""
    if not auth.check_code(user, db.get_otp(user), code):
        raise auth.wrong_code(401)
    return _signed_in(user, 201, lasting=True)


@account.post("/token/refresh", authz="OPEN")
def post_token_refresh() -> Answer:
    """A new token for a refresh cookie, which is traded for a new one."""
    cookie = flask.request.cookies.get(COOKIE, "")
    refreshed = auth.refresh_session(current_app, cookie) if cookie else None
    if not refreshed:
        response = flask.jsonify(error="the session has ended: sign in at /token")
        response.status_code = 401
        if cookie:
            _set_cookie(response, "", 0)
        return response
    token, successor, expires = refreshed
    return _token(token, 201, url_for("post_token"), successor, expires)


@account.delete("/token", authz="AUTH", authn="token")
def delete_token(user: fsa.CurrentUser, all: bool = False) -> Answer:  # noqa: A002
    """Sign out: this session, or all of one's sessions, end at once, everywhere."""
    if all:
        db.delete_sessions(user)
    else:
        db.delete_session(user, flask.g.session)
    audit("sign-out of all" if all else "sign-out", user)
    response = flask.Response(status=204)
    _set_cookie(response, "", 0)
    return response


# users


@account.get("/user", authz="admin")
def get_users(limit: Limit = Limit(MAX_PAGE), after: Login | None = None) -> Answer:
    """The users by login; a full page has a link to the next one (RFC 8288)."""
    page = db.get_users(limit, after)
    return next_page([vars(user) for user in page], limit, page[-1].login if page else None)


def next_page(page: Sequence[object], limit: int, last: str | None) -> Answer:
    """A page of a list with, if it is full, the link to what comes after its `last` name."""
    if len(page) < limit:
        return fsa.jsonify(page), 200
    following = url_for(flask.request.endpoint or "", limit=limit, after=last)
    return fsa.jsonify(page), 200, {"Link": f'<{following}>; rel="next"'}


@account.get("/user/<login>", authz=("user", "login"))
def get_user(login: str) -> Answer:
    """The profile of a user."""
    return fsa.jsonify(db.get_user(login)), 200


@account.patch("/user/<login>", authz=("user", "login"))
def patch_user(
    login: str,
    user: fsa.CurrentUser,
    email: Email | None = None,
    admin: bool | None = None,
    active: bool | None = None,
) -> Answer:
    """Change a profile: the address oneself, role and state an administrator."""
    if (admin, active) != (None, None) and not db.user_is_admin(user):
        raise fsa.ErrorResponse("only an administrator changes admin and active", 403)
    profile = db.change_user(login, email, admin, active)
    if email is not None:
        audit("address changed", user, login)
    if admin is not None:
        audit("promoted" if admin else "demoted", user, login)
    if active is not None:
        audit("enabled" if active else "disabled", user, login)
    return fsa.jsonify(profile), 200


@account.delete("/user/<login>", authz=("user", "login"))
def delete_user(login: str, user: fsa.CurrentUser, stuff: Delete | None = None) -> Answer:
    """Remove a user, who must own no stuff unless `stuff=delete` takes it along."""
    db.delete_user(login, stuff is not None)
    audit("user deleted with stuff" if stuff else "user deleted", user, login)
    return "", 204


@account.put("/user/<login>/password", authz=("user", "login"))
def put_password(
    login: str, password: Password, user: fsa.CurrentUser, current: Password | None = None
) -> Answer:
    """Set a new password, one's own with the current one; all sessions of the user end."""
    reference = None
    if login == user:
        if current is None:
            raise fsa.ErrorResponse("current, the password until now, is missing", 400)
        checked = auth.check_password(login, current)
        if not checked:
            raise fsa.ErrorResponse("current is not the password", 403)
        reference = checked.password
    old = reference or db.get_user_pass(login)
    if old and auth.is_password(password, old):
        raise fsa.ErrorResponse("the new password must differ from the old one", 400)
    db.set_user_pass(login, auth.hash_password(password), reference)
    audit("password changed", user, login)
    return "", 204


# sessions


@account.get("/user/<login>/sessions", authz=("user", "login"), authn="token")
def get_sessions(login: str) -> Answer:
    """The sessions of a user: when they began and were last used, and from where."""
    db.get_user(login)
    sessions = [
        {"id": s.id, "created": s.created, "used": s.used, "expires": s.expires, "from": s.origin}
        for s in db.get_sessions(login, time.time())
    ]
    return fsa.jsonify(sessions), 200


@account.delete("/user/<login>/sessions/<sid>", authz=("user", "login"), authn="token")
def delete_session(login: str, sid: str, user: fsa.CurrentUser) -> Answer:
    """End a session of a user."""
    if not db.delete_session(login, sid):
        raise fsa.ErrorResponse("no such session", 404)
    audit("session ended", user, login)
    return "", 204


# one-time passwords


@account.post("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
def post_otp(login: str) -> Answer:
    """A new secret for one-time passwords (RFC 6238); they are on after a PUT with a code."""
    secret = pyotp.random_base32()
    db.set_otp(login, secret)
    audit("new secret for one-time passwords", login)
    uri = pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name="Acme")
    location = url_for("account.post_otp", login=login)
    return {"secret": secret, "uri": uri}, 201, {"Location": location}


@account.put("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
def put_otp(login: str, code: Code, on: bool) -> Answer:
    """Switch one-time passwords on or off, with one of them; on ends one's other sessions."""
    if not auth.check_code(login, db.get_otp(login), code, on):
        raise auth.wrong_code(403)
    if on:  # whatever a password alone has opened
        db.delete_sessions(login, but=flask.g.session)
    audit(f"one-time passwords {'on' if on else 'off'}", login)
    return "", 204


@account.delete("/user/<login>/otp", authz="admin", authn="token")
def delete_otp(login: str, user: fsa.CurrentUser) -> Answer:
    """Take another user's one-time passwords away, whose telephone is lost."""
    if login == user:
        raise fsa.ErrorResponse("your own take a code: PUT with on=false", 403)
    db.reset_otp(login)
    audit("one-time passwords reset", user, login)
    return "", 204


def init_app(app: fsa.Flask) -> None:
    """Register the routes."""
    app.register_blueprint(account)
