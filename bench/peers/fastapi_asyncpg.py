"""FastAPI on asyncpg's pool, as in the documentation of both."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated

import asyncpg
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.security import OAuth2PasswordRequestForm

from . import common
from .fastapi_memory import Change, Thing, decode, oauth2


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(common.DATABASE) as app.state.pool:
        yield


app = FastAPI(lifespan=lifespan)


async def get_connection(request: Request) -> AsyncIterator[asyncpg.Connection]:
    async with request.app.state.pool.acquire() as connection:
        yield connection


Connection = Annotated[asyncpg.Connection, Depends(get_connection)]


async def get_current_user(token: Annotated[str, Depends(oauth2)], connection: Connection) -> str:
    try:
        login = decode(token)["sub"]
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token") from None
    if not await connection.fetchval("SELECT active FROM users WHERE login = $1", login):
        raise HTTPException(401, "invalid token")
    return login


User = Annotated[str, Depends(get_current_user)]


async def get_own_stuff(sid: str, user: User, connection: Connection) -> str:
    owner = await connection.fetchval("SELECT owner FROM stuff WHERE name = $1", sid)
    if owner is None:
        raise HTTPException(404, "no such stuff")
    if owner != user:
        raise HTTPException(403, "stuff belongs to somebody else")
    return sid


@app.get("/hello-me")
async def get_hello_me(user: User) -> dict[str, str]:
    return {"msg": "hello", "user": user}


@app.get("/stuff")
async def get_stuff(user: User, connection: Connection) -> list[tuple[str, float]]:
    query = "SELECT name, price FROM stuff WHERE owner = $1 ORDER BY name LIMIT 1000"
    return [tuple(row) for row in await connection.fetch(query, user)]


@app.post("/stuff", status_code=201)
async def post_stuff(thing: Thing, user: User, connection: Connection) -> dict[str, str]:
    query = "INSERT INTO stuff (name, owner, price) VALUES ($1, $2, $3)"
    try:
        await connection.execute(query, thing.stuff, user, thing.price)
    except asyncpg.UniqueViolationError:
        raise HTTPException(409, "cannot overwrite existing stuff") from None
    return {"msg": f"stuff added: {thing.stuff}"}


@app.patch("/stuff/{sid}")
async def patch_stuff(
    sid: Annotated[str, Depends(get_own_stuff)], change: Change, connection: Connection
) -> Thing:
    await connection.execute("UPDATE stuff SET price = $1 WHERE name = $2", change.price, sid)
    return Thing(stuff=sid, price=change.price)


@app.post("/token", status_code=201)
async def post_token(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], connection: Connection
) -> dict[str, str]:
    query = "SELECT password FROM users WHERE login = $1 AND active"
    reference = await connection.fetchval(query, form.username)
    if not await run_in_threadpool(common.is_password, form.password, reference):
        raise HTTPException(401, "invalid username or password")
    return {"token": common.create_token(form.username)}
