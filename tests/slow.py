"""Slow clients: a server with short time limits, and connections to it."""

import contextlib
import select
import shutil
import socket
import sys

import psutil

from tests.conftest import ROOT, SECRET, Target, free_port, serving, wait_for

MANY = 64
ME = "127.0.0.1"


# as make run, with shorter time limits
SERVE = """if True:
    import serve
    from web import slow_clients
    slow_clients.BODY_TIMEOUT, slow_clients.BODY_TIMEOUT_UNDER_LOAD = 2, 0.4
    slow_clients.READ_TIMEOUT, serve.IDLE = 1, 1
    serve.main()
"""


LARGE = 2**23  # bytes, more than the system keeps for a connection that is not read


@contextlib.contextmanager
def started(tmp_path_factory, **environ):
    """One worker, with a large file as well; yields a target and that process."""
    place = tmp_path_factory.mktemp("slow") / "acme"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "node_modules", "acme.db*"))
    (place / "www" / "large.bin").write_bytes(b"x" * LARGE)
    port = free_port()
    environ |= {"PORT": str(port), "ACME_DATABASE": "memory:", "ACME_TOKEN_SECRET": SECRET}
    command = (sys.executable, "-c", SERVE)
    before = set(psutil.Process().children())
    with serving(*command, ready="Ctrl-C", cwd=place, WORKERS="1", **environ):
        wait_for(port)
        target = Target(f"http://{ME}:{port}")
        target.person("susie")
        (main,) = set(psutil.Process().children()) - before
        (worker,) = main.children()
        yield target, worker


def connect(target, text, address="127.0.0.2"):
    """A connection from another address of this machine, on which a text has been sent."""
    port = int(target.url.rpartition(":")[2])
    connection = socket.create_connection((ME, port), 20, (address, 0))
    connection.sendall(text.encode())
    return connection


def request(length):
    return (
        "POST /stuff HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"


def status(connection):
    """The status of the response on a connection, None if it ends without."""
    try:
        line = connection.recv(65536)
    except ConnectionError:
        line = b""
    return int(line.split()[1]) if line else None


def is_open(connection):
    """Whether a connection is open; sends a byte on it."""
    try:
        connection.sendall(b"x")
        is_readable = select.select([connection], [], [], 0)[0]
        return not is_readable or connection.recv(65536) != b""
    except ConnectionError:
        return False


def connections(worker, address):
    """How many connections a server has from an address."""
    return sum(bool(c.raddr) and c.raddr.ip == address for c in worker.net_connections("inet"))
