"""The connection pool: bounded, fair, safe to fork, and empty after a minute without calls."""

import contextlib
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import psycopg
import pytest

import database
from database import open_store
from store import pool
from test import app
from tests.conftest import ROOT, SQL, configured, opened, run


class Fake:
    """A connection that counts how many are open."""

    open = most = 0
    lock = threading.Lock()
    usable = True

    def __init__(self, _deadline=None):
        with self.lock:
            Fake.open += 1
            Fake.most = max(Fake.most, Fake.open)

    def close(self):
        with self.lock:
            Fake.open -= 1


@pytest.fixture
def fakes(monkeypatch):
    """Makes a pool of fake connections."""
    monkeypatch.setattr(Fake, "open", 0)
    monkeypatch.setattr(Fake, "most", 0)
    return lambda size, connect=Fake: pool.Pool(connect, lambda one: one.usable, size)


def test_never_more_connections_than_its_size(fakes):
    connections = fakes(4)

    def call(n):
        one = connections.take()
        threading.Event().wait(0.0005)
        (connections.discard if n % 7 == 0 else connections.give_back)(one)

    with ThreadPoolExecutor(28) as threads:
        list(threads.map(call, range(600)))
    assert 1 < Fake.most <= 4
    assert Fake.open == len(connections._idle) <= 4
    connections.close_idle()
    assert Fake.open == 0


def test_waiting_calls_are_served_in_order(fakes):
    connections = fakes(1)
    first = connections.take()
    served, threads = [], []
    for n in range(5):

        def call(n=n):
            one = connections.take()
            served.append(n)
            connections.give_back(one)

        threads.append(threading.Thread(target=call))
        threads[-1].start()
        while len(connections._waiting) <= n:
            assert threads[-1].is_alive()
    connections.give_back(first)
    for thread in threads:
        thread.join()
    assert served == [0, 1, 2, 3, 4]


def test_discarded_connection_lets_a_waiting_call_open_one(fakes):
    connections = fakes(1)
    first = connections.take()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(connections.take)
        while not connections._waiting:
            assert not waiting.done()
        connections.discard(first)
        assert waiting.result() is not first
    assert Fake.open == 1


def test_call_waits_a_bounded_time(fakes, monkeypatch):
    monkeypatch.setattr(pool, "WAIT_SECONDS", 0.01)
    connections = fakes(1)
    one = connections.take()
    for _ in range(3):
        with pytest.raises(pool.PoolTimeoutError):
            connections.take()
    connections.give_back(one)
    assert connections.take() is one


def test_failure_to_connect_leaves_room(fakes):
    def fail(_deadline):
        raise ConnectionError

    connections = fakes(2, fail)
    for _ in range(5):
        with pytest.raises(ConnectionError):
            connections.take()
    connections._connect = Fake
    assert connections.take()


def test_unusable_connection_is_replaced(fakes):
    connections = fakes(1)
    first = connections.take()
    connections.give_back(first)
    first.usable = False
    assert connections.take() is not first
    assert Fake.open == 1


def test_idle_connections_are_closed_the_oldest_first(fakes, monkeypatch):
    connections = fakes(3)
    clock = [0.0]
    monkeypatch.setattr(pool.time, "monotonic", lambda: clock[0])
    ones = [connections.take() for _ in range(3)]
    for one in ones:
        connections.give_back(one)
        clock[0] += 30
    connections.close_idle(60)
    assert Fake.open == 1  # of 90, 60 and 30 seconds
    assert [one for one, _ in connections._idle] == ones[2:]


def test_threads_that_ended_leave_their_connections_to_others(fakes):
    connections = fakes(9)

    def call():
        connections.give_back(connections.take())

    for _ in range(20):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert Fake.most == 1


# --- with a database


def count_backends(url):
    """How many connections a PostgreSQL database has, this one aside."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()[0]


@pytest.mark.parametrize("kind", SQL)
def test_no_free_connection_is_503(kind, new_database, monkeypatch, caplog):
    monkeypatch.setattr(pool, "WAIT_SECONDS", 0.01)
    url = new_database(kind)
    opened(url).close()
    monkeypatch.setattr("store.engine.LOG_INTERVAL_SECONDS", -1.0)
    with contextlib.closing(open_store(url, connections=1)) as store:
        with store.connection(), pytest.raises(fsa.ErrorResponse) as refused:
            store.has_users()
        assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
        assert "ACME_DATABASE_CONNECTIONS" in caplog.text
        assert store.has_users() is False


IDLE = """if True:
    import sys, threading, psycopg
    from database import open_store
    from store import pool
    pool.IDLE_SECONDS = pool.REAP_SECONDS = 0.05
    store = open_store(sys.argv[1])
    store.has_users()
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'acme'" \\
        " AND datname = current_database()"
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        while connection.execute(count).fetchone()[0]:
            pass
    store.has_users()
"""


def test_idle_connection_is_closed(new_database):
    url = new_database("postgresql")
    opened(url).close()
    subprocess.run([sys.executable, "-c", IDLE, url], cwd=ROOT, check=True, timeout=30)


FORK = """if True:
    import os, sys
    from database import open_store
    store = open_store(sys.argv[1], connections=1)
    store.has_users()
    child = os.fork()
    if not child:
        for _ in range(100):
            store.has_users()
        store.close()
        os._exit(0)
    for _ in range(100):
        store.has_users()
    assert os.waitpid(child, 0)[1] == 0
    with store.connection() as one, store.pool._lock:
        assert store.pool._open == 1
    store.has_users()
    store.close()
"""


@pytest.mark.parametrize("kind", SQL)
def test_forked_process_has_connections_of_its_own(kind, new_database):
    url = new_database(kind)
    opened(url).close()
    subprocess.run([sys.executable, "-c", FORK, url], cwd=ROOT, check=True, timeout=30)


def test_connections_that_died_while_idle_are_replaced(new_database):
    """Whether the server ended them or the network did."""
    url = new_database("postgresql")
    with contextlib.closing(opened(url)) as store:
        for _ in range(3):
            with ThreadPoolExecutor(4) as threads:
                list(threads.map(lambda _: store.has_users(), range(20)))
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            assert store.has_users() is False
        assert count_backends(url) == 1


def test_number_of_connections_is_configured(new_database, monkeypatch):
    """In process by the configuration; a wrong one is refused."""
    url = new_database("sqlite")
    monkeypatch.setitem(app.config, "ACME_DATABASE_CONNECTIONS", "3")
    with configured(url):
        assert database.db.pool.size == 3
    monkeypatch.setitem(app.config, "ACME_DATABASE_CONNECTIONS", None)
    with configured(url):
        assert database.db.pool.size == database.CONNECTIONS
    res = run(sys.executable, "serve.py", ACME_DATABASE=url, ACME_DATABASE_CONNECTIONS="0")
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert "ACME_DATABASE_CONNECTIONS=0" in res.stderr


def test_workers_times_connections_is_below_100():
    """PostgreSQL takes 100 connections by default, some of which are reserved."""
    for workers in range(1, 65):
        assert 1 <= database.connections_for(workers) <= database.CONNECTIONS
        assert workers * database.connections_for(workers) <= 90
