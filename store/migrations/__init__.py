"""Migrations: the numbered scripts that make the schema of a database, and its version.

`0003.sql` is for both engines, in the SQL of PostgreSQL as far as `Engine.dialect` translates it.
Where they differ more, there are `0003.sqlite.sql` and `0003.postgresql.sql`. A script that has
been applied to a database is never edited: write the next number instead.
"""

from pathlib import Path
from typing import Any

from store.engine import Engine

HERE = Path(__file__).parent


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
    """Set up an empty database; SchemaError, with the remedy, if it has another schema."""
    found, needed = version(store), len(scripts(store))
    if found == 0:
        upgrade(store)
    elif found < needed:
        raise SchemaError(
            f"the database has schema {found}, and this Acme needs {needed}: "
            "make a backup, then run make db-upgrade"
        )
    else:
        check_not_newer(store, found)


def check_not_newer(store: Engine, found: int) -> None:
    """SchemaError, with the remedy, for a schema that is newer than Acme."""
    needed = len(scripts(store))
    if found > needed:
        raise SchemaError(
            f"the database has schema {found}, newer than the {needed} of this Acme: "
            "run the Acme that it was upgraded with, or make restore from before"
        )


def upgrade(store: Engine) -> list[str]:
    """Apply the migrations that are missing, in one transaction; returns their numbers.

    Several processes may do so at once: one works, the others wait and find nothing to do.
    Raises SchemaError if one fails, or the database is newer.
    """
    store.prepare()
    with store.transaction(store.queries.begin_alone) as connection:
        found = store.schema_version(connection)
        check_not_newer(store, found)
        return apply(store, connection, found, len(scripts(store)))


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
        except store.driver_error as e:
            why = str(e).partition("\n")[0]
            raise SchemaError(f"migration {name} failed, nothing is changed: {why}") from e
    return names
