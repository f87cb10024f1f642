"""Clients that send a byte a second, or nothing (slowloris)."""

import concurrent.futures
import contextlib
import socket
import sqlite3
import sys
import threading
import time

import pytest
from werkzeug.exceptions import ServiceUnavailable

import test as tutorial
from tests.conftest import run, until
from tests.slow import MANY, ME, connect, connections, get, is_open, request, started, status
from web import slow_clients


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with started(tmp_path_factory) as server_and_worker:
        yield server_and_worker


@pytest.fixture(scope="module")
def server(running):
    return running[0]


@pytest.fixture(scope="module")
def worker(running):
    return running[1]


@pytest.mark.parametrize("length", [100_000, 2**22], ids=["small", "too large"])
def test_slow_bodies_do_not_delay_others(server, length):
    """64 bodies of one address that do not arrive: others are served, and these are cut off."""
    with contextlib.ExitStack() as stack:
        address = f"127.0.{length % 99}.2"  # of its own, since such a client is remembered
        crowd = [
            stack.enter_context(connect(server, request(length), address)) for _ in range(MANY)
        ]
        start = time.monotonic()
        assert server.send_json("POST", "/len", {"p": []}).status == 200  # at the first try
        assert time.monotonic() < start + 2
        for _ in range(20):
            assert server.send("GET", "/stuff", who="susie").status == 200
        # while those that have a slot send single bytes
        until(lambda: not any(is_open(connection) for connection in crowd))
        # a client that was cut off gets few slots from then on
        crowd = [
            stack.enter_context(connect(server, request(length), address)) for _ in range(MANY)
        ]
        most = slow_clients.MAX_PENALIZED_READERS
        responses = [status(connection) for connection in crowd[most:]]
        assert responses.count(503) >= MANY - 2 * most or length > 2**20
        assert server.send_json("POST", "/len", {"p": []}).status == 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: ",
        get("/hello"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=["nothing", "half a header", "nothing more", "HTTP/2"],
)
def test_idle_connection_ends(server, text):
    """Without a request, or without the whole of its headers."""
    with connect(server, text) as connection:
        while status(connection):
            pass


def test_single_slow_body_ends(server):
    """A single connection whose body does not arrive ends."""
    with connect(server, request(100), "127.0.0.3") as connection:
        assert status(connection) is None


def test_slow_bodies_leave_no_descriptors(server, worker):
    """200 that are cut off, 20 at a time, each of another address."""
    server.send_json("POST", "/len", {"p": []})
    before = worker.num_fds()
    for batch in range(10):
        with contextlib.ExitStack() as stack:
            crowd = [
                stack.enter_context(connect(server, request(100), f"127.1.{batch}.{n + 1}"))
                for n in range(20)
            ]
            assert {status(connection) for connection in crowd} == {None}
    until(lambda: worker.num_fds() <= before)


def test_pipelined_download_does_not_save_a_slow_body(server, worker):
    """A large file that is not read, and a slow body behind it, on one connection and on 20."""
    address = "127.0.0.4"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            # the second file is still to be sent when the body is waited for
            text = get("/docs/swagger-ui.css") + request(100)
            stack.enter_context(connect(server, text, address))
            stack.enter_context(connect(server, get("/www/large.bin"), address))
        until(lambda: connections(worker, address) == 0)
        assert server.send_json("POST", "/len", {"p": []}).status == 200


def test_connections_of_a_proxy_are_not_cut_off(tmp_path_factory):
    """The address of the proxy stands for many clients."""
    with (
        started(tmp_path_factory, ACME_PROXIES="1") as (server, worker),
        contextlib.ExitStack() as s,
    ):
        slow = [s.enter_context(connect(server, request(100))) for _ in range(14)]
        until(lambda: worker.num_threads() > 14)
        end = time.monotonic() + 1  # more than twice the time limit under load
        while time.monotonic() < end:
            assert server.send_json("POST", "/len", {"p": []}).status == 200
        for connection in slow:
            connection.sendall(b"{" + b" " * 98 + b"}")
        assert {status(connection) for connection in slow} == {401}


@pytest.mark.parametrize(
    ("header", "expected"), [("X: " + "x" * 30_000, 200), ("X: " + "x" * 2**20, 431)]
)
def test_size_of_headers_is_limited(server, header, expected):
    """To a size with which large cookies pass."""
    with contextlib.suppress(ConnectionError):
        connection = connect(server, "GET /hello HTTP/1.1\r\nHost: x\r\n")
        with connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(f"{header}\r\n\r\n".encode())
            assert status(connection) == expected


# in this process: connections that a test accepts itself


class Accepted:
    """A server's port, and connections to it from addresses of this machine."""

    def __init__(self):
        self.listener = socket.create_server((ME, 0), backlog=100)
        self.port = str(self.listener.getsockname()[1])
        self.ends = []

    def connect(self, address):
        """The client's end of a new connection."""
        client = socket.create_connection((ME, int(self.port)), 20, (address, 0))
        self.ends += [client, self.listener.accept()[0]]
        return client

    def reading(self, address, **environ):
        """Wait for the body of a request from an address."""
        environ |= {"REMOTE_ADDR": address, "SERVER_PORT": self.port}
        with tutorial.app.test_request_context(environ_overrides=environ) as context:
            return slow_clients.reading(context.request)

    def close(self):
        for end in [self.listener, *self.ends]:
            end.close()


