"""SQLite: one file, any number of processes on one machine."""

import contextlib
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import FlaskSimpleAuth as fsa

from store.sql import SqlStore

BUSY = 5.0  # seconds that a call waits for another's change


class SQLite(SqlStore):
    """The store in an SQLite file, in WAL mode, with what was acknowledged on the disk."""

    driver = "sqlite3"
    folder = "sqlite"
    driver_error = sqlite3.Error

    def __init__(self, url: str) -> None:
        """Of `sqlite:///relative.db` or `sqlite:////absolute.db`; ValueError for anything else."""
        if not url.startswith("sqlite:///") or not (name := urllib.parse.unquote(url[10:])):
            raise ValueError("ACME_DATABASE: use sqlite:///relative.db or sqlite:////absolute.db")
        if name == ":memory:":
            raise ValueError("ACME_DATABASE: for data in memory, use memory:")
        self.path = Path(name)
        super().__init__()

    def connect(self) -> sqlite3.Connection:
        if not self.path.exists():
            # nobody else reads it; SQLite gives what it puts beside it the same mode
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o600))
        connection = sqlite3.connect(
            self.path, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            self.queries.open_connection(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def is_usable(self, _connection: sqlite3.Connection) -> bool:
        return True

    def is_unavailable(self, e: Exception) -> bool:
        # the class itself: a file that is damaged or no database
        return isinstance(e, sqlite3.OperationalError | OSError) or type(e) is sqlite3.DatabaseError

    def is_missing_owner(self, e: Exception) -> bool:
        return getattr(e, "sqlite_errorname", None) == "SQLITE_CONSTRAINT_FOREIGNKEY"

    def statements(self, script: str) -> Iterator[str]:
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""

    def prepare(self) -> None:
        # switching to WAL does not wait for another process that is at it: try again
        end = time.monotonic() + BUSY
        while True:
            try:
                with self.connection() as connection:
                    if self.queries.get_journal_mode(connection) != "wal":
                        self.queries.set_journal_mode(connection)
                return
            except fsa.ErrorResponse as e:
                error = getattr(e.__cause__, "sqlite_errorname", "")
                if not error.startswith("SQLITE_BUSY") or time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def backup(self, path: Path) -> None:
        with self.connection() as connection, contextlib.closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)
            self.queries.unset_journal_mode(copy)  # so that one file is all of it

    def restore_copy(self, path: Path) -> None:
        uri = f"{path.absolute().as_uri()}?mode=ro"
        try:
            with contextlib.closing(sqlite3.connect(uri, uri=True)) as copy:
                if self.queries.check_integrity(copy) != "ok" or not self.schema_version(copy):
                    raise ValueError(f"{path} is no backup of an SQLite database of Acme")
                with self.connection() as connection:
                    copy.backup(connection)
        except sqlite3.DatabaseError as e:
            raise ValueError(f"{path} is no backup of an SQLite database of Acme: {e}") from e
        self.prepare()
