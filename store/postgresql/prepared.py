"""Queries of PostgreSQL as prepared statements, with a deadline.

All private parts of psycopg and aiosql are used here; `tests/test_prepared.py` pins it.
"""

import dataclasses
import hashlib
import logging
import select
import time
from collections.abc import Generator
from typing import Any

import psycopg
from aiosql.adapters.pyformat import PyFormatAdapter
from aiosql.types import SQLOperationType
from aiosql.utils import VAR_REF
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

log = logging.getLogger("acme")

SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
# a prepared statement that is out of date, after a migration: it must be prepared again
STALE_STATEMENT = psycopg.errors.FeatureNotSupported
# a prepared statement that is not there, or that another client has prepared: the pooler
# gives the connection of the server to another client after each transaction
SHARED_CONNECTION = (
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
NOT_PREPARED = (SQLOperationType.SCRIPT, SQLOperationType.INSERT_UPDATE_DELETE_MANY)


Address = tuple[Any, Any, Any]  # host, port and IP address of an attempt to connect


class Connection(psycopg.Connection[Any]):
    """A connection with the names of the queries that it has prepared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.address: Address = (None, None, None)
        self.deadline: float | None = None  # of the next queries, in monotonic seconds
        self.warning: str | None = None  # from the server, during the last query
        self.prepared: set[bytes] = set()
        self.transformer = Transformer(self)
        self._poll = select.poll()
        self._poll.register(self.fileno(), select.POLLIN)
        self.prepare_threshold = None  # of psycopg's cursors
        self.add_notice_handler(self._notice)

    def _notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.severity_nonlocalized == "WARNING":
            self.warning = diagnostic.message_primary

    def has_input(self) -> bool:
        """Whether the server has sent something, or closed the connection."""
        return bool(self._poll.poll(0))

    def result(self) -> pq.abc.PGresult:
        """The result of the query that was sent, by the deadline; else the error of psycopg."""
        pgconn = self.pgconn
        while pgconn.flush():  # a long query that the server has not yet read
            self._wait(select.POLLIN | select.POLLOUT)
            pgconn.consume_input()
        result = None
        while True:
            while pgconn.is_busy():  # get_result would wait without a deadline, and with the GIL
                self._wait(select.POLLIN)
                pgconn.consume_input()
            if not (more := pgconn.get_result()):
                break
            result = result or more
        if result is None or pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError(pgconn.get_error_message())
        if result.status not in SUCCESS:
            raise error_from_result(result)
        return result

    def _wait(self, events: int) -> None:
        milliseconds = None
        if self.deadline is not None:
            milliseconds = max(0.0, (self.deadline - time.monotonic()) * 1000)
        poll = self._poll
        if events != select.POLLIN:
            poll = select.poll()
            poll.register(self.fileno(), events)
        if not poll.poll(milliseconds):
            raise psycopg.errors.ConnectionTimeout("the server does not respond")


@dataclasses.dataclass(frozen=True)
class Query:
    """A query of aiosql, with `$1` for `:name`."""

    name: bytes  # of the prepared statement
    sql: bytes
    parameters: list[str]
    formats: list[PyFormat]


class PreparedAdapter(PyFormatAdapter):
    """Runs the queries of aiosql; psycopg runs scripts and statements for many rows.

    A cursor of psycopg releases the GIL several times a query, and under load waits each time to
    acquire it again. This does so twice, to send and to wait, so that a query has a deadline; what
    converts values is made once for a connection.
    """

    def __init__(self) -> None:
        super().__init__()
        self._queries: dict[str, Query] = {}
        self.prepares = True  # else a pooler is between, see SHARED_CONNECTION

    def process_sql(self, query_name: str, op_type: SQLOperationType, sql: str) -> str:
        """The text with `$1` for `:name`."""
        if op_type in NOT_PREPARED:
            return str(super().process_sql(query_name, op_type, sql))
        names: list[str] = []

        def number(match: Any) -> str:
            name = match["var_name"]
            if name is None:  # a quoted text or identifier
                return str(match[0])
            if name not in names:
                names.append(name)
            return f"{match['lead']}${names.index(name) + 1}"

        text = VAR_REF.sub(number, sql)
        # with a hash, because other versions of Acme may share the server's connection
        name = f"{query_name}_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        formats = [PyFormat.TEXT] * len(names)
        self._queries[query_name] = Query(name.encode(), text.encode(), names, formats)
        return text

    def _execute(self, connection: Connection, name: str, values: Any) -> pq.abc.PGresult:
        query = self._queries[name]
        parameters: Any = connection.transformer.dump_sequence(
            [values[name] for name in query.parameters], query.formats
        )
        connection.warning = None
        if self.prepares:
            try:
                return _run_prepared(connection, query, parameters)
            except (STALE_STATEMENT, *SHARED_CONNECTION) as e:
                self._after_lost_statement(connection, e)
        if self.prepares:
            return _run_prepared(connection, query, parameters)
        connection.pgconn.send_query_params(query.sql, parameters)
        return connection.result()

    def _after_lost_statement(self, connection: Connection, e: psycopg.Error) -> None:
        """Make it possible to repeat a query that has failed before it began."""
        if isinstance(e, SHARED_CONNECTION) and self.prepares:
            self.prepares = False
            log.warning("queries are no longer prepared, because a connection pooler loses them")
        if connection.info.transaction_status != pq.TransactionStatus.IDLE:
            raise psycopg.OperationalError(str(e)) from e  # handled as a lost connection
        if self.prepares:
            connection.pgconn.send_query(b"DEALLOCATE ALL")
            connection.result()
            connection.prepared.clear()

    def _rows(self, connection: Connection, query: str, values: Any) -> list[Any]:
        result = self._execute(connection, query, values)
        connection.transformer.set_pgresult(result)
        return connection.transformer.load_rows(0, result.ntuples, tuple)

    # called by aiosql

    def select(
        self,
        conn: Any,
        query_name: str,
        sql: str,  # noqa: ARG002
        parameters: Any,
        record_class: Any = None,
    ) -> Generator[Any, None, None]:
        """All rows."""
        assert record_class is None
        yield from self._rows(conn, query_name, parameters)

    def select_one(
        self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None
    ) -> Any:
        """The first row, None if there is none."""
        return next(self.select(conn, query_name, sql, parameters, record_class), None)

    def select_value(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """The first value of the first row, None if there is none."""
        return next(iter(self.select_one(conn, query_name, sql, parameters) or ()), None)

    def insert_update_delete(
        self,
        conn: Any,
        query_name: str,
        sql: str,  # noqa: ARG002
        parameters: Any,
    ) -> int:
        """How many rows were changed."""
        return self._execute(conn, query_name, parameters).command_tuples or 0


def _run_prepared(connection: Connection, query: Query, parameters: Any) -> pq.abc.PGresult:
    """Execute a query, prepared if it is not yet."""
    if query.name not in connection.prepared:
        connection.pgconn.send_prepare(query.name, query.sql)
        connection.result()
        connection.prepared.add(query.name)
    connection.pgconn.send_query_prepared(query.name, parameters)
    return connection.result()
