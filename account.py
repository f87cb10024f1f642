"""Users, their accounts and their sessions: who is let in, until when, and who is not any more.

docs/accounts.md tells the life of a token.
"""

import time
import urllib.parse
from typing import TypeVar

import flask
import FlaskSimpleAuth as fsa
import pyotp
import segno
from flask import current_app, url_for
from typing_extensions import TypedDict
from werkzeug.http import dump_cookie

import auth
from auth import audit
from database import db
from openapi.returns import Accepted, Answer, Conflict, Created, Done, Ok, Page, jsonify
from store.base import Profile
from values import MAX_PAGE, Code, Delete, Email, Limit, Login, NewPassword, Password

COOKIE = "refresh"
T = TypeVar("T")
LOCAL = ("localhost", "127.0.0.1", "::1")

account = flask.Blueprint("account", __name__)


# sign in and out


class Token(TypedDict):
    """What opens the API for ten minutes, as `Authorization: Bearer …`."""

    token: str


class FirstStep(TypedDict):
    """A token for the second step of a sign-in, good for five minutes at `/token/otp`."""

    otp: str


def sign_in(login: str) -> Ok[Token] | Accepted[FirstStep]:
    """The answer to who has shown a password: a token, or the way to the second step."""
    if flask.g.credentials.otp:
        return _first_step(login)
    token, _ = auth.begin_session(current_app, login, lasting=False)
    return Token(token=token), 200


def sign_in_for_long(login: str) -> Created[Token] | Accepted[FirstStep]:
    """The same, with a refresh cookie."""
    return _first_step(login) if flask.g.credentials.otp else _lasting(login)


def _first_step(login: str) -> Accepted[FirstStep]:
    audit("first step of a sign-in", login)
    return {"otp": auth.first_step(current_app, login)}, 202


def _lasting(login: str) -> Created[Token]:
    token, cookie = auth.begin_session(current_app, login, lasting=True)
    headers = {
        "Location": url_for("account.get_sessions", login=login),
        "Set-Cookie": _cookie(cookie or "", time.time() + auth.SESSION),
    }
    return {"token": token}, 201, headers


def _cookie(value: str, expires: float) -> str:
    """The refresh cookie, which only the token routes get; an empty one takes it away."""
    host = urllib.parse.urlsplit(flask.request.host_url).hostname
    return dump_cookie(
        COOKIE,
        value,
        max_age=max(0, int(expires - time.time())),
        path="/token",
        secure=flask.request.is_secure or host not in LOCAL,
        httponly=True,
        samesite="Strict",
    )


@account.post("/token/otp", authz="AUTH", authn="token", realm=auth.OTP_REALM)
def post_token_otp(code: Code, user: fsa.CurrentUser) -> Created[Token]:
    """The second step of a sign-in: a token for a one-time password."""
    if not auth.check_code(user, db.get_otp(user), code):
        raise auth.wrong_code(401)
    return _lasting(user)


@account.post("/token/refresh", authz="OPEN")
def post_token_refresh(refresh: fsa.Cookie = fsa.Cookie("")) -> Created[Token]:
    """A new token for a refresh cookie, which is traded for a new one."""
    refreshed = auth.refresh_session(current_app, refresh) if refresh else None
    if not refreshed:
        message = "the session has ended: sign in at /token"
        raise fsa.ErrorResponse(message, 401, {"Set-Cookie": _cookie("", 0)} if refresh else {})
    token, successor, expires = refreshed
    location = url_for("post_token")
    return {"token": token}, 201, {"Location": location, "Set-Cookie": _cookie(successor, expires)}


@account.delete("/token", authz="AUTH", authn="token")
def delete_token(user: fsa.CurrentUser, all: bool = False) -> Done:  # noqa: A002
    """Sign out: this session, or all of one's sessions, end at once, everywhere."""
    if all:
        db.delete_sessions(user)
    else:
        db.delete_session(user, flask.g.session)
    audit("sign-out of all" if all else "sign-out", user)
    return "", 204, {"Set-Cookie": _cookie("", 0)}


# users


@account.get("/user", authz="admin")
def get_users(limit: Limit = Limit(MAX_PAGE), after: Login | None = None) -> Page[Profile]:
    """The users by login; a full page has a link to the next one (RFC 8288)."""
    page = db.get_users(limit, after)
    return next_page(page, limit, page[-1].login if page else None)


