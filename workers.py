"""The worker processes of `make run`: their listening sockets, their end, and their replacement.

The main process keeps the listening sockets, one for each worker (SO_REUSEPORT): connections that
wait for a worker that ends are accepted by the one that takes its place.

SIGHUP: the main process replaces itself by a new one (execve), with the same process id and the
listening sockets; that reads code, configuration and certificates anew, and starts new workers.
The old ones then accept no more connections, and end when theirs have ended.
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import granian._granian
import granian._signals
from granian.server.mp import MPServer

from security.outbox import Outbox
from web import slow_clients
from web.health import readiness
from web.responses import close_connections

log = logging.getLogger("acme")

IDLE = 10  # seconds for the headers of a request, and between two on one connection
IN_PROGRESS = 10  # seconds for requests in progress when a worker ends
BACKLOG = 1024  # connections that wait until a worker accepts them
FIRST_INHERITED = 3  # descriptor, by the protocol of systemd
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
RETIRE = signal.SIGUSR2  # tells a worker that others take its place
ACCEPT_SECONDS = 0.2  # in which the request of a connection that was just accepted arrives
CHECK_SECONDS = 60  # for the check of a new configuration
# in the environment of a process that replaces itself, or only checks the configuration
CHECK, RETIRED = "RELOAD_CHECK", "RELOAD_WORKERS"

_drain = 0  # seconds
_listener: socket.socket  # of this worker, and of its predecessors
_outbox: Outbox  # of this worker


def stop_accepting() -> None:
    """Let this process accept no more connections: other processes that share the socket do.

    granian can only stop altogether, which resets connections whose request has not arrived. So
    its descriptor gets another listening socket, whose address nobody knows.
    """
    nowhere = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    with contextlib.suppress(OSError):  # only on Linux a Unix socket needs no path
        other = socket.socket(_listener.family)
        other.bind(nowhere.get(_listener.family, ""))
        other.listen()
        other.setblocking(False)
        os.dup2(other.fileno(), _listener.fileno())


def _has_connections(address: Any) -> bool:
    """Whether a client is connected to this process."""
    for connection in slow_clients.sockets(unix=True):
        with contextlib.suppress(OSError):  # it is listening, or closed
            connection.getpeername()
            if connection.getsockname() == address:
                return True
    return False


def _wait_for_end() -> None:
    """In a worker: wait until it has to end."""
    address = _listener.getsockname()
    number = signal.sigwait({signal.SIGTERM, RETIRE})
    _outbox.stop()
    if number == RETIRE:
        close_connections()
        stop_accepting()
        end = time.monotonic() + ACCEPT_SECONDS + IDLE
        while time.monotonic() < end:
            if signal.sigtimedwait({signal.SIGTERM}, ACCEPT_SECONDS):
                return
            if not _has_connections(address):
                return
        return
    readiness.drain()
    time.sleep(_drain)
    stop_accepting()
    # the parent has to receive its own signal as well: see wait_for_signal
    time.sleep(ACCEPT_SECONDS)


def wait_for_signal(stop: Callable[..., None], _reload: Any = None) -> None:
    """In a worker: call `stop` from a thread at SIGTERM; SIGINT stays blocked.

    Ctrl-C and systemd send their signal to workers as well as to the parent, which then sends
    SIGTERM. With its own `set_main_signals` granian 2.8 often misses both, for ten seconds, or the
    parent takes the end of a worker for a failure, if it comes first.
    """

    def wait() -> None:
        _wait_for_end()
        _outbox.join()
        stop(None, None)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def load_worker() -> Any:
    """In a worker, before it serves: the application."""
    global _outbox
    import app

    # inherited by threads that start later
    signal.pthread_sigmask(signal.SIG_BLOCK, [*STOP_SIGNALS, RETIRE])
    setattr(granian._signals, "set_main_signals", wait_for_signal)  # noqa: B010
    slow_clients.watch()
    _outbox = app.app.extensions["outbox"]
    _outbox.start()
    return app.app


def end_with_parent() -> None:
    """Let Linux end this worker when the process that it was forked from has been killed.

    Otherwise it would keep the port without a parent that restarts it.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets from systemd, or from before a reload (see sd_listen_fds(3))."""
    variables = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
    pid, number, _ = (os.environ.pop(name, "") for name in variables)
    if pid != str(os.getpid()):
        return []
    numbers = range(FIRST_INHERITED, FIRST_INHERITED + int(number))
    for n in numbers:
        os.set_inheritable(n, False)
    return [socket.socket(fileno=n) for n in numbers]


def _let_inherit(listeners: list[socket.socket]) -> None:
    """Give the sockets the descriptors at which `inherited_sockets` looks for them."""
    copies = [fcntl.fcntl(listener, fcntl.F_DUPFD, 1000) for listener in listeners]
    for number, copy in enumerate(copies, FIRST_INHERITED):
        os.dup2(copy, number)


class MainProcess(MPServer):
    """granian's main process, with listening sockets and a reload of its own.

    `environ` is the environment for a process that replaces it, `drain` are seconds.
    """

    def __init__(
        self, listeners: list[socket.socket], environ: dict[str, str], drain: int, **options: Any
    ) -> None:
        global _drain
        _drain = drain
        self.listeners = listeners
        self.environ = environ
        self.retired = [int(pid) for pid in self.environ.pop(RETIRED, "").split()]
        super().__init__(workers_kill_timeout=drain + IN_PROGRESS, backlog=BACKLOG, **options)

    def _init_shared_socket(self) -> None:
        for listener in self.listeners:
            listener.listen(BACKLOG)

    def _drop_shared_socket(self) -> None:
        for listener in self.listeners:
            listener.close()  # so that each ends with its worker

    def _spawn_worker(self, idx: int, *arguments: Any, **options: Any) -> Any:
        global _listener
        _listener = self._sso = self.listeners[idx % len(self.listeners)]
        holder: Any = granian._granian.SocketHolder  # its stub has no arguments
        self._ssp = None
        self._shd = holder(_listener.fileno(), _listener.family == socket.AF_UNIX, BACKLOG)
        return super()._spawn_worker(idx, *arguments, **options)

    def _spawn_workers(self, *loaders: Any) -> None:
        # of a reload during the last one: granian's handler is there
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        super()._spawn_workers(*loaders)
        self._signal_retired(RETIRE)
        threading.Thread(target=self._reap, name="retired", daemon=True).start()

    def _stop_workers(self) -> None:
        self._signal_retired(signal.SIGTERM)
        super()._stop_workers()

    def _signal_retired(self, number: int) -> None:
        for pid in self.retired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _reap(self) -> None:
        """Wait for the workers that were replaced, and kill those that do not end."""
        end = time.monotonic() + IDLE + IN_PROGRESS + 1
        while self.retired:
            time.sleep(0.1)
            for pid in [*self.retired]:
                if time.monotonic() > end:
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    if os.waitpid(pid, os.WNOHANG) == (0, 0):
                        continue
                self.retired.remove(pid)

    def _reload(self, *_loaders: Any) -> None:
        """Replace this process, unless the new code or configuration is wrong."""
        self.reload_signal = False
        self.main_loop_interrupt.clear()
        command = [sys.executable, *sys.orig_argv[1:]]
        try:
            environ = self.environ | {CHECK: "1"}
            done = subprocess.run(
                command, env=environ, capture_output=True, text=True, timeout=CHECK_SECONDS
            )
            why = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
            if not done.returncode:
                self._replace(command)
                return
        except (OSError, subprocess.SubprocessError) as e:
            why = str(e)
        log.error("not reloaded, the server goes on as before: %s", why)

    def _replace(self, command: list[str]) -> None:
        """Execute the command in this process; the workers live on."""
        pids = [*self.retired, *(worker.inner.pid for worker in self.wrks if worker.is_alive())]
        given = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(self.listeners))}
        given[RETIRED] = " ".join(map(str, pids))
        # from here on, a signal waits for the new process
        signal.pthread_sigmask(signal.SIG_BLOCK, [*STOP_SIGNALS, signal.SIGHUP])
        try:
            if not self.interrupt_signal and not self.reload_signal:
                _let_inherit(self.listeners)
                os.execve(command[0], command, self.environ | given)  # noqa: S606
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [*STOP_SIGNALS, signal.SIGHUP])
