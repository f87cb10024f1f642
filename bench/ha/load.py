"""The load of `make ha`: clients that remember what was acknowledged, and what must be found later.

A client repeats a change that got a 503 until it is acknowledged. Each of its requests is recorded.
"""

import contextlib
import dataclasses
import http.client
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLIENTS = 8
PAUSE_SECONDS = 0.06  # of a client between two requests
REPEAT_SECONDS = 0.25  # after a 503
TIMEOUT_SECONDS = 20.0  # after which a client gives up: a failure
SESSION_EVERY, PASSWORD_EVERY = 25, 120  # requests of a client
UNAVAILABLE = 503
TOKEN_SECONDS = 500  # for which a token would be good, if it had not ended
CHANGES = ("POST", "PATCH", "PUT", "DELETE")

Send = Callable[..., tuple[int, Any]]


@dataclasses.dataclass
class Answer:
    """A request that has ended."""

    end: float  # monotonic seconds
    seconds: float
    method: str
    path: str
    status: int  # 0 for none

    @property
    def is_acknowledged_change(self) -> bool:
        return self.method in CHANGES and 200 <= self.status < 300


@dataclasses.dataclass
class Ended:
    """Tokens and passwords that must never be accepted again: acknowledged as ended."""

    tokens: list[tuple[str, float]] = dataclasses.field(default_factory=list)  # and when
    passwords: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # login, password


