"""A wrong query is 500 with one traceback in the log, not an unavailable database."""

import contextlib
import sqlite3
import sys

import psycopg
import pytest

from store.postgresql import PostgreSQL
from store.sqlite import SQLite
from tests.conftest import (
    SECRET,
    SQL,
    Target,
    configured,
    free_port,
    opened,
    run,
    serving,
    wait_for,
)

TRACEBACK = "Traceback (most recent call last)"
# a change of the schema that breaks a query, its reverse, and a request that makes the query
BREAKS = [
    ("ALTER TABLE stuff RENAME TO gone", "ALTER TABLE gone RENAME TO stuff", "/stuff"),
    ("ALTER TABLE stuff RENAME TO gone", "ALTER TABLE gone RENAME TO stuff", "/stuff/thing"),
    ("ALTER TABLE sessions RENAME TO gone", "ALTER TABLE gone RENAME TO sessions", "/hello-me"),
    (
        "ALTER TABLE users RENAME COLUMN email TO gone",
        "ALTER TABLE users RENAME COLUMN gone TO email",
        "/user",
    ),
    (
        "ALTER TABLE users RENAME COLUMN admin TO gone",
        "ALTER TABLE users RENAME COLUMN gone TO admin",
        "/user",
    ),
]


def execute(url, statement):
    """Execute a statement as another program would."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        connection = psycopg.connect(url, autocommit=True)
    with contextlib.closing(connection):
        connection.execute(statement)


@pytest.fixture(params=[*SQL, *(f"{kind}-http" for kind in SQL)])
def logged(request, new_database, caplog, tmp_path):
    """A target, the URL of its database, and a function that returns its log."""
    kind, _, live = request.param.partition("-")
    url = new_database(kind)
    if not live:
        with configured(url):

            def log():
                texts = [record.message for record in caplog.records]
                traces = [r.exc_text for r in caplog.records if r.exc_info]
                return "\n".join(texts + traces)

            yield Target(None), url, log
        return
    port, file = free_port(), tmp_path / "log"
    environ = {
        **{"ACME_DATABASE": url, "PORT": str(port), "ACME_TOKEN_SECRET": SECRET},
        **{"ACME_MODE": "prod", "LOG_FILE": str(file)},
    }
    command = ("sh", "-c", 'exec "$0" serve.py 2> "$LOG_FILE"', sys.executable)
    with serving(*command, ready="Ctrl-C", **environ):
        wait_for(port)
        yield Target(f"http://127.0.0.1:{port}"), url, file.read_text


def test_wrong_query_is_500_with_one_traceback(logged):
    """Whichever layer makes the query: route, permission, group, authentication."""
    target, url, log = logged
    target.person("acme")
    target.send_json("POST", "/stuff", {"stuff": "thing", "price": 1}, who="acme")
    for number, (broken, mended, path) in enumerate(BREAKS, 1):
        execute(url, broken)
        response = target.send("GET", path, who="acme")
        execute(url, mended)
        assert response.status == 500, path
        assert "Retry-After" not in response.headers
        assert "gone" not in response.error
        assert log().count(TRACEBACK) == number, path
        assert target.send("GET", path, who="acme").status == 200, path


@pytest.mark.parametrize("kind", SQL)
def test_missing_table_at_the_start_is_one_line(kind, new_database):
    """As where the rights on a table are missing."""
    url = new_database(kind)
    opened(url).close()
    execute(url, "ALTER TABLE users RENAME TO gone")
    res = run(sys.executable, "-m", "flask", "--app", "./app.py", "run", ACME_DATABASE=url)
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert "users" in res.stderr


@pytest.mark.parametrize("kind", SQL)
def test_connection_is_usable_after_wrong_query(kind, new_database):
    """Neither lost nor left in a failed transaction."""
    url = new_database(kind)
    with contextlib.closing(opened(url)) as store:
        store.add_user("susie", "hash", "susie@acme.org", True)
        store.add_user("calvin", "hash", "calvin@acme.org", True)
        execute(url, "ALTER TABLE sessions RENAME TO gone")
        for _ in range(store.pool.size + 1):
            with pytest.raises(store.driver_error):
                store.get_session_user("id", 0)
            with pytest.raises(store.driver_error):  # in a transaction
                store.change_user("susie", active=False)
        assert len(store.pool._idle) <= 1
        assert store.get_user("susie").active
        execute(url, "ALTER TABLE gone RENAME TO sessions")
        assert not store.change_user("susie", active=False).active


def test_wrong_type_is_not_an_unknown_value(new_database):
    """PostgreSQL calls it a data error, as text that cannot be stored, which is just not found."""
    url = new_database("postgresql")
    with contextlib.closing(opened(url)) as store:
        assert store.get_session_user("\0", 1.5) is None
        assert store.get_session_user("\ud800", 1.5) is None
        execute(url, "ALTER TABLE sessions ALTER COLUMN expires TYPE INTEGER")
        with pytest.raises(store.driver_error, match="integer"):
            store.get_session_user("id", 1.5)


@pytest.mark.parametrize(
    ("error", "unavailable"),
    [
        (psycopg.OperationalError("server closed the connection unexpectedly"), True),
        (psycopg.errors.lookup("08006")(), True),
        (psycopg.errors.lookup("25006")(), True),
        (psycopg.errors.lookup("40P01")(), True),
        (psycopg.errors.lookup("53100")(), True),
        (psycopg.errors.lookup("53300")(), True),
        (psycopg.errors.lookup("55P03")(), True),
        (psycopg.errors.lookup("57014")(), True),
        (psycopg.errors.lookup("57P01")(), True),
        (psycopg.errors.lookup("57P03")(), True),
        (psycopg.errors.lookup("58030")(), True),
        (psycopg.errors.lookup("22P02")(), False),
        (psycopg.errors.lookup("42501")(), False),
        (psycopg.errors.lookup("42601")(), False),
        (psycopg.errors.lookup("42703")(), False),
        (psycopg.errors.lookup("42804")(), False),
        (psycopg.errors.lookup("42P01")(), False),
        (psycopg.errors.lookup("XX000")(), False),
        (psycopg.ProgrammingError("the client is wrong"), False),
        (KeyError("name"), False),
    ],
    ids=repr,
)
def test_postgresql_error_classes_that_are_unavailable(error, unavailable):
    assert PostgreSQL("postgresql:///none", 1).is_unavailable(error) == unavailable


def sqlite_error(code):
    """An error of SQLite's, as the driver raises it."""
    error = sqlite3.OperationalError("message")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "unavailable"),
    [
        (sqlite3.SQLITE_BUSY, True),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, True),
        (sqlite3.SQLITE_CANTOPEN, True),
        (sqlite3.SQLITE_CORRUPT, True),
        (sqlite3.SQLITE_FULL, True),
        (sqlite3.SQLITE_IOERR_WRITE, True),
        (sqlite3.SQLITE_NOTADB, True),
        (sqlite3.SQLITE_READONLY, True),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, False),
        (sqlite3.SQLITE_ERROR, False),
        (sqlite3.SQLITE_MISMATCH, False),
        (sqlite3.SQLITE_MISUSE, False),
    ],
)
def test_sqlite_errors_that_are_unavailable(code, unavailable):
    assert SQLite("sqlite:///none.db", 1).is_unavailable(sqlite_error(code)) == unavailable
