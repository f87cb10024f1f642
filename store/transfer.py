"""Copies of a database: rows in JSON to move between engines, and backups to restore."""

import graphlib
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import FlaskSimpleAuth as fsa

from store import migrations
from store.base import NOT_EXPORTED, TABLES, Table, boolean
from store.engine import Backup, Engine, Progress
from store.migrations import SchemaError

BATCH_ROWS = 1_000  # that an export or import holds in memory
# a restore ends all sessions and links in mails: those that have ended since must not come back
NOT_RESTORED = {"schema_version", "sessions", "mails"}


def restore(store: Engine, path: Path, progress: Progress = Backup.progress) -> int:
    """Restore a backup into an empty database, all or nothing; returns the number of rows.

    `progress` is called with the number of rows so far.
    The migrations make the schema that the backup had, its rows are inserted, and the other
    migrations follow. ValueError if the file is no backup, or has another schema.
    """
    store.prepare()
    with (
        store.open_backup(path) as backup,
        store.transaction(store.queries.begin_alone) as connection,
    ):
        if store.schema_objects(connection):
            raise ValueError("the database is not empty: move it away, or name another")
        migrations.check_not_newer(store, backup.version, backup.version)
        migrations.apply(store, connection, 0, backup.version)
        differences = store.schema_objects(connection) ^ backup.objects()
        if differences:
            names = ", ".join(sorted({text.partition(":")[0] for text in differences}))
            raise ValueError(
                f"{path} has another schema than the migrations of this Acme make: {names}; "
                "nothing is changed"
            )
        columns = store.columns(connection)
        tables = [table for table in _in_order(store, connection) if table not in NOT_RESTORED]
        try:
            backup.progress = progress
            backup.load(connection, {table: columns[table] for table in tables})
        except store.driver_error as e:
            if store.is_unavailable(e):
                raise
            raise ValueError(f"{path} has rows that do not fit, nothing is changed: {e}") from e
        migrations.apply(store, connection, backup.version, len(migrations.scripts(store)))
        return backup.rows


def _in_order(store: Engine, connection: Any) -> Iterable[str]:
    """The tables, each after those that it refers to."""
    graph: dict[str, set[str]] = {table: set() for table in store.columns(connection)}
    for table, other in store.queries.get_references(connection):
        if table != other and table in graph:
            graph[table].add(other)
    return graphlib.TopologicalSorter(graph).static_order()


def count(store: Engine) -> int:
    """How many rows `export_rows` yields."""
    with store.transaction(store.queries.begin) as connection:
        check_tables(store, connection)
    return sum(counts(store).values())


def counts(store: Engine) -> dict[str, int]:
    """How many rows each of the tables has that are exported."""
    with store.transaction(store.queries.begin) as connection:
        return {name: getattr(store.queries, f"count_{name}")(connection) for name in TABLES}


def check_tables(store: Engine, connection: Any) -> None:
    """SchemaError if the database has a table or column that an export would lose."""
    found = store.columns(connection)
    lost = [f"the table {name}" for name in found.keys() - TABLES.keys() - NOT_EXPORTED]
    for name, table in TABLES.items():
        columns = set(found.get(name, ()))
        lost += [f"the column {name}.{column}" for column in columns - table.columns.keys()]
        missing = table.columns.keys() - columns
        if missing:
            names = ", ".join(sorted(missing))
            raise SchemaError(
                f"the database lacks {name} ({names}): a script in store/migrations/ has to make it"
            )
    if lost:
        raise SchemaError(
            f"export and import do not carry {', '.join(sorted(lost))}: "
            "add it with its columns to TABLES in store/base.py, or a table to NOT_EXPORTED there"
        )


def export_rows(store: Engine) -> Iterator[dict[str, Any]]:
    """All rows of all tables, as they are at one moment; SchemaError if some would be lost."""
    with store.transaction(store.queries.begin) as connection:
        check_tables(store, connection)
        for name, table in TABLES.items():
            query, after = getattr(store.queries, f"export_{name}"), ""
            while rows := list(query(connection, after=after, limit=BATCH_ROWS)):
                for row in rows:
                    values = dict(zip(table.columns, row, strict=True))
                    for column, check in table.columns.items():
                        if check is boolean:  # which SQLite keeps as 0 and 1
                            values[column] = bool(values[column])
                    yield {"kind": table.kind} | values
                after = rows[-1][0]


def import_rows(store: Engine, rows: Iterable[dict[str, Any]]) -> None:
    """Add what `export_rows` yielded to a database without users, all or nothing.

    Raises ValueError where a row is malformed or the database has users.
    """
    kinds = {table.kind: (name, table) for name, table in TABLES.items()}
    with store.transaction(store.queries.begin_alone) as connection:
        check_tables(store, connection)
        if store.queries.has_users(connection):
            raise ValueError("the database has users: import into an empty one")
        try:
            for kind, batch in _batches(rows):
                name, table = kinds[kind]
                query = getattr(store.queries, f"import_{name}")
                query(connection, [_checked(table, row) for row in batch])
        except store.driver_error as e:
            if store.is_unavailable(e):
                raise
            raise ValueError(f"rows that do not fit each other: {e}") from e
        except (AttributeError, KeyError, TypeError) as e:
            raise ValueError(f"a malformed row: {e!r}") from e
        except fsa.ErrorResponse as e:
            raise ValueError(f"a malformed row: {e.message}") from e


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows by their kind, in lists of at most `BATCH_ROWS`, without the kind."""
    for kind, group in itertools.groupby(rows, key=lambda row: row.pop("kind")):
        while batch := list(itertools.islice(group, BATCH_ROWS)):
            yield kind, batch


def _checked(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """A row with values that are valid; an error 400, TypeError or KeyError if one is not."""
    row = table.defaults | row
    if unknown := row.keys() - table.columns.keys():
        raise KeyError(*unknown)
    valid = {name: check(row[name]) for name, check in table.columns.items()}
    table.check(valid)
    return valid
