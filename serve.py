"""`make run`: serve Acme with granian, in production.

Creates secrets on its first start, refuses unsafe settings, prints how to use the server, and runs
until Ctrl-C or SIGTERM.
"""

import contextlib
import ctypes
import datetime
import gc
import ipaddress
import logging
import multiprocessing
import os
import platform
import re
import resource
import secrets
import shlex
import signal
import socket
import sys
import time
import types
import urllib.parse
from pathlib import Path

import dotenv
import FlaskSimpleAuth as fsa
import granian
import granian.wsgi
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels

import acme
import cli
import database
from monitoring import logs, metrics
from security import certificates, secret_files
from security.bounded_queue import cpu_queue
from security.passwords import hash_queue
from store import migrations
from store.sql import SqlStore
from web import slow_clients
from web.application import ConfigurationError
from web.parameters import parse_queue
from workers import (
    CHECK,
    IDLE,
    RETIRED,
    STOP_SIGNALS,
    MainProcess,
    end_with_parent,
    inherited_sockets,
)

log = logging.getLogger("acme")

ENV_FILE = Path(__file__).with_name(".env")
# of each worker: eight stay free if all others wait for slow clients and in queues
THREADS = slow_clients.READERS + hash_queue.size + parse_queue.size + cpu_queue.size + 8
MAX_HEADERS = 2**16  # bytes, then 431
CONNECTIONS = 1024  # of each worker; more wait until one of them ends


def load_secrets() -> None:
    """Complete the environment from `.env` (mode 600), which gets new secrets for missing ones.

    Those in files, such as `ACME_PASS_FILE` names one, are not missing.
    """
    try:
        secret_files.load()  # first: files that the environment names win over `.env`
        dotenv.load_dotenv(ENV_FILE, override=False)
        secret_files.load()
    except ValueError as e:
        sys.exit(f"acme: {e}")
    made = {
        # the suffix ensures a digit and letters of both cases
        "ACME_PASS": f"{secrets.token_urlsafe(12)}-Aa0",
        "ACME_TOKEN_SECRET": secrets.token_urlsafe(32),
    }
    missing = {name: secret for name, secret in made.items() if name not in os.environ}
    if missing:
        text = ENV_FILE.read_text() if ENV_FILE.exists() else ""
        with open(os.open(ENV_FILE, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600), "a") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write("\n" if text and not text.endswith("\n") else "")
            file.writelines(f"{name}={secret}\n" for name, secret in missing.items())
        os.environ |= missing


def integer(name: str, default: int, most: int, least: int = 1) -> int:
    """A setting of the environment that is a number from `least` to `most`."""
    text = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]{1,5}", text) or not least <= int(text) <= most:
        sys.exit(f"acme: {name}={text} must be a number from {least} to {most}")
    return int(text)


def tls_files() -> tuple[Path, Path] | tuple[None, None]:
    """The certificate `CERT` and its key `KEY`, both in PEM, if TLS is wanted."""
    cert, key = os.environ.get("CERT"), os.environ.get("KEY")
    if not cert and not key:
        return None, None
    if not cert or not key:
        sys.exit("acme: TLS takes both CERT=, a certificate, and KEY=, its private key")
    try:
        start, end = certificates.check(cert, key)
    except ValueError as e:
        sys.exit(f"acme: {e}")
    if not start <= datetime.datetime.now(datetime.UTC) <= end:
        print(f"acme: CERT={cert} is valid only from {start} to {end}", file=sys.stderr)
    return Path(cert), Path(key)


def listening_sockets(workers: int, tls: bool) -> list[socket.socket]:
    """The sockets to listen on: those of systemd or of before a reload, `SOCKET`, or `HOST`.

    There is one for each worker, or one for all. Exits if it is unsafe, not of this machine, or in
    use.
    """
    proxied = os.environ.get("ACME_PROXIES", "0") != "0"
    found = inherited_sockets()
    if not found and (path := os.environ.get("SOCKET")):
        found = [unix_socket(path)]
    if not found:
        return internet_sockets(workers, tls or proxied)
    if found[0].family == socket.AF_UNIX and not proxied:
        sys.exit("acme: SOCKET= is for a proxy, which tells the address of clients: ACME_PROXIES=1")
    for unused in found[workers:]:  # after a reload with fewer workers
        unused.close()
    return found[:workers]


