"""Clients that send a byte a second, or nothing, or do not read what they asked for."""

import concurrent.futures
import contextlib
import select
import shutil
import socket
import sqlite3
import sys
import threading
import time

import psutil
import pytest
from werkzeug.exceptions import ServiceUnavailable

import test as tutorial
from tests.conftest import ROOT, SECRET, Target, free_port, run, serving, until, wait_for
from web import slow_clients

MANY = 64
ME = "127.0.0.1"
# as make run serves, with less patience
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
    """One worker, which has a large page as well; yields a target and that process."""
    place = tmp_path_factory.mktemp("slow") / "acme"
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(".*", "acme.db*"))
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


def connect(target, text, address="127.0.0.2"):
    """A connection from another address of this machine, on which so much has been sent."""
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
        is_readable = select.select([connection], [], [], 0)[0]
        return not is_readable or connection.recv(65536) != b""
    except ConnectionError:
        return False


def connections(worker, address):
    """How many connections a server has from an address."""
    return sum(bool(c.raddr) and c.raddr.ip == address for c in worker.net_connections("inet"))


@pytest.mark.parametrize("length", [100_000, 2**22], ids=["small", "too large"])
def test_slow_bodies_hold_up_nobody_else(server, length):
    """Many bodies of one address that do not arrive: others are answered, then these are cut."""
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
        # while those that have a slot dribble on
        until(lambda: not any(is_open(connection) for connection in crowd))
        # a client that was cut off gets few slots from then on
        crowd = [
            stack.enter_context(connect(server, request(length), address)) for _ in range(MANY)
        ]
        most = slow_clients.MAX_PENALIZED_READERS
        answers = [status(connection) for connection in crowd[most:]]
        assert answers.count(503) >= MANY - 2 * most or length > 2**20
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
    """A connection whose body does not arrive ends, however few there are."""
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


def test_behind_a_proxy_nothing_is_cut(tmp_path_factory):
    """However late the body is; the proxy's address is nobody's."""
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


def test_slow_readers_hold_up_nobody_else(server):
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connect(server, get("/www/large.bin")))
        for _ in range(20):
            assert server.send("GET", "/stuff", who="susie").status == 200


def test_unread_connection_ends(server, worker):
    """The rest of a response that nobody reads is dropped, and its connection with it."""
    with connect(server, get("/www/large.bin"), "127.0.0.5"):
        until(lambda: connections(worker, "127.0.0.5") == 1)
        until(lambda: connections(worker, "127.0.0.5") == 0)


def test_unread_files_take_little_memory(server, worker):
    """600 connections of one address that ask for a file of 1.6 MB: 540 MB when each had a copy."""
    assert server.send("GET", "/docs/swagger-ui-bundle.js").status == 200
    before = worker.memory_info().rss
    with contextlib.ExitStack() as stack:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            text = get("/docs/swagger-ui-bundle.js")
            crowd = list(pool.map(lambda _: connect(server, text, "127.0.0.6"), range(600)))
        for connection in crowd:
            stack.enter_context(connection)
        statuses = [status(connection) for connection in crowd]
        assert 0 < statuses.count(200) <= 5
        assert set(statuses) <= {200, 503, None}
        assert worker.memory_info().rss - before < 50 * 2**20
        assert server.send("GET", "/docs/swagger-ui-bundle.js").status == 200


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


def test_cut_keeps_the_locks_of_files(accepted, tmp_path):
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
    """However many requests are the first one."""
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


@pytest.mark.parametrize(
    ("size", "number", "others", "expected"),
    [
        (slow_clients.LARGE_BYTES, 511, 0, 200),
        (slow_clients.LARGE_BYTES, 513, 0, 503),
        (slow_clients.LARGE_BYTES - 1, 10_000, 0, 200),
        (2**21, 4, 0, 200),
        (2**21, 5, 0, 503),
        (2**21, 2, 30, 200),
        (2**21, 2, 31, 503),
        (2**30, 1, 0, 200),
    ],
)
def test_large_responses_need_few_connections(large_response, size, number, others, expected):
    """The product of both is limited, for a client and for all."""
    response = large_response(size, ["127.0.0.2"] * number + ["127.0.0.3"] * others)
    assert response.status_code == expected
    if expected == 503:
        assert response.headers["Retry-After"] == "1"
        assert "ETag" not in response.headers
        assert list(response.json) == ["error"]


def test_behind_a_proxy_large_responses_are_sent(large_response):
    """Whatever it has for connections: it reads for its clients."""
    environ = {"werkzeug.proxy_fix.orig": {}}
    assert large_response(2**21, ["127.0.0.2"] * 1000, environ).status_code == 200


def test_client_that_was_refused_gets_large_responses_again(large_response, monkeypatch):
    """A second later, if it has closed its connections."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert large_response(2**21, ["127.0.0.2"] * 1000).status_code == 503
    now += 1
    assert large_response(2**21, ["127.0.0.2"] * 1000).status_code == 503
    now += 1
    assert large_response(2**21, ["127.0.0.2"]).status_code == 200


@pytest.fixture
def large_response(monkeypatch):
    """Makes what becomes of a response for 127.0.0.2 when there are connections of clients."""
    unchecked = dict.fromkeys(["127.0.0.2", slow_clients.EVERYONE], slow_clients.MAX_UNREAD_BYTES)
    monkeypatch.setattr(slow_clients, "_unchecked", unchecked)
    monkeypatch.setattr(slow_clients, "_refused", {})

    def make(size, clients, environ=None):
        found = [(None, client) for client in clients]
        monkeypatch.setattr(slow_clients, "_connections", lambda _: found)
        environ = {"REMOTE_ADDR": "127.0.0.2"} | (environ or {})
        with tutorial.app.test_request_context(environ_overrides=environ):
            response = tutorial.app.response_class(mimetype="text/html", headers={"ETag": "x"})
            response.response = [Zeros(size)]
            slow_clients.limit_unread(response)
        return response

    return make


class Zeros:
    """A body of a length, without the bytes."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length
