"""PostgreSQL: any number of processes on any number of machines."""

import contextlib
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from store.engine import Backup
from store.postgresql.backup import environment, opened
from store.postgresql.prepared import Connection, PreparedAdapter
from store.sql import SqlStore

# defaults of the URL's parameters, in seconds unless noted as ms: every wait is bounded
DEFAULTS = {
    "application_name": "acme",
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms
    "options": "-c statement_timeout=5000",  # ms
}
# prefixes of SQLSTATE that mean that the database is unavailable
# (https://www.postgresql.org/docs/current/errcodes-appendix.html)
UNAVAILABLE = (
    "08",  # connection
    "25006",  # read only: a primary that became a standby
    "25P03",  # idle in transaction for too long
    "25P04",  # transaction for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53",  # disk full, out of memory, too many connections
    "55P03",  # lock timeout
    "57014",  # statement timeout
    "57P",  # shutdown, crash, starting up
    "58",  # I/O error
    "XX001",  # data corrupted
    "XX002",  # index corrupted
)
# for text that cannot be stored: found by psycopg (NUL), not in PostgreSQL's encoding
UNSTORABLE = (None, "22021", "22P05")


class PostgreSQL(SqlStore):
    """The store in a PostgreSQL database."""

    driver = PreparedAdapter
    folder = "postgresql"
    driver_error = psycopg.Error

    def __init__(self, url: str, connections: int) -> None:
        """Take a libpq URL; ValueError, without the URL, if it is malformed."""
        self._url = url
        try:
            self.parameters: dict[str, Any] = DEFAULTS | conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ValueError(
                "ACME_DATABASE must be like postgresql://user:password@host:5432/database, "
                "with special characters percent-encoded"
            ) from None
        super().__init__(connections)

    def exists(self) -> bool:
        return True  # only a connection can tell

    def connect(self) -> Connection:
        return Connection.connect(**self.parameters, autocommit=True)

    def is_usable(self, connection: Connection) -> bool:
        # only a server that shuts down sends a message to an idle connection
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    def in_transaction(self, connection: Connection) -> bool:
        return connection.info.transaction_status != pq.TransactionStatus.IDLE

    def is_unavailable(self, e: BaseException) -> bool:
        if not isinstance(e, psycopg.Error):
            return False
        if e.sqlstate is None:  # from libpq: it cannot connect, or the connection is lost
            return isinstance(e, psycopg.OperationalError)
        return e.sqlstate.startswith(UNAVAILABLE)

    def is_missing_owner(self, e: Exception) -> bool:
        return isinstance(e, psycopg.errors.ForeignKeyViolation)

    def is_unstorable(self, e: BaseException) -> bool:
        if isinstance(e, psycopg.DataError):
            return e.sqlstate in UNSTORABLE
        return isinstance(e, UnicodeEncodeError)  # a lone surrogate

    def confirm(self, connection: Connection) -> None:
        pass  # a failed COMMIT is an error

    def statements(self, script: str) -> Iterator[str]:
        yield script

    def dialect(self, script: str) -> str:
        return script

    def prepare(self) -> None:
        pass

    def backup(self, path: Path) -> None:
        options = ("--format=custom", "--no-owner", "--no-privileges", "--encoding=UTF8")
        self._run("pg_dump", *options, f"--file={path}")

    @contextlib.contextmanager
    def temporary(self) -> Iterator["PostgreSQL"]:
        # a schema, which the owner of a database may create in it
        store = PostgreSQL(self._url, 1)
        store.parameters["options"] += " -c search_path=drill"
        with self.connection() as connection:
            if not self.queries.lock_drill(connection):
                raise ValueError("another drill is running")
            try:
                self.queries.create_drill(connection)
            except psycopg.errors.InsufficientPrivilege as e:
                raise ValueError(f"{e}".partition("\n")[0] + ": use the role that owns it") from e
            try:
                with contextlib.closing(store):
                    yield store
            finally:
                self.queries.drop_drill(connection)
                self.queries.unlock_drill(connection)

    def open_backup(self, path: Path) -> contextlib.AbstractContextManager[Backup]:
        return opened(self, self._run, path)

    def _run(self, program: str, *arguments: str) -> str:
        """The output of a program of PostgreSQL; the URL is in its environment, not in `ps`."""
        options = pq.Conninfo.parse(self._url.encode())
        given = {o.envvar.decode(): o.val.decode() for o in options if o.envvar and o.val}
        try:
            done = subprocess.run(
                [program, *arguments],
                env=environment() | given,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
        except FileNotFoundError:
            raise ValueError(f"{program} is not on the PATH: it comes with PostgreSQL") from None
        except subprocess.CalledProcessError as e:
            raise ValueError(e.stderr.strip()) from None
        return done.stdout
