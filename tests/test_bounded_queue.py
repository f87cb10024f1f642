"""Bounded queues: expensive work leaves most threads, and the GIL, to the other requests."""

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pytest
import sympy

from security import bounded_queue
from security.bounded_queue import BoundedQueue, cpu_queue, is_queued, with_pauses
from test import app
from tests.accounts import call, token_of
from tests.conftest import run, until
from web import strict_json
from web.parameters import LARGE_BYTES, Parameter, parse_queue


class Gate:
    """A function in whose place this is put waits until the test lets it go on."""

    def __init__(self, function):
        self.function = function
        self.begun = 0
        self.open = threading.Event()

    def __call__(self, *args):
        self.begun += 1
        assert self.open.wait(20)
        return self.function(*args)


@pytest.fixture
def crowd():
    """Starts requests that fill a queue; all of them must end as expected."""
    gates = []
    with ThreadPoolExecutor(16) as pool:

        def fill(queue, gate, request, expected):
            gates.append(gate)
            first = [pool.submit(request) for _ in range(queue.size)]
            until(lambda: queue.is_full and gate.begun == queue.running)
            yield
            assert gate.begun == queue.running
            gate.open.set()
            assert {response.result().status_code for response in first} == {expected}
            assert not queue.is_full

        yield fill
        for gate in gates:  # if the test has failed before
            gate.open.set()


def refused(response):
    return response.status_code == 503 and response.headers["Retry-After"] == "1"


def test_computations_beyond_the_queue_are_refused(monkeypatch, crowd):
    """One computes, four wait, others get 503 at once; tokens and other routes go on."""
    gate = Gate(sympy.isprime)
    monkeypatch.setattr(sympy, "isprime", gate)
    headers = token_of("acme")

    def primes():
        return call("GET", "/primes", {"li": [7]})

    for _ in crowd(cpu_queue, gate, primes, 200):
        res = primes()
        assert refused(res)
        assert "computations" in res.json["error"]
        assert call("GET", "/primes", {"li": ["x"]}).status_code == 400
        assert call("GET", "/hello-me", headers=headers).status_code == 200
        assert call("GET", "/len", {"p": []}).status_code == 200
    assert primes().json == [7]


LARGE = {"p": "x" * (LARGE_BYTES + 1)}


@pytest.mark.parametrize(("body", "expected"), [(LARGE, 200), (LARGE | {"q": 1}, 400)])
def test_large_requests_beyond_the_queue_are_refused(monkeypatch, crowd, body, expected):
    """Before authentication, on every route; small ones go on."""
    gate = Gate(strict_json.loads)
    monkeypatch.setattr(strict_json, "loads", lambda text: gate(text) if "xxx" in text else {})
    headers = token_of("acme")
    for _ in crowd(parse_queue, gate, lambda: call("POST", "/len", body), expected):
        for path in "/len", "/stuff", "/token", "/none":
            assert refused(call("POST", path, LARGE))
        assert call("POST", "/stuff", {"stuff": "x", "price": 1}).status_code == 401
        assert call("GET", "/hello-me", headers=headers).status_code == 200


def test_large_parameters_are_checked_in_the_queue(monkeypatch, crowd):
    """As the parameters of a route, after the request as a whole."""
    gate = Gate(Parameter._make)
    monkeypatch.setattr(Parameter, "_make", lambda *args: gate(*args))

    def post():
        with app.test_client() as client:
            return client.post("/len", data={"p": "[" + "0," * LARGE_BYTES + "0]"})

    for _ in crowd(parse_queue, gate, post, 200):
        assert refused(post())


def test_slot_is_released_after_an_error():
    queue = BoundedQueue("tests", running=1, waiting=0)

    def fail():
        with queue:
            assert queue.is_full
            with pytest.raises(fsa.ErrorResponse) as error:
                queue.__enter__()
            assert (error.value.status, error.value.headers) == (503, {"Retry-After": "1"})
            assert error.value.message == "too many tests at the same time: try again"
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
        assert not queue.is_full


def test_queue_has_room_for_those_that_run_and_those_that_wait():
    queue = BoundedQueue("tests", running=2, waiting=3)
    assert (queue.running, queue.size) == (2, 5)
    assert is_queued(queue(len)) is True
    assert not is_queued(len)


def test_with_pauses_lets_other_threads_run(monkeypatch):
    """After each item, in their order."""
    done = []
    monkeypatch.setattr(bounded_queue.time, "sleep", done.append)
    for item in with_pauses("ab"):
        done.append(item)
    assert done == ["a", bounded_queue.PAUSE_SECONDS, "b", bounded_queue.PAUSE_SECONDS]


FORK = """
import json
from app import app
from openapi.returns import Ok
from security.bounded_queue import BoundedQueue, cpu_queue

report_queue = BoundedQueue("reports", running=1, waiting=0)

@app.get("/report/<int:year>", authz="OPEN")
@report_queue
def get_report(year: int, factor: int = 1) -> Ok[dict[str, int]]:
    "A report."
    return {"report": year * factor}, 200

@app.get("/other", authz="OPEN")
@cpu_queue
def get_other() -> Ok[dict[str, int]]:
    "Another one."
    return {"other": 0}, 200

with app.test_client() as client:
    first = client.get("/report/2?factor=3")
    with report_queue:
        second, other = client.get("/report/2"), client.get("/other")
    paths = client.get("/openapi.json").json["paths"]
    report = paths["/report/{year}"]["get"]
    print(json.dumps([
        [first.status_code, first.json, second.status_code, second.json, other.status_code],
        [p["name"] for p in report["parameters"]],
        sorted(path for path in ("/report/{year}", "/other", "/hello", "/primes")
               if "503" in paths[path]["get"]["responses"]),
    ]))
"""


def test_queue_of_a_new_route_refuses_and_is_described():
    """One line puts a route of a fork in a queue, and its 503 in the description."""
    done = run(sys.executable, "-c", FORK)
    assert json.loads(done.stdout) == [
        [200, {"report": 6}, 503, {"error": "too many reports at the same time: try again"}, 200],
        ["year", "factor"],
        ["/other", "/primes", "/report/{year}"],
    ]