def internet_sockets(number: int, safe: bool) -> list[socket.socket]:
    """Sockets bound to `HOST` and `PORT`; `safe` if other machines may reach them."""
    host = os.environ.get("HOST", "127.0.0.1")
    host = "127.0.0.1" if host == "localhost" else host
    port = integer("PORT", 5000, 65535)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        sys.exit(f"acme: HOST={host} must be an IP address, such as 127.0.0.1")
    if not address.is_loopback and not safe:
        sys.exit(
            f"acme: HOST={host} can be reached from other machines, whose passwords would travel "
            "in clear: give CERT= and KEY= for TLS, stay on 127.0.0.1 behind a proxy that has it, "
            "or set ACME_PROXIES=1 if only such a proxy can reach it"
        )
    found: list[socket.socket] = []
    try:
        # the first one without the option: it fails if another server has the port
        for option in [socket.SO_REUSEADDR] + [socket.SO_REUSEPORT] * number:
            found.append(socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET))
            found[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found[-1].setsockopt(socket.SOL_SOCKET, option, 1)
            found[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            found[-1].bind((host, port))
            if option == socket.SO_REUSEADDR:
                found.pop().close()
    except OSError as e:
        sys.exit(f"acme: cannot listen on {host} port {port}: {e.strerror}; try PORT=")
    return found


def unix_socket(path: str) -> socket.socket:
    """A socket bound to a path, for the user and the group of this process (mode 660)."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
                sys.exit(f"acme: SOCKET={path}: another process listens there")
            except ConnectionRefusedError:  # of a process that was killed
                os.unlink(path)
        before = os.umask(0o117)
        listener.bind(path)
        os.umask(before)
    except OSError as e:
        sys.exit(f"acme: cannot listen on SOCKET={path}: {e.strerror or e}")
    return listener


def url_of(listener: socket.socket, tls: bool) -> str:
    """How a socket is called in the greeting."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def upgrade(url: str, wait: int) -> None:
    """Apply the migrations that the database lacks; wait some seconds for PostgreSQL."""
    end = time.monotonic() + (wait if url.startswith("postgresql:") else 0)
    try:
        store = database.open_store(url)
        while isinstance(store, SqlStore):
            try:
                if done := migrations.upgrade(store):
                    print(f"acme: the database has got its schema {', '.join(done)}")
                break
            except fsa.ErrorResponse as e:
                why = f"{e.__cause__}".partition("\n")[0]
            if time.monotonic() >= end:
                sys.exit(f"acme: ACME_DATABASE: {why}")
            print(f"acme: waiting for the database: {why}", file=sys.stderr, flush=True)
            time.sleep(1)
        store.close()
    except ValueError as e:
        sys.exit(f"acme: {e}")


def place(url: str) -> str:
    """The database as shown to users: without the password of a URL."""
    if url == "memory:":
        return "memory: what is stored ends with it"
    if url.startswith("sqlite:"):
        return str(Path(url.removeprefix("sqlite:///")).absolute())
    parts = urllib.parse.urlsplit(url)
    return f"PostgreSQL, {parts.hostname or 'here'}{parts.path}"


def share_heap() -> None:
    """Let all threads use one heap: separate ones would each keep the 19 MiB of a hash."""
    with contextlib.suppress(AttributeError, OSError):  # only glibc has separate heaps
        ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX


def greet(here: str, database_url: str, given: bool) -> None:
    """Print how to use the server at a URL; `given` if the password is not from `.env`."""
    where, read = (
        ("the environment", "") if given else (ENV_FILE, f". {shlex.quote(str(ENV_FILE))} && ")
    )
    curl, browser = f"{here}/hello-me", [f"  open        {here}/ in a browser"]
    if here.startswith("unix:"):
        curl = f"--unix-socket {here.removeprefix('unix:')} http://localhost/hello-me"
        browser = []
    lines = [
        f"Acme serves {here} from {place(database_url)}",
        *browser,
        "  sign in as  acme, the administrator",
        f"  password    ACME_PASS in {where}",
        f'  try         {read}curl -u "acme:$ACME_PASS" {curl}',
        "  stop        Ctrl-C",
    ]
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:  # a closed pipe, which Python would complain about again at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def raise_file_limit() -> None:
    """Allow each worker a descriptor for each of its connections, as far as the system permits."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS has another limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def hide_environment() -> None:
    """Keep the environment out of requests, and Acme's variables out of child processes.

    granian copies `os.environ` into the WSGI environ of each request. Workers are forked after the
    configuration has been read from it.
    """
    setattr(granian.wsgi, "os", types.SimpleNamespace(environ={}))  # noqa: B010
    for name in [name for name in os.environ if name.startswith("ACME_")]:
        del os.environ[name]


def prepare_workers() -> None:
    """Before the workers are forked: load shared modules, and hide the environment."""
    hide_environment()
    multiprocessing.set_start_method("fork", force=True)
    os.register_at_fork(after_in_child=end_with_parent)
    gc.freeze()  # loaded modules are shared and stay: garbage collection need not scan them


def handle_signals() -> None:
    """Until granian handles signals: exit silently at SIGINT and SIGTERM, and ignore SIGHUP.

    A worker that has just been forked exits at SIGTERM as well.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: os._exit(0))
    if signal.SIGHUP not in signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # else it waits: see MainProcess
    # until a worker has the default, SIGTERM waits: granian's handler would ignore it there
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM]),
        after_in_child=_exit_at_sigterm,
    )


