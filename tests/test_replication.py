"""A replicated PostgreSQL in trouble: bounded time, and nothing acknowledged that may be lost.

Each test says what the answer is, and how long it may take.
"""

import contextlib
import json
import signal
import socket
import sys
import threading
import time
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import argon2
import FlaskSimpleAuth as fsa
import psycopg
import pyotp
import pytest

import database
import serve
import test as tutorial
from database import open_store
from security.passwords import check_password, hash_queue
from security.totp import check_code, totp_lock
from store import pool, time_limit
from store.postgresql import OPTIONS
from tests.clusters import Cluster
from tests.conftest import (
    SECRET,
    Target,
    configured,
    free_port,
    granian,
    new_name,
    run,
    serving,
    until,
    wait_for,
)
from tests.stores import post

SHORT = 0.5  # seconds for the calls of a request, in tests that need not wait longer
SOON = 3  # seconds, on a busy machine; without a time limit it would take five or more
DAYS = (
    f"/days?{urllib.parse.urlencode({'who': json.dumps({'name': 'Hobbes', 'born': '1985-11-18'})})}"
)
# backends of Acme that have a certain state
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
BACKENDS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'acme'"


@pytest.fixture(scope="module")
def cluster():
    """A primary and its synchronous standby."""
    primary = Cluster()
    standby = None
    try:
        primary.execute("CREATE DATABASE acme")
        with configured(primary.url("acme")):
            pass  # it has its schema and its first user from now on, whichever test comes first
        standby = Cluster(primary)
        primary.configure("synchronous_standby_names", "standby")
        yield primary, standby
    finally:
        if standby:
            standby.remove()
        primary.remove()


@pytest.fixture
def primary(cluster):
    return cluster[0]


@pytest.fixture
def target(primary):
    """Acme in process, with the token of its administrator."""
    with configured(primary.url("acme")):
        target = Target(None)
        target.person("acme")
        yield target


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(time_limit, "REQUEST_SECONDS", SHORT)


