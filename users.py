"""Users: profiles, passwords, sessions, API keys, and second factor.

`POST /user`, which is the tutorial's, is in app.py.
"""

import secrets
import time

import flask
import FlaskSimpleAuth as fsa
import pyotp
import segno
from flask import url_for
from typing_extensions import TypedDict

from database import db
from openapi.returns import (
    Accepted,
    Conflict,
    Created,
    Done,
    JsonResponse,
    Ok,
    Page,
    jsonify,
    next_page,
    search_page,
)
from security import api_keys
from security.audit import audit
from security.caller import caller
from security.declarations import returns_secret
from security.outbox import outbox
from security.passwords import check_password, hash_password, is_password
from security.sessions import sha256
from security.totp import AnyCode, check_any_code, check_code, new_recovery_codes, wrong_code
from store.base import ApiKey, Profile
from values import (
    MAX_PAGE,
    Code,
    Delete,
    Email,
    KeyDays,
    Limit,
    Login,
    Name,
    NewPassword,
    Password,
    Scope,
    Search,
    SessionKey,
)

users = flask.Blueprint("users", __name__)


@users.get("/user", authz="admin")
def get_users(
    limit: Limit = Limit(MAX_PAGE), after: Login | None = None, q: Search | None = None
) -> Page[Profile]:
    """List the users by login; a full page has a link to the next one (RFC 8288).

    `q` is a part of the login or the e-mail address, whatever the case. A page of a search may have
    a link although it is not full: then there is more to search.
    """
    if q is not None:
        return search_page(db.get_users, lambda user: [user.login, user.email], q, limit, after)
    page = db.get_users(limit, after)
    return next_page(page, limit, page[-1].login if page else None)


@users.get("/user/<login>", authz=("user", "login"))
def get_user(login: str) -> Ok[JsonResponse[Profile]]:
    """Get the profile of a user."""
    return jsonify(db.get_user(login)), 200


@users.patch("/user/<login>", authz=("user", "login"))
def patch_user(
    login: str,
    user: fsa.CurrentUser,
    email: Email | None = None,
    admin: bool | None = None,
    active: bool | None = None,
    current: Password | None = None,
) -> Ok[JsonResponse[Profile]] | Accepted[JsonResponse[Profile]] | Conflict:
    """Change a profile; only administrators change `admin` and `active`.

    Where mails are sent, users change their own address with the `current` password, and by the
    link in a mail to the new one: until then it is 202.
    """
    if (admin, active) != (None, None) and not db.user_is_admin(user):
        raise fsa.ErrorResponse("only an administrator changes admin and active", 403)
    mails = outbox()
    is_own = login == user and mails.mailer is not None
    if email is not None and is_own:
        _check_current(login, current)
    new = None if is_own else email
    with db.atomic():
        if new is not None and mails.mailer and db.get_user(login).email != new:
            mails.notify("address", login)
        profile = db.change_user(login, new, admin, active)
        if new is not None:
            audit("address changed", user, login)
        if admin is not None:
            audit("promoted" if admin else "demoted", user, login)
        if active is not None:
            audit("enabled" if active else "disabled", user, login)
        if email is not None and mails.confirm(login, email, is_own) and is_own:
            return jsonify(profile), 202
    return jsonify(profile), 200


@users.delete("/user/<login>", authz=("user", "login"))
def delete_user(login: str, user: fsa.CurrentUser, stuff: Delete | None = None) -> Done | Conflict:
    """Delete a user, with the user's stuff if `stuff=delete` is given; else 409 if there is any."""
    with db.atomic():
        db.delete_user(login, stuff is not None)
        audit("user deleted with stuff" if stuff else "user deleted", user, login)
    return "", 204


@users.put("/user/<login>/password", authz=("user", "login"))
@returns_secret  # hashes twice, for which other writers must not wait
def put_password(
    login: str, password: NewPassword, user: fsa.CurrentUser, current: Password | None = None
) -> Done:
    """Set a new password and end all sessions of the user; users send their `current` one."""
    checked = None
    if login == user:
        checked = _check_current(login, current)
    old = checked or db.get_user_pass(login)
    if old and is_password(password, old):
        raise fsa.ErrorResponse("the new password must differ from the old one", 400)
    hashed = hash_password(password, login, db.get_user(login).email)
    with db.atomic():
        db.set_user_pass(login, hashed, checked)
        outbox().notify("password", login)
        audit("password changed", user, login)
    return "", 204


def _check_current(login: str, current: str | None) -> str:
    """The hash of the user's password, if `current` is that; else 403, and 429 after too many.

    A stolen token is not enough to take an account over (OWASP Authentication Cheat Sheet,
    "Require Re-authentication for Sensitive Features").
    """
    if current is None:
        raise fsa.ErrorResponse("current, the password until now, is missing", 400)
    checked = check_password(login, current)
    if not checked:
        raise fsa.ErrorResponse("current is not the password", 403)
    return checked.password


# sessions

# times are seconds since 1970
Session = TypedDict(
    "Session", {"id": str, "created": float, "used": float, "expires": float, "from": str}
)


@users.get("/user/<login>/sessions", authz=("user", "login"), authn="token")
def get_sessions(
    login: str, limit: Limit = Limit(MAX_PAGE), after: SessionKey | None = None
) -> Page[Session]:
    """List the sessions of a user by creation time, with the last use and the client's address.

    A full page has a link to the next one (RFC 8288).
    """
    db.get_user(login)
    found = db.get_sessions(login, time.time(), limit, after.created_and_id if after else None)
    page: list[Session] = [
        {"id": s.id, "created": s.created, "used": s.used, "expires": s.expires, "from": s.origin}
        for s in found
    ]
    return next_page(page, limit, f"{found[-1].created},{found[-1].id}" if found else None)


