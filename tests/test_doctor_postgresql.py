"""What `flask --app app doctor` finds in PostgreSQL, on a real server."""

from pathlib import Path

import psycopg
import pytest

from doctor import databases
from doctor.findings import Setup
from tests.conftest import opened

W, E = "warning", "ERROR"


@pytest.fixture(scope="module")
def server(new_database):
    """The URLs of a database with its schema: of its owner, and of a role that only reads."""
    url = new_database("postgresql")
    opened(url).close()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS doctor_rows")
        connection.execute("CREATE ROLE doctor_rows LOGIN")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO doctor_rows")
    yield url, url.replace("postgres:@", "doctor_rows:@", 1)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY doctor_rows; DROP ROLE doctor_rows")


def found(url, **environ):
    """What is not fine, and the topics of what is."""
    setup = Setup({}, {"ACME_DATABASE": url, "WORKERS": "1"} | environ, Path())
    findings = [*databases.check_database(setup)]
    assert all(bool(finding.remedy) == (finding.level != "ok") for finding in findings)
    trouble = [finding for finding in findings if finding.level != "ok"]
    return trouble, {finding.topic for finding in findings if finding.level == "ok"}


def test_postgresql_that_is_well_is_fine(server):
    """By a role without privileges, which is how servers should connect."""
    trouble, topics = found(server[1])
    assert trouble == []
    assert topics == {"database", "schema", "durability", "clock"}


@pytest.mark.parametrize(
    ("role", "more", "environ", "level", "words"),
    [
        (0, "", {}, W, "superuser"),
        (1, "&target_session_attrs=any", {}, E, "target_session_attrs=any"),
        (1, "&options=-cdefault_transaction_read_only%3Don", {}, E, "read-only"),
        (1, "&options=-csynchronous_commit%3Doff", {}, E, "loses acknowledged writes"),
        (1, "", {"WORKERS": "2", "ACME_DATABASE_CONNECTIONS": "999"}, W, "1998 connections"),
        (1, "&user=nobody_at_all", {}, E, "nobody_at_all"),
        (1, "&options=-csearch_path%3Dnowhere", {}, E, "the database is empty"),
    ],
)
def test_trouble_is_found(role, more, environ, level, words, server):
    trouble, _ = found(server[role] + more, **environ)
    assert [(level, True)] == [(finding.level, words in finding.text) for finding in trouble]


def test_looking_leaves_an_empty_database_empty(new_database):
    url = new_database("postgresql")
    assert any("is empty" in finding.text for finding in found(url)[0])
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        assert connection.execute(query).fetchone() == (0,)


def test_network_is_judged(server, monkeypatch):
    monkeypatch.setattr(databases, "SLOW_SECONDS", -1.0)
    monkeypatch.setattr(databases, "is_near", lambda _: False)
    slow, clear = found(server[1])[0]
    assert (slow.level, "answers in" in slow.text) == (W, True)
    assert (clear.level, "sslmode=verify-full" in clear.remedy) == (W, True)


@pytest.mark.parametrize(
    ("host", "is_near"),
    [("/run", True), ("localhost", True), ("::1", True), ("10.0.0.1", False), ("db", False)],
)
def test_connection_that_leaves_the_machine_is_told(host, is_near):
    assert databases.is_near(host) == is_near


@pytest.mark.parametrize(
    ("findings", "level"),
    [
        ([databases.check_replication("on", False, 0, None)], "ok"),
        ([databases.check_replication("on", False, 1, None)], W),
        ([databases.check_replication("on", True, 1, 1)], "ok"),
        ([databases.check_replication("on", True, 1, None)], "ok"),  # a role that may not know
        ([databases.check_replication("on", True, 1, 0)], E),
        ([databases.check_replication("local", True, 1, 1)], W),
        (databases.check_archive(False, None, False), None),
        (databases.check_archive(True, 60.0, False), "ok"),
        (databases.check_archive(True, None, True), E),
        ([databases.check_clock(0.5)], "ok"),
        ([databases.check_clock(-3.0)], W),
        ([databases.check_clock(40.0)], E),
        (databases.check_connections(Setup({}, {"WORKERS": "1"}, Path()), 90, 97), W),
    ],
)
def test_replication_archive_clock_and_connections_are_judged(findings, level):
    assert [finding.level for finding in findings] == ([level] if level else [])
