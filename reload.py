"""`make reload`: let the servers that run in this folder take new code and configuration.

Finds them in Linux's /proc: there is no file with a process id that could be out of date, or that
needs a writable folder.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PROCESSES = Path("/proc")
FOLDER = Path(__file__).resolve().parent
TARGET = " workers:load_worker"  # in the title that granian sets if setproctitle is installed
CHECK_SECONDS = 60  # for the check of the new configuration
REPLACE_SECONDS = 2  # from then on, until the process replaces itself
START_SECONDS = 60  # until it has new workers


def _is_server(process: Path) -> bool:
    """Whether a process executes serve.py in this folder; its workers do as well."""
    try:
        arguments = (process / "cmdline").read_text(errors="replace").split("\0")
        is_titled = arguments[0].startswith("granian ") and TARGET in arguments[0]
        return (is_titled or "serve.py" in arguments) and (process / "cwd").resolve() == FOLDER
    except OSError:  # it has ended, or belongs to another user
        return False


def _parent(process: Path) -> str:
    """The process id of its parent; "" if it has ended."""
    try:
        # the name in parentheses may have spaces
        return (process / "stat").read_text(errors="replace").rpartition(") ")[2].split()[1]
    except OSError:
        return ""


def main_processes() -> Iterator[int]:
    """The process ids of the servers, without those of their workers."""
    found = {process.name for process in PROCESSES.glob("[0-9]*") if _is_server(process)}
    parents = {pid: _parent(PROCESSES / pid) for pid in found}  # "" if it has ended meanwhile
    return (int(pid) for pid, parent in parents.items() if parent and parent not in found)


def _environ(pid: int) -> bytes:
    """What it was started with, which is another after a reload; b"" if it has ended."""
    try:
        return (PROCESSES / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def _children(pid: int) -> set[int]:
    """The workers of a server, and a process that checks a new configuration: see workers.py."""
    processes = PROCESSES.glob("[0-9]*")
    return {int(process.name) for process in processes if _parent(process) == str(pid)}


def _has_replaced_itself(pid: int, before: bytes) -> bool:
    """Wait until a server has another environment than before; False if its check refuses."""
    end, check = time.monotonic() + CHECK_SECONDS, None
    while time.monotonic() < end:
        if _environ(pid) not in (before, b""):  # it has none for a moment
            return True
        if check is None:
            check = next((n for n in _children(pid) if b"RELOAD_CHECK=1" in _environ(n)), None)
        elif check and not _environ(check):
            check, end = 0, time.monotonic() + REPLACE_SECONDS
        time.sleep(0.05)
    return False


def reload(pid: int) -> bool:
    """Send SIGHUP to a server, and wait; whether it has new workers."""
    before, workers = _environ(pid), _children(pid)
    os.kill(pid, signal.SIGHUP)
    if not _has_replaced_itself(pid, before):
        return False
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and (PROCESSES / str(pid)).exists():
        if _children(pid) - workers:
            return True
        time.sleep(0.05)
    return False


def main() -> None:
    """Reload each server; exits with status 1 if there is none, or one has not reloaded."""
    pids = sorted(main_processes())
    if not pids:
        sys.exit(
            f"acme: no server of yours runs in {FOLDER}; "
            "of another user: sudo systemctl reload acme, or kill -HUP"
        )
    for pid in pids:
        if not reload(pid):
            sys.exit(f"acme: process {pid} has not reloaded; its log says why")
        print(f"acme: process {pid} reloaded")


if __name__ == "__main__":
    main()
