"""The database: `db`, a reference to the store that the configuration names."""

import contextlib
import functools
import re
import time
from typing import cast

import FlaskSimpleAuth as fsa

import acme
from monitoring import metrics
from store import base, migrations
from store.sql import SqlStore
from values import Password

CONNECTIONS = 16  # of each process at most, unless ACME_DATABASE_CONNECTIONS says otherwise

# this is a proxy object to the actual database created when calling init_app; no pool
_reference = fsa.Reference(max_size=None)
db = cast(base.Store, _reference)
_current: base.Store | None = None


def use(store: base.Store) -> base.Store | None:
    """Let `db` refer to a store, in all threads; returns the one that it referred to before."""
    global _current
    before, _current = _current, store
    _reference.set(store)
    if isinstance(store, SqlStore):
        pool = store.pool
        metrics.sampled("acme_store_connections", lambda: pool.idle, "idle")
        metrics.sampled("acme_store_connections", lambda: pool.connections - pool.idle, "in use")
    elif isinstance(store, acme.AcmeData):
        metrics.sampled("acme_sessions", lambda: len(store.sessions))
        metrics.sampled("acme_mails_waiting", store.count_waiting)
    return before


def connections_for(workers: int) -> int:
    """How many connections each of `processes` may have: PostgreSQL accepts 100 by default."""
    return min(CONNECTIONS, 90 // workers)


def open_store(url: str, connections: int = CONNECTIONS) -> base.Store:
    """The store of a URL, as in `ACME_DATABASE`; ValueError if it is invalid. Does not connect.

    At most `connections` connections are open at the same time.
    """
    scheme, colon, _ = url.partition(":")
    if url == "memory:":
        return acme.AcmeData()
    if scheme == "sqlite" and colon:
        from store.sqlite import SQLite

        return SQLite(url, connections)
    if scheme == "postgresql" and colon:
        from store.postgresql import PostgreSQL

        return PostgreSQL(url, connections)
    raise ValueError(
        f"ACME_DATABASE={scheme}:… is unknown: use memory:, sqlite:///relative.db, "
        "sqlite:////absolute.db or postgresql://user:password@host/database"
    )


def statistics(url: str) -> dict[str, float]:
    """The number of sessions and the size in bytes, for the metrics; nothing for data in memory."""
    store = open_store(url, 1)
    if not isinstance(store, SqlStore):
        return {}
    with contextlib.closing(store):
        sessions, size = store.statistics(time.time())
        waiting = store.count_waiting()
    return {"acme_sessions": sessions, "acme_database_bytes": size, "acme_mails_waiting": waiting}


def init_app(app: fsa.Flask, at_first_use: bool = False) -> None:
    """Let `db` refer to the store `ACME_DATABASE`, opened now or when `db` is first used.

    Opening it raises ValueError, see `_open_configured`.
    """
    if at_first_use:
        open_once = functools.cache(lambda: _open_configured(app))
        _reference.set_fun(lambda _number: open_once())  # one for all threads
    else:
        use(_open_configured(app))


def _open_configured(app: fsa.Flask) -> base.Store:
    """Open the store `ACME_DATABASE`, and add the administrator if there are no users.

    An empty database is set up. Raises ValueError for a store that is unknown, unavailable, or of
    another schema, and for a first password that is missing or weak.
    """
    connections = app.config.get("ACME_DATABASE_CONNECTIONS") or str(CONNECTIONS)
    if not re.fullmatch("[1-9][0-9]{0,3}", connections):
        raise ValueError(f"ACME_DATABASE_CONNECTIONS={connections} must be a number from 1 to 9999")
    store = open_store(app.config["ACME_DATABASE"], int(connections))
    try:
        if isinstance(store, SqlStore):
            migrations.check(store)
        if not store.has_users():
            _add_first_user(app, store)
    except fsa.ErrorResponse as e:
        raise ValueError(f"ACME_DATABASE: {e.__cause__ or e.message}".partition("\n")[0]) from e
    except getattr(store, "driver_error", ()) as e:  # a table or a privilege is missing
        raise ValueError(f"ACME_DATABASE: {e}".partition("\n")[0]) from e
    finally:
        store.close()  # each process opens connections of its own, after the fork
    return store


def _add_first_user(app: fsa.Flask, store: base.Store) -> None:
    """The administrator `acme` with the password `ACME_PASS`, which must be set and strong."""
    rule = (
        f"it takes {app.config['FSA_PASSWORD_LENGTH']} characters or more, "
        "with an upper case letter, a lower case letter and a digit among them"
    )
    if not app.config["ACME_PASS"]:
        raise ValueError(f"ACME_PASS, the password of the administrator acme, is not set: {rule}")
    try:
        hashed = app.hash_password(Password(app.config["ACME_PASS"]))
    except fsa.ErrorResponse as e:
        raise ValueError(f"ACME_PASS is refused: {e.message}: {rule}") from None
    try:
        store.add_user("acme", hashed, "acme@acme.org", True)
    except fsa.ErrorResponse as e:
        if e.status != 409:  # another process has added the user
            raise
