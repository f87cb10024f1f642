"""`make run`: serve Acme with granian, in production.

Creates secrets on its first start, refuses unsafe settings, prints how to use the server, and runs
until Ctrl-C or SIGTERM.
"""

import contextlib
import ctypes
import datetime
import gc
import ipaddress
import multiprocessing
import os
import re
import resource
import secrets
import shlex
import signal
import socket
import ssl
import sys
import threading
import time
import types
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dotenv
import FlaskSimpleAuth as fsa
import granian._signals
import granian.wsgi
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

import database
from security.bounded_queue import cpu_queue
from security.passwords import hash_queue
from store import migrations
from store.sql import SqlStore
from web import slow_clients
from web.application import ConfigurationError
from web.parameters import parse_queue

ENV_FILE = Path(__file__).with_name(".env")
# of each worker: eight stay free if all others wait for slow clients and in queues
THREADS = slow_clients.READERS + hash_queue.size + parse_queue.size + cpu_queue.size + 8
MAX_HEADERS = 2**16  # bytes, then 431
IDLE = 10  # seconds for the headers of a request, and between two on one connection
CURVES = ("secp256r1", "secp384r1")  # that granian supports
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
CONNECTIONS = 1024  # of each worker; more wait until one of them ends


def load_secrets() -> None:
    """Complete the environment from `.env` (mode 600), which gets new secrets for missing ones."""
    dotenv.load_dotenv(ENV_FILE, override=False)
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


def integer(name: str, default: int, most: int) -> int:
    """A setting of the environment that is a number from 1 to `most`."""
    text = os.environ.get(name, str(default))
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= most:
        sys.exit(f"acme: {name}={text} must be a number from 1 to {most}")
    return int(text)


def tls_files() -> tuple[Path, Path] | tuple[None, None]:
    """The certificate `CERT` and its key `KEY`, both in PEM, if TLS is wanted."""
    cert, key = os.environ.get("CERT"), os.environ.get("KEY")
    if not cert and not key:
        return None, None
    if not cert or not key:
        sys.exit("acme: TLS takes both CERT=, a certificate, and KEY=, its private key")
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key, "")
    except OSError as e:
        sys.exit(f"acme: CERT={cert} KEY={key} cannot be used: {e.strerror}, or a passphrase")
    check_certificate(cert)
    return Path(cert), Path(key)


def check_certificate(path: str) -> None:
    """Exit if granian cannot use the key of a certificate; warn if clients will refuse it."""
    certificate = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    kind = certificate.public_key()
    is_elliptic = isinstance(kind, ec.EllipticCurvePublicKey) and kind.curve.name in CURVES
    if not (is_elliptic or isinstance(kind, (rsa.RSAPublicKey, ed25519.Ed25519PublicKey))):
        sys.exit(f"acme: CERT={path}: its key must be RSA, ECDSA (P-256 or P-384) or Ed25519")
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= datetime.datetime.now(datetime.UTC) <= end:
        print(f"acme: CERT={path} is valid only from {start} to {end}", file=sys.stderr)


