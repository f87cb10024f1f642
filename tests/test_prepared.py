"""Prepared statements give what a cursor of psycopg gives, though they use private parts of it."""

import contextlib

import aiosql
import psycopg
import pytest

from store.postgresql.prepared import Connection, PreparedAdapter

QUERIES = """
-- name: echo(text, number, flag, weight, nothing)^
SELECT CAST(:text AS TEXT), CAST(:number AS BIGINT), CAST(:flag AS BOOLEAN),
    CAST(:weight AS DOUBLE PRECISION), CAST(:nothing AS TEXT), ':text "x"', 1 AS ":number";

-- name: pairs(limit)
SELECT n, CAST(n AS TEXT) FROM generate_series(1, :limit) AS n;

-- name: value()$
SELECT NULL;

-- name: none()^
SELECT 1 WHERE FALSE;

-- name: add(id)!
INSERT INTO things (id) VALUES (:id);

-- name: wrong()!
SELECT missing;
"""


@pytest.fixture
def connection(new_database):
    parameters = psycopg.conninfo.conninfo_to_dict(new_database("postgresql"))
    with contextlib.closing(Connection.connect(**parameters, autocommit=True)) as found:
        found.execute("CREATE TABLE things (id TEXT PRIMARY KEY)")
        yield found


def test_adapter_returns_the_results_of_a_cursor(connection):
    """The types of values, the errors, and the number of rows."""
    own, theirs = (aiosql.from_str(QUERIES, driver) for driver in (PreparedAdapter, "psycopg"))
    values = {"text": "é🍺'\\", "number": -(2**62), "flag": True, "weight": 0.1, "nothing": None}
    for queries in own, theirs:
        row = queries.echo(connection, **values)
        assert row[:5] == tuple(values.values())
        assert [type(value) for value in row[:5]] == [str, int, bool, float, type(None)]
        assert row[5:] == (':text "x"', 1)
        assert list(queries.pairs(connection, limit=2)) == [(1, "1"), (2, "2")]
        assert queries.value(connection) is None
        assert queries.none(connection) is None
    for id_, queries in ("own", own), ("theirs", theirs):
        assert queries.add(connection, id=id_) == 1
        with pytest.raises(psycopg.errors.UniqueViolation) as taken:
            queries.add(connection, id=id_)
        assert (taken.value.sqlstate, taken.value.diag.table_name) == ("23505", "things")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            queries.wrong(connection)
        with pytest.raises(psycopg.DataError):
            queries.add(connection, id="\0")
        with pytest.raises(UnicodeEncodeError):
            queries.add(connection, id="\ud800")


def test_lost_connection_is_an_operational_error(connection):
    queries = aiosql.from_str(QUERIES, PreparedAdapter)
    assert queries.none(connection) is None
    with pytest.raises(psycopg.errors.AdminShutdown):
        connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError) as lost:
            queries.none(connection)
        assert lost.value.sqlstate is None
