"""Migrations make and upgrade the schema, whatever happens meanwhile."""

import contextlib
import re
import signal
import sqlite3
import subprocess
import sys

import psycopg
import pytest

from database import open_store
from store import base, migrations, transfer
from store.migrations import SchemaError
from tests.conftest import (
    ROOT,
    SQL,
    Target,
    granian,
    new_name,
    opened,
    run,
    until,
)
from tests.stores import DB, post

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
def test_simultaneous_starts_migrate_once(kind, new_database):
    """Of four processes that set up one database, all succeed, and it is done once."""
    urls = [new_database(kind) for _ in range(20)]
    command = [sys.executable, "-c", START, *urls]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe))
            for _ in range(4)
        ]
        for process in processes:
            process.stdout.readline()
        for process in processes:
            process.stdin.close()
    assert [process.returncode for process in processes] == [0] * 4
    for url in urls:
        with contextlib.closing(open_store(url)) as found:
            assert migrations.version(found) == len(migrations.scripts(found))


@pytest.mark.parametrize("kind", SQL)
def test_killed_migration_leaves_a_consistent_schema(kind, new_database, tmp_path):
    """A process that is killed in the middle of a migration leaves nothing of it, nor a lock."""
    url = new_database(kind)
    reached = tmp_path / "reached"
    code = f"""if True:
        import database, pathlib, signal
        from store import migrations
        found = database.open_store({url!r})
        def statements(script):
            yield "CREATE TABLE half (x INTEGER)"
            pathlib.Path({str(reached)!r}).touch()
            signal.pause()
        found.statements = statements
        migrations.upgrade(found)
    """
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        until(lambda: reached.exists() or process.poll() is not None)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with contextlib.closing(open_store(url)) as found:
        assert migrations.upgrade(found) == [path.name[:4] for path in migrations.scripts(found)]
        with found.connection() as connection, pytest.raises(Exception, match="half"):
            connection.execute("SELECT x FROM half")


@pytest.mark.parametrize("kind", SQL)
def test_export_carries_each_table_of_the_schema(kind, new_database):
    """TABLES in store/base.py has what the migrations make; the error says what is missing."""
    with contextlib.closing(opened(new_database(kind))) as found:
        assert transfer.count(found) == 0


def test_rows_of_a_user_are_deleted_with_the_user(new_database):
    """All but stuff, which DELETE /user/<login> deletes only if it is told to."""
    with contextlib.closing(opened(new_database("sqlite"))) as found, found.connection() as c:
        for table in found.columns(c).keys() - {"stuff"}:
            for key in c.execute(f"PRAGMA foreign_key_list({table})"):
                _, _, other, column, _, _, on_delete, _ = key
                assert (other, on_delete) != ("users", "NO ACTION"), (
                    f"store/migrations/: {table}.{column} lacks ON DELETE CASCADE, without which "
                    f"a user with {table} cannot be deleted"
                )


def test_each_query_fits_the_schema(new_database):
    with contextlib.closing(opened(new_database("sqlite"))) as found:
        for name in found.queries.available_queries:
            query = getattr(found.queries, name).sql
            if not re.match("(SELECT|INSERT|UPDATE|DELETE|WITH) ", query):
                continue
            values = dict.fromkeys(re.findall(r":(\w+)", query))
            with found.connection() as connection:
                try:
                    connection.execute(f"EXPLAIN {query}", values)
                except sqlite3.Error as e:
                    pytest.fail(f"store/queries.sql, {name}: {e}: does store/migrations/ make it?")


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
def test_migrations_are_numbered_from_1_on(kind):
    """One for both engines, or one for each."""
    url = {"sqlite": "sqlite:///none.db", "postgresql": "postgresql:///none"}[kind]
    scripts = migrations.scripts(open_store(url))
    assert [int(script.name.partition(".")[0]) for script in scripts] == [
        *range(1, len(scripts) + 1)
    ]


SHARED = """
-- One for both engines; like this.
CREATE TABLE extra (
    id TEXT COLLATE "C" PRIMARY KEY,
    owner TEXT COLLATE "C" NOT NULL REFERENCES users (login) ON DELETE CASCADE,
    done BOOLEAN NOT NULL DEFAULT FALSE,
    number BIGINT NOT NULL,
    weight DOUBLE PRECISION NOT NULL CHECK (weight >= 0)
); -- and so on
CREATE INDEX extra_owner_id ON extra (owner, id);
"""


@pytest.mark.parametrize("kind", SQL)
def test_migration_for_both_engines_is_applied_to_each(kind, new_database, tmp_path, monkeypatch):
    """The same order, values, defaults and refusals on each."""
    script = tmp_path / "0099.sql"
    script.write_text(SHARED)
    scripts = migrations.scripts
    monkeypatch.setattr(migrations, "scripts", lambda store: [*scripts(store), script])
    with contextlib.closing(opened(new_database(kind))) as found:
        found.add_user("susie", "hash", "susie@acme.org", True)
        with found.connection() as connection:
            for id_ in "b", "\u00e9", "B", "a":
                connection.execute(
                    "INSERT INTO extra (id, owner, number, weight)"
                    f" VALUES ('{id_}', 'susie', {2**62}, 1)"
                )
            rows = connection.execute("SELECT id, done, number, weight FROM extra ORDER BY id")
            rows = [*map(tuple, rows.fetchall())]
            assert rows == [(id_, False, 2**62, 1.0) for id_ in ("B", "a", "b", "\u00e9")]
            assert isinstance(rows[0][3], float)
            for wrong in [
                "UPDATE extra SET weight = 'heavy'",
                "UPDATE extra SET weight = -1",
                "UPDATE extra SET number = 'one'",
                "UPDATE extra SET done = 'perhaps'",
                "UPDATE extra SET owner = 'nobody'",
                "UPDATE extra SET owner = NULL",
            ]:
                with pytest.raises(found.driver_error):
                    connection.execute(wrong)


@pytest.mark.parametrize("kind", SQL)
def test_first_schema_is_upgraded(kind, new_database, monkeypatch):
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
    assert found.get_user("susie") == base.Profile("susie", "s@a.org", True, True, False, 0)
    assert found.get_user_stuff("susie") == [("pencil", 3.14)]
    found.close()


@pytest.mark.parametrize("kind", SQL)
@pytest.mark.parametrize(("change", "word"), [(-1, "make db-upgrade"), (1, "newer")])
def test_other_schema_is_refused_at_the_start(kind, change, word, new_database):
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


def test_server_works_with_rights_on_rows_only(postgresql):
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
