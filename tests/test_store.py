"""Stores give the same results, and keep what they acknowledged."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import acme
import test as tutorial
from store.engine import Engine
from store.sql import SqlStore
from tests.conftest import (
    ROOT,
    SECRET,
    SQL,
    STORES,
    Target,
    configured,
    free_port,
    granian,
    listens,
    new_name,
    opened,
    until,
    wait_for,
)
from tests.stores import post, stuff_of

KILLS = int(os.environ.get("KILLS", "2"))  # for each store


@pytest.fixture(scope="module", params=STORES)
def kept(request, new_database):
    """A store for this module."""
    with contextlib.closing(opened(new_database(request.param))) as found:
        yield found


LOGINS = st.sampled_from(["ann", "bob", "eve", "Bad"])
NAMES = st.sampled_from(["a", "b", "B", "é", "🍺", "a b", "null", " bad", "bad\0", "bad/"])
AFTER = st.sampled_from([None, "a", "b", "c", "null", "🍺"])
PRICES = st.sampled_from([0, 1, 1.5, 1e12, -1, float("nan")])
OWNERS = st.none() | LOGINS
CALLS = st.one_of(
    st.tuples(
        st.just("add_user"),
        LOGINS,
        st.just("hash"),
        st.sampled_from(["a@acme.org", "bad"]),
        st.booleans(),
    ),
    *(st.tuples(st.just(c), LOGINS) for c in ("user_exists", "get_user_pass", "user_is_admin")),
    st.tuples(st.just("add_stuff"), NAMES, LOGINS, PRICES),
    st.tuples(st.just("change_stuff"), NAMES, PRICES, OWNERS),
    st.tuples(st.just("delete_stuff"), NAMES, OWNERS),
    st.tuples(st.just("get_stuff"), NAMES),
    st.tuples(st.just("get_user_stuff"), LOGINS, st.integers(1, 4), AFTER),
    st.tuples(st.just("has_users")),
)


def result(db, call):
    """What a call gives: its value and type, or its error."""
    try:
        value = getattr(db, call[0])(*call[1:])
    except fsa.ErrorResponse as e:
        return e.status, e.message
    return repr(value)


@pytest.mark.parametrize("kind", SQL)
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(CALLS, min_size=30, max_size=60))
def test_stores_return_the_same_results(kind, calls, empty_stores):
    """For random sequences of calls, SQL returns what the store in memory returns."""
    memory = acme.AcmeData()
    sql = empty_stores(kind)
    assert [result(sql, call) for call in calls] == [result(memory, call) for call in calls]


def test_sql_stores_have_each_call_of_the_contract():
    missing = SqlStore.__abstractmethods__ - Engine.__abstractmethods__
    assert not missing, f"store/sql.py: add {', '.join(sorted(missing))} to SqlStore"


def test_tutorial_test_of_acmedata_passes_on_each_store(kept, monkeypatch):
    """The tutorial's own test, on each store."""
    monkeypatch.setattr(acme, "AcmeData", lambda: kept)
    tutorial.test_acmedata()


def write_until_killed(address, acknowledged):
    """Four clients write as fast as they can; all responses are 201 until the kill."""
    target = Target(address)
    target.person("acme")
    enough = len(acknowledged) + 100

    def write(n):
        with contextlib.suppress(OSError, http.client.HTTPException):
            while True:
                name = new_name(f"w{n}-")
                assert post(target, name).status == 201
                acknowledged.add(name)

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(write, n) for n in range(4)]
        until(lambda: len(acknowledged) > enough)
        yield
        for client in clients:
            client.result()


@pytest.mark.parametrize("kind", SQL)
def test_acknowledged_writes_survive_kill(kind, new_database):
    """After `kill -9` of every process during writes, each write with a 201 is there."""
    url, port = new_database(kind), str(free_port())
    environ = {"ACME_DATABASE": url, "PORT": port, "WORKERS": "2", "ACME_TOKEN_SECRET": SECRET}
    acknowledged = set()
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "serve.py"],
            cwd=ROOT,
            env=os.environ | environ,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for(int(port))
        for _ in write_until_killed(f"http://127.0.0.1:{port}", acknowledged):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        until(lambda: not listens(int(port)))
    with configured(url):
        missing = acknowledged - stuff_of(Target(None))
    print(f"{kind}: {KILLS} kills, {len(acknowledged)} acknowledged, {len(missing)} missing")
    assert not missing


@pytest.mark.parametrize("kind", SQL)
def test_change_through_one_server_counts_for_the_other(kind, new_database):
    """At the next request to the other."""
    url = new_database(kind)
    with granian(ACME_DATABASE=url) as one, granian(ACME_DATABASE=url) as other:
        one, other = Target(one), Target(other)
        other.people = one.people
        for n in range(20):
            here, there = (one, other) if n % 2 else (other, one)
            login = here.person(new_name("u"))
            path = here.send_json("POST", "/stuff", {"stuff": login, "price": n}, login).headers[
                "Location"
            ]
            assert there.send("GET", path, who=login).json["price"] == n
            assert here.send("DELETE", path, who=login).status == 204
            assert there.send("GET", path, who=login).status == 404
            assert post(there, login).status == 201
            assert here.send("GET", path, who=login).status == 403


def test_change_of_one_user_leaves_others_as_they_are(kept):
    """Even if they have the same password and secret."""
    logins = new_name("u"), new_name("u")
    for login in logins:
        kept.add_user(login, "hash", f"{login}@acme.org", False)
        kept.add_stuff(f"of-{login}", login, 1.0)
        kept.set_otp(login, "ABC")
    first, other = logins
    assert kept.renew_user_pass(first, "hash", "new")
    assert kept.get_user_pass(other) == "hash"
    assert kept.use_otp(first, "ABC", 1, on=True)
    assert not kept.get_user(other).otp
    assert kept.use_otp(other, "ABC", 1, on=True)
    kept.reset_otp(first)
    assert kept.get_user(other).otp
    kept.delete_user(first, stuff=True)
    assert kept.get_user_stuff(other) == [(f"of-{other}", 1.0)]
