"""PgBouncer between Acme and PostgreSQL: the contract of the store holds in both of its modes."""

import contextlib
import os
import shutil
import socketserver
import struct
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import FlaskSimpleAuth as fsa
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import acme
import test as tutorial
from store import base
from tests.clusters import USER
from tests.conftest import free_port, listens, new_name, opened, until
from tests.test_store import CALLS, result

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
pytestmark = pytest.mark.skipif(not PGBOUNCER, reason="sudo apt-get install pgbouncer")
CONFIGURATION = """
[databases]
* = host={server} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
query_wait_timeout = 3
{extra}
"""


@contextlib.contextmanager
def bouncing(url, mode, size=3, extra=""):
    """A PgBouncer in front of the server of a database; yields the URL of the database there."""
    parameters, port = psycopg.conninfo.conninfo_to_dict(url), free_port()
    with tempfile.TemporaryDirectory(prefix="acme") as place:
        folder = Path(place)
        folder.chmod(0o755)
        (folder / "users").write_text('"postgres" ""\n')
        values = {"server": parameters["host"], "port": port, "folder": folder, "mode": mode}
        (folder / "ini").write_text(CONFIGURATION.format(**values, size=size, extra=extra))
        command = [PGBOUNCER, "-q", str(folder / "ini")]
        with subprocess.Popen(command, user=USER, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: listens(port))
                yield f"postgresql://postgres@127.0.0.1:{port}/{parameters['dbname']}"
            finally:
                process.kill()


@pytest.fixture(scope="module", params=["session", "transaction"])
def pooled(request, new_database):
    """The URL of a database behind a PgBouncer with fewer connections than threads use."""
    size = 20 if request.param == "session" else 3
    with bouncing(new_database("postgresql"), request.param, size) as url:
        yield url


@pytest.fixture(scope="module")
def store(pooled):
    with contextlib.closing(opened(pooled)) as found:
        yield found


@settings(max_examples=20, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(CALLS, min_size=30, max_size=60))
def test_pooled_store_returns_the_same_results(calls, store):
    memory = acme.AcmeData()
    with store.connection() as connection:
        for table in reversed(base.TABLES):
            connection.execute(f"DELETE FROM {table}")
    assert [result(store, call) for call in calls] == [result(memory, call) for call in calls]


def test_tutorial_test_of_acmedata_passes(store, monkeypatch):
    monkeypatch.setattr(acme, "AcmeData", lambda: store)
    tutorial.test_acmedata()


def write(stores, threads=8, count=40):
    """Changes by many threads over several stores: names, and the errors other than 503."""
    errors = []

    def change(n):
        store, name = stores[n % len(stores)], new_name()
        try:
            store.add_user(name, "hash", "a@acme.org", False)
            store.change_user(name, email="b@acme.org", active=n % 2 == 0)  # a transaction
            store.add_stuff(name, name, n)
            return name, n
        except fsa.ErrorResponse as e:
            if e.status != 503:
                errors.append(e)
        return None

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(change, range(count)))
    assert not errors
    return [one for one in found if one]


def assert_written(store, written):
    for name, n in written:
        assert store.get_user(name) == base.Profile(name, "b@acme.org", False, n % 2 == 0, False, 0)
        assert store.get_stuff(name) == (name, n)


def test_clients_share_connections(pooled):
    """As several processes do: no error, and nothing lost."""
    with contextlib.closing(opened(pooled)) as one, contextlib.closing(opened(pooled)) as other:
        written = write([one, other])
        assert len(written) == 40
        assert_written(other, written)


def test_pooler_that_ignores_options_is_noticed(new_database, caplog):
    """By the prepared statements that it loses: 503 at most, and then queries are not prepared."""
    ignore = "ignore_startup_parameters = options"
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(bouncing(new_database("postgresql"), "transaction", 2, ignore))
        one, other = (stack.enter_context(contextlib.closing(opened(url))) for _ in range(2))
        assert_written(one, write([one, other]))
        assert "no longer prepared" in caplog.text
        written = write([one, other])
        assert len(written) == 40
        assert_written(other, written)


@contextlib.contextmanager
def pooler_without_server(closes):
    """As PgBouncer whose server is gone: it takes a connection, as of a primary, and no query.

    Unless it closes the connection then, nothing follows the error.
    """
    done = threading.Event()

    def message(kind, body):
        return kind + struct.pack("!I", len(body) + 4) + body

    parameters = {"server_version": "15.0", "in_hot_standby": "off", "client_encoding": "UTF8"}
    parameters["default_transaction_read_only"] = "off"
    welcome = message(b"R", bytes(4))
    for name, value in parameters.items():
        welcome += message(b"S", f"{name}\0{value}\0".encode())
    welcome += message(b"Z", b"I")
    fields = {"S": "FATAL", "V": "FATAL", "C": "08P01", "M": "server login has been failing"}
    failure = message(b"E", "".join(f"{k}{v}\0" for k, v in fields.items()).encode() + b"\0")

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while True:
                size, code = struct.unpack("!II", self.rfile.read(8))
                self.rfile.read(size - 8)
                if code == 3 << 16:  # protocol 3.0; others ask for encryption
                    break
                self.wfile.write(b"N")
            self.wfile.write(welcome)
            if self.rfile.read(1) not in (b"", b"X"):
                self.wfile.write(failure)
                if not closes:
                    done.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_address[1]
        finally:
            done.set()
            server.shutdown()


@pytest.mark.parametrize("closes", [True, False])
def test_pooler_without_server_is_passed_over(new_database, closes):
    """PgBouncer tells what its server was: the connection is tried before it is used."""
    with (
        bouncing(new_database("postgresql"), "transaction") as url,
        contextlib.closing(opened(url)) as store,
        pooler_without_server(closes) as port,
    ):
        assert store.parameters["options"] is None  # known to be a pooler
        own = store.parameters["port"]
        store.parameters |= {"host": "127.0.0.1,127.0.0.1", "port": f"{port},{own}"}
        store.parameters["connect_timeout"] = "1"  # second
        store.close()
        assert not store.has_users()
