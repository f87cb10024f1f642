"""What a request costs as the data grow: `make bench`.

Among 10^3 and then 10^6 pieces of stuff, a user with ten of them reads, changes and adds some, in
process. Rounds are interleaved, each figure is a median, and only the ratio means anything.
"""

import os
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ |= {"ACME_PASS": "Bench-Pass-1", "ACME_DATABASE": "memory:", "ACME_MODE": "prod"}

import acme
import database
from app import app

ROUNDS, REQUESTS = 15, 200
FEW, MANY = 10**3, 10**6


def fill(stuff: int) -> acme.AcmeData:
    """A store with so much stuff, ten for each user."""
    db = acme.AcmeData()
    for n in range(stuff // 10):
        db.add_user(f"u{n}", "no hash", "some@acme.org", False)
        for m in range(10):
            db.add_stuff(f"thing {n}-{m}", f"u{n}", 1.0)
    return db


def seconds(request) -> float:
    """How long so many requests take."""
    start = time.perf_counter()
    for n in range(REQUESTS):
        assert request(n).status_code < 300
    return time.perf_counter() - start


def main() -> None:
    """Measure, and print a line a route."""
    stores = {stuff: fill(stuff) for stuff in (FEW, MANY)}
    token = app.create_token("u7", realm="acme")
    client = app.test_client()
    options = {"headers": {"Authorization": f"Bearer {token}"}}
    requests = {
        "GET /stuff": lambda _: client.get("/stuff", **options),
        "PATCH /stuff/<sid>": lambda n: client.patch(
            "/stuff/thing 7-3", json={"price": n}, **options
        ),
        "POST, DELETE /stuff": lambda n: (
            client.post("/stuff", json={"stuff": f"new {n}", "price": n}, **options)
            and client.delete(f"/stuff/new {n}", **options)
        ),
    }
    print(f"microseconds a request in memory, median of {ROUNDS} rounds of {REQUESTS}")
    for name, request in requests.items():
        times: dict[int, list[float]] = {FEW: [], MANY: []}
        for _ in range(ROUNDS):
            for stuff, db in stores.items():
                database._reference.set(db)
                times[stuff].append(seconds(request))
        few, many = (statistics.median(times[s]) / REQUESTS * 1e6 for s in (FEW, MANY))
        print(f"{name:22} {FEW:8}: {few:6.0f}   {MANY:8}: {many:6.0f}   ratio {many / few:.2f}")


if __name__ == "__main__":
    main()
