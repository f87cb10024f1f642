"""FastAPI, with security as in its tutorial: OAuth2 with a password, and JWT tokens."""

import functools
import os
import time
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm
from pydantic import BaseModel, ConfigDict, Field

from . import common

app = FastAPI()
oauth2 = OAuth2PasswordBearer(tokenUrl="token")


class Change(BaseModel):
    model_config = ConfigDict(extra="forbid")
    price: Annotated[float, Field(ge=0, le=common.MAX_PRICE, allow_inf_nan=False)]


class Thing(Change):
    stuff: Annotated[str, Field(min_length=1, max_length=100)]


def decode(token: str) -> dict[str, Any]:
    return jwt.decode(token, common.SECRET, algorithms=["HS256"], audience="acme")


if "BENCH_CACHE" in os.environ:  # not in its tutorial: caches checked tokens
    cached = functools.lru_cache(4096)(decode)

    def decode(token: str) -> dict[str, Any]:
        claims = cached(token)
        if claims["exp"] <= time.time():
            raise jwt.ExpiredSignatureError
        return claims


async def get_current_user(token: Annotated[str, Depends(oauth2)]) -> str:
    try:
        login = decode(token)["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token") from None
    if login not in common.users:
        raise HTTPException(401, "invalid token")
    return login


User = Annotated[str, Depends(get_current_user)]


async def get_own_stuff(sid: str, user: User) -> str:
    if sid not in common.stuff:
        raise HTTPException(404, "no such stuff")
    if common.stuff[sid][0] != user:
        raise HTTPException(403, "stuff belongs to somebody else")
    return sid


@app.get("/hello-me")
async def get_hello_me(user: User) -> dict[str, str]:
    return {"msg": "hello", "user": user}


@app.get("/stuff")
async def get_stuff(user: User) -> list[tuple[str, float]]:
    return common.get_user_stuff(user)


@app.post("/stuff", status_code=201)
async def post_stuff(thing: Thing, user: User) -> dict[str, str]:
    if not common.add_stuff(thing.stuff, user, thing.price):
        raise HTTPException(409, "cannot overwrite existing stuff")
    return {"msg": f"stuff added: {thing.stuff}"}


@app.patch("/stuff/{sid}")
async def patch_stuff(sid: Annotated[str, Depends(get_own_stuff)], change: Change) -> Thing:
    common.stuff[sid] = (common.stuff[sid][0], change.price)
    return Thing(stuff=sid, price=change.price)


@app.post("/token", status_code=201)
def post_token(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]:
    if not common.is_password(form.password, common.users.get(form.username)):
        raise HTTPException(401, "invalid username or password")
    return {"token": common.create_token(form.username)}
