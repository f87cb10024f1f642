"""What the tests of accounts share."""

import argon2
import bcrypt
import pytest

from database import db
from test import app
from tests.conftest import PASSWORD, STORES, new_name

IN_PROCESS = pytest.mark.parametrize("target", STORES, indirect=True)
NEW_PASSWORD = "Other-Pass-2"
CURRENT = {"current": PASSWORD}
HASH = app.hash_password(PASSWORD)
BCRYPT = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
CHEAP = argon2.PasswordHasher(memory_cost=1000, time_cost=1, parallelism=1).hash(PASSWORD)


def new_user(admin=False):
    """A user in the store of the target in process, without the time of a hash."""
    login = new_name("u")
    db.add_user(login, HASH, f"{login}@acme.org", admin)
    return login


def token_of(login):
    with app.test_request_context():
        return {"Authorization": f"Bearer {app.create_token(login)}"}


def call(method, path, value=None, headers=None):
    with app.test_client() as client:
        return client.open(path, method=method, json=value, headers=headers, buffered=True)


def sign_in(client, login, password=PASSWORD):
    return client.post("/token", json={"username": login, "password": password})


def refresh(client):
    return client.post("/token/refresh")


def bearer(res):
    return {"Authorization": f"Bearer {res.json['token']}"}
