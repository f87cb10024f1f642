"""Health checks: what a load balancer learns, and what a frozen database or a flood may cost."""

import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import database
from tests.application import new_application
from tests.conftest import SQL, STORES, Target, configured, opened, until
from web import health, responses

READY = (200, {"msg": "ready"})


@pytest.fixture
def ready(monkeypatch):
    """The answer of /readyz in process, which checks the store at each request."""
    monkeypatch.setattr(health, "readiness", health.Readiness())
    monkeypatch.setattr(responses, "HEADERS", [*responses.HEADERS])
    monkeypatch.setattr(responses, "HTML_HEADERS", [*responses.HTML_HEADERS])
    begin_another_second(monkeypatch)

    def get():
        begin_another_second(monkeypatch)
        response = Target(None).send("GET", "/readyz")
        assert (response.headers.get("Retry-After") == "1") == (response.status == 503)
        return response.status, response.json

    return get


def begin_another_second(monkeypatch):
    monkeypatch.setattr(health.readiness, "_begun", health.readiness._begun - health.CHECK_SECONDS)


def not_ready(reason):
    return 503, {"error": reason}


@pytest.mark.parametrize("store", STORES)
def test_ready_on_each_store(store, new_database, ready):
    with configured(new_database(store)):
        assert ready() == READY


@pytest.mark.parametrize("store", SQL)
@pytest.mark.parametrize("version", [1, 99], ids=["older", "newer"])
def test_another_schema_is_not_ready(store, version, new_database, ready, caplog):
    """Of an older version, or of a newer one; the log says so once."""
    with configured(new_database(store)):
        assert ready() == READY
        with database.db.connection() as connection:
            connection.execute("DELETE FROM schema_version")
            connection.execute(f"INSERT INTO schema_version (version) VALUES ({version})")
        for _ in range(2):
            assert ready() == not_ready("schema")
    assert [record.message for record in caplog.records] == [f"not ready: {health.WORDS['schema']}"]


def test_deleted_database_is_not_ready_until_it_is_back(new_database, ready, monkeypatch):
    monkeypatch.setattr("store.sqlite.CHECK_SECONDS", 0)
    url = new_database("sqlite")
    path = Path(url.removeprefix("sqlite:///"))
    with configured(url):
        path.rename(path.with_suffix(".moved"))
        assert ready() == not_ready("store")
        path.with_suffix(".moved").rename(path)
        assert ready() == READY


def test_wrong_query_is_not_ready_and_in_the_log(new_database, ready, caplog):
    """A missing table is an error of Acme; a process that has it cannot serve either."""
    with configured(new_database("sqlite")):
        with database.db.connection() as connection:
            connection.execute("ALTER TABLE schema_version RENAME COLUMN version TO other")
        assert ready() == not_ready("store")
    assert any(record.exc_info for record in caplog.records)


def test_frozen_database_is_not_ready_and_keeps_no_thread(new_database, ready):
    """PostgreSQL stops in mid-air: one check waits for it, requests wait a second at most."""
    with configured(new_database("postgresql")):
        with database.db.connection() as connection:
            pid = connection.info.backend_pid  # the connection that the next call takes
        assert ready() == READY
        os.kill(pid, signal.SIGSTOP)
        try:
            assert ready() == not_ready("store")
            threads = threading.active_count()
            for _ in range(9):
                assert ready() == not_ready("store")
            assert threading.active_count() == threads
            assert Target(None).send("GET", "/livez").status == 200
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: ready() == READY)


class Slow:
    """A store whose check waits until it is released, and nothing else works."""

    def __init__(self):
        self.checks = 0
        self.released = threading.Event()

    def has_current_schema(self):
        self.checks += 1
        return self.released.wait(20)


@pytest.fixture
def slow(monkeypatch):
    store = Slow()
    before = database.use(store)
    yield store
    store.released.set()
    database.use(before)


def test_livez_does_not_touch_the_store(slow):
    """Or a database that restarts would make the platform kill all processes."""
    assert Target(None).send("GET", "/livez").json == {"msg": "alive"}
    assert slow.checks == 0


def test_flood_makes_one_check_a_second(slow, ready, monkeypatch):
    """Nobody can load the database through the open route."""
    slow.released.set()
    monkeypatch.setattr(health, "CHECK_SECONDS", 3600)
    assert {Target(None).send("GET", "/readyz").status for _ in range(20)} == {200}
    assert slow.checks == 1


def test_few_requests_wait_for_a_check(slow, ready, monkeypatch):
    """The others get the last result, so that a slow database does not take all threads."""
    monkeypatch.setattr(health, "CHECK_SECONDS", 20)
    with ThreadPoolExecutor(12) as pool:
        sent = [pool.submit(Target(None).send, "GET", "/readyz") for _ in range(12)]
        until(lambda: sum(future.done() for future in sent) == 12 - health.MAX_WAITING)
        assert {future.result().status for future in sent if future.done()} == {503}
        waiting = [future for future in sent if not future.done()]
        slow.released.set()
        assert {future.result().status for future in waiting} == {200}
    assert slow.checks == 1


def test_draining_process_is_not_ready_and_ends_connections(ready):
    """Pages and errors end their connections as well; before, nothing does."""
    paths = ["/", "/hello", "/livez", "/nowhere", "/hello-me"]

    def said(path):
        return Target(None).send("GET", path).headers.get("Connection")

    assert {said(path) for path in paths} == {None}
    health.readiness.drain()
    assert ready() == not_ready("draining")
    assert {said(path) for path in paths} == {"close"}


@pytest.mark.parametrize(
    ("proxies", "headers", "status"),
    [
        ("0", {}, 403),
        ("0", {"X-Forwarded-Proto": "https"}, 403),
        ("1", {}, 403),
        ("1", {"X-Forwarded-Proto": "https"}, 200),
    ],
)
def test_probe_from_another_machine_needs_https_or_its_header(proxies, headers, status):
    """As docs/deployment.md says: a probe in clear states that it comes from the proxy."""
    with new_application(ACME_PROXIES=proxies) as app:
        client = app.test_client()
        found = client.get("/livez", headers=headers, environ_base={"REMOTE_ADDR": "10.0.0.1"})
        assert found.status_code == status


@pytest.mark.parametrize("store", SQL)
def test_store_is_not_current_after_an_upgrade(store, new_database):
    """A server that runs on while another version upgrades its database can tell."""
    with contextlib.closing(opened(new_database(store))) as found:
        assert found.has_current_schema()
        with found.connection() as connection:
            connection.execute("INSERT INTO schema_version (version) VALUES (99)")
        assert not found.has_current_schema()