def check_address(host: str, port: int, tls: bool) -> None:
    """Exit if the address is unsafe, not of this machine, or in use."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        sys.exit(f"acme: HOST={host} must be an IP address, such as 127.0.0.1")
    if not address.is_loopback and not tls:
        sys.exit(
            f"acme: HOST={host} can be reached from other machines, whose passwords would travel "
            "in clear: give CERT= and KEY= for TLS, or stay on 127.0.0.1 behind a proxy that has it"
        )
    with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            sys.exit(f"acme: cannot listen on {host} port {port}: {e.strerror}; try PORT=")


def upgrade(url: str) -> None:
    """Apply the migrations that the database lacks."""
    try:
        store = database.open_store(url)
        if isinstance(store, SqlStore) and (done := migrations.upgrade(store)):
            print(f"acme: the database has got its schema {', '.join(done)}")
        store.close()
    except ValueError as e:
        sys.exit(f"acme: {e}")
    except fsa.ErrorResponse as e:
        sys.exit(f"acme: ACME_DATABASE: {e.__cause__}".partition("\n")[0])


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


def end_with_parent() -> None:
    """Let Linux end this worker when the process that it was forked from has been killed.

    Otherwise it would keep the port without a parent that restarts it.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def greet(here: str, database_url: str, given: bool) -> None:
    """Print how to use the server at a URL; `given` if the password is not from `.env`."""
    where, read = (
        ("the environment", "") if given else (ENV_FILE, f". {shlex.quote(str(ENV_FILE))} && ")
    )
    print(
        f"Acme serves {here} from {place(database_url)}",
        f"  open        {here}/ in a browser",
        "  sign in as  acme, the administrator",
        f"  password    ACME_PASS in {where}",
        f'  try         {read}curl -u "acme:$ACME_PASS" {here}/hello-me',
        "  stop        Ctrl-C",
        sep="\n",
        flush=True,
    )


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
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def prepare_process() -> None:
    """Before anything else: settings of the process that cannot be made later."""
    handle_signals()
    raise_file_limit()
    share_heap()


def wait_for_signal(stop: Callable[..., None], _reload: Any = None) -> None:
    """In a worker: call `stop` from a thread at SIGTERM; SIGINT stays blocked.

    Ctrl-C and systemd send their signal to workers as well as to the parent, which then sends
    SIGTERM. With its own `set_main_signals` granian 2.8 often misses both, for ten seconds, or the
    parent takes the end of a worker for a failure, if it comes first.
    """

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        time.sleep(0.2)  # seconds for the parent to receive its own signal
        stop(None, None)

    threading.Thread(target=wait, name="signals", daemon=True).start()


def load_worker() -> Any:
    """In a worker, before it serves: the application."""
    import app

    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # inherited by threads that start later
    setattr(granian._signals, "set_main_signals", wait_for_signal)  # noqa: B010
    slow_clients.watch()
    return app.app


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    prepare_process()
    given = "ACME_PASS" in os.environ
    try:
        load_secrets()
    except (OSError, UnicodeDecodeError) as e:
        sys.exit(f"acme: cannot keep secrets in {ENV_FILE}: {e}")
    if os.environ.setdefault("ACME_MODE", "prod") == "debug4":
        sys.exit("acme: ACME_MODE=debug4 writes passwords and tokens to the log: use debug3")
    host = os.environ.get("HOST", "127.0.0.1")
    host = "127.0.0.1" if host == "localhost" else host
    port = integer("PORT", 5000, 65535)
    url = os.environ.setdefault("ACME_DATABASE", "sqlite:///acme.db")
    memory = url == "memory:"
    workers = integer("WORKERS", 1 if memory else len(os.sched_getaffinity(0)), 64)
    connections = str(database.connections_for(workers))
    os.environ.setdefault("ACME_DATABASE_CONNECTIONS", connections)
    cert, key = tls_files()
    check_address(host, port, tls=bool(cert))
    if memory and workers > 1:
        sys.exit("acme: WORKERS must be 1 in memory, or each would have data of its own")
    upgrade(url)

    try:
        import app
    except ConfigurationError as e:
        sys.exit(f"acme: {e.message}")

    assert app.app  # the workers are forked with it
    prepare_workers()
    here = f"{'https' if cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    greet(here, url, given)
    Server(
        "serve:load_worker",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=workers,
        http=HTTPModes.http1,  # has a time limit for connections without a request
        http1_settings=HTTP1Settings(header_read_timeout=IDLE * 1000, max_buffer_size=MAX_HEADERS),
        backpressure=CONNECTIONS,
        blocking_threads=THREADS,
        log_level=LogLevels.error,
        respawn_failed_workers=True,
        workers_kill_timeout=10,  # seconds for requests in progress
        ssl_cert=cert,
        ssl_key=key,
    ).serve()


if __name__ == "__main__":
    main()
