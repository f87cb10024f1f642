"""The order of the writers of an SQLite file: first come, first served.

SQLite lets one write at a time, and makes the others sleep up to 100 ms between two tries, in no
order: with 16 threads, one write in a hundred took 0.3 s or more. Writers that wait here in a queue
find SQLite free. This is for speed only: SQLite's own locks keep the data right, also beside
processes that do not wait here, such as `sqlite3`.
"""

import contextlib
import fcntl
import io
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from store.pool import WAIT_SECONDS, Pool, PoolTimeoutError

POLL_SECONDS = 0.00005  # between two tries to lock a byte that another process has locked
# of the lock file: a process locks the first to be next, and the second to write, so that two
# processes take turns
NEXT, WRITING = 0, 1


class Writers:
    """A queue for the threads of this process, and a lock file for all processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue = Pool(self._open, lambda _: True, 1)  # of the lock file, which one may have

    def _open(self, _deadline: float) -> IO[bytes]:
        """The lock file; where it cannot be opened a file in memory, which locks nothing."""
        try:
            return open(self._path, "ab", opener=_open_private)
        except OSError:
            return io.BytesIO()

    @contextlib.contextmanager
    def turn(self, deadline: float = math.inf) -> Iterator[None]:
        """The turn of a writer; PoolTimeoutError if it does not come within `WAIT_SECONDS`.

        The deadline is in monotonic seconds.
        """
        file = self._queue.take(deadline)
        try:
            if isinstance(file, io.BytesIO):
                yield
                return
            _lock_both(file, deadline)
            try:
                yield
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN, 1, WRITING)
        finally:
            self._queue.give_back(file)

    def close(self) -> None:
        """Close the lock file; the next turn opens it again."""
        self._queue.close_idle()


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _lock_both(file: IO[bytes], deadline: float) -> None:
    end = min(time.monotonic() + WAIT_SECONDS, deadline)
    _lock(file, NEXT, end)
    try:
        _lock(file, WRITING, end)
    finally:
        fcntl.lockf(file, fcntl.LOCK_UN, 1, NEXT)


def _lock(file: IO[bytes], byte: int, end: float) -> None:
    """Lock a byte, by tries: a call that waits has no time limit, and a process may be stopped."""
    while True:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            if time.monotonic() > end:
                raise PoolTimeoutError from None
            time.sleep(POLL_SECONDS)
        else:
            return
