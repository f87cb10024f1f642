"""Acme, a secure JSON back end: users own stuff at a price.

A route declares who may call it and its parameters, and calls the store. The modules that are
initialized here do the rest; docs/architecture.md has the way of a request through them.
"""

# necessary for debug messages to show up
import logging

logging.basicConfig()

import datetime
import functools
import os
from typing import Literal

import FlaskSimpleAuth as fsa
from flask import url_for
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

import auth
import cli
import database
import doctor
import openapi
import personal_data
import registration
import tokens
import users
from monitoring import logs
from openapi.returns import (
    Accepted,
    Conflict,
    Created,
    Done,
    JsonResponse,
    Message,
    Ok,
    Page,
    jsonify,
    next_page,
    search_page,
)
from security import audit, outbox, rate_limit, secret_files
from security.bounded_queue import cpu_queue, with_pauses
from security.declarations import accepts_password_alone, returns_secret
from security.passwords import hash_password
from tokens import FirstStep, Token, Tokens
from values import (
    MAX_PAGE,
    Email,
    Limit,
    Login,
    Name,
    NameKey,
    NewPassword,
    Numbers,
    Price,
    Search,
    Someone,
)
from web import (
    cors,
    csrf,
    errors,
    frontend,
    health,
    idempotency,
    preconditions,
    requests,
    responses,
)
from web.application import ConfigurationError, Flask

app = Flask("acme", static_folder=None)

try:
    secret_files.load()
    app.config.from_pyfile(os.environ.get("ACME_CONFIG", "acme.conf"))
    # first, so that its hook after a request runs last and sees the response as it is sent
    logs.init_app(app)
    # hooks before a request run in this order, hooks after it in the reverse order:
    # CORS preflights are answered before anything else, and every response gets its headers;
    # a cross-site request (CSRF) is refused before its body is read
    cors.init_app(app)
    csrf.init_app(app)
    responses.init_app(app)
    errors.init_app(app)
    idempotency.init_app(app)
    preconditions.init_app(app)
    requests.init_app(app)
    # what the authentication hooks use comes before them, and they before the first route:
    # FlaskSimpleAuth initializes itself there
    audit.init_app(app)
    rate_limit.init_app(app)
    outbox.init_app(app)
    auth.init_app(app)
    openapi.init_app(app)
    tokens.init_app(app)
    users.init_app(app)
    personal_data.init_app(app)
    registration.init_app(app)
    frontend.init_app(app)
    health.init_app(app)
    cli.init_app(app)
    doctor.init_app(app)
    # last, since it hashes the administrator's first password
    database.init_app(app, at_first_use=cli.is_own_command())
except (OSError, ValueError, SyntaxError, KeyError) as e:
    why = f"the configuration lacks {e}" if isinstance(e, KeyError) else str(e)
    doctor.report_misconfigured(app, why)
    raise ConfigurationError(why) from e

db = database.db


class Hello(TypedDict):
    msg: str
    version: str


@app.get("/hello", authz="OPEN")
def get_hello() -> Ok[Hello]:
    """Say hello, with the version of FlaskSimpleAuth."""
    return {"msg": "hello", "version": fsa.__version__}, 200


class HelloMe(TypedDict):
    msg: str
    user: str


@app.get("/hello-me", authz="AUTH")
def get_hello_me(user: fsa.CurrentUser) -> Ok[HelloMe]:
    """Say hello to the authenticated user."""
    return {"msg": "hello", "user": user}, 200


@app.get("/token", authz="AUTH", authn=["basic", "param"])
@accepts_password_alone
def get_token(user: fsa.CurrentUser) -> Ok[Token] | Accepted[FirstStep]:
    """Get a token for a login and password."""
    return tokens.sign_in(user)


# web applications like to POST with authentication parameters to get a token
@app.post("/token", authz="AUTH", authn="param")
@accepts_password_alone
@returns_secret
def post_token(user: fsa.CurrentUser, cookie: bool = True) -> Created[Tokens] | Accepted[FirstStep]:
    """Get a token for a login and password as parameters, and a refresh token or cookie."""
    return tokens.sign_in_to_stay(user, cookie)