@pytest.fixture
def accepted(monkeypatch):
    """Such a port, where each body that does not arrive at once is late."""
    monkeypatch.setattr(slow_clients, "watch", lambda: None)  # the test looks for late ones itself
    monkeypatch.setattr(slow_clients, "BODY_TIMEOUT", 0)
    found = Accepted()
    yield found
    found.close()
    slow_clients._reset()


def test_late_body_ends_all_connections_of_its_client(accepted):
    """And none of another client, nor what this process has opened to the client's address."""
    with socket.create_server(("127.0.0.2", 0)) as other, contextlib.ExitStack() as stack:
        outgoing = stack.enter_context(socket.create_connection(other.getsockname()))
        peer = stack.enter_context(other.accept()[0])
        lost = [accepted.connect("127.0.0.2") for _ in range(3)]
        kept = [peer, accepted.connect("127.0.0.3")]
        with accepted.reading("127.0.0.2"):
            slow_clients.cut_off_late()
            assert not any(is_open(connection) for connection in lost)
            assert all(is_open(connection) for connection in kept)
        assert is_open(outgoing)


def test_cutting_off_keeps_the_locks_of_files(accepted, tmp_path):
    """To close a duplicate of an SQLite file would release the lock that its process has."""
    attempt = "import sqlite3, sys; sqlite3.connect(sys.argv[1], 0).execute('BEGIN IMMEDIATE')"
    file = str(tmp_path / "some.db")
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE some (value)")
        connection.execute("BEGIN IMMEDIATE")
        client = accepted.connect("127.0.0.2")
        with accepted.reading("127.0.0.2"):
            slow_clients.cut_off_late()
        assert not is_open(client)
        assert "database is locked" in run(sys.executable, "-c", attempt, file).stderr
    assert run(sys.executable, "-c", attempt, file).returncode == 0


def test_penalized_client_is_forgiven(accepted, monkeypatch):
    """After the penalty it has as many slots as others again."""
    monkeypatch.setattr(slow_clients, "PENALTY_SECONDS", 0.1)
    most = slow_clients.MAX_PENALIZED_READERS
    with contextlib.ExitStack() as stack:
        for _ in range(most):
            stack.enter_context(accepted.reading("127.0.0.2"))
        slow_clients.cut_off_late()
        with pytest.raises(ServiceUnavailable), accepted.reading("127.0.0.2"):
            pass
        with accepted.reading("127.0.0.3"):
            pass

    def is_forgiven():
        slow_clients.cut_off_late()
        with contextlib.suppress(ServiceUnavailable), contextlib.ExitStack() as stack:
            for _ in range(most + 1):
                stack.enter_context(accepted.reading("127.0.0.2"))
            return True
        return False

    until(is_forgiven)


def test_no_client_takes_all_slots(accepted):
    """Some are left for others, and several clients together have no more than there are."""
    with contextlib.ExitStack() as stack:

        def take(address):
            try:
                stack.enter_context(accepted.reading(address))
            except ServiceUnavailable as e:
                return e.retry_after
            return None

        mine = [take("127.0.0.2") for _ in range(slow_clients.MAX_CLIENT_READERS + 1)]
        assert mine == [None] * slow_clients.MAX_CLIENT_READERS + [1]
        left = slow_clients.READERS - slow_clients.MAX_CLIENT_READERS
        assert [take("127.0.0.3") for _ in range(left + 1)] == [None] * left + [1]


def test_watcher_survives_an_error(monkeypatch, caplog):
    """The error is logged, and late bodies are looked for again."""
    calls = []

    def fail_once():
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no descriptors")

    monkeypatch.setattr(slow_clients, "cut_off_late", fail_once)
    slow_clients.watch()
    until(lambda: len(calls) > 1)
    assert "no descriptors" in caplog.text


def test_watcher_is_one_thread(monkeypatch):
    """Also if 20 first requests are simultaneous."""
    monkeypatch.setattr(slow_clients, "_watcher", None)
    stop = threading.Event()
    monkeypatch.setattr(slow_clients, "_watch", stop.wait)
    before = {thread for thread in threading.enumerate() if thread.name == "slow-clients"}
    start = threading.Barrier(20)

    def request(_):
        start.wait()
        slow_clients.watch()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        list(pool.map(request, range(20)))
    new = {t for t in threading.enumerate() if t.name == "slow-clients"} - before
    stop.set()
    assert len(new) == 1


def test_forked_process_has_a_watcher_and_slots_of_its_own():
    code = """if True:
        import os, threading, types
        from web import slow_clients
        environ = {"SERVER_PORT": "1"}
        request = types.SimpleNamespace(environ=environ, remote_addr="127.0.0.2")
        with slow_clients.reading(request), slow_clients._lock:
            if os.fork():
                os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
        assert not slow_clients._readers
        assert [t.name for t in threading.enumerate()] == ["MainThread"]
        with slow_clients.reading(request):
            assert [t.name for t in threading.enumerate()] == ["MainThread", "slow-clients"]
        os._exit(7)
    """
    assert run(sys.executable, "-W", "ignore", "-c", code).returncode == 7
