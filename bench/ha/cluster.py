"""The cluster of `make ha`: the hosts of docs/cluster.md, with the files of deploy/ha."""

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.ha.hosts import Host, Switch, run
from bench.ha.missing import programs

ROOT = Path(__file__).parent.parent.parent
FILES = ROOT / "deploy/ha"
PATRONI = ROOT / ".venv-ha"
DATABASES = {"db1": "10.0.0.11", "db2": "10.0.0.12", "db3": "10.0.0.13"}
SERVERS = {"acme1": "10.0.0.21", "acme2": "10.0.0.22"}
BALANCER = "10.0.0.31"
SCHEMES = {"X-Forwarded-Proto": "https", "Host": "acme"}
TIMEOUT_SECONDS = 1.0  # of a question to one program of the cluster
WATCHDOG = "driver: testing\n  device: /run/watchdog"  # see init.py
# for a load that comes from one address
RATE_LIMIT = "\nACME_RATE_LIMIT=1000000/minute, 1000000/minute\n"


def until(condition: Callable[[], Any], what: str, seconds: float) -> None:
    """Wait for a condition; TimeoutError after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} took more than {seconds:.0f} s")
        time.sleep(0.2)


def ask(address: str, port: int, path: str) -> tuple[int, Any]:
    """The status and the JSON that a GET has got; status 0 for no answer."""
    connection = http.client.HTTPConnection(address, port, timeout=TIMEOUT_SECONDS)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers=SCHEMES)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None


class Cluster:
    """Three hosts of databases, two of Acme, and the balancer."""

    def __init__(self, place: Path) -> None:
        """The hosts, which are off; their files are in the folder `place`."""
        self.secrets: dict[str, str] = {}
        self.certificate = place / "cert.pem"
        self._place = place
        self._switch = Switch()
        self.databases = [self._database(name, at) for name, at in DATABASES.items()]
        self.servers = [self._server(name, at) for name, at in SERVERS.items()]
        self.balancer = self._balancer()
        self.hosts = [*self.databases, *self.servers, self.balancer]

    def _fill(self, name: str) -> str:
        """A file of deploy/ha, with secrets in place of the words `choose-…`."""

        text = (FILES / name).read_text()
        text = re.sub(r"\bchoose-(\w+)", lambda match: self._secret(match[1]), text)
        folder = programs()
        assert folder
        return text.replace("postgresql/15", f"postgresql/{folder.parts[4]}")

    def _secret(self, name: str) -> str:
        return self.secrets.setdefault(name, secrets.token_hex(16) + "Aa0")

    def _url(self, role: str, port: int) -> str:
        """The URL of the database for a role, through this port of all its hosts."""
        hosts = ",".join(f"{address}:{port}" for address in DATABASES.values())
        password = self._secret(role.removeprefix("acme_"))
        return f"postgresql://{role}:{password}@{hosts}/acme"

    def _database(self, name: str, address: str) -> Host:
        units = ["etcd", "patroni", "pgbouncer"]
        host = Host(self._switch, self._place, name, address, units)
        own = self._fill("host.env").replace("db1", name).replace(DATABASES["db1"], address)
        host.write("/etc/acme/host.env", own)
        host.write("/etc/default/etcd", self._fill("etcd.env"))
        for unit in "etcd", "pgbouncer":
            host.write(
                f"/etc/systemd/system/{unit}.service.d/acme.conf", self._fill("restart.conf")
            )
        patroni = self._fill("patroni.yml").replace("mode: automatic", "mode: required")
        patroni = patroni.replace("device: /dev/watchdog", WATCHDOG)
        host.write("/etc/acme/patroni.yml", patroni, "postgres")
        host.write("/etc/systemd/system/patroni.service", self._fill("patroni.service"))
        host.write("/etc/pgbouncer/pgbouncer.ini", self._fill("pgbouncer.ini"), "postgres")
        host.write("/etc/pgbouncer/userlist.txt", self._fill("userlist.txt"), "postgres")
        host.state_folder("etcd", "etcd")
        host.state_folder("postgresql", "postgres")
        host.bind(PATRONI, "/opt/patroni")
        return host

    def _server(self, name: str, address: str) -> Host:
        host = Host(self._switch, self._place, name, address, ["acme"])
        host.write("/etc/acme/acme.env", self._fill("server.env") + RATE_LIMIT)
        # one host directly, one through PgBouncer
        port = 6432 if name == "acme2" else 5432
        host.write("/etc/acme/database", self._url("acme_rows", port))
        host.write("/etc/acme/token-secret", self._secret("token-secret"))
        host.write("/etc/acme/pass", self._secret("pass"))
        for kind, addition in ("service", "service.conf"), ("socket", "socket.conf"):
            unit = f"/etc/systemd/system/acme.{kind}"
            host.write(unit, (FILES.parent / f"acme.{kind}").read_text())
            host.write(f"{unit}.d/acme.conf", self._fill(addition))
        for file in "passwd", "group":  # the user acme, as useradd makes it
            number = "990:990::/nonexistent:/usr/sbin/nologin" if file == "passwd" else "990:"
            host.write(f"/etc/{file}", Path(f"/etc/{file}").read_text() + f"acme:x:{number}\n")
            (host.place / "etc" / file).chmod(0o644)
        host.bind(ROOT, "/srv/acme")
        return host

    def _balancer(self) -> Host:
        host = Host(self._switch, self._place, "balancer", BALANCER, ["redis-server", "haproxy"])
        key = self._place / "key.pem"
        names = ("-subj", "/CN=acme", "-addext", f"subjectAltName=IP:{BALANCER}", "-days", "2")
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        made = ("-keyout", str(key), "-out", str(self.certificate))
        run("openssl", "req", "-x509", *kind, *names, *made)
        host.write("/etc/haproxy/haproxy.cfg", self._fill("haproxy.cfg"))
        host.write("/etc/haproxy/unavailable.http", self._fill("unavailable.http"))
        host.write("/etc/acme/cert.pem", self.certificate.read_text())
        host.write("/etc/acme/cert.pem.key", key.read_text())
        host.write("/etc/redis/redis.conf", self._fill("redis.conf"), "redis")
        host.state_folder("haproxy", "root")
        host.state_folder("redis", "redis")
        return host

    def start(self) -> None:
        """Switch all on, and set up the database as docs/cluster.md says."""
        for host in [*self.databases, self.balancer]:
            host.power_on()
        until(self.leader, "the first primary", 60)
        script = self._fill("roles.sql")
        words = [f"--variable={name}={self.secrets[name]}" for name in ("owner", "rows")]
        self.psql("postgres", *words, "--file=-", text=script)
        until(self.is_replicated, "the standbys", 60)
        environ = os.environ | {"ACME_DATABASE": self._url("acme_owner", 5432)}
        flask = (sys.executable, "-m", "flask", "--app", "./app.py", "db", "upgrade")
        run(*self.balancer.inside.enter("net"), *flask, cwd=ROOT, env=environ)
        for host in self.servers:
            host.power_on()
        until(self.is_healthy, "the start of Acme", 60)

    def members(self) -> list[dict[str, Any]]:
        """The members of the cluster as Patroni sees them, on the first host that answers."""
        for host in self.databases:
            status, found = self._ask(host, 8008, "/cluster")
            if status == 200:
                return list(found["members"])
        return []

    def leader(self) -> Host | None:
        """The host of the primary, if it runs."""
        for host in self.databases:
            if host.is_on and self._ask(host, 8008, "/primary")[0] == 200:
                return host
        return None

    def standby(self, synchronous: bool) -> Host:
        """The synchronous standby, or the other one."""
        role = "sync_standby" if synchronous else "replica"
        (name, *_) = (member["name"] for member in self.members() if member["role"] == role)
        return next(host for host in self.databases if host.name == name)

    def is_replicated(self) -> bool:
        """Whether there is a primary, and all others follow it, one synchronously."""
        members = self.members()
        roles = sorted(member["role"] for member in members)
        states = sorted(member["state"] for member in members)
        timelines = {member.get("timeline") for member in members}
        return (
            roles == ["leader", "replica", "sync_standby"]
            and states == ["running", "streaming", "streaming"]
            and len(timelines) == 1
        )

    def is_healthy(self) -> bool:
        """Whether in addition all of Acme is ready."""
        ready = [self._ask(host, 5000, "/readyz")[0] for host in self.servers]
        return set(ready) == {200} and self.is_replicated()

    def is_ready(self, server: Host) -> bool:
        return self._ask(server, 5000, "/readyz")[0] == 200

    def _ask(self, host: Host, port: int, path: str) -> tuple[int, Any]:
        return self.balancer.connects(lambda: ask(host.address, port, path))

    def psql(self, database: str, *arguments: str, text: str = "") -> str:
        """The output of psql on the primary."""
        leader = self.leader()
        assert leader, "there is no primary"
        program = f"{programs()}/psql"
        options = ("--no-psqlrc", "--set=ON_ERROR_STOP=1", "--host=/run/postgresql")
        command = (program, *options, "--dbname", database, *arguments)
        return leader.run(*command, user="postgres", text=text)

    def stuff(self) -> dict[str, float]:
        """The prices of all stuff, on the primary."""
        query = "SELECT name, price FROM stuff"
        lines = self.psql("acme", "--csv", "--tuples-only", "--command", query).splitlines()
        return {name: float(price) for name, price in (line.split(",") for line in lines)}

    def inserts_per_second(self) -> float:
        """How many inserts a second pgbench makes from a host of Acme, in five seconds."""
        leader = self.leader()
        assert leader, "there is no primary"
        script = self._place / "insert.sql"
        script.write_text("INSERT INTO stuff VALUES (gen_random_uuid()::text, 'acme', 1);")
        who = ("--host", leader.address, "--username", "acme_rows")
        much = ("--client=16", "--jobs=2", "--time=5", "--protocol=prepared", "--no-vacuum")
        program = (f"{programs()}/pgbench", *who, *much, f"--file={script}", "acme")
        environ = os.environ | {"PGPASSWORD": self._secret("rows")}
        output = run(*self.servers[0].inside.enter("net"), *program, env=environ)
        self.psql("acme", "--command", "DELETE FROM stuff WHERE owner = 'acme'")
        return float(re.findall(r"tps = ([\d.]+)", output)[0])

    def switchover(self, leader: Host, candidate: Host) -> None:
        """Let Patroni give the role of the primary to the synchronous standby."""
        program = ("/opt/patroni/bin/python", "/opt/patroni/bin/patronictl")
        options = ("--leader", leader.name, "--candidate", candidate.name, "--force")
        leader.run(*program, "-c", "/etc/acme/patroni.yml", "switchover", "acme", *options)

    def stop(self) -> None:
        """Switch all off."""
        for host in self.hosts:
            host.power_off()
        self._switch.inside.kill()


@contextlib.contextmanager
def running() -> Iterator[Cluster]:
    """A cluster that serves; it and its files are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="acme-ha-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C leaves nothing behind
            cluster.stop()
