"""Writers of an SQLite file take turns: threads in their order, and processes one after another."""

import contextlib
import fcntl
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pytest

from store import pool
from store.sqlite import writers
from store.sqlite.writers import Writers
from tests.conftest import ROOT, opened, until

OTHER = """if True:
    import sys
    from pathlib import Path
    from store.sqlite.writers import Writers
    with Writers(Path(sys.argv[1])).turn():
        print("writes", flush=True)
        input()
"""


@contextlib.contextmanager
def other_process(path):
    """A process that wants a turn, and has it until its input ends; its pipes."""
    command = [sys.executable, "-c", OTHER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def turns(tmp_path):
    found = Writers(tmp_path / "lock")
    yield found
    found.close()


def test_threads_write_in_their_order(turns):
    order, threads = [], []

    def write(n):
        with turns.turn():
            order.append(n)

    with turns.turn():
        for n in range(20):
            threads.append(threading.Thread(target=write, args=(n,)))
            threads[-1].start()
            until(lambda n=n: len(turns._queue._waiting) == n + 1)
    for thread in threads:
        thread.join()
    assert order == list(range(20))


def test_two_processes_write_in_turn(turns, tmp_path, monkeypatch):
    """One that wants to write again at once comes after the other, which waits already."""
    monkeypatch.setattr(writers, "WAIT_SECONDS", 30)
    with open(tmp_path / "lock", "ab") as probe, other_process(tmp_path / "lock") as process:

        def other_is_next():
            try:
                fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, writers.NEXT)
            except BlockingIOError:
                return True
            fcntl.lockf(probe, fcntl.LOCK_UN, 1, writers.NEXT)
            return False

        with turns.turn():
            until(other_is_next)
        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(lambda: contextlib.ExitStack().enter_context(turns.turn()))
            assert process.stdout.readline() == b"writes\n"
            assert not again.done()
            process.stdin.close()
            again.result(30)


def test_turn_that_does_not_come_is_503(new_database, monkeypatch):
    """Whatever the other process does, a request waits for a bounded time."""
    monkeypatch.setattr(writers, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(pool, "WAIT_SECONDS", 0.05)
    url = new_database("sqlite")
    store = opened(url)
    with other_process(f"{url.removeprefix('sqlite:///')}-lock") as process:
        assert process.stdout.readline() == b"writes\n"
        with pytest.raises(fsa.ErrorResponse) as refused:
            store.add_user("susie", "hash", "susie@example.org", False)
        assert refused.value.status == 503
        assert not store.user_exists("susie")
        process.kill()
        process.wait()  # the system unlocks what a process had locked
        store.add_user("susie", "hash", "susie@example.org", False)
    store.close()


def test_writes_go_on_without_a_lock_file(tmp_path):
    """It is for speed only: a command of another account may have made it."""
    with Writers(tmp_path / "missing" / "lock").turn():
        pass


def test_lock_file_is_private(turns, tmp_path):
    with turns.turn():
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_nobody_writes_between_the_reads_and_writes_of_a_change(new_database):
    """Not even who takes no turn, such as an operator: SQLite would refuse the write as busy."""
    url = new_database("sqlite")
    path = url.removeprefix("sqlite:///")
    with (
        contextlib.closing(opened(url)) as store,
        contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other,
    ):
        store.add_user("susie", "hash", "susie@example.org", False)
        with store.changes() as connection:
            assert store.queries.lock_user(connection, login="susie") == "susie"
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("UPDATE users SET active = FALSE")
            store.queries.set_user_pass(connection, login="susie", password="other", old=None)
        assert store.get_credentials("susie").password == "other"
        assert other.execute("UPDATE users SET active = FALSE").rowcount == 1
