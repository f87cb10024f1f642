"""An unavailable database is 503, and nothing acknowledged is lost."""

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import FlaskSimpleAuth as fsa
import psycopg
import pytest

import database
import store.sqlite
from database import open_store
from store import migrations
from tests.conftest import (
    Target,
    configured,
    granian,
    new_name,
    opened,
    until,
)
from tests.stores import post, statuses, stuff_of


def assert_503(res):
    assert res.status == 503
    assert res.headers["Retry-After"] == "1"
    assert res.error == "the database is unavailable: try again"


@pytest.fixture
def sqlite(new_database, monkeypatch):
    """A target in process on SQLite, with a short busy timeout, and the path of its file."""
    monkeypatch.setattr(store.sqlite, "BUSY_TIMEOUT_SECONDS", 0.1)
    url = new_database("sqlite")
    with configured(url):
        target = Target(None)
        target.person("acme")
        yield target, Path(url.removeprefix("sqlite:///"))


def test_locked_sqlite_is_503_and_recovers(sqlite):
    """A change during a lock longer than the timeout is 503 and changes nothing."""
    target, path = sqlite
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_503(post(target, "thing"))
        assert target.send("GET", "/stuff", who="acme").json == []
        other.execute("ROLLBACK")
    assert post(target, "thing").status == 201
    assert target.send("GET", "/stuff", who="acme").json == [["thing", 1.0]]


@pytest.mark.parametrize("pragma", ["query_only = 1", "max_page_count = 1"])
def test_unwritable_sqlite_is_503(sqlite, pragma, monkeypatch):
    """A file that is read-only, and a disk that is full."""
    target, _ = sqlite
    connect = database.db.connect

    def limited(deadline):
        connection = connect(deadline)
        connection.execute(f"PRAGMA {pragma}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(database.db.pool, "_connect", limited)
        database.db.close()
        res = [post(target, f"{n:0100}") for n in range(300)][-1]
        assert_503(res)
        assert target.send("GET", "/stuff?limit=1", who="acme").status == 200
        database.db.close()
    assert post(target, "thing").status == 201


def test_damaged_sqlite_is_503(sqlite):
    """A file that is not a database any more."""
    target, path = sqlite
    database.db.close()
    for file in path.parent.iterdir():
        file.write_bytes(b"rubbish" * 1000)
    assert_503(target.send("GET", "/stuff", who="acme"))


def test_deleted_file_is_503_until_it_is_back(sqlite, monkeypatch):
    """Nothing is acknowledged that only a deleted file holds, and no empty file takes its place."""
    target, path = sqlite
    monkeypatch.setattr(store.sqlite, "CHECK_SECONDS", 0)
    assert post(target, "before").status == 201
    path.rename(path.with_suffix(".moved"))
    assert_503(post(target, "meanwhile"))
    assert_503(target.send("GET", "/stuff", who="acme"))
    assert not path.exists()
    path.with_suffix(".moved").rename(path)
    assert post(target, "after").status == 201
    assert {"before", "after"} <= stuff_of(target)


def test_file_deleted_during_a_write_is_503(sqlite, monkeypatch):
    """A connection that is in use when the file is deleted would go on writing to it."""
    target, path = sqlite
    add_stuff = database.db.queries.add_stuff

    def deleting(connection, **values):
        path.rename(path.with_suffix(".moved"))
        return add_stuff(connection, **values)

    with monkeypatch.context() as patch:
        patch.setattr(database.db.queries, "add_stuff", deleting)
        assert_503(post(target, "meanwhile"))
    path.with_suffix(".moved").rename(path)
    assert post(target, "after").status == 201


def test_replaced_file_is_opened(sqlite, monkeypatch):
    """A backup that takes the place of the file is what the next request reads."""
    target, path = sqlite
    monkeypatch.setattr(store.sqlite, "CHECK_SECONDS", 0)
    assert post(target, "old").status == 201
    copy = path.with_suffix(".copy")
    database.db.backup(copy)
    assert post(target, "new").status == 201
    database.db.close()
    copy.rename(path)
    for suffix in "-wal", "-shm":
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    assert stuff_of(target) == {"old"}


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE stuff ALTER COLUMN name TYPE varchar(200)", "DEALLOCATE ALL"],
    ids=["a migration", "a pooler"],
)
def test_stale_prepared_query_is_prepared_again(new_database, change):
    """Without an error for the client."""
    with contextlib.closing(open_store(new_database("postgresql"))) as db:
        migrations.upgrade(db)
        db.add_user("susie", "hash", "susie@acme.org", False)
        db.add_stuff("pinte", "susie", 6.5)
        for _ in range(2):
            assert db.get_user_stuff("susie", 10) == [("pinte", 6.5)]
            with db.connection() as connection:
                connection.execute(change)
        db.change_user("susie", email="new@acme.org")
        with db.connection() as connection:
            connection.execute("ALTER TABLE users ALTER COLUMN email TYPE varchar(300)")
        with contextlib.suppress(fsa.ErrorResponse):  # in a transaction: 503, as of a restart
            db.change_user("susie", email="newer@acme.org")
        assert db.change_user("susie", email="newest@acme.org").email == "newest@acme.org"


def test_postgresql_waits_a_bounded_time_for_a_lock(new_database):
    """Each statement has five seconds, unless the URL says otherwise; then it is 503."""
    url = new_database("postgresql")
    with contextlib.closing(opened(url)) as found, found.connection() as connection:
        query = "SELECT setting, unit FROM pg_settings WHERE name = 'statement_timeout'"
        assert connection.execute(query).fetchone() == ("5000", "ms")
    hasty = f"{url}&options=-c%20statement_timeout%3D50"
    with psycopg.connect(url) as other, contextlib.closing(open_store(hasty)) as found:
        other.execute("LOCK TABLE stuff")
        with pytest.raises(fsa.ErrorResponse) as error:
            found.get_stuff("pencil")
    assert error.value.status == 503


def test_postgresql_restart_loses_no_acknowledged_write(postgresql, new_database):
    """Restarted under load: 503 meanwhile, then 201 again, and each write with a 201 is kept."""
    with granian(ACME_DATABASE=new_database("postgresql"), WORKERS="2") as url:
        target = Target(url)
        target.person("acme")
        writes, reads, done = [], set(), threading.Event()  # writes: (name, status)

        def load(n):
            while not done.is_set():
                name = new_name(f"w{n}-")
                writes.append((name, post(target, name).status))

        def acknowledged(since=0):
            return {name for name, status in writes[since:] if status == 201}

        def read():
            found = statuses(target)
            reads.update(found)
            return found

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(load, n) for n in range(4)]
            try:
                for _ in range(2):
                    running = len(writes)
                    until(lambda since=running: len(acknowledged(since)) > 50)
                    postgresql.stop()
                    assert 503 in read()
                    postgresql.start()
                    until(lambda: read() == {200})
                    restarted = len(writes)
                    until(lambda since=restarted: acknowledged(since))
            finally:
                done.set()
            for client in clients:
                client.result()
        assert {status for _, status in writes} <= {201, 503}
        assert reads == {200, 503}
        found = stuff_of(target)
        assert acknowledged() <= found <= {name for name, _ in writes}
        # a restart between requests is not noticed at all
        postgresql.stop()
        postgresql.start()
        assert statuses(target, 16) == {200}