def _exit_at_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def open_standard_streams() -> None:
    """Open `/dev/null` for standard streams that are closed.

    Otherwise the database would get one of their descriptors, and lines of the log.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def prepare_process() -> None:
    """Before anything else: settings of the process that cannot be made later."""
    open_standard_streams()
    handle_signals()
    raise_file_limit()
    share_heap()


def check_reload(url: str) -> None:
    """Exit: with 0 if a process with this code and configuration can serve."""
    cli.is_own_command = lambda: True  # the application opens the database at first use
    load_application()
    try:
        store = database.open_store(url)
        if isinstance(store, SqlStore):
            migrations.check_usable(store)
    except (ValueError, fsa.ErrorResponse) as e:
        sys.exit(f"acme: ACME_DATABASE: {e.__cause__ or e}".partition("\n")[0])
    sys.exit()


def load_application() -> None:
    """Import the application, with which the workers are forked; exit if it is misconfigured."""
    try:
        import app
    except ConfigurationError as e:
        sys.exit(f"acme: {e.message}")
    assert app.app


def metrics_address() -> tuple[str, int] | None:
    """The address and port of `METRICS`, None without it; exits if it is malformed."""
    text = os.environ.get("METRICS")
    try:
        return metrics.parse_address(text) if text else None
    except ValueError as e:
        sys.exit(f"acme: {e}")


def serve_metrics(address: tuple[str, int], url: str) -> None:
    """Serve the metrics from this process."""
    from monitoring import exporter  # takes memory

    build = {
        "version": acme.__version__,
        "python": platform.python_version(),
        "granian": granian.__version__,
        "flask_simple_auth": fsa.__version__,
    }
    exporter.serve(address, build, lambda: database.statistics(url))


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    environ = dict(os.environ)  # without what `.env` adds, which may change until a reload
    is_check, is_reload = os.environ.pop(CHECK, None), os.environ.pop(RETIRED, None)
    prepare_process()
    given = not os.environ.keys().isdisjoint({"ACME_PASS", "ACME_PASS_FILE"})
    try:
        load_secrets()
    except (OSError, UnicodeDecodeError) as e:
        sys.exit(f"acme: cannot keep secrets in {ENV_FILE}: {e}")
    if os.environ.setdefault("ACME_MODE", "prod") == "debug4":
        sys.exit("acme: ACME_MODE=debug4 writes passwords and tokens to the log: use debug3")
    url = os.environ.setdefault("ACME_DATABASE", "sqlite:///acme.db")
    memory = url == "memory:"
    workers = integer("WORKERS", 1 if memory else len(os.sched_getaffinity(0)), 64)
    connections = str(database.connections_for(workers))
    os.environ.setdefault("ACME_DATABASE_CONNECTIONS", connections)
    drain = integer("ACME_DRAIN", 0, 3600, least=0)  # seconds
    wait = integer("ACME_WAIT", 30, 3600, least=0)  # seconds
    cert, key = tls_files()
    if memory and workers > 1:
        sys.exit("acme: WORKERS must be 1 in memory, or each would have data of its own")
    address = metrics_address()
    if is_check:
        check_reload(url)
    listeners = listening_sockets(workers, tls=bool(cert))
    upgrade(url, wait)
    if address:
        metrics.prepare(workers)
    load_application()
    prepare_workers()
    if is_reload:
        log.warning("reloaded")
    else:
        greet(url_of(listeners[0], bool(cert)), url, given)
    if address:
        serve_metrics(address, url)
    MainProcess(
        listeners,
        environ,
        drain,
        target="workers:load_worker",
        factory=True,
        interface=Interfaces.WSGI,
        workers=workers,
        http=HTTPModes.http1,  # has a time limit for connections without a request
        http1_settings=HTTP1Settings(header_read_timeout=IDLE * 1000, max_buffer_size=MAX_HEADERS),
        backpressure=CONNECTIONS,
        blocking_threads=THREADS,
        log_level=LogLevels.error,
        log_dictconfig=logs.GRANIAN,
        respawn_failed_workers=True,
        ssl_cert=cert,
        ssl_key=key,
    ).serve()


if __name__ == "__main__":
    main()
