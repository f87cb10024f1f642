"""PostgreSQL: any number of processes on any number of machines."""

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import FlaskSimpleAuth as fsa
import psycopg
from psycopg import pq
from psycopg._conninfo_attempts import conninfo_attempts
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.waiting import wait_conn

from store.engine import Backup
from store.postgresql.backup import environment, opened
from store.postgresql.prepared import Address, Connection, PreparedAdapter
from store.sql import SqlStore

# for the server, in milliseconds: it stops what no request waits for any more
OPTIONS = "-c statement_timeout=5000 -c idle_in_transaction_session_timeout=10000"
# defaults of the URL's parameters, in seconds unless noted as ms
DEFAULTS = {
    "application_name": "acme",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "5000",  # ms
    "target_session_attrs": "read-write",
    "options": OPTIONS,
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
LOST = ("08", "25006", "57P")  # of these, those of all connections to the server
# for text that cannot be stored: found by psycopg (NUL), not in PostgreSQL's encoding
UNSTORABLE = (None, "22021", "22P05")


def _address(attempt: dict[str, Any]) -> Address:
    return attempt.get("host"), attempt.get("port"), attempt.get("hostaddr")


class UnconfirmedError(psycopg.OperationalError):
    """A commit ended with a warning: it may be lost in a failover."""


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
        if self.parameters["target_session_attrs"] not in ("read-write", "primary"):
            raise ValueError(
                f"ACME_DATABASE: target_session_attrs={self.parameters['target_session_attrs']} "
                "may read from a standby, where sessions that have ended are still valid for a "
                "while: leave it out"
            )
        self._failed: dict[Address, float] = {}  # when connections failed last
        self._is_silent = False  # whether the last change that got no result timed out
        self._trial = threading.Lock()  # of the one change that is tried meanwhile
        super().__init__(connections)

    def exists(self) -> bool:
        return True  # only a connection can tell

    def connect(self, deadline: float) -> Connection:
        """Connect to the first host that accepts it: those that failed last come last.

        Each of them gets the same share of the time that is left.
        """
        attempts = conninfo_attempts(self.parameters)
        attempts.sort(key=lambda attempt: self._failed.get(_address(attempt), 0.0))
        errors = []
        for number, attempt in enumerate(attempts):
            seconds = (deadline - time.monotonic()) / (len(attempts) - number)
            try:
                connection = self._connect_once(attempt, seconds)
            except psycopg.OperationalError as e:
                if self._is_refused_by_pooler(e):
                    return self.connect(deadline)
                self._failed[_address(attempt)] = time.monotonic()
                errors.append(f"{e}".partition("\n")[0])
            else:
                connection.address = _address(attempt)
                self._failed.pop(connection.address, None)
                return connection
        raise psycopg.OperationalError("; ".join(errors))

    def lost(self, connection: Connection) -> None:
        """Try this host last: a PgBouncer there takes connections, whatever its server does."""
        self._failed[connection.address] = time.monotonic()
        super().lost(connection)

    def _is_refused_by_pooler(self, e: psycopg.Error) -> bool:
        """Whether PgBouncer has refused the default options, which are then left out.

        Such a pooler loses prepared statements in its mode `transaction`.
        """
        refused = re.search("unsupported startup parameter(: options| in options)", str(e))
        if not refused or self.parameters["options"] not in (OPTIONS, None):
            return False
        self.parameters["options"] = None
        self.queries.driver_adapter.prepares = False
        return True

    def _connect_once(self, attempt: dict[str, Any], seconds: float) -> Connection:
        """Connect to one host; psycopg's own time limit is in whole seconds, two at least."""
        limit = float(attempt.get("connect_timeout") or 0)
        seconds = min(seconds, limit) if limit > 0 else seconds
        end = time.monotonic() + seconds
        generator = Connection._connect_gen(make_conninfo("", **attempt))
        try:
            connection = wait_conn(generator, interval=0.1, timeout=max(0.0, seconds))
        except psycopg.errors._WaitTimeout:
            raise psycopg.errors.ConnectionTimeout("the server does not respond") from None
        connection.autocommit = True
        if self.parameters["options"] is None:
            self._check_primary(connection, end)
        return connection

    def _check_primary(self, connection: Connection, deadline: float) -> None:
        """Close a connection to a pooler, which tells what its server was, unless it is a primary.

        Then it counts as one that could not be made.
        """
        connection.deadline = deadline
        try:
            if self.queries.is_standby(connection):
                raise psycopg.OperationalError("the server behind the pooler is a standby")
        except BaseException:
            connection.close()
            raise

    def is_usable(self, connection: Connection) -> bool:
        # only a server that shuts down, or becomes a standby, sends to an idle connection
        return not connection.has_input()

    def in_transaction(self, connection: Connection) -> bool:
        return connection.info.transaction_status != pq.TransactionStatus.IDLE

    def is_unavailable(self, e: BaseException) -> bool:
        if not isinstance(e, psycopg.Error):
            return False
        if e.sqlstate is None:  # from libpq: it cannot connect, or the connection is lost
            return isinstance(e, psycopg.OperationalError)
        return e.sqlstate.startswith(UNAVAILABLE)

    def is_lost(self, e: BaseException) -> bool:
        state = getattr(e, "sqlstate", None)
        return state is None or state.startswith(LOST)

    def is_locked(self, e: BaseException | None) -> bool:
        return isinstance(e, psycopg.errors.LockNotAvailable)

    def is_outdated(self, e: BaseException) -> bool:
        return isinstance(e, psycopg.errors.SerializationFailure)

    def is_missing_owner(self, e: Exception) -> bool:
        return isinstance(e, psycopg.errors.ForeignKeyViolation)

    def is_unstorable(self, e: BaseException) -> bool:
        if isinstance(e, psycopg.DataError):
            return e.sqlstate in UNSTORABLE
        return isinstance(e, UnicodeEncodeError)  # a lone surrogate

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """After a change without response, one at a time is tried, until there is a response.

        Each change that waits for a synchronous standby takes one of the server's connections,
        for as long as the standby is away.
        """
        is_trial = self._is_silent
        if is_trial and not self._trial.acquire(blocking=False):
            raise self._unavailable("changes are not confirmed")
        try:
            yield
            self._is_silent = False
        except fsa.ErrorResponse as e:
            if isinstance(e.__cause__, psycopg.errors.ConnectionTimeout):
                self._is_silent = True
            elif e.status != 503:
                self._is_silent = False
            raise
        finally:
            if is_trial:
                self._trial.release()

    def confirm(self, connection: Connection) -> None:
        # PostgreSQL warns of a commit that is not on the synchronous standby, and calls it done
        if connection.warning:
            raise UnconfirmedError(connection.warning)

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
