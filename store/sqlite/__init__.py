"""SQLite: one file, any number of processes on one machine."""

import contextlib
import os
import re
import sqlite3
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import FlaskSimpleAuth as fsa

from store.engine import Backup
from store.pool import PoolTimeoutError
from store.sql import SqlStore
from store.sqlite.backup import opened
from store.sqlite.writers import Writers
from store.time_limit import TimeLimitError, time_limit

BUSY_TIMEOUT_SECONDS = 3.0  # that a call waits for another transaction
CHECK_SECONDS = 1.0  # between two checks that the file was not replaced
# result codes that mean that the database is unavailable (https://www.sqlite.org/rescode.html)
UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}

# types in a migration for both engines, and their counterparts in SQLite
DIALECT = {
    "BOOLEAN": "INTEGER",
    "BIGINT": "INTEGER",
    "DOUBLE PRECISION": "REAL",
    ' COLLATE "C"': "",  # is the default
}

File = tuple[int, int]  # a file's device and number


class MovedError(Exception):
    """The file of the database was deleted or replaced."""


class Connection(sqlite3.Connection):
    """A connection with the file that it was opened on."""

    file: File | None = None
    deadline: float | None = None  # not used: SQLite has its busy timeout


class SQLite(SqlStore):
    """The store in an SQLite file, in WAL mode; a commit returns when it is on the disk."""

    driver = "sqlite3"
    folder = "sqlite"
    driver_error = sqlite3.Error

    def __init__(self, url: str, connections: int) -> None:
        """Take `sqlite:///relative.db` or `sqlite:////absolute.db`; ValueError for others."""
        if not url.startswith("sqlite:///") or not (name := urllib.parse.unquote(url[10:])):
            raise ValueError("ACME_DATABASE: use sqlite:///relative.db or sqlite:////absolute.db")
        if name == ":memory:":
            raise ValueError("ACME_DATABASE: for data in memory, use memory:")
        self.path = Path(name).absolute()
        self._file: File | None = None  # the file at the path at the last check
        self._checked = -CHECK_SECONDS  # the time of the last check
        self._writers = Writers(self.path.with_name(f"{self.path.name}-lock"))
        super().__init__(connections)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        limit = time_limit()
        try:
            # the write itself may take as long as the busy timeout
            with self._writers.turn(limit.begin() - BUSY_TIMEOUT_SECONDS):
                limit.end()
                yield
        except (PoolTimeoutError, TimeLimitError) as e:
            raise self._unavailable("other writers take too long") from e

    def close(self) -> None:
        super().close()
        self._writers.close()

    def exists(self) -> bool:
        return self.path.exists()

    def connect(self, deadline: float) -> Connection:  # noqa: ARG002
        file = self._find_file()
        # a deleted file is not created again
        connection = sqlite3.connect(
            f"{self.path.as_uri()}?mode=rw",
            uri=True,
            timeout=BUSY_TIMEOUT_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            factory=Connection,
        )
        try:
            connection.file = file
            self.confirm(connection)
            self.queries.open_connection(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _find_file(self) -> File | None:
        """The file at the path of the database, None if there is none."""
        self._checked = time.monotonic()
        try:
            found = os.stat(self.path)
        except OSError:
            self._file = None
        else:
            self._file = found.st_dev, found.st_ino
        return self._file

    def is_usable(self, connection: Connection) -> bool:
        recent = time.monotonic() < self._checked + CHECK_SECONDS
        return connection.file == (self._file if recent else self._find_file())

    def in_transaction(self, connection: Connection) -> bool:
        return connection.in_transaction

    def is_unavailable(self, e: BaseException) -> bool:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF  # the primary result code
        return code in UNAVAILABLE or isinstance(e, MovedError)

    def is_missing_owner(self, e: Exception) -> bool:
        return getattr(e, "sqlite_errorname", None) == "SQLITE_CONSTRAINT_FOREIGNKEY"

    def is_unstorable(self, e: BaseException) -> bool:
        return isinstance(e, UnicodeEncodeError)  # a lone surrogate

    def confirm(self, connection: Connection) -> None:
        if connection.file != self._find_file():
            raise MovedError(f"{self.path} was deleted or replaced")

    def statements(self, script: str) -> Iterator[str]:
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement
                statement = ""

    def dialect(self, script: str) -> str:
        for name, own in DIALECT.items():
            script = script.replace(name, own)
        return "".join(
            # PostgreSQL does so by itself
            " STRICT;".join(statement.rpartition(";")[::2])
            if re.search(r"(?m)^CREATE TABLE", statement)
            else statement
            for statement in self.statements(script)
        )

    def prepare(self) -> None:
        try:
            # no other user may read it; SQLite creates the files beside it with the same mode
            os.close(os.open(self.path, os.O_CREAT, 0o600))
        except OSError as e:
            raise ValueError(f"ACME_DATABASE: {self.path}: {e.strerror}") from None
        # switching to WAL mode does not wait for another process that does so: try again
        end = time.monotonic() + BUSY_TIMEOUT_SECONDS
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
            self.queries.unset_journal_mode(copy)  # so that the backup is one file

    @contextlib.contextmanager
    def temporary(self) -> Iterator["SQLite"]:
        prefix = f"{self.path.name}-drill-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.path.parent) as place:
            url = f"sqlite:///{urllib.parse.quote(place)}/copy.db"
            with contextlib.closing(SQLite(url, 1)) as store:
                yield store

    def open_backup(self, path: Path) -> contextlib.AbstractContextManager[Backup]:
        return opened(self, path)
