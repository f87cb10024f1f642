"""The units of deploy/: systemd finds no fault, they are hardened, and what they execute works."""

import collections
import contextlib
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

import test as tutorial
from tests.conftest import PASSWORD, ROOT, SECRET, until
from tests.proxies import program
from tests.restarts import main_process, proxied
from tests.test_docs import settings_of_the_readme
from tests.unprivileged import NOBODY, copy_of_acme, give_away, unprivileged

UNITS = sorted(path.name for path in ROOT.glob("deploy/acme*.[!e]*"))
SERVICES = [name for name in UNITS if name.endswith(".service")]
MAX_EXPOSURE = 2.0  # of 10, by systemd-analyze security


def unit(name):
    """The settings of a unit, each with all its values."""
    found = collections.defaultdict(list)
    for line in (ROOT / "deploy" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return found


@pytest.fixture(scope="module")
def place():
    """A copy of Acme as in /srv/acme, that a user without privileges reads and does not change."""
    with tempfile.TemporaryDirectory(prefix="acme") as folder:
        os.chmod(folder, 0o755)
        copied = Path(folder, "srv")
        copy_of_acme(copied)
        yield copied


def test_systemd_finds_no_fault(place):
    """Except that nothing is in /srv here."""
    command = program("systemd-analyze")
    units = place.parent / "units"
    units.mkdir()
    for name in UNITS:
        text = (ROOT / "deploy" / name).read_text()
        (units / name).write_text(text.replace("/srv/acme/", f"{place}/"))
    files = [str(units / name) for name in UNITS]
    done = subprocess.run([command, "verify", *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_hardened(name):
    command = program("systemd-analyze")
    options = ["--offline=yes", "--no-pager", str(ROOT / "deploy" / name)]
    done = subprocess.run([command, "security", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+) ", done.stdout)[1]
    assert float(exposure) <= MAX_EXPOSURE, done.stdout


def test_backups_are_as_hardened_as_the_server():
    """What is after the line `no more than it needs` and `as acme.service`."""
    own = {"SystemCallFilter", "LimitNOFILE"}
    server, backup = (
        {key: values for key, values in unit(name).items() if key not in own} for name in SERVICES
    )
    same = [
        key for key in server if key.startswith(("Protect", "Private", "Restrict", "IPAddress"))
    ]
    assert len(same) > 15
    assert {key: server[key] for key in same} == {key: backup[key] for key in same}


class Service:
    """What systemd does to execute a service: its user, folders, credentials and environment."""

    def __init__(self, place, name):
        self.unit, self.place = unit(name), place
        self.state, credentials = place.parent / "state", place.parent / "credentials"
        secrets = {"pass": PASSWORD, "token-secret": SECRET}
        secrets["database"] = f"sqlite:///{self.state}/acme.db"
        for folder in self.state, self.state / "backups", credentials:
            folder.mkdir(exist_ok=True)
        for value in self.unit["LoadCredential"]:
            (credentials / value.partition(":")[0]).write_text(secrets[value.partition(":")[0]])
        give_away(self.state, self.state / "backups", credentials, *credentials.iterdir())
        self.environ = {"PATH": os.environ["PATH"]}
        for value in self.unit["Environment"]:
            text = value.replace("%d", str(credentials))
            self.environ |= dict(part.split("=", 1) for part in shlex.split(text))

    def command(self, line):
        """A command of the unit, as a user without privileges."""
        line = line.replace("/srv/acme", str(self.place))
        return unprivileged(*shlex.split(line.replace("/var/lib/acme", str(self.state))))

    def run(self, line):
        done = subprocess.run(
            self.command(line), cwd=self.place, env=self.environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextlib.contextmanager
    def running(self):
        """The main process of the server with its socket unit; yields it and the port."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            number, port = listener.fileno(), listener.getsockname()[1]
            listener.set_inheritable(True)
            environ = shlex.join(f"{name}={value}" for name, value in self.environ.items())
            command = shlex.join(self.command(self.unit["ExecStart"][0]))
            variables = f"-i {environ} LISTEN_FDS=1 LISTEN_PID=$$"
            words = f"exec env {variables} {command} 3<&{number}"
            with main_process("bash", "-c", words, cwd=self.place) as process:
                yield process, port


def test_service_runs_without_privileges_from_a_folder_it_cannot_write(place):
    """ExecStart, ExecReload, and meanwhile the backup with its drill."""
    service = Service(place, "acme.service")
    before = sorted(place.iterdir())
    with service.running() as (process, port):
        until(lambda: proxied(port, "/readyz") == 200)
        assert psutil.Process(process.pid).uids().real == (os.getuid() or NOBODY)
        assert proxied(port, "/token", **tutorial.basic_auth("acme", PASSWORD)) == 200
        service.run(service.unit["ExecReload"][0].replace("$MAINPID", str(process.pid)))
        until(lambda: any(line.endswith(" reloaded\n") for line in process.lines))
        until(lambda: proxied(port, "/readyz") == 200)

        backup = Service(place, "acme-backup.service")
        lines = [backup.run(line) for line in backup.unit["ExecStart"]]
        (file,) = (backup.state / "backups").iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert str(file) in lines[0] and str(file) in lines[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("name", SERVICES)
def test_variables_of_a_service_are_settings(name):
    words = " ".join(unit(name)["Environment"])
    names = set(re.findall(r"([A-Z_]+)=", words))
    assert names and {text.removesuffix("_FILE") for text in names} <= settings_of_the_readme()
