"""Copies of a database: rows in JSON to move between engines, and backups."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import FlaskSimpleAuth as fsa

from store import migrations
from store.engine import Engine
from values import Email, Login, Name, Price

USER_COLUMNS = (
    *("login", "password", "email", "admin"),
    *("active", "otp_secret", "otp", "otp_step"),
)
FLAGS = {"admin", "active", "otp"}  # which SQLite keeps as 0 and 1
BATCH_ROWS = 1_000  # that an export or import holds in memory


def restore(store: Engine, path: Path) -> None:
    """Bring a copy back into an empty database; ValueError if the file is none.

    Its sessions are not restored: those signed out since the copy was made must stay out.
    """
    store.restore_copy(path)
    if migrations.version(store) >= 2:  # which has the table of sessions
        with store.connection() as connection:
            store.queries.delete_all_sessions(connection)


def count(store: Engine) -> int:
    """How many rows `export_rows` yields."""
    with store.connection() as connection:
        return int(store.queries.count_rows(connection))


def export_rows(store: Engine) -> Iterator[dict[str, Any]]:
    """All users and then all stuff, as they are at one moment."""
    tables = {
        "user": (store.queries.export_users, USER_COLUMNS),
        "stuff": (store.queries.export_stuff, ("name", "owner", "price")),
    }
    with store.transaction(store.queries.begin) as connection:
        for kind, (query, names) in tables.items():
            after = ""
            while rows := list(query(connection, after=after, limit=BATCH_ROWS)):
                for row in rows:
                    values = dict(zip(names, row, strict=True))
                    flags = {name: bool(values[name]) for name in FLAGS & values.keys()}
                    yield {"kind": kind} | values | flags
                after = rows[-1][0]


def import_rows(store: Engine, rows: Iterable[dict[str, Any]]) -> None:
    """Add what `export_rows` yielded to a database without users, all or nothing.

    Raises ValueError where a row is malformed or the database has users.
    """
    kinds: dict[str, tuple[Any, Callable[..., dict[str, Any]]]] = {
        "user": (store.queries.import_users, _user_row),
        "stuff": (store.queries.import_stuff, _stuff_row),
    }
    with store.transaction(store.queries.begin_alone) as connection:
        if store.queries.has_users(connection):
            raise ValueError("the database has users: import into an empty one")
        try:
            for kind, batch in _batches(rows):
                query, row = kinds[kind]
                query(connection, [row(**values) for values in batch])
        except store.driver_error as e:
            if store.is_unavailable(e):
                raise
            raise ValueError(f"rows that do not fit each other: {e}") from e
        except (AttributeError, KeyError, OverflowError, TypeError) as e:
            raise ValueError(f"a malformed row: {e!r}") from e
        except fsa.ErrorResponse as e:
            raise ValueError(f"a malformed row: {e.message}") from e


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows by their kind, in lists of at most `BATCH_ROWS`, without the kind."""
    for kind, group in itertools.groupby(rows, key=lambda row: row.pop("kind")):
        while batch := list(itertools.islice(group, BATCH_ROWS)):
            yield kind, batch


def _user_row(
    *,
    login: str,
    password: str,
    email: str,
    admin: bool,
    active: bool = True,
    otp_secret: str | None = None,
    otp: bool = False,
    otp_step: int = 0,
) -> dict[str, Any]:
    if not all(isinstance(value, bool) for value in (admin, active, otp)):
        raise TypeError("admin, active and otp must be true or false")
    if not re.match(r"\$(argon2|2[aby]\$)", password):
        raise TypeError(f"no hash of a password: that of {login}")
    if otp_secret is not None and not re.fullmatch("[A-Z2-7]+", otp_secret):
        raise TypeError(f"no secret for one-time passwords: that of {login}")
    if otp and not otp_secret:
        raise TypeError(f"one-time passwords without a secret: those of {login}")
    values = (Login(login), password, Email(email), admin, active, otp_secret, otp, int(otp_step))
    return dict(zip(USER_COLUMNS, values, strict=True))


def _stuff_row(name: str, owner: str, price: float) -> dict[str, Any]:
    return {"name": Name(name), "owner": Login(owner), "price": Price(price)}
