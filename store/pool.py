"""A connection pool: a bounded number of connections, which calls take and return."""

import collections
import math
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

IDLE_SECONDS = 60.0  # then an idle connection is closed
REAP_SECONDS = 5.0  # between two checks for these
WAIT_SECONDS = 2.0  # that a call waits for a connection while all are in use
# calls that have a connection or wait for one; eight threads of a worker stay free, see serve.py
MAX_CALLS = 39
EXTRA_WAIT_SECONDS = 0.1  # that others wait, unless such a wait has just failed


class PoolTimeoutError(Exception):
    """All connections stayed in use for `WAIT_SECONDS`, or until the deadline of the call."""


class Pool:
    """Connections for all threads; the one returned last is taken first.

    While all are in use calls wait in a queue, in their order. Where none of them returns, because
    the database does not respond, no more than `MAX_CALLS` wait. A process that is forked starts
    with an empty pool: it shares no connection with its parent.
    """

    def __init__(
        self, connect: Callable[[float], Any], is_usable: Callable[[Any], bool], size: int
    ) -> None:
        self._connect = connect  # takes a deadline
        self._is_usable = is_usable
        self.size = min(size, MAX_CALLS)
        self._empty()
        with _pools_lock:
            _pools.add(self)

    def _empty(self) -> None:
        self._lock = threading.Lock()
        self._open = 0  # how many connections there are, idle or in use
        self._idle: collections.deque[tuple[Any, float]] = collections.deque()  # since when
        # each call that waits gets one connection, or None, which allows it to open one
        self._waiting: collections.deque[queue.SimpleQueue[Any]] = collections.deque()
        self._is_stuck = False  # whether a wait has failed, and no connection was returned since

    @property
    def connections(self) -> int:
        """How many connections are open, idle or in use."""
        return self._open

    @property
    def idle(self) -> int:
        """How many of them are idle."""
        return len(self._idle)

    def take(self, deadline: float = math.inf) -> Any:
        """A usable idle connection, else a new one; PoolTimeoutError if none becomes free.

        The deadline is in monotonic seconds.
        """
        connection = self._idle_one() if not self._waiting else None
        if connection is None:
            connection = self._wait(deadline)
        try:
            if connection is not None:
                if self._is_usable(connection):
                    return connection
                connection.close()
            _start_reaper()
            return self._connect(deadline)
        except BaseException:
            self._closed()
            raise

    def _idle_one(self) -> Any:
        try:
            return self._idle.pop()[0]
        except IndexError:
            return None

    def _wait(self, deadline: float) -> Any:
        """A connection when there is one, None when one may be opened."""
        mine: queue.SimpleQueue[Any] = queue.SimpleQueue()
        with self._lock:
            self._waiting.append(mine)
            self._serve()
            is_extra = self._open - len(self._idle) + len(self._waiting) > MAX_CALLS
        seconds = min(WAIT_SECONDS, deadline - time.monotonic())
        if is_extra:
            seconds = 0.0 if self._is_stuck else min(EXTRA_WAIT_SECONDS, seconds)
        try:
            return mine.get(timeout=max(0.0, seconds))
        except queue.Empty:
            self._is_stuck = True
            with self._lock:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                    raise PoolTimeoutError from None
            return mine.get()  # one came at the last moment

    def _serve(self) -> None:
        """Serve the waiting calls; the caller holds the lock."""
        while self._waiting:
            connection = self._idle_one()
            if connection is None:
                if self._open >= self.size:
                    return
                self._open += 1
            self._waiting.popleft().put(connection)

    def give_back(self, connection: Any) -> None:
        """Return a connection to the pool."""
        self._idle.append((connection, time.monotonic()))
        self._is_stuck = False
        if self._waiting:
            with self._lock:
                self._serve()

    def discard(self, connection: Any) -> None:
        """Close a connection instead of returning it."""
        connection.close()
        self._closed()

    def _closed(self) -> None:
        with self._lock:
            self._open -= 1
            self._serve()

    def close_idle(self, seconds: float = 0.0) -> None:
        """Close the connections that have been idle for that many seconds."""
        limit = time.monotonic() - seconds
        while self._idle:
            try:
                connection, since = self._idle.popleft()
            except IndexError:  # another thread took the last one
                return
            if since > limit:
                self._idle.appendleft((connection, since))
                return
            self.discard(connection)

    def forked(self) -> None:
        """Forget the connections of the parent process, which uses them: do not close them."""
        self._parents = self._idle
        self._empty()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_reaper: threading.Thread | None = None
_pools_lock = threading.Lock()  # of these two


def _start_reaper() -> None:
    """Start the thread that closes idle connections, unless it runs: one in each process."""
    global _reaper
    with _pools_lock:
        if not _reaper:
            _reaper = threading.Thread(target=_reap, name="pool", daemon=True)
            _reaper.start()


def _reap() -> None:
    while True:
        time.sleep(REAP_SECONDS)
        with _pools_lock:
            pools = list(_pools)
        for pool in pools:
            pool.close_idle(IDLE_SECONDS)


def _after_fork() -> None:
    """A child process has neither the other threads of its parent nor their locks."""
    global _reaper, _pools_lock
    _reaper, _pools_lock = None, threading.Lock()
    for pool in list(_pools):
        pool.forked()


os.register_at_fork(after_in_child=_after_fork)
