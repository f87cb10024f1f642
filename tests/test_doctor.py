"""`flask --app app doctor`: each finding is provoked once, and nothing is changed by looking."""

import contextlib
import os
import shutil
import socket
import sqlite3
import sys
import time
from pathlib import Path

import pytest

import doctor
from database import open_store
from doctor import databases, services, settings
from doctor.findings import CHECKS, Setup, check, ok, warning
from security import secret_files
from test import app
from tests.certificates import make_certificate
from tests.conftest import ROOT, opened, run

DAY = 86400
RANDOM = "kR8_vX2mQz-5LwTn0JhYcB7dEo3iPuSaGf9rZtAWx1M"
TOKEN = "VtW5-Oq8sJx_0kZ3yNcHb6DfLm2eRaPg9uTiX1vKjE4"
PASSWORD = "pQ7-mZ2_kX9vLw4T"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A deployment where all is well, in a folder: changes of the environment can be made in it."""
    monkeypatch.setattr(settings, "ROOT", tmp_path)
    monkeypatch.setattr(secret_files, "paths", {})
    shutil.copy(ROOT / ".env.example", tmp_path)
    shutil.copy(ROOT / "acme.conf", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "backups").mkdir()
    backup = tmp_path / "backups" / "acme-20200101T000000Z.backup"
    backup.touch(0o600)
    backup.write_bytes(b"rows")
    opened(f"sqlite:///{tmp_path}/data/acme.db").close()
    return tmp_path


@pytest.fixture
def examined(place, capsys):
    """Runs the doctor in that place; returns its status and lines, each with its remedy."""

    def run_doctor(problem="", config=None, **environ):
        healthy = {
            "ACME_DATABASE": f"sqlite:///{place}/data/acme.db",
            "ACME_PASS": PASSWORD,
            "ACME_TOKEN_SECRET": TOKEN,
        }
        environ = {name: text for name, text in (healthy | environ).items() if text is not None}
        setup = Setup(config or {}, environ, place / "backups", problem)
        status = doctor.report(setup)
        said = capsys.readouterr().out
        for secret in PASSWORD, RANDOM, TOKEN:
            assert secret not in said
        assert not [line for line in said.splitlines() if line != line.rstrip()]
        return status, said.replace(f"\n{'':24}-> ", " -> ").splitlines()

    return run_doctor


def test_healthy_deployment_is_fine(examined):
    status, lines = examined()
    assert status == 0, lines
    assert lines[0].endswith(" ok")
    assert {line.split()[0] for line in lines[2:]} == {"ok"}
    assert "no warning" not in lines[0]


def file(place, name, content=b"x", mode=0o600, age=0.0):
    path = place / name
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, (time.time() - age,) * 2)
    return str(path)


def secret_file(place, mode):
    secret_files.paths["ACME_PASS"] = Path(file(place, "pass", mode=mode))
    return {}


def tls(place, begins, mode=0o600):
    make_certificate(place, begins=begins)
    (place / "key.pem").chmod(mode)
    return {"CERT": f"{place}/cert.pem", "KEY": f"{place}/key.pem"}


def database(place, change):
    """Change the SQLite file as another program would."""
    with contextlib.closing(sqlite3.connect(place / "data/acme.db")) as connection:
        connection.executescript(change)
    return {}


def damaged(place):
    path = place / "data/acme.db"
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * 8192 + content[12288:])
    return {}


def touched(path, seconds):
    os.utime(path, (time.time() + seconds,) * 2)
    return {}


def moved(place, mode):
    (place / "data").chmod(mode)
    return {}


W, E = "warning", "ERROR"
# what is done to the place, or set -> how the line begins, and words of it
MAIL = {"ACME_MAIL_FROM": "noreply@acme.org", "ACME_URL": "https://acme.org"}
TROUBLE = {
    "problem": ({"problem": "ACME_AUTH=x is unknown"}, E, "configuration", "ACME_AUTH=x"),
    "typing error": ({"ACME_DATABSE": "x"}, W, "configuration", "ACME_DATABSE is no setting"),
    "unread .env": (lambda p: file(p, ".env", b"PORT=1\n") and {}, W, "configuration", "PORT"),
    "debug4": ({"ACME_MODE": "debug4"}, E, "configuration", "logs passwords"),
    "dev": ({"ACME_MODE": "dev"}, W, "configuration", "ACME_MODE=dev"),
    "memory": ({"ACME_DATABASE": "memory:"}, W, "database", "end with the process"),
    "workers": ({"ACME_DATABASE": "memory:", "WORKERS": "2"}, E, "configuration", "WORKERS=1"),
    "no secret": ({"ACME_TOKEN_SECRET": None}, W, "secrets", "is not set"),
    "short secret": ({"ACME_TOKEN_SECRET": RANDOM[:31]}, E, "secrets", "less than 32 bytes"),
    "second secret": (
        {"ACME_TOKEN_SECRET": f"{RANDOM},{'0123456789abcdef' * 4}"},
        E,
        "secrets",
        "2",
    ),
    "repeated secret": ({"ACME_TOKEN_SECRET": "Acme" * 12}, E, "secrets", "openssl rand"),
    "sequence": ({"ACME_TOKEN_SECRET": "abcdefghijklmnopqrstuvwxyz0123456789"}, E, "secrets", ""),
    "example": ({"ACME_PASS": "Some-Pass-1"}, E, "secrets", "ACME_PASS is an example"),
    "weak password": (
        {"ACME_PASS": "Password-123"},
        W,
        "secrets",
        "ACME_PASS is too easy to guess",
    ),
    "mode of .env": (
        lambda p: file(p, ".env", b"ACME_PASS=x", 0o644) and {},
        E,
        "files",
        "chmod 600",
    ),
    "group of .env": (
        lambda p: file(p, ".env", b"ACME_PASS=x", 0o640) and {},
        W,
        "files",
        "mode 640",
    ),
    "mode of a secret": (lambda p: secret_file(p, 0o604), E, "files", "chmod 600"),
    "mode of the key": (lambda p: tls(p, 0, 0o644), E, "files", "key.pem"),
    "writable code": (lambda p: (p / "acme.conf").chmod(0o666) or {}, E, "files", "executes"),
    "no proxy": ({"HOST": "0.0.0.0"}, E, "network", "in clear"),
    "no address": ({"HOST": "example"}, E, "network", "HOST=example"),
    "forged": ({"HOST": "9.9.9.9", "ACME_PROXIES": "1"}, W, "network", "forge"),
    "socket": ({"SOCKET": "/run/acme"}, E, "network", "ACME_PROXIES=1"),
    "half of TLS": ({"CERT": "cert.pem"}, E, "TLS", "KEY"),
    "wrong TLS": ({"CERT": "/none", "KEY": "/none"}, E, "TLS", "CERT=/none KEY=/none cannot be"),
    "expired": (lambda p: tls(p, -2), E, "TLS", "is valid only from"),
    "expires": (lambda p: tls(p, 0), W, "TLS", "expires in 0 days"),
    "METRICS": ({"METRICS": "x"}, E, "monitoring", "METRICS=x"),
    "open METRICS": ({"METRICS": "0.0.0.0:9100"}, W, "monitoring", "METRICS=127.0.0.1:9100"),
    "no such store": ({"ACME_DATABASE": "oracle:x"}, E, "database", "correct ACME_DATABASE"),
    "no file": (lambda p: (p / "data/acme.db").unlink() or {}, E, "database", "there is no file"),
    "mode of the database": (lambda p: (p / "data/acme.db").chmod(0o644) or {}, E, "files", "644"),
    "open folder": (lambda p: moved(p, 0o777), E, "files", "chmod o-w"),
    "empty": (lambda p: database(p, "DELETE FROM schema_version"), E, "schema", "is empty"),
    "older": (
        lambda p: database(p, "DELETE FROM schema_version WHERE version > 1"),
        *(E, "schema", "make db-upgrade"),
    ),
    "newer": (
        lambda p: database(p, "INSERT INTO schema_version (version) VALUES (99)"),
        *(E, "schema", "newer than"),
    ),
    "missing table": (
        lambda p: database(p, "DROP TABLE schema_version; CREATE TABLE schema_version (x)"),
        E,
        "database",
        "no such column",
    ),
    "damaged": (damaged, E, "database", "make restore"),
    "no database": (
        lambda p: file(p, "data/acme.db", b"x" * 5000) and {},
        E,
        "database",
        "damaged",
    ),
    "future": (lambda p: touched(p / "data/acme.db", 99), E, "clock", "in the future"),
    "no backup": (lambda p: shutil.rmtree(p / "backups") or {}, W, "backups", "make backup"),
    "empty backup": (lambda p: file(p, "backups/b.backup", b"") and {}, E, "backups", "empty"),
    "public backup": (
        lambda p: file(p, "backups/b.backup", b"x", 0o644) and {},
        E,
        "backups",
        "600",
    ),
    "future backup": (
        lambda p: file(p, "backups/b.backup", age=-999) and {},
        W,
        "backups",
        "future",
    ),
    "no Redis": (
        {"ACME_RATE_LIMIT_STORAGE": f"redis://:{RANDOM}@127.0.0.1:1"},
        *(E, "rate limit", "cannot be used: ConnectionError"),
    ),
    "no mail server": (
        {**MAIL, "ACME_MAIL": f"smtp://acme:{RANDOM}@127.0.0.1:1"},
        *(E, "mail", "127.0.0.1: ConnectionRefusedError"),
    ),
    "no such mail server": ({**MAIL, "ACME_MAIL": "smtp://"}, E, "mail", "must be like smtp://"),
    "no sender": ({"ACME_MAIL": "smtp://127.0.0.1"}, E, "mail", "ACME_MAIL_FROM"),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_is_found_with_its_remedy(name, place, examined):
    """One line, and the exit status that monitoring takes."""
    arrange, level, topic, words = TROUBLE[name]
    status, lines = examined(**(arrange(place) if callable(arrange) else arrange))
    found = [line for line in lines if line.startswith(f"{level:<9}{topic:<15}")]
    assert [line for line in found if words in line and " -> " in line], "\n".join(lines)
    levels = [line.split()[0] for line in lines[2:]]
    assert status == (2 if E in levels else 1)


@pytest.mark.parametrize(("days", "level"), [(0, "ok"), (2, W), (9, E)])
def test_backup_that_is_old_is_found(days, level, place, examined):
    file(place, "backups/acme-20200101T000000Z.backup", age=days * DAY)
    file(place, "backups/older.backup", age=30 * DAY)
    assert [line.split()[0] for line in examined()[1] if "acme-2020" in line] == [level]


@pytest.mark.parametrize(
    "environ",
    [
        {"HOST": "10.0.0.1", "ACME_PROXIES": "1"},  # a container
        {"SOCKET": "/run/acme", "ACME_PROXIES": "1"},
        {"METRICS": "9100", "ACME_LOG": "json access"},
        {"ACME_TOKEN_SECRET": f"{RANDOM},{TOKEN}"},
        {"ACME_TOKEN_SECRET": "0c6d4a7b9e21f358d0b7a964e1c8532f"},  # openssl rand -hex 16
        {"ACME_PASS": None},
        {"ACME_MODE": "prod", "config": {"FSA_MODE": "prod"}},
    ],
)
def test_other_right_settings_are_fine(environ, examined):
    assert examined(**environ)[0] == 0


@pytest.mark.parametrize("is_served", [False, True])
def test_nothing_is_changed(is_served, place, examined):
    """Neither while a server has the database open, nor otherwise: no file is left behind."""

    def everything():
        return {
            path: (path.stat().st_mode, path.stat().st_size, path.stat().st_mtime_ns)
            for path in place.rglob("*")
            if not path.name.endswith("-shm")  # SQLite's own locks and index
        }

    with contextlib.ExitStack() as stack:
        if is_served:
            store = stack.enter_context(
                contextlib.closing(open_store(f"sqlite:///{place}/data/acme.db", 1))
            )
            store.add_user("susie", "x", "susie@acme.org", False)
        before = everything()
        assert len([path for path in before if "-wal" in path.name]) == is_served
        assert examined()[0] == 0
        assert everything() == before
    shutil.rmtree(place / "data")
    assert examined()[0] == 2
    assert not (place / "data").exists() and not (place / ".env").exists()


def test_large_database_is_checked_as_far_as_time_allows(place, examined, monkeypatch):
    monkeypatch.setattr(databases, "INTEGRITY_SECONDS", -1.0)
    database(place, "".join(f"CREATE TABLE t{n} (x);" for n in range(300)))
    status, lines = examined()
    assert status == 0 and any("not all" in line for line in lines), lines


def test_large_wal_and_full_disk_are_found(place, examined, monkeypatch):
    monkeypatch.setattr(databases, "LARGE_WAL", 1)
    with contextlib.closing(open_store(f"sqlite:///{place}/data/acme.db", 1)) as store:
        store.add_user("susie", "x", "susie@acme.org", False)
        status, lines = examined()
        assert status == 1 and any("MiB: a program that reads" in line for line in lines)
    for free, level in (1, E), (500, W):
        usage = shutil._ntuple_diskusage(10**12, 10**12, free * databases.MIB)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert [line.split()[0] for line in examined()[1] if "free on the disk" in line] == [level]


# what does not respond


def test_report_comes_in_time_whatever_is_frozen(examined, monkeypatch):
    """A database and a Redis that accept connections and say nothing; secrets stay secret."""
    monkeypatch.setattr(doctor, "SECONDS", 0.7)
    with socket.create_server(("127.0.0.1", 0)) as frozen:
        address = f"127.0.0.1:{frozen.getsockname()[1]}"
        start = time.monotonic()
        status, lines = examined(
            ACME_DATABASE=f"postgresql://acme:{RANDOM}@{address}/acme",
            ACME_RATE_LIMIT_STORAGE=f"redis://:{RANDOM}@{address}",
        )
        assert time.monotonic() < start + 5
    hanging = [line for line in lines if "no answer within 0.7 seconds" in line]
    assert len(hanging) == status == 2, lines


def test_redis_that_cannot_count_is_found(examined, monkeypatch):
    class Redis:
        about, slow = {"role": "master", "maxmemory": 0}, 0.0

        def ping(self):
            time.sleep(self.slow)

        def info(self, _section):
            return self.about

    class Storage:
        storage = Redis()

    monkeypatch.setattr("limits.storage.storage_from_string", lambda *_, **__: Storage)
    url = f"redis://:{RANDOM}@redis.example"

    def level():
        return [
            line.split()[0] for line in examined(ACME_RATE_LIMIT_STORAGE=url)[1] if "redis:" in line
        ]

    assert level() == ["ok"]
    monkeypatch.setattr(services, "MAX_CHECK_SECONDS", -1.0)
    assert level() == [W]
    Redis.about = {"role": "master", "maxmemory": 9, "maxmemory_policy": "allkeys-lru"}
    assert level() == [W]
    Redis.about = {"role": "slave"}
    assert level() == [E]


# the command


def test_command_has_the_status_of_the_report(place, monkeypatch):
    """In the configuration of the application, on its own database."""
    monkeypatch.setitem(app.config, "ACME_DATABASE", f"sqlite:///{place}/data/acme.db")
    monkeypatch.setenv("ACME_TOKEN_SECRET", TOKEN)
    monkeypatch.setenv("ACME_PASS", PASSWORD)
    monkeypatch.delenv("ACME_RATE_LIMIT")
    command = ["doctor", "--backups", str(place / "backups")]
    done = app.test_cli_runner().invoke(args=command)
    assert done.exit_code == 0, done.output
    (place / "backups" / "acme-20200101T000000Z.backup").unlink()
    assert app.test_cli_runner().invoke(args=command).exit_code == 1


def test_wrong_configuration_is_a_finding_among_others(place):
    """The application cannot be made, and what does not need it is checked all the same."""
    done = run(
        *(sys.executable, "-m", "flask", "--app", "./app.py", "doctor"),
        *("--backups", str(place / "backups")),
        ACME_AUTH="none",
        ACME_DATABASE=f"sqlite:///{place}/data/acme.db",
        ACME_TOKEN_SECRET=TOKEN,
    )
    assert done.returncode == 2, done.stderr
    assert "ACME_AUTH=none is unknown: use any or token" in done.stdout
    assert "quick_check found no damage" in done.stdout
    assert (done.stderr, TOKEN in done.stdout) == ("", False)


def test_fork_adds_a_check(examined):
    """A function in a list; one that fails is a finding."""
    before = [*CHECKS]
    try:

        @check
        def check_licence(setup):
            yield ok("licence", f"valid, {setup.setting('ACME_LOG', 'text')}")
            yield warning("licence", "expires", "buy another one")
            raise KeyError(RANDOM[:3])

        status, lines = examined()
    finally:
        CHECKS[:] = before
    assert lines[-3:-1] == [
        "ok       licence        valid, text",
        "warning  licence        expires -> buy another one",
    ]
    assert "ERROR    licence        the check itself failed: KeyError" in lines[-1]
    assert status == 2
