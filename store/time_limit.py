"""How long the calls of one request may wait for the store, all together."""

import time

from flask_internals import current_request, has_request

REQUEST_SECONDS = 5.5  # of the 6 in which each request is answered


class TimeLimitError(Exception):
    """The calls of a request have used up their time."""


class TimeLimit:
    """The seconds that are left for the calls of one request; what is between them is not counted.

    So a body that is slow to arrive, or a wait for a hash, leaves the store its time.
    """

    __slots__ = ("deadline", "left")

    def __init__(self) -> None:
        self.left = REQUEST_SECONDS
        self.deadline = 0.0

    def begin(self) -> float:
        """Begin a call: its deadline in monotonic seconds; TimeLimitError if no time is left."""
        if self.left <= 0:
            raise TimeLimitError("the calls of this request have taken too long")
        self.deadline = time.monotonic() + self.left
        return self.deadline

    def end(self) -> None:
        """End the call that `begin` began."""
        self.left = self.deadline - time.monotonic()


def time_limit() -> TimeLimit:
    """The limit of the request at hand; outside of requests a new one for each call."""
    if not has_request():
        return TimeLimit()
    environ = current_request().environ
    found: TimeLimit | None = environ.get("acme.time_limit")
    if found is None:
        found = environ["acme.time_limit"] = TimeLimit()
    return found
