"""Flask with Flask-JWT-Extended, as in its documentation: users are loaded automatically."""

from datetime import timedelta
from typing import Any

from flask import Flask, abort, request
from flask.typing import ResponseReturnValue
from flask_jwt_extended import JWTManager, create_access_token, get_jwt_identity, jwt_required

from . import common
from .plain_flask import check_owner, check_password, get_name, get_price

app = Flask(__name__)
app.config["JWT_SECRET_KEY"] = common.SECRET
app.config["JWT_ACCESS_TOKEN_EXPIRES"] = timedelta(minutes=common.MINUTES)
app.config["JWT_ENCODE_AUDIENCE"] = app.config["JWT_DECODE_AUDIENCE"] = "acme"
jwt = JWTManager(app)


@jwt.user_lookup_loader
def look_up_user(_header: dict[str, Any], claims: dict[str, Any]) -> str | None:
    return claims["sub"] if claims["sub"] in common.users else None


@app.get("/hello-me")
@jwt_required()
def get_hello_me() -> ResponseReturnValue:
    return {"msg": "hello", "user": get_jwt_identity()}


@app.get("/stuff")
@jwt_required()
def get_stuff() -> ResponseReturnValue:
    return common.get_user_stuff(get_jwt_identity())


@app.post("/stuff")
@jwt_required()
def post_stuff() -> ResponseReturnValue:
    body = request.get_json()
    price, name = get_price(body), get_name(body)
    if not common.add_stuff(name, get_jwt_identity(), price):
        abort(409)
    return {"msg": f"stuff added: {name}"}, 201


@app.patch("/stuff/<sid>")
@jwt_required()
def patch_stuff(sid: str) -> ResponseReturnValue:
    check_owner(sid, get_jwt_identity())
    price = get_price(request.get_json())
    common.stuff[sid] = (get_jwt_identity(), price)
    return {"stuff": sid, "price": price}


@app.post("/token")
def post_token() -> ResponseReturnValue:
    return {"token": create_access_token(identity=check_password())}, 201
