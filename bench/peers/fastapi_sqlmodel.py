"""FastAPI with SQLModel, as in the tutorials of both."""

from collections.abc import Iterator
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordRequestForm
from sqlalchemy.exc import IntegrityError
from sqlmodel import Field, Session, SQLModel, create_engine, select

from . import common
from .fastapi_memory import Change, Thing, decode, oauth2

engine = create_engine(common.DATABASE.replace("postgresql:", "postgresql+psycopg:", 1))
app = FastAPI()


class User(SQLModel, table=True):
    __tablename__ = "users"
    login: str = Field(primary_key=True)
    password: str
    active: bool


class Stuff(SQLModel, table=True):
    name: str = Field(primary_key=True)
    owner: str = Field(foreign_key="users.login", index=True)
    price: float


def get_session() -> Iterator[Session]:
    with Session(engine) as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session)]


def get_current_user(token: Annotated[str, Depends(oauth2)], session: SessionDep) -> User:
    try:
        user = session.get(User, decode(token)["sub"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "invalid token") from None
    if not user or not user.active:
        raise HTTPException(401, "invalid token")
    return user


CurrentUser = Annotated[User, Depends(get_current_user)]


def get_own_stuff(sid: str, user: CurrentUser, session: SessionDep) -> Stuff:
    stuff = session.get(Stuff, sid)
    if not stuff:
        raise HTTPException(404, "no such stuff")
    if stuff.owner != user.login:
        raise HTTPException(403, "stuff belongs to somebody else")
    return stuff


@app.get("/hello-me")
def get_hello_me(user: CurrentUser) -> dict[str, str]:
    return {"msg": "hello", "user": user.login}


@app.get("/stuff")
def get_stuff(user: CurrentUser, session: SessionDep) -> list[tuple[str, float]]:
    query = select(Stuff).where(Stuff.owner == user.login).order_by(Stuff.name)
    return [(stuff.name, stuff.price) for stuff in session.exec(query.limit(common.MAX_PAGE))]


@app.post("/stuff", status_code=201)
def post_stuff(thing: Thing, user: CurrentUser, session: SessionDep) -> dict[str, str]:
    session.add(Stuff(name=thing.stuff, owner=user.login, price=thing.price))
    try:
        session.commit()
    except IntegrityError:
        raise HTTPException(409, "cannot overwrite existing stuff") from None
    return {"msg": f"stuff added: {thing.stuff}"}


@app.patch("/stuff/{sid}")
def patch_stuff(
    stuff: Annotated[Stuff, Depends(get_own_stuff)], change: Change, session: SessionDep
) -> Thing:
    stuff.price = change.price
    session.add(stuff)
    session.commit()
    return Thing(stuff=stuff.name, price=stuff.price)


@app.post("/token", status_code=201)
def post_token(
    form: Annotated[OAuth2PasswordRequestForm, Depends()], session: SessionDep
) -> dict[str, str]:
    user = session.get(User, form.username)
    if not common.is_password(form.password, user.password if user and user.active else None):
        raise HTTPException(401, "invalid username or password")
    return {"token": common.create_token(form.username)}
