"""Failed attempts, counted by several processes together in a real Redis."""

import contextlib
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import flask
import FlaskSimpleAuth as fsa
import pytest
import redis

from security import rate_limit
from test import app, basic_auth
from tests.conftest import (
    PASSWORD,
    SECRET,
    Target,
    free_port,
    listens,
    serving,
    until,
    wait_for,
)

LIMIT = 5
WORKERS = 2
# a busy machine must not look like a slow Redis
SERVE = """
import serve
from security import rate_limit
rate_limit.RETRY_SECONDS, rate_limit.MAX_CHECK_SECONDS, rate_limit.TIMEOUT_SECONDS = 0.2, 20, 20
serve.main()
"""


@contextlib.contextmanager
def redis_server(port):
    """A Redis of our own, which forgets all when it ends."""
    program = shutil.which("redis-server") or pytest.skip("sudo apt-get install redis-server")
    command = [program, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(port)
            yield redis.Redis(port=port)
        finally:
            process.terminate()


@contextlib.contextmanager
def acme(port, place):
    """Two workers that count there; yields where they are, and where they write what they say."""
    log = place / "log"
    environ = {
        "ACME_DATABASE": f"sqlite:///{place}/acme.db",
        "ACME_RATE_LIMIT_STORAGE": f"redis://127.0.0.1:{port}",
        "ACME_RATE_LIMIT": f"{LIMIT}/hour, 1000/hour",
        "ACME_TOKEN_SECRET": SECRET,
        "PORT": str(free_port()),
        "WORKERS": str(WORKERS),
    }
    command = ("sh", "-c", f"exec {sys.executable} -c '{SERVE}' 2>{log}")
    with serving(*command, ready="Ctrl-C", **environ):
        wait_for(int(environ["PORT"]))
        yield Target(f"http://127.0.0.1:{environ['PORT']}"), log


def test_workers_count_failures_together_in_redis(tmp_path):
    """Guesses are counted by all workers together, those at the same time too."""
    port = free_port()
    with redis_server(port), acme(port, tmp_path) as (target, _):

        def guess(_):
            headers = basic_auth("nobody", "Wrong-Pass-1")
            return target.send("GET", "/token", headers=headers).status

        with ThreadPoolExecutor(32) as pool:
            responses = list(pool.map(guess, range(100)))
        assert set(responses) <= {401, 429, 503}
        assert responses.count(401) <= LIMIT + WORKERS - 1
        until(lambda: guess(None) == 429)  # those that were 503 did not count
        assert {guess(None) for _ in range(20)} == {429}


def test_sign_in_works_while_redis_is_unavailable(tmp_path):
    """While Redis is unavailable each worker limits sign-ins itself, and logs that."""
    port = free_port()

    def sign_in(login, password=PASSWORD):
        return target.send("GET", "/token", headers=basic_auth(login, password)).status

    with acme(port, tmp_path) as (target, log):
        login = target.person("susie")
        assert sign_in(login) == 200
        assert "failed attempts are counted by each process for itself" in log.read_text()
        statuses = [sign_in("nobody", "Wrong-Pass-1") for _ in range(LIMIT * WORKERS + 1)]
        assert statuses[0] == 401
        assert 429 in statuses  # of one worker at least
        for _ in range(2):  # it comes, goes, and comes
            with redis_server(port) as client:

                def is_counted(client=client):
                    sign_in("somebody", "Wrong-Pass-1")
                    return client.keys("LIMITS:*")

                until(is_counted)
                assert sign_in(login) == 200
            until(lambda: not listens(port))
            assert sign_in(login) == 200


# address, another one, whether they count as one
@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
    ],
)
def test_ipv6_network_counts_as_one_client(address, other, same):
    """A subscriber of IPv6 has 2^64 addresses, and counts once."""
    app = flask.Flask("acme")
    attempts = rate_limit.RateLimiter("1/hour, 1/hour", "memory://")
    with app.test_request_context(environ_base={"REMOTE_ADDR": address}):
        attempts.fail("susie")
        with pytest.raises(fsa.ErrorResponse, match="too many"):
            attempts.check("susie")
    with app.test_request_context(environ_base={"REMOTE_ADDR": other}):
        refused = pytest.raises(fsa.ErrorResponse) if same else contextlib.nullcontext()
        with refused:
            attempts.check("calvin")


def is_refused(attempts):
    """Whether one more attempt is too many; counts it as failed if it is not."""
    with flask.Flask("acme").test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.1"}):
        try:
            attempts.check("susie")
            attempts.fail("susie")
        except fsa.ErrorResponse as e:
            return e.status == 429
    return False


