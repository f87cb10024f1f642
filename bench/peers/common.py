"""Data that the peers share: the same users, stuff and passwords as Acme in the benchmark."""

import bisect
import os
import time

import argon2
import jwt

SECRET = os.environ["ACME_TOKEN_SECRET"]
DATABASE = os.environ.get("BENCH_DATABASE", "")  # PostgreSQL's, which Acme has filled
MAX_PAGE = 1_000
MAX_PRICE = 10**12
MINUTES = 10  # the lifetime of a token

# OWASP's parameters, as in acme.conf
hasher = argon2.PasswordHasher(memory_cost=19456, time_cost=2, parallelism=1)
nobody = hasher.hash("nobody")


def is_password(password: str, reference: str | None) -> bool:
    """Whether a password matches a hash; without a hash, False after the same time."""
    try:
        return hasher.verify(reference or nobody, password) and reference is not None
    except argon2.exceptions.VerificationError:
        return False


def create_token(login: str) -> str:
    claims = {"sub": login, "aud": "acme", "exp": int(time.time()) + 60 * MINUTES}
    return jwt.encode(claims, SECRET, algorithm="HS256")


# the store in memory: login -> hash, name -> (owner, price), owner -> names, sorted
users: dict[str, str] = {}
stuff: dict[str, tuple[str, float]] = {}
owned: dict[str, list[str]] = {}


def add_stuff(name: str, owner: str, price: float) -> bool:
    """Add stuff; whether the name was free."""
    if name in stuff:
        return False
    stuff[name] = (owner, price)
    bisect.insort(owned[owner], name)
    return True


def get_user_stuff(owner: str) -> list[tuple[str, float]]:
    return [(name, stuff[name][1]) for name in owned[owner][:MAX_PAGE]]


for _login in "reader", "writer":
    users[_login] = hasher.hash("Bench-Pass-1")
    owned[_login] = []
for _n in range(10):
    add_stuff(f"thing{_n}", "reader", 1.0)
