"""The first process of a host of `make ha`: it starts systemd units, as systemd would.

It runs as process 1 of its own namespaces, so that the host loses power when it is killed. It takes
JSON from standard input: first what `main` describes, then `["stop", unit]` or `["start", unit]`.
When its watchdog expires, it ends, and the host is off.
"""

import dataclasses
import fcntl
import grp
import json
import os
import pwd
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

UNITS = (Path("/etc/systemd/system"), Path("/lib/systemd/system"))
WATCHDOG = Path("/run/watchdog")
CAPABILITY = "dac_read_search"  # a checkout and its Python may be in a home folder


def seconds(text: str) -> float:
    """A time span of systemd, of those that the units use: `1`, `100ms`."""
    return float(text[:-2]) / 1000 if text.endswith("ms") else float(text)


@dataclasses.dataclass
class Unit:
    """A service, and the process that it has now."""

    name: str
    settings: dict[str, list[str]]
    listeners: list[socket.socket] = dataclasses.field(default_factory=list)
    process: int = 0
    due: float | None = 0.0  # when to start it: monotonic seconds, None if it runs or is stopped

    def get(self, name: str, default: str = "") -> str:
        return self.settings.get(name, [default])[-1]

    def environment(self) -> dict[str, str]:
        """Settings of `Environment=` and of the files that `EnvironmentFile=` names."""
        found = {"PATH": os.defpath, "LANG": "C.UTF-8"}
        for line in self.settings.get("Environment", []):
            found |= dict(word.split("=", 1) for word in shlex.split(line))
        for path in self.settings.get("EnvironmentFile", []):
            if path.startswith("-") and not Path(path[1:]).exists():
                continue
            for line in Path(path.lstrip("-")).read_text().splitlines():
                if line and not line.startswith("#"):
                    name, _, value = line.partition("=")
                    found[name] = value
        return found

    def command(self, environment: dict[str, str]) -> list[str]:
        """`ExecStart=`, with the variables; one without braces becomes several words."""
        words = []
        for word in shlex.split(self.get("ExecStart")):
            if word.startswith("$") and not word.startswith("${"):
                words += environment.get(word[1:], "").split()
            else:
                words.append(re.sub(r"\$\{(\w+)\}", lambda m: environment.get(m[1], ""), word))
        return words

    def credentials(self, user: str) -> None:
        """Copy the files of `LoadCredential=` to where the service may read them."""
        folder = Path(f"/run/credentials/{self.name}.service")
        for line in self.settings.get("LoadCredential", []):
            name, _, path = line.partition(":")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(Path(path).read_text())
            shutil.chown(folder / name, user)

    def folders(self) -> list[Path]:
        """`StateDirectory=` and `RuntimeDirectory=`."""
        kinds = {"StateDirectory": "/var/lib", "RuntimeDirectory": "/run"}
        return [Path(at, n) for kind, at in kinds.items() for n in self.get(kind).split()]

    def start(self) -> None:
        user = self.get("User", "root")
        group = self.get("Group") or grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
        for folder in self.folders():
            folder.mkdir(parents=True, exist_ok=True)
            os.chown(folder, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
        self.credentials(user)
        environment = self.environment()
        command = self.command(environment)
        if self.listeners:  # see sd_listen_fds(3)
            environment["LISTEN_FDS"] = str(len(self.listeners))
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
        if user != "root":
            capabilities = [f"--{kind}-caps=+{CAPABILITY}" for kind in ("inh", "ambient")]
            who = [f"--reuid={user}", f"--regid={group}", "--init-groups"]
            command = ["setpriv", *who, *capabilities, *command]
        with open(f"/run/log/{self.name}", "ab") as log:
            self.process = subprocess.Popen(
                command,
                env=environment,
                cwd=self.get("WorkingDirectory", "/"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._pass_listeners,
                pass_fds=range(3, 3 + len(self.listeners)),
            ).pid
        self.due = None

    def _pass_listeners(self) -> None:
        for number, listener in enumerate(self.listeners):
            os.dup2(listener.fileno(), 3 + number)

    def ended(self) -> None:
        """Plan the next start, as `Restart=` says."""
        self.process = 0
        if self.get("Restart") == "always":
            self.due = time.monotonic() + seconds(self.get("RestartSec", "100ms"))


def read(file: str) -> dict[str, list[str]]:
    """The settings of a unit of the host, or of a package of Debian, with the additions to it."""
    name = file.partition(".")[0]
    (unit, *_) = (folder / file for folder in UNITS if (folder / file).exists())
    settings: dict[str, list[str]] = {}
    for path in unit, *sorted((UNITS[0] / f"{file}.d").glob("*.conf")):
        for line in path.read_text().splitlines():
            if match := re.fullmatch(r"(\w+)=(.*)", line.strip()):
                value = match[2].replace("%p", name).replace("%H", socket.gethostname())
                value = value.replace("%d", f"/run/credentials/{file}")
                settings.setdefault(match[1], []).append(value)
                if not value:
                    settings[match[1]] = []
    return settings


def load(name: str) -> Unit:
    """A service, with the sockets that wait for it."""
    unit = Unit(name, read(f"{name}.service"))
    if (UNITS[0] / f"{name}.socket").exists():
        for address in read(f"{name}.socket")["ListenStream"]:
            host, _, port = address.rpartition(":")
            unit.listeners.append(socket.create_server((host, int(port)), backlog=1024))
            # away from the descriptors of the protocol, which begin at 3
            moved = fcntl.fcntl(unit.listeners[-1], fcntl.F_DUPFD_CLOEXEC, 100)
            unit.listeners[-1] = socket.socket(fileno=moved)
    return unit


class Watchdog:
    """A named pipe in place of `/dev/watchdog`, for Patroni's `driver: testing`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.pipe = os.open(path, os.O_RDWR)  # never at its end, and nobody waits to open it
        self._seconds = 60.0  # as of Linux
        self._due: float | None = None  # monotonic seconds, None if it is off

    def read(self) -> None:
        """Take what was written: a timeout in seconds, a sign of life, or `V` to turn it off."""
        for command in re.findall(rb"Ctimeout=\d+\n|.", os.read(self.pipe, 4096)):
            if command.startswith(b"C"):
                self._seconds = float(command.partition(b"=")[2])
            self._due = None if command == b"V" else time.monotonic() + self._seconds

    def has_expired(self) -> bool:
        return self._due is not None and time.monotonic() >= self._due


def supervise(units: dict[str, Unit]) -> None:
    """Run units until the host loses power: start, reap, restart, and obey commands."""
    watchdog = Watchdog(WATCHDOG)
    shutil.chown(WATCHDOG, "postgres")
    wake, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        for unit in units.values():
            if unit.due is not None and time.monotonic() >= unit.due:
                unit.start()
        ready = select.select([wake, watchdog.pipe, 0], [], [], 0.1)[0]
        if watchdog.pipe in ready:
            ready.remove(watchdog.pipe)
            watchdog.read()
        if watchdog.has_expired():
            print(f"{socket.gethostname()}: the watchdog resets it", file=sys.stderr, flush=True)
            os._exit(1)
        for fd in ready:
            received = os.read(fd, 4096)
            if fd == 0 and not received:
                sys.exit()
            for line in received.splitlines() if fd == 0 else ():
                verb, name = json.loads(line)
                units[name].settings["Restart"] = ["always" if verb == "start" else "no"]
                units[name].due = 0.0 if verb == "start" else None
        reap(units)


def reap(units: dict[str, Unit]) -> None:
    """Reap all processes that have ended, those without a parent as well."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            return
        for unit in units.values():
            if unit.process == ended:
                unit.ended()


def read_line() -> bytes:
    """A line of standard input, and nothing of what follows."""
    found = b""
    while not found.endswith(b"\n"):
        if not (read := os.read(0, 1)):
            sys.exit()
        found += read
    return found


def main() -> None:
    """Mount the folders of the host, and run its units.

    `{"name", "mounts": [arguments of mount], "units": [names]}`.
    """
    host: dict[str, Any] = json.loads(read_line())
    socket.sethostname(host["name"])
    for arguments in host["mounts"]:
        subprocess.run(["mount", *arguments], check=True)  # noqa: S607
    supervise({name: load(name) for name in host["units"]})


if __name__ == "__main__":
    main()