@users.delete("/user/<login>/sessions/<sid>", authz=("user", "login"), authn="token")
def delete_session(login: str, sid: str, user: fsa.CurrentUser) -> Done:
    """End a session of a user."""
    with db.atomic():
        if not db.delete_session(login, sid):
            raise fsa.ErrorResponse("no such session", 404)
        audit("session ended", user, login, session=sid)
    return "", 204


# API keys


class Key(TypedDict):
    """An API key without its secret; times in seconds since 1970, `used` a day, 0 for never."""

    id: str
    name: str
    scope: str
    created: float
    expires: float
    used: float


class NewKey(TypedDict):
    """A new API key: send it as `Authorization: Bearer acme_…`. It is shown only once."""

    id: str
    key: str


@users.get("/user/<login>/keys", authz=("user", "login"), authn="token")
def get_keys(login: str) -> Ok[list[Key]]:
    """List the API keys of a user by creation time, with the day of the last use."""
    db.get_user(login)
    return [
        Key(id=k.id, name=k.name, scope=k.scope, created=k.created, expires=k.expires, used=k.used)
        for k in db.get_api_keys(login)
    ], 200


@users.post("/user/<login>/keys", authz=("user", "login", "self"), authn="token")
@returns_secret
def post_key(
    login: str, name: Name, scope: Scope, current: Password, days: KeyDays = KeyDays(90)
) -> Created[NewKey] | Conflict:
    """Get an API key for a script: it opens the user's stuff for `days`, and no account.

    With the scope `read` it opens GET only. `current` is the password, because a stolen token must
    not get a key that outlives it.
    """
    checked = _check_current(login, current)
    secret, now = api_keys.generate(), time.time()
    expires = now + days * api_keys.DAY_SECONDS
    record = ApiKey(secrets.token_hex(8), login, name, scope, now, expires, hash=sha256(secret))
    with db.atomic():
        db.add_api_key(record, checked)
        audit("API key added", login, key=record.id)
    location = url_for("users.delete_key", login=login, kid=record.id)
    return {"id": record.id, "key": secret}, 201, {"Location": location}


@users.delete("/user/<login>/keys/<kid>", authz=("user", "login"), authn="token")
def delete_key(login: str, kid: str, user: fsa.CurrentUser) -> Done:
    """Delete an API key, which is refused from then on."""
    with db.atomic():
        if not db.delete_api_key(login, kid):
            raise fsa.ErrorResponse("no such API key", 404)
        audit("API key deleted", user, login, key=kid)
    return "", 204


# one-time passwords


class Secret(TypedDict):
    """A secret for one-time passwords: as text, as a URI for authenticators, and as a QR code."""

    secret: str
    uri: str
    qr: str


@users.post("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
@returns_secret
def post_otp(login: str, current: Password) -> Created[Secret] | Conflict:
    """Get a new secret for one-time passwords (RFC 6238), which a PUT with a code switches on.

    `current` is the password, because a stolen token must not lock the user out. `uri` is for an
    authenticator application; `qr` has the same as a QR code, for an `<img>`.
    """
    secret = pyotp.random_base32()
    checked = _check_current(login, current)
    with db.atomic():
        db.set_otp(login, secret, checked)
        audit("new secret for one-time passwords", login)
    uri = pyotp.TOTP(secret).provisioning_uri(name=login, issuer_name="Acme")
    location = url_for("users.post_otp", login=login)
    qr = segno.make(uri, micro=False).svg_data_uri(scale=4, light="white")
    return {"secret": secret, "uri": uri, "qr": qr}, 201, {"Location": location}


class Recovery(TypedDict):
    """Recovery codes, each good once in place of a one-time password. They are shown only once."""

    recovery: list[str]


@users.put("/user/<login>/otp", authz=("user", "login", "self"), authn="token")
@returns_secret
def put_otp(login: str, code: AnyCode, on: bool) -> Ok[Recovery] | Done:
    """Switch one-time passwords on or off with a code; on ends the user's other sessions.

    Switching them on takes a one-time password, and returns ten recovery codes.
    """
    secret, codes = db.get_otp(login), []

    def switched_on() -> None:
        codes.extend(new_recovery_codes(login, secret or ""))
        audit("one-time passwords on", login)

    if on and code.is_recovery_code():
        raise wrong_code(403)
    if on:
        is_right = check_code(login, secret, code, on, caller().session, switched_on)
    else:
        is_right = check_any_code(
            login, secret, code, True, lambda: audit("one-time passwords off", login)
        )
    if not is_right:
        raise wrong_code(403)
    return ({"recovery": codes}, 200) if on else ("", 204)


@users.post("/user/<login>/otp/recovery", authz=("user", "login", "self"), authn="token")
@returns_secret
def post_otp_recovery(login: str, code: Code) -> Ok[Recovery] | Conflict:
    """Get ten new recovery codes for a one-time password; those until now are void."""
    secret, codes = db.get_otp(login), []

    def renew() -> None:
        codes.extend(new_recovery_codes(login, secret or ""))
        audit("new recovery codes", login)

    if not check_code(login, secret, code, then=renew):
        raise wrong_code(403)
    return Recovery(recovery=codes), 200


@users.delete("/user/<login>/otp", authz="admin", authn="token")
def delete_otp(login: str, user: fsa.CurrentUser) -> Done:
    """Switch off the one-time passwords of another user, who has lost the device."""
    if login == user:
        raise fsa.ErrorResponse("switch your own off with a code: PUT with on=false", 403)
    with db.atomic():
        db.reset_otp(login)
        audit("one-time passwords reset", user, login)
    return "", 204


def init_app(app: fsa.Flask) -> None:
    """Register the user routes."""
    app.register_blueprint(users)
