"""Units of work: the changes and the answer of a request with a key are made together, once."""

import contextlib
import http.client
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import acme
import database
from openapi.returns import Created, Done, Message
from store import idempotency
from store.idempotency import KEY_SECONDS, Claim
from tests.accounts import new_user
from tests.conftest import (
    SECRET,
    SQL,
    STORES,
    Target,
    free_port,
    granian,
    new_name,
    opened,
    until,
    wait_for,
)
from tests.fork import forked
from tests.stores import stuff_of
from tests.test_auth import bearer
from tests.test_idempotency import key, post

EXAMPLES = int(os.environ.get("EXAMPLES", "12"))  # of random interleavings, for each store


@contextlib.contextmanager
def fork_with_writes(kind, new_database):
    """The application with the routes of a fork that write, and the events between its changes."""
    with forked() as client:
        app, db = client.application, database.db
        pauses = {"before": lambda: None, "between": lambda: None, "after": lambda: None}

        @app.post("/pair/<one>/<two>", authz="AUTH")
        def post_pair(one: str, two: str, user: fsa.CurrentUser) -> Created[Message]:
            """Add two pieces of stuff."""
            pauses["before"]()
            db.add_stuff(one, user, 1)
            pauses["between"]()
            db.add_stuff(two, user, 1)
            pauses["after"]()
            return {"msg": two}, 201, {"Location": f"/stuff/{one}", "X-Own": "yes"}

        @app.put("/either/<one>", authz="AUTH")
        def put_either(one: str, user: fsa.CurrentUser) -> Done:
            """Add stuff, or change it."""
            try:
                db.add_stuff(one, user, 1)
            except fsa.ErrorResponse:
                db.change_stuff(one, 2, user)
            return "", 204

        @app.post("/large", authz="AUTH")
        def post_large(name: str, size: int, user: fsa.CurrentUser) -> Created[Message]:
            """Add stuff, with a large answer."""
            db.add_stuff(name, user, 1)
            return {"msg": "x" * size}, 201, {"Location": "/"}

        @app.post("/other", authz="AUTH")
        def post_other() -> Created[Message]:
            """Change nothing in the store."""
            return {"msg": str(uuid.uuid4())}, 201, {"Location": "/"}

        before = database.use(opened(new_database(kind)))
        try:
            yield client, pauses
            database.db.close()
        finally:
            database.use(before)


@pytest.fixture(params=STORES)
def fork(request, new_database):
    with fork_with_writes(request.param, new_database) as (client, pauses):
        login = new_user()
        with client.application.test_request_context():
            headers = bearer(client.application.create_token(login))

        def send(method, path, text=None, **value):
            one = client.application.test_client()
            found = one.open(path, method=method, json=value, headers=headers | key(text))
            return found.status_code, found.json, found.headers

        send.pauses, send.kind = pauses, request.param
        yield send


def test_changes_and_answer_of_a_fork_are_one_transaction(fork):
    """Two changes of one request: both with the answer, or none."""
    one, two, used = new_name(), new_name(), str(uuid.uuid4())
    fork.pauses["after"] = lambda: 1 / 0
    if fork.kind != "memory":  # which has no transactions
        assert fork("POST", f"/pair/{one}/{two}", used)[0] == 500
    fork.pauses["after"] = lambda: None
    status, body, headers = fork("POST", f"/pair/{one}/{two}", used)
    assert (status, headers["X-Own"], headers["Location"]) == (201, "yes", f"/stuff/{one}")
    again = fork("POST", f"/pair/{one}/{two}", used)
    assert (again[0], again[1], again[2]["X-Own"]) == (status, body, "yes")
    assert fork("POST", f"/pair/{one}/{two}")[0] == 409


def test_part_that_fails_leaves_the_rest_of_a_request_usable(fork):
    name = new_name()
    for price in 1, 2:
        assert fork("PUT", f"/either/{name}")[0] == 204
        assert database.db.get_stuff(name)[1] == price


def test_request_that_changes_nothing_is_repeated_as_well(fork):
    used = str(uuid.uuid4())
    assert fork("POST", "/other", used)[:2] == fork("POST", "/other", used)[:2]
    assert fork("POST", "/other")[1] != fork("POST", "/other", used)[1]


def test_answers_that_are_stored_are_bounded(fork):
    small, large, used = new_name(), new_name(), str(uuid.uuid4())
    size = 2**16 - len('{"msg":""}\n')
    first = fork("POST", "/large", used, name=small, size=size)
    assert first[0] == 201
    assert fork("POST", "/large", used, name=small, size=size)[:2] == first[:2]
    status, body, _ = fork("POST", "/large", name=large, size=size + 1)
    assert (status, body["error"]) == (400, "the answer is too large: send no Idempotency-Key")
    if fork.kind != "memory":
        assert fork("POST", "/large", name=large, size=1)[0] == 201


