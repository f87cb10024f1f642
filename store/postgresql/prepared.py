"""Queries of PostgreSQL as prepared statements, each executed by one call of libpq.

All private parts of psycopg and aiosql are used here; `tests/test_prepared.py` pins it.
"""

from collections.abc import Generator
from typing import Any

import psycopg
from aiosql.adapters.pyformat import PyFormatAdapter
from aiosql.types import SQLOperationType
from aiosql.utils import VAR_REF
from psycopg import pq
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result

SUCCESS = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)
# errors of a prepared statement that is out of date: it must be prepared again
STALE_STATEMENT = (
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidSqlStatementName,
    psycopg.errors.DuplicatePreparedStatement,
)
NOT_PREPARED = (SQLOperationType.SCRIPT, SQLOperationType.INSERT_UPDATE_DELETE_MANY)


class Connection(psycopg.Connection[Any]):
    """A connection with the names of the queries that it has prepared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prepared: set[str] = set()


class PreparedAdapter(PyFormatAdapter):
    """Runs the queries of aiosql; psycopg runs scripts and statements for many rows.

    A cursor of psycopg releases the GIL several times a query, and under load waits each time to
    acquire it again; a blocking call of libpq releases it once. A query takes 11 us of CPU, with a
    cursor 17; 16 threads make 46,000 queries a second, with cursors 26,000.
    """

    def __init__(self) -> None:
        super().__init__()
        self._names: dict[str, list[str]] = {}  # of parameters, by query

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
        self._names[query_name] = names
        return text

    def _execute(
        self, connection: Connection, query: str, sql: str, values: Any
    ) -> pq.abc.PGresult:
        transformer = Transformer(connection)
        names = self._names[query]
        parameters: Any = transformer.dump_sequence(
            [values[name] for name in names], [PyFormat.TEXT] * len(names)
        )
        try:
            try:
                return _run(connection, query, sql, parameters)
            except STALE_STATEMENT as e:  # a migration changed a type, or a pooler lost it
                if connection.info.transaction_status != pq.TransactionStatus.IDLE:
                    raise psycopg.OperationalError(str(e)) from e  # handled as a lost connection
            connection.pgconn.exec_(b"DEALLOCATE ALL")
            connection.prepared.clear()
            return _run(connection, query, sql, parameters)
        except MemoryError:  # libpq returns no result on a broken connection
            raise psycopg.OperationalError(_error_message(connection)) from None

    def _rows(self, connection: Connection, query: str, sql: str, values: Any) -> list[Any]:
        result = self._execute(connection, query, sql, values)
        transformer = Transformer(connection)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    # called by aiosql

    def select(
        self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None
    ) -> Generator[Any, None, None]:
        """All rows."""
        assert record_class is None
        yield from self._rows(conn, query_name, sql, parameters)

    def select_one(
        self, conn: Any, query_name: str, sql: str, parameters: Any, record_class: Any = None
    ) -> Any:
        """The first row, None if there is none."""
        return next(self.select(conn, query_name, sql, parameters, record_class), None)

    def select_value(self, conn: Any, query_name: str, sql: str, parameters: Any) -> Any:
        """The first value of the first row, None if there is none."""
        return next(iter(self.select_one(conn, query_name, sql, parameters) or ()), None)

    def insert_update_delete(self, conn: Any, query_name: str, sql: str, parameters: Any) -> int:
        """How many rows were changed."""
        return self._execute(conn, query_name, sql, parameters).command_tuples or 0


def _run(connection: Connection, query: str, sql: str, parameters: Any) -> pq.abc.PGresult:
    """Execute a query, prepared if it is not yet."""
    if query not in connection.prepared:
        _check(connection, connection.pgconn.prepare(query.encode(), sql.encode()))
        connection.prepared.add(query)
    return _check(connection, connection.pgconn.exec_prepared(query.encode(), parameters))


def _check(connection: Connection, result: pq.abc.PGresult) -> pq.abc.PGresult:
    """A result that is a success; else the error that psycopg would raise."""
    if result.status in SUCCESS:
        return result
    if connection.pgconn.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError(_error_message(connection))
    raise error_from_result(result)


def _error_message(connection: Connection) -> str:
    return connection.pgconn.get_error_message()
