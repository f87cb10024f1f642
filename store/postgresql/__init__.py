"""PostgreSQL: any number of processes on any number of machines."""

import os
import select
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from store.postgresql.prepared import Connection, PreparedAdapter
from store.sql import SqlStore

# what the URL does not say otherwise: nobody waits for ever. Seconds, but where it says ms.
DEFAULTS = {
    "application_name": "acme",
    "connect_timeout": "3",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",  # ms
    "options": "-c statement_timeout=5000",  # ms
}


class PostgreSQL(SqlStore):
    """The store in a PostgreSQL database."""

    driver = PreparedAdapter
    folder = "postgresql"
    driver_error = psycopg.Error
    unstorable = (UnicodeEncodeError, psycopg.DataError)  # surrogates, NUL

    def __init__(self, url: str) -> None:
        """Of a libpq URL; ValueError if it is malformed, without what it says."""
        self._url = url
        try:
            self.parameters: dict[str, Any] = DEFAULTS | conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ValueError(
                "ACME_DATABASE must be like postgresql://user:password@host:5432/database, "
                "with special characters percent-encoded"
            ) from None
        super().__init__()

    def connect(self) -> Connection:
        return Connection.connect(**self.parameters, autocommit=True)

    def is_usable(self, connection: Connection) -> bool:
        # a server that goes away says so: nothing else is there to be read
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    def is_unavailable(self, e: Exception) -> bool:
        # a primary that became a standby says ReadOnlySqlTransaction
        return isinstance(e, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction)

    def is_missing_owner(self, e: Exception) -> bool:
        return isinstance(e, psycopg.errors.ForeignKeyViolation)

    def statements(self, script: str) -> Iterator[str]:
        yield script

    def prepare(self) -> None:
        pass

    def backup(self, path: Path) -> None:
        self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={path}")

    def restore_copy(self, path: Path) -> None:
        options = ["--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction"]
        with self.connection() as connection:
            options.append(f"--dbname={connection.info.dbname}")
        self._run("pg_restore", *options, str(path))

    def _run(self, program: str, *arguments: str) -> None:
        """Run a program of PostgreSQL's, which gets the URL where `ps` does not show it."""
        options = psycopg.pq.Conninfo.parse(self._url.encode())
        given = {o.envvar.decode(): o.val.decode() for o in options if o.envvar and o.val}
        try:
            subprocess.run(
                [program, *arguments],
                env=os.environ | given,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=True,
            )
        except FileNotFoundError:
            raise ValueError(f"{program} is not on the PATH: it comes with PostgreSQL") from None
        except subprocess.CalledProcessError as e:
            raise ValueError(e.stderr.strip()) from None
