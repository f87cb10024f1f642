"""Acme, a secure JSON back end: users own stuff at a price.

Each route says who may enter, what it takes, and which call of the store it makes. The rest is in
the modules that are initialized here.
"""

# necessary for debug messages to show up
import logging

logging.basicConfig()

import datetime
import os
import sys

import FlaskSimpleAuth as fsa
import sympy
from flask import url_for
from flask.typing import ResponseReturnValue as Answer
from pydantic.dataclasses import dataclass

import account
import auth
import cli
import database
import guard
import pages
import throttle
from acme import MAX_PAGE, Email, Limit, Login, Name, Numbers, Password, Price, Someone
from guard import Json

app = fsa.Flask("acme", static_folder=None)

try:
    app.config.from_pyfile(os.environ.get("ACME_CONFIG", "acme.conf"))
    guard.init_app(app)
    throttle.init_app(app)
    auth.init_app(app)
    account.init_app(app)
    pages.init_app(app)
    cli.init_app(app)
    if not cli.works_on_database():
        database.init_app(app)
except (OSError, ValueError, SyntaxError) as e:
    sys.exit(f"acme: {e}")
except KeyError as e:
    sys.exit(f"acme: the configuration lacks {e}")

db = database.db


@app.get("/hello", authz="OPEN")
def get_hello() -> Answer:
    """Say hello, and which version of FlaskSimpleAuth is at work."""
    return {"msg": "hello", "version": fsa.__version__}, 200


@app.get("/hello-me", authz="AUTH")
def get_hello_me(user: fsa.CurrentUser) -> Answer:
    """Say hello to whoever is signed in."""
    return {"msg": "hello", "user": user}, 200


@app.get("/token", authz="AUTH", authn=["basic", "param"])
def get_token(user: fsa.CurrentUser) -> Answer:
    """A token for who signs in with a password."""
    return account.sign_in(user, 200, lasting=False)


# web applications like to POST with authentication parameters to get a token
@app.post("/token", authz="AUTH", authn="param")
def post_token(user: fsa.CurrentUser) -> Answer:
    """A token for who signs in with a password as parameter, and a cookie to refresh it."""
    return account.sign_in(user, 201, lasting=True)


@app.get("/stuff", authz="AUTH")
def get_stuff(
    user: fsa.CurrentUser, limit: Limit = Limit(MAX_PAGE), after: Name | None = None
) -> Answer:
    """One's own stuff by name; a full page has a link to the next one (RFC 8288)."""
    page = db.get_user_stuff(user, limit, after)
    return account.next_page(page, limit, page[-1][0] if page else None)


@app.post("/stuff", authz="AUTH")
def post_stuff(stuff: Name, price: Price, user: fsa.CurrentUser) -> Answer:
    """Add stuff for oneself."""
    db.add_stuff(stuff, user, price)
    return {"msg": f"stuff added: {stuff}"}, 201, {"Location": url_for("get_stuff_sid", sid=stuff)}


@app.get("/stuff/<sid>", authz=("stuff", "sid"))
def get_stuff_sid(sid: str, user: fsa.CurrentUser) -> Answer:
    """Some stuff of one's own."""
    owner, price = db.get_stuff(sid, user)
    return {"stuff": sid, "owner": owner, "price": price}, 200


@app.patch("/stuff/<sid>", authz=("stuff", "sid"))
def patch_stuff_sid(sid: str, price: Price, user: fsa.CurrentUser) -> Answer:
    """Change the price of some stuff of one's own."""
    db.change_stuff(sid, price, user)
    return {"stuff": sid, "price": price}, 200


@app.delete("/stuff/<sid>", authz=("stuff", "sid"))
def delete_stuff_sid(sid: str, user: fsa.CurrentUser) -> Answer:
    """Remove some stuff of one's own."""
    db.delete_stuff(sid, user)
    return "", 204


@app.post("/user", authz="admin")
def post_user(login: Login, password: Password, email: Email, user: fsa.CurrentUser) -> Answer:
    """Add a user. With param authentication, `password` is the caller's and the new user's."""
    db.add_user(login, auth.hash_password(password), email, False)
    auth.audit("user added", user, login)
    location = url_for("account.get_user", login=login)
    return {"msg": f"user added: {login}"}, 201, {"Location": location}


@dataclass
class Days:
    name: str
    days: int


@app.route("/days", methods=["GET", "POST"], authz="OPEN")
def get_days(who: Someone) -> Answer:
    """How many days old somebody is."""
    age = datetime.datetime.now(datetime.UTC).date() - who.born
    return fsa.jsonify(Days(name=who.name, days=age.days))


@app.route("/primes", methods=["GET", "POST"], authz="OPEN")
def get_primes(li: Numbers) -> Answer:
    """The primes among at most 50 integers, in their order."""
    return fsa.jsonify(filter(sympy.isprime, li))


@app.route("/len", methods=["GET", "POST"], authz="OPEN")
def get_len(p: Json) -> Answer:
    """The length of a JSON value, if it has one."""
    try:
        return {"len": len(p)}
    except TypeError:
        return {"len": "not available"}
