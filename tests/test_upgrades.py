"""Rolling upgrades: an older Acme runs and starts on a newer database that allows it."""

import contextlib
import shutil
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from database import open_store
from store import migrations
from store.migrations import SchemaError
from tests.conftest import (
    ROOT,
    SECRET,
    SQL,
    Target,
    free_port,
    granian,
    opened,
    serving,
    until,
    wait_for,
)
from tests.stores import post, stuff_of

PREVIOUS = "v0.2.0"  # the release before this one
NEXT = """-- What the next version adds; code from schema {oldest} on works with it.
ALTER TABLE users ADD COLUMN extra{number} TEXT;
CREATE TABLE extra{number} (id TEXT COLLATE "C" PRIMARY KEY);
"""


def test_each_migration_says_which_older_code_works_with_it():
    for kind in "sqlite:///none.db", "postgresql:///none":
        for number, script in enumerate(migrations.scripts(open_store(kind)), 1):
            oldest = migrations.OLDEST.search(script.read_text())
            if number > 2:  # the first two are from before there were such words
                assert oldest, (
                    f"{script.name}: say in a comment which older code works with the schema, as "
                    f'"code from schema {number - 1} on works with it"; the number is {number} if '
                    "no older code does"
                )
                assert 1 <= int(oldest[1]) <= number


@pytest.fixture(params=SQL)
def newer(request, new_database, tmp_path, monkeypatch):
    """Upgrades a database beyond this Acme: which code works with it is told."""
    kind = request.param
    url = new_database(kind)

    def upgrade(*oldest):
        with contextlib.closing(opened(url)) as store:
            scripts = migrations.scripts(store)
            added = []
            for number, code in enumerate(oldest, len(scripts) + 1):
                added.append(tmp_path / f"{number:04}.sql")
                added[-1].write_text(NEXT.format(oldest=code, number=number))
            with monkeypatch.context() as patch:
                patch.setattr(migrations, "scripts", lambda _: [*scripts, *added])
                migrations.upgrade(store)
            return len(scripts)

    upgrade.url = url
    return upgrade


def test_older_code_works_with_a_schema_that_allows_it(newer):
    with contextlib.closing(open_store(newer.url)) as running:
        migrations.check(running)
        now = len(migrations.scripts(running))
        newer(now, now - 1)
        assert running.has_current_schema()
        with contextlib.closing(open_store(newer.url)) as started:
            migrations.check(started)
            assert migrations.upgrade(started) == []
            assert migrations.version(started) == now + 2
            started.add_user("ann", "hash", "ann@acme.org", True)
            started.add_stuff("ball", "ann", 1)
        assert running.get_user_stuff("ann") == [("ball", 1.0)]


def test_older_code_refuses_a_schema_of_which_one_migration_does_not_allow_it(newer):
    """Whichever migration it was."""
    with contextlib.closing(open_store(newer.url)) as running:
        migrations.check(running)
        now = len(migrations.scripts(running))
        newer(now + 1, now)
        assert not running.has_current_schema()
        for call in migrations.check, migrations.upgrade, migrations.check_usable:
            with pytest.raises(SchemaError, match="newer"):
                call(running)


def test_server_starts_on_a_newer_schema_that_allows_it(newer):
    now = newer(3)
    with granian(ACME_DATABASE=newer.url, WORKERS="1") as address:
        target = Target(address)
        assert target.send("GET", "/readyz").status == 200
        assert post(target, "ball").status == 201
    assert now >= 3


