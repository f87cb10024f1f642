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
CHECK_SECONDS = 60  # for the check of the new configuration
REPLACE_SECONDS = 2  # from then on, for the new process


def _arguments(process: Path) -> list[str]:
    return (process / "cmdline").read_text(errors="replace").split("\0")


def _is_server(process: Path) -> bool:
    """Whether a process executes serve.py in this folder; its workers do as well."""
    try:
        return "serve.py" in _arguments(process) and (process / "cwd").resolve() == FOLDER
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
    return (int(pid) for pid in found if _parent(PROCESSES / pid) not in found)


def _environ(pid: int) -> bytes:
    """What it was started with, which is another after a reload; b"" if it has ended."""
    try:
        return (PROCESSES / str(pid) / "environ").read_bytes()
    except OSError:
        return b""


def _is_checking(pid: int) -> bool:
    """Whether a server has a process that checks the new configuration: see workers.py."""
    return any(
        _parent(process) == str(pid) and b"RELOAD_CHECK=1" in _environ(int(process.name))
        for process in PROCESSES.glob("[0-9]*")
    )


def reload(pid: int) -> bool:
    """Send SIGHUP to a server, and wait; whether it has replaced itself."""
    before, end, has_checked = _environ(pid), time.monotonic() + CHECK_SECONDS, False
    os.kill(pid, signal.SIGHUP)
    while time.monotonic() < end:
        time.sleep(0.05)
        if (now := _environ(pid)) != before:
            return bool(now)
        if _is_checking(pid):
            has_checked = True
        elif has_checked:
            has_checked, end = False, time.monotonic() + REPLACE_SECONDS
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
