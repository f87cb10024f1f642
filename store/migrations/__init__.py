"""Migrations: the numbered scripts that make the schema of a database, and its version."""

from pathlib import Path

from store.engine import Engine

HERE = Path(__file__).parent


class SchemaError(ValueError):
    """The database has another schema than this Acme needs, or cannot be given it."""


def scripts(store: Engine) -> list[Path]:
    """The scripts that make the schema, from 1 on."""
    return sorted(HERE.glob(f"[0-9]*.{store.folder}.sql"))


def version(store: Engine) -> int:
    """How many of the migrations the database has seen; 0 if it is empty."""
    if not store.exists():
        return 0
    with store.connection() as connection:
        return store.schema_version(connection)


def check(store: Engine) -> None:
    """Set up an empty database; SchemaError if it has another schema, and what to do."""
    found, needed = version(store), len(scripts(store))
    if found == 0:
        upgrade(store)
    elif found < needed:
        raise SchemaError(
            f"the database has schema {found}, and this Acme needs {needed}: "
            "make a backup, then run make db-upgrade"
        )
    else:
        _check_not_newer(store, found)


def _check_not_newer(store: Engine, found: int) -> None:
    needed = len(scripts(store))
    if found > needed:
        raise SchemaError(
            f"the database has schema {found}, newer than the {needed} of this Acme: "
            "run the Acme that it was upgraded with, or make restore from before"
        )


def upgrade(store: Engine) -> list[str]:
    """Apply the migrations that are missing, in one transaction; returns their names.

    Several processes may do so at once: one works, the others wait and find nothing to do.
    Raises SchemaError if one fails, or the database is newer.
    """
    store.prepare()
    with store.transaction(store.queries.begin_alone) as connection:
        found = store.schema_version(connection)
        _check_not_newer(store, found)
        missing = scripts(store)[found:]
        for number, script in enumerate(missing, found + 1):
            try:
                for statement in store.statements(script.read_text()):
                    connection.execute(statement)
                store.queries.add_schema_version(connection, version=number)
            except store.driver_error as e:
                why = str(e).partition("\n")[0]
                name = script.name.partition(".")[0]
                raise SchemaError(f"migration {name} failed, nothing is changed: {why}") from e
    return [script.name.partition(".")[0] for script in missing]
