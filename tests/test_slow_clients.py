"""Clients that send a byte a second, or nothing, or do not take what they asked for."""

import contextlib
import shutil
import socket
import sys

import pytest

from tests.conftest import ROOT, SECRET, Target, free_port, listens, serving, until
from web import slow_clients

MANY = 64
# as make run serves, with less patience
SERVE = """if True:
    import serve
    from web import slow_clients
    slow_clients.PATIENCE, slow_clients.HASTE, serve.IDLE = 2, 0.5, 1
    serve.main()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One worker, which has a large page as well."""
    place = tmp_path_factory.mktemp("slow") / "acme"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "acme.db*"))
    (place / "www" / "large.txt").write_bytes(b"x" * 2**23)
    port = free_port()
    environ = {"PORT": str(port), "ACME_DATABASE": "memory:", "ACME_TOKEN_SECRET": SECRET}
    command = (sys.executable, "-c", SERVE)
    with serving(*command, ready="Ctrl-C", cwd=place, WORKERS="1", **environ):
        until(lambda: listens(port))
        target = Target(f"http://127.0.0.1:{port}")
        target.person("susie")
        yield target


def connect(target, text, address="127.0.0.2"):
    """A connection of somebody else's, on which so much has been sent."""
    port = int(target.url.rpartition(":")[2])
    connection = socket.create_connection(("127.0.0.1", port), 20, (address, 0))
    connection.sendall(text.encode())
    return connection


def request(length):
    return (
        "POST /stuff HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )


def status(connection):
    """The status of the answer on a connection, None if it ends without."""
    try:
        line = connection.recv(65536)
    except ConnectionError:
        line = b""
    return int(line.split()[1]) if line else None


def is_open(connection):
    """Whether a connection goes on; sends a byte on it."""
    try:
        connection.sendall(b"x")
        return connection.recv(65536, socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


@pytest.mark.parametrize("length", [100_000, 2**22], ids=["small", "too large"])
def test_slow_bodies(server, length):
    """Many bodies that do not arrive: whoever has a token goes on, and soon whoever has a body."""
    with contextlib.ExitStack() as stack:
        address = f"127.0.{length % 99}.2"  # of its own, since such a client is remembered
        crowd = [
            stack.enter_context(connect(server, request(length), address)) for _ in range(MANY)
        ]
        for _ in range(20):
            assert server.send("GET", "/stuff", who="susie").status == 200
        # while those who have a place dribble on
        until(lambda: server.send_json("POST", "/len", {"p": []}).status == 200)
        until(lambda: not any(is_open(connection) for connection in crowd))
        # who was cut off gets few places from then on
        crowd = [
            stack.enter_context(connect(server, request(length), address)) for _ in range(MANY)
        ]
        answers = [status(connection) for connection in crowd[slow_clients.FEW :]]
        assert answers.count(503) >= MANY - 2 * slow_clients.FEW or length > 2**20
        assert server.send_json("POST", "/len", {"p": []}).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: ",
        "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["nothing", "half a header", "nothing more", "HTTP/2"],
)
def test_idle(server, text):
    """Who sends no request, or not the whole of its headers, is disconnected."""
    with connect(server, text) as connection:
        while status(connection):
            pass


def test_slow_body_ends(server):
    """A connection whose body does not arrive ends, however few there are."""
    with connect(server, request(100), "127.0.0.3") as connection:
        assert status(connection) is None


@pytest.mark.parametrize(
    ("header", "expected"), [("X: " + "x" * 30_000, 200), ("X: " + "x" * 2**20, 431)]
)
def test_size_of_headers(server, header, expected):
    """Headers have a size, with which large cookies pass."""
    with contextlib.suppress(ConnectionError):
        connection = connect(server, "GET /hello HTTP/1.1\r\nHost: x\r\n")
        with connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(f"{header}\r\n\r\n".encode())
            assert status(connection) == expected


def test_slow_readers(server):
    """Who does not take the answer holds nobody up."""
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connect(server, "GET /www/large.txt HTTP/1.1\r\nHost: x\r\n\r\n"))
        for _ in range(20):
            assert server.send("GET", "/stuff", who="susie").status == 200