def test_request_in_progress_is_409_and_others_go_on(fork):
    one, two, used = new_name(), new_name(), str(uuid.uuid4())
    entered, go = threading.Event(), threading.Event()
    fork.pauses["between"] = lambda: entered.set() or go.wait(20)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fork, "POST", f"/pair/{one}/{two}", used)
        try:
            assert entered.wait(20)
            if fork.kind != "sqlite":  # where writers take turns: a repeat waits for its own
                status, body, headers = fork("POST", f"/pair/{one}/{two}", used)
                assert (status, headers["Retry-After"]) == (409, "1")
                assert "in progress" in body["error"]
            assert not database.db.user_exists("nobody")  # reads do not wait
        finally:
            go.set()
        found = first.result()
    assert found[0] == 201
    assert fork("POST", f"/pair/{one}/{two}", used)[:2] == found[:2]


def test_loser_of_a_race_is_told_to_try_again(fork):
    """Both have found no answer; the one that comes later makes no change."""
    path, used, inner = f"/pair/{new_name()}/{new_name()}", str(uuid.uuid4()), []

    def overtake():
        fork.pauses["before"] = lambda: None
        inner.append(pool.submit(fork, "POST", path, used).result())

    fork.pauses["before"] = overtake
    with ThreadPoolExecutor(1) as pool:
        outer = fork("POST", path, used)
    assert sorted([outer[0], inner[0][0]]) == [201, 409]
    loser = outer if outer[0] == 409 else inner[0]
    assert "in progress" in loser[1]["error"]
    assert fork("POST", path, used)[0] == 201


# stores


@pytest.fixture(scope="module", params=STORES)
def pair(request, new_database):
    """Two stores on one database, as of two processes; in memory there is one."""
    url = new_database(request.param)
    first = opened(url)
    second = first if request.param == "memory" else opened(url)
    first.add_user("ann", "hash", "a@acme.org", True)
    first.add_user("bob", "hash", "b@acme.org", False)
    yield first, second
    first.close()
    second.close()


class KilledError(Exception):
    """The process has ended."""


def attempt(store, name, fate):
    """Raise a price once for each key; the answer, None if there is none."""
    now = time.time()
    claim = Claim("ann", name, "print", now)
    try:
        if stored := store.get_answer("ann", name, now):
            return stored[1]
        with store.once(claim) as keep:
            price = store.get_stuff(name)[1]
            store.change_stuff(name, price + 1)
            if fate == "killed before the commit":
                raise KilledError
            if fate != "fails":
                keep(f"{price + 1} {uuid.uuid4()}")
        # killed after the commit: the client gets no answer
        return None
    except KilledError:
        return None
    except fsa.ErrorResponse as e:
        return None if e.status in (409, 503) else f"{e.status} {e.message}"


FATES = st.sampled_from(["", "killed before the commit", "fails"])
STEPS = st.tuples(st.integers(0, 1), st.integers(0, 2), FATES)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(STEPS, min_size=4, max_size=16))
def test_random_interleavings_make_each_write_once(pair, steps):
    """Repeats of three keys at the same time, through two stores, some of them killed."""
    in_memory = isinstance(pair[0], acme.AcmeData)
    names = [new_name("i") for _ in range(3)]
    for name in names:
        pair[0].add_stuff(name, "ann", 0)
    with ThreadPoolExecutor(4) as pool:
        sent = []
        for store, which, fate in steps:
            # what fails in memory after a change is not undone
            fate = "" if in_memory else fate
            sent.append((which, pool.submit(attempt, pair[store], names[which], fate)))
        answers = [(which, future.result()) for which, future in sent]
    for number, name in enumerate(names):
        end = time.monotonic() + 20
        while not (answer := attempt(pair[number % 2], name, "")):
            assert time.monotonic() < end
        assert pair[0].get_stuff(name)[1] == 1
        assert {found for which, found in answers if which == number} <= {None, answer}


def use(store, login, text, now, answer="answer"):
    with store.once(Claim(login, text, "print", now)) as keep:
        keep(answer)


@pytest.mark.parametrize("kind", STORES)
def test_keys_expire_after_a_day_and_are_removed_in_small_batches(kind, new_database):
    with contextlib.closing(opened(new_database(kind))) as store:
        for login in "ann", "bob":
            store.add_user(login, "hash", "a@acme.org", True)
        now = time.time()
        texts = [new_name("k") for _ in range(25)]
        for text in texts:
            use(store, "bob", text, now)
        assert store.get_answer("bob", texts[0], now + KEY_SECONDS - 1) == ("print", "answer")
        assert store.get_answer("bob", texts[0], now + KEY_SECONDS) is None
        later = now + KEY_SECONDS + 1
        use(store, "bob", texts[0], later, "another")
        assert store.get_answer("bob", texts[0], later)[1] == "another"

        def left():
            return sum(bool(store.get_answer("bob", text, now)) for text in texts)

        counts = [left()]
        for number in range(12):
            use(store, "ann", f"{texts[0]}-{number}", later)
            counts.append(left())
        assert all(0 <= a - b <= idempotency.KEYS_REMOVED for a, b in itertools.pairwise(counts))
        assert counts[-1] == 1  # that of the new one