@app.get("/stuff", authz="AUTH")
def get_stuff(
    user: fsa.CurrentUser,
    limit: Limit = Limit(MAX_PAGE),
    after: NameKey | None = None,
    q: Search | None = None,
) -> Page[tuple[str, float]]:
    """List the caller's stuff by name; a full page has a `Link` to the next one (RFC 8288).

    `q` is a part of the names, whatever the case. A page of a search may have a `Link` although it
    is not full: then there is more to search.
    """
    if q is not None:
        load = functools.partial(db.get_user_stuff, user)
        return search_page(load, lambda row: [row[0]], q, limit, after)
    page = db.get_user_stuff(user, limit, after)
    return next_page(page, limit, page[-1][0] if page else None)


@app.post("/stuff", authz="AUTH")
def post_stuff(stuff: Name, price: Price, user: fsa.CurrentUser) -> Created[Message] | Conflict:
    """Add stuff that the caller owns."""
    db.add_stuff(stuff, user, price)
    return {"msg": f"stuff added: {stuff}"}, 201, {"Location": url_for("get_stuff_sid", sid=stuff)}


class Stuff(TypedDict):
    stuff: str
    owner: str
    price: float


@app.get("/stuff/<sid>", authz=("stuff", "sid"))
def get_stuff_sid(sid: str, user: fsa.CurrentUser) -> Ok[Stuff]:
    """Get one piece of the caller's stuff."""
    owner, price = db.get_stuff(sid, user)
    return {"stuff": sid, "owner": owner, "price": price}, 200


class NewPrice(TypedDict):
    stuff: str
    price: float


@app.patch("/stuff/<sid>", authz=("stuff", "sid"))
def patch_stuff_sid(sid: str, price: Price, user: fsa.CurrentUser) -> Ok[NewPrice]:
    """Change the price of one piece of the caller's stuff."""
    db.change_stuff(sid, price, user)
    return {"stuff": sid, "price": price}, 200


@app.delete("/stuff/<sid>", authz=("stuff", "sid"))
def delete_stuff_sid(sid: str, user: fsa.CurrentUser) -> Done:
    """Remove one piece of the caller's stuff."""
    db.delete_stuff(sid, user)
    return "", 204


@app.post("/user", authz="admin")
def post_user(
    login: Login, password: NewPassword, email: Email, user: fsa.CurrentUser
) -> Created[Message] | Conflict:
    """Add a user. With param authentication, `password` is both the caller's and the new user's."""
    hashed = hash_password(password, login, email)
    with db.atomic():
        db.add_user(login, hashed, email, False)
        outbox.outbox().confirm(login, email)
        audit.audit("user added", user, login)
    location = url_for("users.get_user", login=login)
    return {"msg": f"user added: {login}"}, 201, {"Location": location}


@dataclass
class Days:
    name: str
    days: int


@app.route("/days", methods=["GET", "POST"], authz="OPEN")
def get_days(who: Someone) -> Ok[JsonResponse[Days]]:
    """Count the days since a person was born."""
    age = datetime.datetime.now(datetime.UTC).date() - who.born
    return jsonify(Days(name=who.name, days=age.days)), 200


@app.route("/primes", methods=["GET", "POST"], authz="OPEN")
@cpu_queue
def get_primes(li: Numbers) -> Ok[list[int]]:
    """Keep the primes of at most 50 integers, in the given order."""
    import sympy  # imported on first use: half a second and 35 MiB

    return [n for n in with_pauses(li) if sympy.isprime(n)], 200


class Length(TypedDict):
    len: int | Literal["not available"]


@app.route("/len", methods=["GET", "POST"], authz="OPEN")
def get_len(p: fsa.JsonData) -> Ok[Length]:
    """Get the length of a JSON value, if it has one."""
    try:
        return {"len": len(p)}, 200  # type: ignore[arg-type]
    except TypeError:
        return {"len": "not available"}, 200
