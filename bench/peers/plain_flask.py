"""Flask without authentication: the upper limit for applications on Flask."""

import math
from typing import Any

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue

from . import common

app = Flask(__name__)


def get_price(body: Any) -> float:
    """The price in a body, else 400."""
    price = body.get("price") if isinstance(body, dict) else None
    if isinstance(price, bool) or not isinstance(price, int | float) or not math.isfinite(price):
        abort(400)
    if not 0 <= price <= common.MAX_PRICE:
        abort(400)
    return float(price)


def get_name(body: Any) -> str:
    """The name of stuff in a body, else 400."""
    name = body.get("stuff")
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        abort(400)
    return name


def check_owner(sid: str, user: str) -> None:
    if sid not in common.stuff:
        abort(404)
    if common.stuff[sid][0] != user:
        abort(403)


def check_password() -> str:
    """The login of a form with the right password, else 401."""
    login, password = request.form["username"], request.form["password"]
    if not common.is_password(password, common.users.get(login)):
        abort(401)
    return login


@app.get("/hello-me")
def get_hello_me() -> ResponseReturnValue:
    return {"msg": "hello", "user": "reader"}


@app.get("/stuff")
def get_stuff() -> ResponseReturnValue:
    return common.get_user_stuff("reader")


@app.post("/stuff")
def post_stuff() -> ResponseReturnValue:
    body = request.get_json()
    price, name = get_price(body), get_name(body)
    if not common.add_stuff(name, "writer", price):
        abort(409)
    return {"msg": f"stuff added: {name}"}, 201


@app.patch("/stuff/<sid>")
def patch_stuff(sid: str) -> ResponseReturnValue:
    check_owner(sid, "reader")
    price = get_price(request.get_json())
    common.stuff[sid] = ("reader", price)
    return {"stuff": sid, "price": price}


@app.post("/token")
def post_token() -> ResponseReturnValue:
    return {"token": common.create_token(check_password())}, 201
