"""An SQL engine: its queries, its connections, and what it alone can do."""

import abc
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiosql
import FlaskSimpleAuth as fsa

log = logging.getLogger("acme")

HERE = Path(__file__).parent
LOG_INTERVAL_SECONDS = 5.0  # between two lines in the log about an unavailable database


class Engine(abc.ABC):
    """What SQLite and PostgreSQL have in common; each call takes a connection and gives it back.

    Idle connections wait on a stack: there are never more than calls at the same time.
    """

    driver: str | type  # aiosql's name of the driver, or the adapter that runs queries
    folder: str  # of `engine.sql`, and of the migrations
    driver_error: type[Exception]  # the base class of the driver's errors
    unstorable: tuple[type[Exception], ...] = (UnicodeEncodeError,)  # a lone surrogate

    def __init__(self) -> None:
        texts = (HERE / "queries.sql", HERE / self.folder / "engine.sql")
        self.queries: Any = aiosql.from_str("\n".join(f.read_text() for f in texts), self.driver)
        self._idle: list[Any] = []
        self._logged = time.monotonic()  # errors at the start are reported by the caller

    # the differences between the engines

    @abc.abstractmethod
    def connect(self) -> Any:
        """Open a connection, in autocommit mode."""

    @abc.abstractmethod
    def is_usable(self, connection: Any) -> bool:
        """Whether an idle connection is still open, as far as can be told without a query."""

    @abc.abstractmethod
    def is_unavailable(self, e: Exception) -> bool:
        """Whether an error says that the database is unavailable, rather than a query wrong."""

    @abc.abstractmethod
    def is_missing_owner(self, e: Exception) -> bool:
        """Whether an error is the violation of a foreign key."""

    @abc.abstractmethod
    def statements(self, script: str) -> Iterator[str]:
        """Split a script into the parts that the driver executes at once."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Do what a migration needs and its transaction cannot do."""

    @abc.abstractmethod
    def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file, while it is in use."""

    @abc.abstractmethod
    def restore_copy(self, path: Path) -> None:
        """Bring all of a copy back; ValueError if the file is none."""

    # connections

    @contextlib.contextmanager
    def connection(self) -> Iterator[Any]:
        """A connection for one call; 503 if the database is unavailable, and it is closed."""
        connection = None
        try:
            connection = self.take()
            yield connection
        except Exception as e:
            if not self.is_unavailable(e):
                if connection:
                    self._idle.append(connection)
                raise
            if connection:
                connection.close()
            if time.monotonic() > self._logged + LOG_INTERVAL_SECONDS:
                self._logged = time.monotonic()
                log.error("the database is unavailable: %s", str(e).partition("\n")[0])
            headers = {"Retry-After": "1"}  # seconds
            raise fsa.ErrorResponse("the database is unavailable: try again", 503, headers) from e
        except fsa.ErrorResponse:
            self._idle.append(connection)
            raise
        except BaseException:
            if connection:
                connection.close()
            raise
        self._idle.append(connection)

    def take(self) -> Any:
        """An idle connection that is usable, else a new one."""
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if self.is_usable(connection):
                    return connection
                connection.close()
        return self.connect()

    def close(self) -> None:
        """Close the idle connections; the next call opens another."""
        while self._idle:
            self._idle.pop().close()

    def schema_version(self, connection: Any) -> int:
        """How many of the migrations the database of a connection has seen; 0 if it is empty."""
        if not self.queries.schema_is_there(connection):
            return 0
        return self.queries.get_schema_version(connection) or 0

    @contextlib.contextmanager
    def transaction(self, begin: Callable[[Any], Any]) -> Iterator[Any]:
        """A transaction, all or nothing."""
        with self.connection() as connection:
            begin(connection)
            try:
                yield connection
            except BaseException:
                self.queries.rollback(connection)
                raise
            self.queries.commit(connection)