def test_keys_of_a_user_are_bounded(pair, monkeypatch):
    store, now, (login, other) = pair[0], time.time(), (new_name("u"), new_name("u"))
    for name in login, other:
        store.add_user(name, "hash", "u@acme.org", False)
    monkeypatch.setattr(idempotency, "MAX_KEYS", 3)
    for number in range(3):
        use(store, login, str(number), now + number)
    with pytest.raises(fsa.ErrorResponse) as refused:
        use(store, login, "3", now + 3)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (429, "3600")
    use(store, other, "0", now)
    use(store, login, "3", now + KEY_SECONDS + 0.5)


def test_keys_end_with_their_user(pair):
    """A new user of the same name has none of them, also if users delete themselves."""
    store, now, login = pair[0], time.time(), new_name("u")
    store.add_user(login, "hash", "u@acme.org", False)
    use(store, login, "one", now)
    with store.once(Claim(login, "two", "print", now)) as keep:
        store.delete_user(login)
        keep("gone")
    store.add_user(login, "hash", "u@acme.org", False)
    assert [store.get_answer(login, text, now) for text in ("one", "two")] == [None, None]
    use(store, login, "one", now)


def test_unit_on_a_broken_connection_is_503_and_leaves_nothing(new_database):
    with contextlib.closing(opened(new_database("postgresql"))) as store:
        store.add_user("ann", "hash", "a@acme.org", True)
        claim = Claim("ann", "key", "print", time.time())

        def break_off():
            with store.once(claim) as keep:
                store.add_stuff("one", "ann", 1)
                store._unit_of_thread().connection.close()
                for _ in range(2):
                    with contextlib.suppress(fsa.ErrorResponse):
                        store.add_stuff("two", "ann", 1)
                keep("answer")

        with pytest.raises(fsa.ErrorResponse) as refused:
            break_off()
        assert refused.value.status == 503
        assert store.pool.connections == 0
        assert store.get_user_stuff("ann") == []
        with store.once(claim) as keep:
            store.add_stuff("one", "ann", 1)
            keep("answer")
        assert store.get_answer("ann", "key", claim.now) == ("print", "answer")


def write_with_keys(target, number, acknowledged):
    """Write until the server is killed; the last write, whose answer is not known."""
    while True:
        name, used = new_name(f"w{number}-"), key()
        try:
            assert post(target, name, headers=used).status == 201
        except (OSError, http.client.HTTPException):
            return name, used
        acknowledged.append((name, used))


@pytest.mark.parametrize("kind", SQL)
def test_writes_that_a_kill_interrupts_are_made_once(kind, new_database):
    """Whether they were committed or not, the repeat gets 201, and is no conflict."""
    url, acknowledged = new_database(kind), []
    command = [sys.executable, "serve.py"]
    environ = os.environ | {"ACME_DATABASE": url, "ACME_TOKEN_SECRET": SECRET, "WORKERS": "1"}
    port = free_port()
    server = subprocess.Popen(
        command,
        env=environ | {"PORT": str(port)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(port)
        target = Target(f"http://127.0.0.1:{port}")
        target.person("acme")
        with ThreadPoolExecutor(4) as pool:
            sent = [pool.submit(write_with_keys, target, n, acknowledged) for n in range(4)]
            until(lambda: len(acknowledged) > 40 or any(future.done() for future in sent))
            os.killpg(server.pid, signal.SIGKILL)
            interrupted = [future.result() for future in sent]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait(timeout=20)
    with granian(ACME_DATABASE=url, WORKERS="2") as address:
        target = Target(address)
        for name, used in [*interrupted, *acknowledged[-10:]]:
            response = post(target, name, headers=used)
            assert (response.status, response.headers["Location"]) == (201, f"/stuff/{name}")
        names = {name for name, _ in [*interrupted, *acknowledged]}
        assert stuff_of(target) == names


def test_keys_are_found_by_indexes_however_many_have_expired(new_database):
    with contextlib.closing(opened(new_database("sqlite"))) as store:
        for name in "get_answer", "check_key", "delete_expired_keys", "add_answer":
            query = getattr(store.queries, name).sql
            values = dict.fromkeys(re.findall(r":(\w+)", query), 1)
            with store.connection() as connection:
                plan = connection.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()
            steps = [step for *_, step in plan if "idempotency_keys" in step]
            assert steps, name
            assert all(" USING " in step for step in steps), f"{name}: {steps}"
