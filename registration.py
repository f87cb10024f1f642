"""Accounts by mail: registration, a new password for a forgotten one, and confirmed addresses.

Registration and reset begin with a request that anybody may make, and that is answered the same
whatever exists: who has an account learns it by mail. The link in the mail has a token in its
fragment, which reaches no server; the page sends it in the body of a PUT.
"""

import time

import flask
import FlaskSimpleAuth as fsa
from flask import url_for

from database import db
from openapi.returns import (
    Accepted,
    Conflict,
    Created,
    Done,
    Message,
    NotFound,
    TooMany,
)
from security.audit import audit, audit_attempt
from security.outbox import outbox
from security.passwords import hash_password
from security.rate_limit import limiter
from security.sessions import sha256
from store.mails import Mail
from values import Email, Login, MailToken, NewPassword

registration = flask.Blueprint("registration", __name__)

SENT: Message = {"msg": "see your mail"}


def _link(token: str, *kinds: str, lock: bool = False) -> Mail:
    """The mail of a link, 403 unless it is of these kinds and good; see `get_link` for `lock`."""
    found = db.get_link(sha256(token), time.time(), lock)
    if not found or found.kind not in kinds:
        raise fsa.ErrorResponse("the link is invalid, expired or used: ask for another one", 403)
    return found


def _address_taken() -> fsa.ErrorResponse:
    return fsa.ErrorResponse("another account has confirmed this address", 409)


@registration.post("/registration", authz="OPEN")
def post_registration(email: Email) -> Accepted[Message] | NotFound | TooMany:
    """Ask for a mail with a link to register; if the address has an account, the mail says so."""
    outbox().check(registration=True)
    outbox().ask("registration", email=email)
    return SENT, 202


@registration.put("/registration", authz="OPEN")
def put_registration(
    token: MailToken, login: Login, password: NewPassword
) -> Created[Message] | Conflict | NotFound | TooMany:
    """Register with the token of a link; if the login is taken, the link is good for another."""
    outbox().check(registration=True)
    link = _link(token, "registration")
    limiter().check(link.id)
    hashed = hash_password(password, login, link.email)
    try:
        with db.atomic():
            link = _link(token, "registration", lock=True)
            if db.get_address_user(link.email):
                raise _address_taken()
            db.add_user(login, hashed, link.email, False)
            if not db.confirm_address(login, link.email):
                raise _address_taken()
            db.void_registrations(link.email)
            audit("registered", login)
    except fsa.ErrorResponse as e:
        if e.status == 409:  # a link must not tell all logins that there are
            limiter().fail(link.id)
        raise
    return (
        {"msg": f"user added: {login}"},
        201,
        {"Location": url_for("users.get_user", login=login)},
    )


@registration.post("/reset", authz="OPEN")
def post_reset(login: Login) -> Accepted[Message] | NotFound | TooMany:
    """Ask for a mail with a link for a new password, to the confirmed address of a user."""
    outbox().check()
    outbox().ask("reset", login)
    audit_attempt("password reset asked for", login)
    return SENT, 202


@registration.put("/reset", authz="OPEN")
def put_reset(token: MailToken, password: NewPassword) -> Done | NotFound:
    """Set a new password with the token of a link: all sessions and API keys of the user end.

    A second factor stays on.
    """
    outbox().check()
    kinds = "reset", "invitation"
    link = _link(token, *kinds)
    hashed = hash_password(password, link.login, link.email)
    with db.atomic():
        login = _link(token, *kinds, lock=True).login
        db.set_user_pass(login, hashed)
        for key in db.get_api_keys(login):
            db.delete_api_key(login, key.id)
        if db.get_user(login).email == link.email:
            db.confirm_address(login, link.email)  # unless another user has meanwhile
        outbox().notify("password", login)
        audit("password reset", login)
    return "", 204


@registration.put("/confirmation", authz="OPEN")
def put_confirmation(token: MailToken) -> Done | Conflict | NotFound:
    """Confirm an address with the token of a link: from then on, mails to the user go there."""
    outbox().check()
    _link(token, "confirmation")
    with db.atomic():
        link = _link(token, "confirmation", lock=True)
        if db.get_address_user(link.email) not in (None, link.login):
            raise _address_taken()
        if db.get_user(link.login).email != link.email:
            outbox().notify("address", link.login)
        db.change_user(link.login, email=link.email)
        if not db.confirm_address(link.login, link.email):
            raise _address_taken()
        audit("address confirmed", link.login)
    return "", 204


def init_app(app: fsa.Flask) -> None:
    """Register the routes."""
    app.register_blueprint(registration)