def test_a_redis_that_reads_but_does_not_write_gives_no_more_guesses(monkeypatch):
    """One that is full, or a replica, responds to each check, and refuses each count."""
    monkeypatch.setattr(rate_limit, "RETRY_SECONDS", 0.0)  # it is asked each time
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    monkeypatch.setattr(attempts._limiter, "hit", lambda *_: 1 / 0)
    assert [is_refused(attempts) for _ in range(6)] == [False] * 3 + [True] * 3


def test_a_slow_redis_is_not_asked_again_for_a_while(monkeypatch, caplog):
    """Each sign-in would wait several times, and those behind it as often."""
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    asked = []
    test = attempts._limiter.test
    monkeypatch.setattr(attempts._limiter, "test", lambda *key: asked.append(key) or test(*key))
    monkeypatch.setattr(attempts, "_max_check_seconds", 0.0)
    assert [is_refused(attempts) for _ in range(6)] == [False] * 3 + [True] * 3
    assert len(asked) == 2  # of one check: for the login, and for the address
    assert caplog.text.count("counted by each process for itself: it takes more than") == 1


def test_a_busy_processor_gives_no_more_guesses(monkeypatch):
    """However long a check in memory takes, the count goes on where it was."""
    monkeypatch.setattr(rate_limit, "MAX_CHECK_SECONDS", 0.0)
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    monkeypatch.setattr(attempts._spare, "test", lambda *_: True)  # which has counted none of them
    assert [is_refused(attempts) for _ in range(6)] == [False] * 3 + [True] * 3


def test_failures_are_counted_when_the_machine_has_just_started(monkeypatch):
    """Its clock begins at zero, where no storage has failed yet."""
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    monkeypatch.setattr(attempts._spare, "test", lambda *_: True)  # which has counted none of them
    assert [is_refused(attempts) for _ in range(6)] == [False] * 3 + [True] * 3


def test_storage_that_responds_in_time_is_asked_each_time(monkeypatch, caplog):
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    asked = []
    test = attempts._limiter.test
    monkeypatch.setattr(attempts._limiter, "test", lambda *key: asked.append(key) or test(*key))
    monkeypatch.setattr(attempts, "_max_check_seconds", 60.0)
    assert [is_refused(attempts) for _ in range(3)] == [False] * 3
    assert len(asked) == 6  # for the login and the address
    assert not caplog.records


def test_error_of_the_storage_is_logged_in_one_line(monkeypatch, caplog):
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")

    def refuse(*_):
        raise redis.ConnectionError("gone\nfor\nsome reason")

    monkeypatch.setattr(attempts._limiter, "test", refuse)
    assert not is_refused(attempts)
    (record,) = caplog.records
    said = "failed attempts are counted by each process for itself: ConnectionError: gone"
    assert record.getMessage() == said


def from_address(address):
    return app.test_request_context(environ_base={"REMOTE_ADDR": address})


def test_failures_from_one_address_do_not_lock_the_user_out_of_others(monkeypatch):
    """Nobody can keep a user out with wrong passwords; `everywhere` is for codes only."""
    attempts = rate_limit.RateLimiter("3/hour, 99/hour", "memory://")
    monkeypatch.setattr(rate_limit, "limiter", lambda: attempts)
    with from_address("192.0.2.1"):
        for _ in range(3):
            rate_limit.count_failure("susie")
        with pytest.raises(fsa.ErrorResponse, match="too many"):
            attempts.check("susie")
    with from_address("192.0.2.2"):
        attempts.check("susie")
        attempts.check("susie", everywhere=True)
        for _ in range(3):
            attempts.fail("susie")
    with from_address("192.0.2.3"):
        attempts.check("susie", everywhere=True)


def test_retry_after_is_the_rest_of_the_window_and_at_least_a_second(clock):
    attempts = rate_limit.RateLimiter("1/minute, 99/minute", "memory://")
    clock.now = 60.0 * (clock.now // 60 + 1)  # the begin of a window
    with from_address("192.0.2.1"):
        attempts.fail("susie")
        for seconds, left in (20, "40"), (59.5, "1"):
            begin, clock.now = clock.now, clock.now + seconds
            with pytest.raises(fsa.ErrorResponse, match=f"again in {left} seconds") as error:
                attempts.check("susie")
            assert error.value.headers == {"Retry-After": left}
            clock.now = begin
