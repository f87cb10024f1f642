"""An SQL engine: its queries, its connections, and its differences from other engines."""

import abc
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiosql
import FlaskSimpleAuth as fsa

from monitoring import metrics
from store import base
from store.pool import Pool, PoolTimeoutError
from store.time_limit import TimeLimit, TimeLimitError, time_limit

log = logging.getLogger("acme")

HERE = Path(__file__).parent
PROGRESS_ROWS = 1_000  # between two signs of progress
Progress = Callable[[int], None]
LOG_INTERVAL_SECONDS = 5.0  # between two lines in the log about an unavailable database


def transfer_queries(table: str, columns: list[str]) -> str:
    """The queries of `transfer.sql` for a table, the first column of which is the primary key."""
    return (
        (HERE / "transfer.sql")
        .read_text()
        .format(
            table=table,
            key=columns[0],
            columns=", ".join(f'"{column}"' for column in columns),
            parameters=", ".join(columns),
            values=", ".join(f":{column}" for column in columns),
        )
    )


class Backup(abc.ABC):
    """A file that `Engine.backup` wrote and others may have changed: nothing in it is executed."""

    version: int  # of its schema
    rows = 0  # that `load` has inserted
    progress: Progress = staticmethod(lambda rows: None)  # noqa: ARG005

    @abc.abstractmethod
    def objects(self) -> set[str]:
        """Its tables, indexes and so on, in the format of `Engine.schema_objects`."""

    @abc.abstractmethod
    def load(self, connection: Any, tables: dict[str, list[str]]) -> None:
        """Insert the rows of tables, with these columns, in this order."""

    def count_row(self) -> None:
        """Count a row that is being inserted."""
        self.rows += 1
        if not self.rows % PROGRESS_ROWS:
            self.progress(self.rows)