def test_upgrade_behind_a_long_query_keeps_reads_short(new_database, tmp_path, monkeypatch):
    """ALTER TABLE waits for the query, and gives up; the reads behind it wait half a second."""
    url = new_database("postgresql")
    with contextlib.closing(opened(url)) as store, psycopg.connect(url) as long:
        store.add_user("ann", "hash", "ann@acme.org", True)
        scripts = migrations.scripts(store)
        script = tmp_path / "9.sql"
        script.write_text("ALTER TABLE users ADD COLUMN colour TEXT;")
        monkeypatch.setattr(migrations, "scripts", lambda _: [*scripts, script])
        long.execute("SELECT count(*) FROM users")  # its transaction goes on
        slowest, done = [0.0], threading.Event()

        def read():
            while not done.is_set():
                start = time.monotonic()
                store.get_user("ann")
                slowest[0] = max(slowest[0], time.monotonic() - start)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            monkeypatch.setattr(migrations, "LOCKED_SECONDS", 0.1)
            with pytest.raises(SchemaError, match="pg_stat_activity"):
                migrations.upgrade(store)
            monkeypatch.setattr(migrations, "LOCKED_SECONDS", 30)
            upgrade = threading.Thread(target=migrations.upgrade, args=[store])
            upgrade.start()
            time.sleep(1)  # so that it has tried once
            assert upgrade.is_alive()
            long.rollback()
            upgrade.join()
        finally:
            done.set()
            reader.join()
        assert migrations.version(store) == len(scripts) + 1
        assert slowest[0] < 2


# the previous release and this one on one database, under load


def previous_release(folder):
    """The files of the previous release; this tree itself where a clone has no tags."""
    git = ["git", "-C", str(ROOT), "archive", PREVIOUS]
    archive = subprocess.run(git, capture_output=True, check=False)
    if archive.returncode == 0:
        subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
        return True
    ignored = shutil.ignore_patterns(
        ".*", "node_modules", "__pycache__", "*.db*", "screenshots", "mutants"
    )
    shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)
    return False


class Load(threading.Thread):
    """Clients' requests to several servers in turn, until it is told to end."""

    def __init__(self, number, targets):
        super().__init__()
        self.number, self.targets = number, targets
        self.done = threading.Event()
        self.added, self.found = set(), set()

    def run(self):
        count = 0
        while not self.done.is_set():
            target = self.targets[count % len(self.targets)]
            name = f"load{self.number}-{count}"
            added = post(target, name).status
            if added == 201:
                self.added.add(name)
            self.found.add(("POST", added))
            self.found.add(("GET", target.send("GET", "/stuff?limit=1", who="acme").status))
            if added == 201:
                path = f"/stuff/{name}"
                changed = target.send_json("PATCH", path, {"price": 2}, "acme").status
                self.found.add(("PATCH", changed))
            count += 1


@pytest.mark.parametrize("kind", SQL)
def test_previous_release_goes_on_while_the_database_is_upgraded(kind, new_database, tmp_path):
    """Both serve one database at the same time; nothing is lost, and errors are 503 at most."""
    url, port = new_database(kind), free_port()
    is_previous = previous_release(tmp_path)
    environ = {"ACME_DATABASE": url, "ACME_TOKEN_SECRET": SECRET, "WORKERS": "1"}
    old = serving(
        sys.executable, "serve.py", ready="Ctrl-C", cwd=tmp_path, PORT=str(port), **environ
    )
    with old:
        wait_for(port)
        target = Target(f"http://127.0.0.1:{port}")
        target.person("acme")
        with contextlib.closing(open_store(url)) as store:
            assert (migrations.version(store) == 2) == is_previous
        targets = [target]
        load = [Load(number, targets) for number in range(3)]
        for one in load:
            one.start()
        try:
            with granian(**environ) as address:  # which upgrades the database
                both = Target(address)
                both.people = target.people  # tokens of the one are good for the other
                targets.append(both)
                begun = sum(len(one.added) for one in load)
                until(lambda: sum(len(one.added) for one in load) > begun + 30)
                assert both.send("GET", "/readyz").status == 200
                for one in load:
                    one.done.set()
                    one.join()
                assert stuff_of(both) >= set().union(*(one.added for one in load))
        finally:
            for one in load:
                one.done.set()
                one.join()
    found = set().union(*(one.found for one in load))
    assert {("POST", 201), ("GET", 200), ("PATCH", 200)} <= found
    assert {status for _, status in found} <= {200, 201, 503}