@contextlib.contextmanager
def frozen(server):
    """The server does not run: it keeps its connections, and takes new ones to the queue."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def timed(function, *arguments, **named):
    """The result of a call and how many seconds it took."""
    start = time.monotonic()
    return function(*arguments, **named), time.monotonic() - start


def assert_503(response):
    assert response.status == 503
    assert response.headers["Retry-After"] == "1"
    assert response.error == "the database is unavailable: try again"


# 1. confirmed or not acknowledged


def test_write_without_standby_is_503_within_six_seconds(cluster, target):
    """With the real time limit. While one write waits, the next ones are refused at once."""
    primary, standby = cluster
    with ThreadPoolExecutor(1) as threads, frozen(standby):
        response, seconds = timed(post, target, new_name())
        assert_503(response)
        assert 5 < seconds < 6
        trial = threads.submit(post, target, new_name())
        until(lambda: len(primary.execute(WAITING)) == 2)
        response, seconds = timed(post, target, new_name())
        assert_503(response)
        assert seconds < SOON
        assert len(primary.execute(WAITING)) == 2
        assert target.send("GET", "/stuff", who="acme").status == 200
    assert trial.result().status == 201  # the standby came back in time
    assert post(target, new_name()).status == 201


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("change", ["one statement", "a transaction"])
def test_cancelled_wait_for_the_standby_is_503(cluster, target, how, change):
    """PostgreSQL ends it with a warning and calls the commit done, though one server has it."""
    primary, standby = cluster
    with ThreadPoolExecutor(1) as threads, frozen(standby):
        if change == "one statement":
            waiting = threads.submit(post, target, new_name())
        else:
            body = {"email": f"{new_name()}@acme.org"}
            waiting = threads.submit(target.send_json, "PATCH", "/user/acme", body, "acme")
        until(lambda: primary.execute(WAITING))
        [(backend,)] = primary.execute(WAITING)
        primary.execute(f"SELECT {how}({backend})")
        assert_503(waiting.result())
        until(lambda: (backend,) not in primary.execute(BACKENDS))  # the connection is dropped
    assert post(target, new_name()).status == 201


def test_repeat_of_an_unconfirmed_change_is_503(cluster, target, monkeypatch):
    """With an `Idempotency-Key` as well: one server has the first answer, and may lose it."""
    primary, standby = cluster
    new = {"stuff": new_name(), "price": 1}
    key = {"Idempotency-Key": new_name()}
    with ThreadPoolExecutor(1) as threads, frozen(standby):
        waiting = threads.submit(target.send_json, "POST", "/stuff", new, "acme", key)
        until(lambda: primary.execute(WAITING))
        [(backend,)] = primary.execute(WAITING)
        primary.execute(f"SELECT pg_cancel_backend({backend})")
        assert_503(waiting.result())
        monkeypatch.setattr(time_limit, "REQUEST_SECONDS", SHORT)
        assert_503(target.send_json("POST", "/stuff", new, "acme", key))
        monkeypatch.undo()
    assert target.send_json("POST", "/stuff", new, "acme", key).status == 201


def test_warning_of_an_earlier_query_does_not_refuse_a_change(target):
    with database.db.connection() as connection:
        connection.execute("DO $$ BEGIN RAISE WARNING 'something else'; END $$")
        assert connection.warning == "something else"
    assert post(target, new_name()).status == 201
    with pytest.raises(fsa.ErrorResponse) as refused, database.db.changes() as connection:
        database.db.queries.rollback(connection)  # a COMMIT then warns
    assert refused.value.status == 503


# 2. bounded time


def test_frozen_backend_is_503_once(primary, target, short):
    """The first failure drops all idle connections: the next request gets another one."""
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: target.send("GET", "/stuff", who="acme"), range(16)))
    stopped = [psycopg_process(primary, pid) for (pid,) in primary.execute(BACKENDS)]
    for process in stopped:
        process.suspend()
    try:
        response, seconds = timed(target.send, "GET", "/stuff", who="acme")
        assert_503(response)
        assert seconds < SOON
        assert database.db.pool.connections == 0
        assert target.send("GET", "/stuff", who="acme").status == 200
        assert post(target, new_name()).status == 201
    finally:
        for process in stopped:
            process.resume()


def psycopg_process(primary, pid):
    return next(child for child in primary.process.children() if child.pid == pid)


def test_frozen_server_is_503_in_bounded_time(primary, target, short):
    """With an idle connection, and where each request has to open one; then it recovers."""
    with frozen(primary):
        for _ in range(2):
            response, seconds = timed(target.send, "GET", "/stuff", who="acme")
            assert_503(response)
            assert seconds < SOON
        assert target.send("GET", "/hello").status == 200
    assert target.send("GET", "/stuff", who="acme").status == 200


def test_all_calls_of_a_request_share_its_time(primary, target, short):
    """Here the second one waits for a lock that is released after the request has ended."""
    name, limits = new_name(), []
    post(target, name)
    begin = time_limit.TimeLimit.begin

    def slow(limit):
        limits.append(limit.left)
        return begin(limit)

    with psycopg.connect(primary.url("acme")) as other, pytest.MonkeyPatch.context() as patch:
        other.execute("LOCK TABLE users IN SHARE MODE")
        other.execute("LOCK TABLE stuff")
        patch.setattr(time_limit.TimeLimit, "begin", slow)
        response, seconds = timed(target.send, "GET", f"/stuff/{name}", who="acme")
    assert_503(response)
    assert seconds < SOON
    assert len(limits) == 2
    assert limits[1] < limits[0] == SHORT


def test_time_between_calls_is_not_counted(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(time_limit, "REQUEST_SECONDS", 5.0)
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: now)
    limit = time_limit.TimeLimit()
    assert limit.begin() == 1005
    now += 2
    limit.end()
    now += 10
    assert limit.begin() == 1015
    now += 3
    limit.end()
    with pytest.raises(time_limit.TimeLimitError):
        limit.begin()


def test_dead_host_is_tried_once(primary, short):
    """It takes its share of the time of one request; each later connection skips it."""
    with socket.create_server(("127.0.0.1", 0)) as dead:  # accepts, and never responds
        dead.setblocking(False)
        hosts = f"127.0.0.1:{dead.getsockname()[1]},127.0.0.1:{primary.port}"
        with contextlib.closing(open_store(f"postgresql://postgres@{hosts}/acme")) as store:
            for _ in range(4):
                assert store.has_users()
                store.close()
        dead.accept()[0].close()
        with pytest.raises(BlockingIOError):
            dead.accept()


def test_host_that_loses_a_connection_is_tried_last(primary, target):
    """It may be a pooler, which takes connections to a server that is none any more."""
    url = f"postgresql://postgres@127.0.0.1:{primary.port},localhost:{primary.port}/acme"
    with contextlib.closing(open_store(url)) as store:

        def lose_connection():
            with store.connection() as connection:
                assert connection.info.host == "127.0.0.1"
                backend = connection.info.backend_pid
                primary.execute(f"SELECT pg_terminate_backend({backend}, 5000)")
                connection.execute("SELECT 1")

        with pytest.raises(fsa.ErrorResponse):
            lose_connection()
        with store.connection() as connection:
            assert connection.info.host == "localhost"


def test_server_stops_statements_that_nobody_waits_for(primary):
    store = open_store(primary.url("acme"))
    with contextlib.closing(store), store.connection() as connection:
        for option in OPTIONS.split("-c ")[1:]:
            name, value = option.strip().split("=")
            found = connection.execute(f"SELECT setting FROM pg_settings WHERE name = '{name}'")
            assert found.fetchone() == (value,)


# 3. open routes


def test_open_routes_stay_quick_while_the_database_is_frozen(primary):
    """Sixty clients write meanwhile; some of the threads wait for the database, never all."""
    paths = ["/livez", "/hello", DAYS, "/www/style.css"]
    statuses, slowest = set(), dict.fromkeys(paths, 0.0)
    with granian(ACME_DATABASE=primary.url("acme"), WORKERS="1") as url:
        target = Target(url)
        target.person("acme")
        done = threading.Event()

        def write(_):
            while not done.is_set():
                statuses.add(post(target, new_name()).status)

        with ThreadPoolExecutor(60) as threads:
            clients = [threads.submit(write, n) for n in range(60)]
            try:
                until(lambda: 201 in statuses)
                with frozen(primary):
                    end = time.monotonic() + 2
                    while time.monotonic() < end:
                        for path in paths:
                            response, seconds = timed(target.send, "GET", path)
                            assert response.status == 200, path
                            slowest[path] = max(slowest[path], seconds)
                until(lambda: post(target, new_name()).status == 201)
            finally:
                done.set()
            for client in clients:
                client.result()
    print(slowest)
    assert statuses <= {201, 503}
    assert max(slowest.values()) < 1, slowest


# 4. standbys


@pytest.mark.parametrize("kind", ["any", "read-only", "standby", "prefer-standby"])
def test_url_that_may_read_from_a_standby_is_refused(kind):
    with pytest.raises(ValueError, match=f"target_session_attrs={kind}.*standby"):
        open_store(f"postgresql://a,b/acme?target_session_attrs={kind}")


def test_standby_is_unavailable(cluster, target, caplog):
    """Its data may be old: it would accept a session that has ended."""
    primary, standby = cluster
    with contextlib.closing(open_store(standby.url("acme"))) as store:
        store._logged = -10.0
        with pytest.raises(fsa.ErrorResponse) as refused:
            store.has_users()
        assert refused.value.status == 503
        assert "read-only" in caplog.text
    both = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/acme"
    with contextlib.closing(open_store(both)) as store:
        assert store.has_users()


def test_server_that_becomes_read_only_is_unavailable(primary, target):
    assert post(target, new_name()).status == 201
    primary.configure("default_transaction_read_only", "on")
    try:
        assert_503(post(target, new_name()))
        assert database.db.pool.connections == 0
    finally:
        with psycopg.connect(primary.url(), autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
        until(lambda: primary.execute("SHOW default_transaction_read_only") == [("off",)])
    assert post(target, new_name()).status == 201


# at the start


def test_start_waits_for_the_database(primary, tmp_path):
    """With a line a second; here it becomes available after the first one."""
    name, port = f".s.PGSQL.{primary.port}", free_port()
    environ = {
        "ACME_DATABASE": f"postgresql://postgres@/acme?host={tmp_path}&port={primary.port}",
        "ACME_TOKEN_SECRET": SECRET,
        "PORT": str(port),
    }
    command = (sys.executable, "serve.py")
    with serving(*command, ready="waiting for the database", **environ) as said:
        assert "No such file" in said
        (tmp_path / name).symlink_to(primary.place / name)
        wait_for(port)


def test_start_fails_if_the_database_stays_away(tmp_path):
    url = f"postgresql://postgres@/acme?host={tmp_path}"
    start = time.monotonic()
    res = run(sys.executable, "serve.py", ACME_DATABASE=url, ACME_WAIT="1")
    assert time.monotonic() - start > 1
    *waits, last = res.stderr.splitlines()
    assert {line.partition(":")[2].partition(":")[0] for line in waits} == {
        " waiting for the database"
    }
    assert res.returncode == 1
    assert last.startswith("acme: ACME_DATABASE: ")
    assert "No such file" in last


# what others wait for is not kept during a call of the store


def test_no_lock_or_slot_is_kept_during_a_call_of_the_store(clock, monkeypatch):
    """Else a request would wait for the store as long as all before it together."""
    kept = []

    def watched(call):
        def watching(*arguments, **named):
            kept.append((call.__name__, totp_lock.locked() or hash_queue._inside > 0))
            return call(*arguments, **named)

        return watching

    with configured("memory:"), tutorial.app.test_request_context():
        cheap = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("Old-Pass-1")
        database.db.add_user("susie", cheap, "susie@acme.org", False)
        secret = pyotp.random_base32()
        database.db.set_otp("susie", secret)
        for call in database.db.get_credentials, database.db.renew_user_pass, database.db.use_otp:
            monkeypatch.setattr(database._current, call.__name__, watched(call))
        assert check_password("susie", "Old-Pass-1")
        code = pyotp.TOTP(secret).at(clock.now)
        assert check_code("susie", secret, code)
        assert not check_code("susie", secret, code)
    assert kept == [
        ("get_credentials", False),
        ("renew_user_pass", False),
        ("use_otp", False),
        ("use_otp", False),
    ]


def test_eight_threads_stay_free():
    assert serve.THREADS - pool.MAX_CALLS >= 8
