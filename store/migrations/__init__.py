"""Migrations: the numbered scripts that make the schema of a database, and its version.

`0003.sql` is for both engines, in the SQL of PostgreSQL as far as `Engine.dialect` translates it.
Where they differ more, there are `0003.sqlite.sql` and `0003.postgresql.sql`. A script that has
been applied to a database is never edited: write the next number instead.

A script says in a comment which older code still works after it, by the schema which that code
needs: `code from schema 2 on works with it`. Without these words it is that of the script itself.
"""

import re
import time
from pathlib import Path
from typing import Any

import FlaskSimpleAuth as fsa

from store.engine import Engine

HERE = Path(__file__).parent
OLDEST = re.compile(r"(?m)^--.*\bcode from schema (\d+) on works\b")
LOCKED_SECONDS = 60.0  # for which an upgrade tries to get the locks of tables in use
PAUSE_SECONDS = 1.0  # between two tries, in which the queries that waited are served


class SchemaError(ValueError):
    """The schema of the database is not the one that Acme needs, and cannot be upgraded to it."""


def scripts(store: Engine) -> list[Path]:
    """The scripts that make the schema on an engine, from 1 on."""
    own = f".{store.folder}.sql"
    return sorted(f for f in HERE.glob("[0-9]*.sql") if "".join(f.suffixes) in (".sql", own))


def version(store: Engine) -> int:
    """How many migrations were applied to the database; 0 if it is empty."""
    if not store.exists():
        return 0
    with store.connection() as connection:
        return store.schema_version(connection)


def check(store: Engine) -> None:
    """Set up an empty database; SchemaError, with the remedy, if Acme does not work with it."""
    found, needed = version(store), len(scripts(store))
    if found == 0:
        upgrade(store)
    elif found < needed:
        raise SchemaError(
            f"the database has schema {found}, and this Acme needs {needed}: "
            "make a backup, then run make db-upgrade"
        )
    else:
        check_usable(store)


def check_usable(store: Engine) -> None:
    """SchemaError, with the remedy, for a newer schema that Acme does not work with."""
    found = version(store)
    if found > len(scripts(store)):
        with store.connection() as connection:
            check_not_newer(store, found, store.oldest_code(connection))


def check_not_newer(store: Engine, found: int, oldest: int) -> None:
    """SchemaError, with the remedy, if a schema takes newer code: that of `oldest`, or later."""
    needed = len(scripts(store))
    if oldest > needed:
        raise SchemaError(
            f"the database has schema {found}, newer than the {needed} of this Acme: "
            "run the Acme that it was upgraded with, or make restore from before"
        )


def upgrade(store: Engine) -> list[str]:
    """Apply the migrations that are missing, in one transaction; returns their numbers.

    Several processes may do so at once: one works, the others wait and find nothing to do. While a
    table is in use by others it tries again, for `LOCKED_SECONDS`, so that no query waits long for
    a migration that waits. Raises SchemaError if one fails, or the database takes newer code.
    """
    store.prepare()
    end = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            with store.transaction(store.queries.begin_migration) as connection:
                return _upgrade(store, connection)
        except fsa.ErrorResponse as e:
            if not store.is_locked(e.__cause__):
                raise
            if time.monotonic() > end:
                raise SchemaError(
                    f"a migration waits for a table that others have used for {LOCKED_SECONDS:.0f} "
                    "seconds, nothing is changed: end the transaction that pg_stat_activity shows"
                ) from e
        time.sleep(PAUSE_SECONDS)


def _upgrade(store: Engine, connection: Any) -> list[str]:
    found, needed = store.schema_version(connection), len(scripts(store))
    if found > needed:
        check_not_newer(store, found, store.oldest_code(connection))
        return []
    return apply(store, connection, found, needed)


def apply(store: Engine, connection: Any, found: int, needed: int) -> list[str]:
    """Apply the migrations from after `found` to `needed`; returns their numbers."""
    missing = scripts(store)[found:needed]
    names = [script.name.partition(".")[0] for script in missing]
    for number, (script, name) in enumerate(zip(missing, names, strict=True), found + 1):
        text = script.read_text()
        if script.suffixes == [".sql"]:
            text = store.dialect(text)
        try:
            for statement in store.statements(text):
                connection.execute(statement)
            store.queries.add_schema_version(connection, version=number)
            if oldest := OLDEST.search(text):
                store.queries.set_oldest_code(connection, version=number, oldest=int(oldest[1]))
        except store.driver_error as e:
            if store.is_locked(e):
                raise
            why = str(e).partition("\n")[0]
            raise SchemaError(f"migration {name} failed, nothing is changed: {why}") from e
    return names