def next_page(page: list[T], limit: int, last: str | None) -> Page[T]:
    """A page of a list with, if it is full, the link to what comes after its `last` name."""
    if len(page) < limit:
        return page, 200, {}
    following = url_for(flask.request.endpoint or "", limit=limit, after=last)
    return page, 200, {"Link": f'<{following}>; rel="next"'}


@account.get("/user/<login>", authz=("user", "login"))
def get_user(login: str) -> Ok[Answer[Profile]]:
    """The profile of a user."""
    return jsonify(db.get_user(login)), 200


@account.patch("/user/<login>", authz=("user", "login"))
def patch_user(
    login: str,
    user: fsa.CurrentUser,
    email: Email | None = None,
    admin: bool | None = None,
    active: bool | None = None,
) -> Ok[Answer[Profile]] | Conflict:
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
    return jsonify(profile), 200


@account.delete("/user/<login>", authz=("user", "login"))
def delete_user(login: str, user: fsa.CurrentUser, stuff: Delete | None = None) -> Done | Conflict:
    """Remove a user, who must own no stuff unless `stuff=delete` takes it along."""
    db.delete_user(login, stuff is not None)
    audit("user deleted with stuff" if stuff else "user deleted", user, login)
    return "", 204


@account.put("/user/<login>/password", authz=("user", "login"))
def put_password(
    login: str, password: NewPassword, user: fsa.CurrentUser, current: Password | None = None
) -> Done:
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

# times are seconds since 1970
Session = TypedDict(
    "Session", {"id": str, "created": float, "used": float, "expires": float, "from": str}
)


@account.get("/user/<login>/sessions", authz=("user", "login"), authn="token")
def get_sessions(login: str) -> Ok[list[Session]]:
    """The sessions of a user: when they began and were last used, and from where."""
    db.get_user(login)
    sessions: list[Session] = [
        {"id": s.id, "created": s.created, "used": s.used, "expires": s.expires, "from": s.origin}
        for s in db.get_sessions(login, time.time())
    ]
    return sessions, 200


@account.delete("/user/<login>/sessions/<sid>", authz=("user", "login"), authn="token")
def delete_session(login: str, sid: str, user: fsa.CurrentUser) -> Done:
    """End a session of a user."""
    if not db.delete_session(login, sid):
        raise fsa.ErrorResponse("no such session", 404)
    audit("session ended", user, login)
    return "", 204


# one-time passwords


class Secret(TypedDict):
    """A secret for one-time passwords, the link that telephones read, and that as a picture."""

    secret: str
    uri: str
    qr: str


@account.post("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
def post_otp(login: str) -> Created[Secret] | Conflict:
    """A new secret for one-time passwords (RFC 6238); they are on after a PUT with a code.

    `uri` is for an authenticator application, and `qr` that as a picture, for an `<img>`.
    """
    secret = pyotp.random_base32()
    db.set_otp(login, secret)
    audit("new secret for one-time passwords", login)
    uri = pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name="Acme")
    location = url_for("account.post_otp", login=login)
    qr = segno.make(uri, micro=False).svg_data_uri(scale=4, light="white")
    return {"secret": secret, "uri": uri, "qr": qr}, 201, {"Location": location}


@account.put("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
def put_otp(login: str, code: Code, on: bool) -> Done:
    """Switch one-time passwords on or off, with one of them; on ends one's other sessions."""
    if not auth.check_code(login, db.get_otp(login), code, on):
        raise auth.wrong_code(403)
    if on:  # whatever a password alone has opened
        db.delete_sessions(login, but=flask.g.session)
    audit(f"one-time passwords {'on' if on else 'off'}", login)
    return "", 204


@account.delete("/user/<login>/otp", authz="admin", authn="token")
def delete_otp(login: str, user: fsa.CurrentUser) -> Done:
    """Take another user's one-time passwords away, whose telephone is lost."""
    if login == user:
        raise fsa.ErrorResponse("your own take a code: PUT with on=false", 403)
    db.reset_otp(login)
    audit("one-time passwords reset", user, login)
    return "", 204


def init_app(app: fsa.Flask) -> None:
    """Register the routes."""
    app.register_blueprint(account)
