"""Bounded queues for work that takes much CPU: a few run, a few wait, the others get 503 at once.

So requests with a token stay quick under a flood of expensive ones: most threads stay free, and
few compete for Python's global interpreter lock (GIL).
"""

import functools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import ParamSpec, TypeVar

import FlaskSimpleAuth as fsa

from monitoring import metrics

PAUSE_SECONDS = 0.001  # in which other threads get the GIL

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class BoundedQueue:
    """A queue of one process: `with queue:` around the work, or `@queue` on a route.

    `what` names the work in the error, in the plural; `running` is how many run at the same time,
    `waiting` how many more can wait. The slot is released at the end of the work, also by an error.
    """

    def __init__(self, what: str, running: int, waiting: int) -> None:
        self.what = what
        self.running = running
        self.size = running + waiting  # maximum of threads in the queue
        self._inside = 0
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(running)
        metrics.sampled("acme_queue_requests", lambda: self._inside, what)

    def __enter__(self) -> None:
        """Take a slot, or wait for one; 503 with Retry-After if the queue is full."""
        with self._lock:
            self.check()
            self._inside += 1
        self._slots.acquire()

    def check(self) -> None:
        """503 with Retry-After if the queue is full."""
        if self.is_full:
            metrics.add("acme_queue_refused", self.what)
            message = f"too many {self.what} at the same time: try again"
            raise fsa.ErrorResponse(message, 503, {"Retry-After": "1"})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the slot."""
        self._slots.release()
        with self._lock:
            self._inside -= 1

    @property
    def is_full(self) -> bool:
        """Whether the next one gets 503."""
        return self._inside >= self.size

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """A function that runs in the queue: a decorator, below the one with a route's path."""

        @functools.wraps(function)
        def queued(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return function(*args, **kwargs)

        setattr(queued, "is_queued", True)  # noqa: B010
        return queued


def is_queued(view: Callable[..., object]) -> bool:
    """Whether a route is in a queue; `functools.wraps` carries the mark to the view function."""
    return getattr(view, "is_queued", False)


cpu_queue = BoundedQueue("computations", running=1, waiting=4)  # for routes that compute


def with_pauses(items: Iterable[T]) -> Iterator[T]:
    """The items, with a pause after each, so that work on many leaves the GIL to other threads.

    Python asks for it every 5 ms only, and not at all while a library computes.
    """
    for item in items:
        yield item
        time.sleep(PAUSE_SECONDS)
