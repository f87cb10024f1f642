"""`make flood`: measure requests with a token during floods of expensive requests.

Acme runs as with `make run`, in one worker. One client reads with a token, one request after the
other: alone, while eight clients sign in with wrong passwords, while 24 ask for the primes in the
longest list, and while 24 send JSON of 1 MiB that takes long to check; each while they respect
Retry-After, and while they do not. Rounds are interleaved. Then the times of the responses to a
wrong password and to an unknown user are compared, one at a time.
"""

import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import sympy

ROOT = Path(__file__).parent.parent
ROUNDS, SECONDS, PASSWORDS = 5, 3.0, 100
PASSWORD = "Bench-Pass-1"  # noqa: S105
RIGHT = base64.b64encode(f"acme:{PASSWORD}".encode()).decode()
WRONG = base64.b64encode(b"acme:Wrong-Pass-1").decode()
UNKNOWN = base64.b64encode(b"nobody:Wrong-Pass-1").decode()


class Flood(NamedTuple):
    """The number of clients, and the request that each repeats."""

    clients: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None


JSON = {"Content-Type": "application/json"}
PRIMES = json.dumps({"li": 50 * [sympy.prevprime(10**300)]}).encode()
NESTED = b'{"p":[' + b",".join([90 * b"[" + 90 * b"]"] * 1000) + b" " * 800_000 + b"]}"
FLOODS = {
    "sign-ins": Flood(8, "GET", "/token", {"Authorization": f"Basic {WRONG}"}),
    "primes": Flood(24, "POST", "/primes", JSON, PRIMES),
    "large requests": Flood(24, "POST", "/len", JSON, NESTED),
}


@contextlib.contextmanager
def serving() -> Iterator[int]:
    """Serve Acme on a free port, with a rate limit that the flood does not reach."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    environ = os.environ | {
        "ACME_DATABASE": "memory:",
        "ACME_RATE_LIMIT": "1000000/minute, 1000000/minute",
        "ACME_PASS": PASSWORD,
        "ACME_TOKEN_SECRET": "0123456789abcdef" * 2,
        "PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "serve.py"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


class Client:
    """A keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, bytes, float]:
        """Send a request; the status, the body, and the time in milliseconds."""
        begin = time.perf_counter()
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        return response.status, response.read(), 1000 * (time.perf_counter() - begin)

    def get(self, path: str, authorization: str) -> tuple[int, bytes, float]:
        """The same for a GET."""
        return self.send("GET", path, {"Authorization": authorization})


def flood(port: int, what: Flood, heed: bool, begin: Event, end: Event) -> None:
    """Send a request as fast as responses come, or as Retry-After asks."""
    os.nice(19)  # the load must not take CPU time from the server
    client = Client(port)
    begin.wait()
    while not end.is_set():
        status, _, _ = client.send(what.method, what.path, what.headers, what.body)
        if heed and status == 503:
            end.wait(1)


def read(port: int, token: str) -> list[float]:
    """The time of each request with a token, in milliseconds."""
    client, times = Client(port), []
    stop = time.monotonic() + SECONDS
    while time.monotonic() < stop:
        status, _, took = client.get("/stuff", f"Bearer {token}")
        assert status == 200, status
        times.append(took)
    return times


def flooded(port: int, what: Flood, heed: bool, action: Callable[[], list[float]]) -> list[float]:
    """The result of an action during a flood."""
    begin, end = multiprocessing.Event(), multiprocessing.Event()
    clients = [
        multiprocessing.Process(target=flood, args=(port, what, heed, begin, end))
        for _ in range(what.clients)
    ]
    for client in clients:
        client.start()
    begin.set()
    time.sleep(0.5)
    try:
        return action()
    finally:
        end.set()
        for client in clients:
            client.join()


def main() -> None:
    """Measure, and print the results."""
    with serving() as port:
        token = json.loads(Client(port).get("/token", f"Basic {RIGHT}")[1])["token"]
        times: dict[str, list[list[float]]] = {"quiet": []}
        for _ in range(ROUNDS):
            times["quiet"].append(read(port, token))
            for name, what in FLOODS.items():
                for heed in True, False:
                    row = f"{name}, {what.clients} clients{', Retry-After' if heed else ''}"
                    found = flooded(port, what, heed, lambda: read(port, token))
                    times.setdefault(row, []).append(found)
        print("| requests with a token | median, ms | p99, ms | p99 / quiet |\n|---|---|---|---|")
        p99 = {n: statistics.median(_p99(r) for r in rounds) for n, rounds in times.items()}
        for name, rounds in times.items():
            median = statistics.median(statistics.median(r) for r in rounds)
            ratio = p99[name] / p99["quiet"]
            print(f"| {name} | {median:.2f} | {p99[name]:.2f} | {ratio:.1f} |")
        client, known, unknown = Client(port), [], []
        for _ in range(PASSWORDS):
            known.append(client.get("/token", f"Basic {WRONG}")[2])
            unknown.append(client.get("/token", f"Basic {UNKNOWN}")[2])
        print(
            f"\nwrong password {statistics.median(known):.1f} ms, "
            f"unknown user {statistics.median(unknown):.1f} ms "
            f"(medians of {PASSWORDS}, in turn)"
        )


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    main()
