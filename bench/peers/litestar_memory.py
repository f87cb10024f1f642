"""Litestar, with its own JWT authentication and guards."""

from datetime import timedelta
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, get, patch, post
from litestar.connection import ASGIConnection
from litestar.enums import RequestEncodingType
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    NotFoundException,
    PermissionDeniedException,
)
from litestar.handlers import BaseRouteHandler
from litestar.params import Body
from litestar.security.jwt import JWTAuth, Token

from . import common

Price = Annotated[float, msgspec.Meta(ge=0, le=common.MAX_PRICE)]


class Change(msgspec.Struct, forbid_unknown_fields=True):
    price: Price


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    stuff: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    price: Price


class Login(msgspec.Struct):
    username: str
    password: str


async def retrieve_user(token: Token, _: ASGIConnection) -> str | None:
    return token.sub if token.sub in common.users else None


jwt_auth = JWTAuth[str](
    retrieve_user_handler=retrieve_user,
    token_secret=common.SECRET,
    accepted_audiences=["acme"],
    default_token_expiration=timedelta(minutes=common.MINUTES),
    exclude=["/token", "/schema"],
)


def owns_stuff(connection: ASGIConnection, _: BaseRouteHandler) -> None:
    found = common.stuff.get(connection.path_params["sid"])
    if not found:
        raise NotFoundException
    if found[0] != connection.user:
        raise PermissionDeniedException


@get("/hello-me")
async def get_hello_me(request: Request[str, Token, Any]) -> dict[str, str]:
    return {"msg": "hello", "user": request.user}


@get("/stuff")
async def get_stuff(request: Request[str, Token, Any]) -> list[tuple[str, float]]:
    return common.get_user_stuff(request.user)


@post("/stuff")
async def post_stuff(data: Thing, request: Request[str, Token, Any]) -> dict[str, str]:
    if not common.add_stuff(data.stuff, request.user, data.price):
        raise HTTPException("cannot overwrite existing stuff", status_code=409)
    return {"msg": f"stuff added: {data.stuff}"}


@patch("/stuff/{sid:str}", guards=[owns_stuff])
async def patch_stuff(sid: str, data: Change) -> Thing:
    common.stuff[sid] = (common.stuff[sid][0], data.price)
    return Thing(sid, data.price)


@post("/token", sync_to_thread=True)
def post_token(
    data: Annotated[Login, Body(media_type=RequestEncodingType.URL_ENCODED)],
) -> dict[str, str]:
    if not common.is_password(data.password, common.users.get(data.username)):
        raise NotAuthorizedException
    audience = "acme"
    return {"token": jwt_auth.create_token(identifier=data.username, token_audience=audience)}


app = Litestar(
    [get_hello_me, get_stuff, post_stuff, patch_stuff, post_token],
    on_app_init=[jwt_auth.on_app_init],
)
