"""Backups of SQLite: one file, opened to be restored."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiosql

from store.engine import Backup, Engine, transfer_queries


class SQLiteBackup(Backup):
    """A database in a file, on a read-only connection."""

    def __init__(self, store: Engine, connection: sqlite3.Connection) -> None:
        self._store = store
        self._connection = connection
        self.version = store.schema_version(connection)

    def objects(self) -> set[str]:
        return self._store.schema_objects(self._connection)

    def load(self, connection: Any, tables: dict[str, list[str]]) -> None:
        for table, columns in tables.items():
            queries: Any = aiosql.from_str(transfer_queries(table, columns), self._store.driver)
            select, insert = (getattr(queries, f"{verb}_{table}") for verb in ("select", "import"))
            with contextlib.closing(select(self._connection)) as rows:
                insert(connection, self._counted(columns, rows))

    def _counted(self, columns: list[str], rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """The values of rows by column."""
        for row in rows:
            self.count_row()
            yield dict(zip(columns, row, strict=True))


@contextlib.contextmanager
def opened(store: Engine, path: Path) -> Iterator[SQLiteBackup]:
    """Open a backup; ValueError for any other file, and for a damaged one."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:
        try:
            store.queries.distrust_schema(connection)
            backup = SQLiteBackup(store, connection)
            is_whole = store.queries.check_integrity(connection) == "ok"
        except sqlite3.DatabaseError as e:
            raise ValueError(f"{path} is no backup of an SQLite database of Acme: {e}") from e
        if not backup.version or not is_whole:
            raise ValueError(f"{path} is no backup of an SQLite database of Acme")
        yield backup
