"""Clients that do not read the responses that they asked for."""

import concurrent.futures
import contextlib
import time

import pytest

import test as tutorial
from tests.conftest import until
from tests.slow import MANY, connect, connections, get, started, status
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


def test_slow_readers_do_not_delay_others(server):
    with contextlib.ExitStack() as stack:
        for _ in range(MANY):
            stack.enter_context(connect(server, get("/www/large.bin")))
        for _ in range(20):
            assert server.send("GET", "/stuff", who="susie").status == 200


def test_unread_connection_ends(server, worker):
    """The rest of the response is dropped, and the connection ends."""
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
    """However many connections it has: it reads responses for its clients."""
    environ = {"werkzeug.proxy_fix.orig": {}}
    assert large_response(2**21, ["127.0.0.2"] * 1000, environ).status_code == 200


def test_client_that_was_refused_gets_large_responses_again(large_response, monkeypatch):
    """A second later, if it has closed its connections; until then they are not counted again."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert large_response(2**21, ["127.0.0.2"] * 1000).status_code == 503
    assert large_response(2**21, ["127.0.0.2"]).status_code == 503
    now += 1
    assert large_response(2**21, ["127.0.0.2"] * 1000).status_code == 503
    now += 1
    assert large_response(2**21, ["127.0.0.2"]).status_code == 200


@pytest.fixture
def large_response(monkeypatch):
    """Returns the final response for 127.0.0.2, given the connections of clients."""
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