class Connection:
    """A connection to the balancer, which is opened again when it has ended."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._open: http.client.HTTPSConnection | None = None

    def send(
        self, method: str, path: str, value: Any = None, token: str = "", key: str = ""
    ) -> tuple[int, Any]:
        """The status and the JSON of a response; status 0 if there is none."""
        headers = {"Content-Type": "application/json"} if value is not None else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        start, status, found = time.monotonic(), 0, None
        try:
            if not self._open:
                self._open = http.client.HTTPSConnection(
                    self._load.address, timeout=TIMEOUT_SECONDS, context=self._load.context
                )
            body = None if value is None else json.dumps(value)
            self._open.request(method, path, body, headers)
            response = self._open.getresponse()
            text = response.read()
            status, found = response.status, json.loads(text or "null")
            if status == 409 and "Retry-After" in response.headers:
                status = UNAVAILABLE  # the same request is still in progress: see Idempotency-Key
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.close()
            found = f"{type(e).__name__}: {e}"
        end = time.monotonic()
        where = "/".join(path.partition("?")[0].split("/")[:2])
        self._load.answers.append(Answer(end, end - start, method, where, status))
        # a change without a key is never sent again: if its server is killed, HAProxy hangs up
        if status == 0 and not (method in CHANGES and not key and "RemoteDisc" in str(found)):
            self._load.wrong(f"{method} {where} has got no answer: {found}")
        return status, found

    def insist(self, *arguments: Any, **named: Any) -> tuple[int, Any]:
        """The same, repeated for some seconds while it is 503."""
        for _ in range(20):
            status, found = self.send(*arguments, **named)
            if status not in (UNAVAILABLE, 0):
                break
            time.sleep(0.5)
        return status, found

    def close(self) -> None:
        if self._open:
            self._open.close()
        self._open = None


class Client:
    """A user who adds things, changes prices, signs in and out, and changes the password."""

    def __init__(self, load: "Load", number: int) -> None:
        self.load = load
        self.login = f"load{number}"
        self.password = new_password()
        self.token = ""
        self.stuff: dict[str, float] = {}  # acknowledged
        self.connection = Connection(load)
        self.is_idle = threading.Event()
        self._count = number * 7  # clients differ in what they do at a time

    def run(self) -> None:
        while not self.load.is_over:
            if not self.load.goes.is_set():
                self.connection.close()
                self.is_idle.set()
                self.load.goes.wait()
                continue
            self.is_idle.clear()
            self._count += 1
            with contextlib.suppress(Unexpected):
                self.act()
            time.sleep(PAUSE_SECONDS)

    def act(self) -> None:
        """Do one thing."""
        if self._count % PASSWORD_EVERY == 0:
            self.change_password()
        elif self._count % SESSION_EVERY == 0:
            self.change_session()
        elif self._count % 3 == 0:
            self.repeat("GET", "/hello-me", None, 200)
        elif self._count % 3 == 1 or not self.stuff:
            self.add()
        else:
            name = secrets.choice([*self.stuff][-50:])
            price = float(self._count)
            self.repeat("PATCH", f"/stuff/{name}", {"price": price}, 200)
            self.stuff[name] = price

    def add(self) -> None:
        name, price = f"{self.login}-{secrets.token_hex(6)}", float(self._count)
        self.repeat("POST", "/stuff", {"stuff": name, "price": price}, 201)
        self.stuff[name] = price

    def repeat(
        self, method: str, path: str, value: Any, *good: int, later: int = 0
    ) -> tuple[int, Any]:
        """Send a request until it gets a status of `good`, or `later` if it has had a 503 before.

        After a 503 the change may have been made: with an `Idempotency-Key` its answer is the first
        one again. But a session that had to end may have ended (401).
        """
        allowed = {*good}
        key = secrets.token_hex(16) if path.startswith("/stuff") else ""  # others have secrets
        while True:
            status, found = self.connection.send(method, path, value, self.token, key)
            if status in allowed:
                return status, found
            if status in (UNAVAILABLE, 0) and not self.load.is_over:
                allowed |= {later} - {0}
                time.sleep(REPEAT_SECONDS)
                continue
            raise self.unexpected(method, path, status, found)

    def unexpected(self, method: str, path: str, status: int, found: Any) -> "Unexpected":
        if not self.load.is_over:
            where = "/".join(path.split("/")[:2])
            self.load.wrong(f"{self.login}: {method} {where} has got {status}: {found}")
        return Unexpected()

    def sign_in(self, later: int = 0) -> bool:
        """Begin a session; False if the status is `later`, which is allowed then."""
        self.token = ""
        value = {"username": self.login, "password": self.password}
        status, found = self.repeat("POST", "/token", value, 201, *([later] if later else []))
        if status == 201:
            self.token = found["token"]
        return status == 201

    def change_session(self) -> None:
        """Begin a session, and end the one before."""
        before = self.token
        self.sign_in()
        new, self.token = self.token, before
        status, _ = self.repeat("DELETE", "/token", None, 204, later=401)
        if status == 204:
            self.load.ended.tokens.append((before, time.monotonic()))
        self.token = new

    def change_password(self) -> None:
        """Set another password, which ends all sessions, and sign in with it.

        That session is acknowledged when the password is on the standby.
        """
        before, new = self.password, new_password()
        value = {"password": new, "current": before}
        path = f"/user/{self.login}/password"
        while True:
            status, _ = self.repeat("PUT", path, value, 204, later=401)
            old = self.token
            self.password = new
            if self.sign_in(later=401 if status == 401 else 0):
                break
            self.password, self.token = before, old  # the change was lost, which got a 503
        self.load.ended.tokens.append((old, time.monotonic()))
        self.load.ended.passwords.append((self.login, before))


class Unexpected(Exception):  # noqa: N818
    """An answer that nothing explains, which is recorded as wrong."""


class Load:
    """The clients, and one who tries ended tokens and old passwords all the time."""

    def __init__(self, address: str, certificate: Path) -> None:
        self.address = address
        self.context = ssl.create_default_context(cafile=str(certificate))
        self.answers: list[Answer] = []
        self.failures: list[str] = []
        self.ended = Ended()
        self.goes = threading.Event()
        self.is_over = False
        self.clients = [Client(self, number) for number in range(CLIENTS)]

    @property
    def size(self) -> int:
        """How many clients there are."""
        return len(self.clients)

    def posts_per_second(self) -> float:
        """How many changes a second the clients make without a pause, in five seconds."""
        end = time.monotonic() + 5

        def post(client: Client) -> int:
            count = 0
            while time.monotonic() < end:
                client.add()
                count += 1
            client.connection.close()
            return count

        counts: list[int] = []
        threads = [
            threading.Thread(target=lambda client=client: counts.append(post(client)))
            for client in self.clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / 5

    def wrong(self, what: str) -> None:
        """Record a failure of the cluster."""
        self.failures.append(what)

    def start(self, admin_password: str) -> None:
        """Create the users; their threads wait for `goes`. To be called in the right network."""
        admin = Client(self, 0)
        admin.login, admin.password = "acme", admin_password
        admin.sign_in()
        for client in self.clients:
            user = {"login": client.login, "password": client.password, "email": "load@acme.org"}
            admin.repeat("POST", "/user", user, 201, later=409)
            client.sign_in()
        for action in [*(client.run for client in self.clients), self.try_ended]:
            threading.Thread(target=action, daemon=True).start()

    def pause(self) -> None:
        """Let all clients finish what they do, at most half a minute."""
        self.goes.clear()
        end = time.monotonic() + 30
        for client in self.clients:
            if not client.is_idle.wait(max(0, end - time.monotonic())):
                self.wrong(f"{client.login} still waits for an acknowledgement after 30 s")

    def stop(self) -> None:
        self.is_over = True
        self.goes.set()

    def try_ended(self) -> None:
        """Try tokens and passwords that have just ended: no answer may accept them, at any time."""
        connection, count = Connection(self), 0
        while not self.is_over:
            if not self.goes.is_set():
                connection.close()
                self.goes.wait()
            count += 1
            if self.ended.tokens:
                self.expect_token_ended(connection.send, secrets.choice(self.ended.tokens[-10:])[0])
            if self.ended.passwords and count % 10 == 0:
                self.expect_password_ended(connection.send, *self.ended.passwords[-1])
            time.sleep(0.1)

    def expect_token_ended(self, send: Send, token: str) -> None:
        status, found = send("GET", "/hello-me", token=token)
        if status not in (401, UNAVAILABLE, 0):
            self.wrong(f"REVIVED: an ended session has got {status}: {found}")

    def expect_password_ended(self, send: Send, login: str, password: str) -> None:
        status, _ = send("POST", "/token", {"username": login, "password": password})
        if status not in (401, UNAVAILABLE, 0):
            self.wrong(f"REVIVED: an old password of {login} has got {status}")

    def check(self, rows: dict[str, float]) -> int:
        """Record everything acknowledged that is missing, in lists and in `rows` of the primary.

        Returns how many were missing. To be called in the right network, while the load pauses.
        """
        connection, missing = Connection(self), 0
        for client in self.clients:
            listed = self._list(connection, client)
            for name, price in client.stuff.items():
                for where, found in ("list", listed.get(name)), ("primary", rows.get(name)):
                    if found != price:
                        missing += 1
                        self.wrong(f"LOST: {name} is {found}, not {price}, in the {where}")
        now = time.monotonic()
        for token, when in self.ended.tokens[-60:]:
            if now - when < TOKEN_SECONDS:
                self.expect_token_ended(connection.insist, token)
        for login, password in self.ended.passwords[-8:]:
            self.expect_password_ended(connection.insist, login, password)
        connection.close()
        return missing

    def _list(self, connection: Connection, client: Client) -> dict[str, float]:
        """All that a client owns."""
        found: dict[str, float] = {}
        after = ""
        while True:
            status, page = connection.insist("GET", f"/stuff{after}", token=client.token)
            if status != 200:
                self.wrong(f"{client.login}: GET /stuff has got {status}: {page}")
            if status != 200 or not page:
                return found
            found |= dict(page)
            after = f"?after={page[-1][0]}"


def new_password() -> str:
    return secrets.token_urlsafe(12) + "-Aa0"
