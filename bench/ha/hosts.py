"""Hosts for `make ha`: Linux namespaces on one switch, which lose power and connections as told.

A host is a process with its own network, processes, mounts and `/etc`. Namespaces have no names:
they end with the process, and that ends with this program, even if it is killed.
"""

import contextlib
import ctypes
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

CLONE_NEWNET = 0x40000000
NOWHERE = "02:00:00:00:00:99"  # the address of no network card
UNSHARE = ("unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
INIT = str(Path(__file__).with_name("init.py"))
T = TypeVar("T")


def run(*command: str, **options: Any) -> str:
    """Run a command, at most a minute; returns its output."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return str(done.stdout)


class Namespaces:
    """A process with namespaces of its own, which waits for JSON from `boot`."""

    def __init__(self) -> None:
        self.parent = subprocess.Popen(
            [*UNSHARE, sys.executable, INIT], stdin=subprocess.PIPE, start_new_session=True
        )
        self.pid = self._child()

    def _child(self) -> int:
        path = Path(f"/proc/{self.parent.pid}/task/{self.parent.pid}/children")
        while self.parent.poll() is None:
            if found := path.read_text().split():
                return int(found[0])
        raise RuntimeError("unshare has failed: it takes root, and a kernel with namespaces")

    def say(self, value: Any) -> None:
        assert self.parent.stdin
        self.parent.stdin.write(json.dumps(value).encode() + b"\n")
        self.parent.stdin.flush()

    def enter(self, *kinds: str) -> list[str]:
        """The beginning of a command that is to run inside."""
        return ["nsenter", f"--target={self.pid}", *(f"--{kind}" for kind in kinds)]

    def kill(self) -> None:
        """End all processes in it at once."""
        if self.parent.poll() is None:
            self.parent.kill()
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.kill(self.pid, signal.SIGKILL)  # and all others of its process namespace
                    time.sleep(0.01)
        self.parent.wait()
        assert self.parent.stdin
        with contextlib.suppress(BrokenPipeError):
            self.parent.stdin.close()


class Switch:
    """The network between the hosts."""

    def __init__(self) -> None:
        self.inside = Namespaces()
        self.ip("link", "add", "switch", "type", "bridge")
        self.ip("link", "set", "switch", "up")
        self._ports = 0

    def ip(self, *arguments: str) -> None:
        run(*self.inside.enter("net"), "ip", *arguments)

    def connect(self, host: Namespaces) -> None:
        """Give a host the network card `eth0`, and plug it in."""
        self._ports += 1
        port = f"port{self._ports}"
        card = ("type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
        self.ip("link", "add", port, *card)
        self.ip("link", "set", port, "master", "switch", "up")


class Host:
    """A machine that keeps its files while it is off."""

    def __init__(self, switch: Switch, place: Path, name: str, address: str, units: list[str]):
        """A host that is off. `place` is the folder for its files; `units` start with it."""
        self.name, self.address, self.units = name, address, units
        self.place = place / name
        self.mounts: list[list[str]] = []
        self._switch = switch
        self._inside: Namespaces | None = None
        for folder in "etc", "etc.work", "lib", "opt", "srv", "log":
            (self.place / folder).mkdir(parents=True)

    @property
    def inside(self) -> Namespaces:
        assert self._inside, f"{self.name} is off"
        return self._inside

    @property
    def is_on(self) -> bool:
        """Whether it has power, and its watchdog has not ended it."""
        return self._inside is not None and self._inside.parent.poll() is None

    def write(self, path: str, text: str, user: str = "root") -> None:
        """Write a file below `/etc`, of mode 600."""
        file = self.place / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_text(text)
        shutil.chown(file, user)

    def state_folder(self, name: str, user: str) -> None:
        """Make `/var/lib/NAME`."""
        (self.place / "lib" / name).mkdir()
        os.chown(self.place / "lib" / name, pwd.getpwnam(user).pw_uid, -1)

    def bind(self, source: Path, target: str) -> None:
        """Show a folder of this machine at `/opt/…` or `/srv/…`."""
        (self.place / target.removeprefix("/")).mkdir()
        self.mounts.append(["--bind", str(source), target])

    def power_on(self) -> None:
        inside = Namespaces()
        self._switch.connect(inside)
        enter = inside.enter("net")
        run(*enter, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*enter, "ip", "link", "set", "eth0", "up")
        run(*enter, "ip", "link", "set", "lo", "up")
        etc = ("lowerdir=/etc", f"upperdir={self.place}/etc", f"workdir={self.place}/etc.work")
        mounts = [
            ["-t", "overlay", "-o", ",".join(etc), "overlay", "/etc"],
            ["-t", "tmpfs", "tmpfs", "/run"],
            ["-t", "tmpfs", "tmpfs", "/dev/shm"],  # noqa: S108
            ["-t", "proc", "proc", "/proc"],
            *(["--bind", f"{self.place}/{name}", f"/{name}"] for name in ("opt", "srv")),
            ["--bind", f"{self.place}/lib", "/var/lib"],
            ["-o", "bind,X-mount.mkdir", f"{self.place}/log", "/run/log"],
            *self.mounts,
        ]
        inside.say({"name": self.name, "mounts": mounts, "units": self.units})
        self._inside = inside

    def power_off(self) -> None:
        """What a power failure does: all processes and the network card are gone at once."""
        if self._inside:
            self._inside.kill()
            self._inside = None

    def stop(self, unit: str) -> None:
        """Let a unit that ends stay stopped."""
        self.inside.say(["stop", unit])

    def start(self, unit: str) -> None:
        """Start a unit that has been stopped and has ended."""
        self.inside.say(["start", unit])

    def run(self, *command: str, user: str = "root", text: str = "") -> str:
        """Run a command on the host, with `text` as its input; returns its output."""
        who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        who += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        enter = self.inside.enter("mount", "pid", "net", "uts", "ipc")
        return run(*enter, *(who if user != "root" else ()), *command, input=text, cwd="/")

    def processes(self, word: str) -> list[int]:
        """The processes of the host with a word in their command lines, parents first."""
        space = os.readlink(f"/proc/{self.inside.pid}/ns/pid")
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_here = os.readlink(folder / "ns/pid") == space
                if is_here and word in (folder / "cmdline").read_text():
                    found.append(int(folder.name))
        return sorted(found, key=_start_time)

    def signal(self, word: str, number: signal.Signals, first: bool = False) -> None:
        """Send a signal to the processes with a word in their command lines, or the first one."""
        found = self.processes(word)
        if not found:
            raise RuntimeError(f"{self.name} has no process {word}")
        for process in found[:1] if first else found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def cut(self, others: list["Host"]) -> None:
        """Drop packets between this host and others, without a word to either side."""
        for one, other in self._pairs(others):
            self._neighbor(one, "replace", other, "lladdr", NOWHERE, "nud", "permanent")

    def heal(self, others: list["Host"]) -> None:
        """Undo `cut`."""
        for one, other in self._pairs(others):
            self._neighbor(one, "del", other)

    def _pairs(self, others: list["Host"]) -> list[tuple["Host", "Host"]]:
        there = [other for other in others if other.is_on and other is not self]
        return [(self, other) for other in there] + [(other, self) for other in there]

    def _neighbor(self, host: "Host", verb: str, other: "Host", *arguments: str) -> None:
        command = ("ip", "neighbor", verb, other.address, *arguments, "dev", "eth0")
        run(*host.inside.enter("net"), *command)

    def connects(self, action: Callable[[], T]) -> T:
        """The result of a function, in a thread whose new sockets belong to this host."""
        results: list[T] = []
        errors: list[BaseException] = []

        def call() -> None:
            try:
                self.join_network()
                results.append(action())
            except BaseException as e:
                errors.append(e)

        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def join_network(self) -> None:
        """Let new sockets of this thread, and of threads that it starts, belong to this host."""
        with open(f"/proc/{self.inside.pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")


def _start_time(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    return sys.maxsize