class Engine(abc.ABC):
    """The common part of SQLite and PostgreSQL; each call takes a connection from the pool.

    503 with `Retry-After` if the database is unavailable. Any other error of the driver is an error
    of Acme, such as a query of a missing table, and becomes a 500.
    """

    driver: str | type  # aiosql's name of the driver, or the adapter that runs queries
    folder: str  # of `engine.sql`, and of the migrations
    driver_error: type[Exception]  # the base class of the driver's errors

    def __init__(self, connections: int) -> None:
        files = (HERE / "queries.sql", HERE / self.folder / "engine.sql")
        texts = [file.read_text() for file in files]
        texts += [transfer_queries(name, [*table.columns]) for name, table in base.TABLES.items()]
        self.queries: Any = aiosql.from_str("\n".join(texts), self.driver)
        self.pool = Pool(self.connect, self.is_usable, connections)
        self._logged = time.monotonic()  # errors at the start are reported by the caller

    # the differences between the engines

    @abc.abstractmethod
    def exists(self) -> bool:
        """Whether there is a database to connect to, by a check that does not connect."""

    @abc.abstractmethod
    def connect(self, deadline: float) -> Any:
        """Open a connection, in autocommit mode, before a time in monotonic seconds.

        It has an attribute `deadline` for its queries, None if they have none.
        """

    @abc.abstractmethod
    def is_usable(self, connection: Any) -> bool:
        """Whether an idle connection still works, by a check without a query."""

    @abc.abstractmethod
    def in_transaction(self, connection: Any) -> bool:
        """Whether a connection is in a transaction, a failed one included, or broken."""

    @abc.abstractmethod
    def is_unavailable(self, e: BaseException) -> bool:
        """Whether an error means that the database is unavailable, not that a query is wrong."""

    def is_lost(self, e: BaseException) -> bool:  # noqa: ARG002
        """Whether an error that means unavailable concerns all connections, not only its own."""
        return False

    def is_locked(self, e: BaseException | None) -> bool:  # noqa: ARG002
        """Whether an error says that a migration has waited too long for a table in use."""
        return False

    def is_outdated(self, e: BaseException) -> bool:  # noqa: ARG002
        """Whether an error says that a row has been changed since the transaction has read it."""
        return False

    @abc.abstractmethod
    def is_missing_owner(self, e: Exception) -> bool:
        """Whether an error is the violation of a foreign key."""

    @abc.abstractmethod
    def is_unstorable(self, e: BaseException) -> bool:
        """Whether an error says that a text has a character that cannot be stored."""

    @abc.abstractmethod
    def confirm(self, connection: Any) -> None:
        """Raise an error that counts as unavailable if the commit may be lost."""

    @abc.abstractmethod
    def statements(self, script: str) -> Iterator[str]:
        """Split a script into the parts that the driver executes at once."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Prepare a database for migrations, outside their transaction."""

    @abc.abstractmethod
    def dialect(self, script: str) -> str:
        """A script for both engines, in the SQL of this one."""

    @abc.abstractmethod
    def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file, while it is in use."""

    @abc.abstractmethod
    def open_backup(self, path: Path) -> contextlib.AbstractContextManager["Backup"]:
        """Open what `backup` wrote; ValueError for any other file."""

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """The turn of a writer, for an engine that has one at a time; 503 if it takes too long."""
        return contextlib.nullcontext()

    @abc.abstractmethod
    def temporary(self) -> contextlib.AbstractContextManager["Engine"]:
        """An empty database beside this one, which is removed at the end; ValueError if it fails.

        It takes the same disk and the same rights as a database that a backup is restored into.
        """

    # calls

    def call(self, query: Any, /, **values: Any) -> Any:
        """The result of a query; None, as if nothing were found, for text that cannot be stored."""
        return self._call(query, query, values)

    def _call(self, named: Any, query: Any, values: dict[str, Any]) -> Any:
        """Call `query`, which `named` names in the metrics."""
        is_measured = metrics.own_slot is not None
        start = time.perf_counter() if is_measured else 0.0
        limit = time_limit()
        connection = self._take(limit)
        connection.deadline = limit.deadline
        try:
            result = query(connection, **values)
        except BaseException as e:
            self._after_error(connection, e)
            if self.is_unstorable(e):
                return None
            raise
        finally:
            limit.end()
        self.pool.give_back(connection)
        if is_measured:
            name = getattr(named, "__name__", "other")
            metrics.observe("acme_store_seconds", time.perf_counter() - start, name)
        return result

    def rows(self, query: Any, /, **values: Any) -> list[Any]:
        """The rows that a query selects."""
        return self._call(query, lambda connection: list(query(connection, **values)), {}) or []

    def change(self, query: Any, /, **values: Any) -> Any:
        """The result of a query that makes a change, like `call`; 503 unless it is durable."""

        def confirmed(connection: Any) -> Any:
            result = query(connection, **values)
            self.confirm(connection)
            return result

        with self.turn():
            return self._call(query, confirmed, {})

    @contextlib.contextmanager
    def connection(self, limit: TimeLimit | None = None) -> Iterator[Any]:
        """A connection for several queries, which may take any time if no limit is given."""
        counted = limit or TimeLimit()
        connection = self._take(counted)
        connection.deadline = counted.deadline if limit else None
        try:
            yield connection
        except BaseException as e:
            self._after_error(connection, e)
            raise
        finally:
            counted.end()
        self.pool.give_back(connection)

    @contextlib.contextmanager
    def transaction(
        self, begin: Callable[[Any], Any], limit: TimeLimit | None = None
    ) -> Iterator[Any]:
        """A transaction, all or nothing; 503 unless its changes are durable."""
        start = time.perf_counter() if metrics.own_slot is not None else 0.0
        with self.connection(limit) as connection:
            try:
                begin(connection)
                yield connection
                self.queries.commit(connection)
            except BaseException:
                # what cannot be rolled back is closed: see _after_error
                with contextlib.suppress(self.driver_error):
                    self.queries.rollback(connection)
                raise
            self.confirm(connection)
        if start:
            metrics.observe("acme_store_seconds", time.perf_counter() - start, "transaction")

    @contextlib.contextmanager
    def changes(self) -> Iterator[Any]:
        """A transaction for several changes, within the time limit of the request."""
        begin = self.queries.begin_change
        with self.turn(), self.transaction(begin, time_limit()) as connection:
            yield connection

    def close(self) -> None:
        """Close the idle connections; the next call opens another."""
        self.pool.close_idle()

    def columns(self, connection: Any) -> dict[str, list[str]]:
        """The columns of each table."""
        found: dict[str, list[str]] = {}
        for table, column in self.queries.get_columns(connection):
            found.setdefault(table, []).append(column)
        return found

    def schema_objects(self, connection: Any) -> set[str]:
        """The tables, indexes, triggers, views and so on, a text for each."""
        return {" ".join(text.split()) for (text,) in self.queries.get_schema_objects(connection)}

    def schema_version(self, connection: Any) -> int:
        """How many migrations were applied to the database of a connection; 0 if it is empty."""
        if not self.queries.schema_is_there(connection):
            return 0
        return self.queries.get_schema_version(connection) or 0

    def oldest_code(self, connection: Any) -> int:
        """The schema of the oldest Acme that works with the database, which has a newer one."""
        return int(self.queries.get_oldest_code(connection))

    def _take(self, limit: TimeLimit) -> Any:
        """A connection for a call that begins now; 503 if there is none within its time limit."""
        try:
            return self.pool.take(limit.begin())
        except PoolTimeoutError as e:
            limit.end()
            why = f"all {self.pool.size} connections are in use: raise ACME_DATABASE_CONNECTIONS"
            metrics.add("acme_store_errors", "no free connection")
            raise self._unavailable(why) from e
        except TimeLimitError as e:
            metrics.add("acme_store_errors", "unavailable")
            raise self._unavailable(e) from e
        except Exception as e:
            limit.end()
            if self.is_unavailable(e):
                metrics.add("acme_store_errors", "unavailable")
                self.pool.close_idle()  # which are to the same server
                raise self._unavailable(e) from e
            raise

    def _after_error(self, connection: Any, e: BaseException) -> None:
        """Return a connection to the pool, or close it if it may be broken; 503 if unavailable.

        A connection with a failed query may be used again, but not in its failed transaction.
        """
        if self.is_unavailable(e):
            metrics.add("acme_store_errors", "unavailable")
            self.pool.discard(connection)
            if self.is_lost(e):
                self.lost(connection)
            raise self._unavailable(e) from e
        if isinstance(e, self.driver_error) and not self.is_expected(e):
            metrics.add("acme_store_errors", "error")
        if self.in_transaction(connection):
            self.pool.discard(connection)
        else:
            self.pool.give_back(connection)

    def lost(self, connection: Any) -> None:  # noqa: ARG002
        """Close all idle connections, which are to the same server as one that was lost."""
        self.pool.close_idle()

    def is_expected(self, e: Exception) -> bool:
        """Whether an error of the driver is the fault of a request, which gets a 4xx."""
        return self.is_unstorable(e) or self.is_missing_owner(e)

    def _unavailable(self, why: object) -> fsa.ErrorResponse:
        """The 503; the reason goes to the log."""
        if time.monotonic() > self._logged + LOG_INTERVAL_SECONDS:
            self._logged = time.monotonic()
            log.error("the database is unavailable: %s", str(why).partition("\n")[0])
        headers = {"Retry-After": "1"}  # seconds
        return fsa.ErrorResponse("the database is unavailable: try again", 503, headers)
