"""Health checks: `/livez`, whether the process responds, `/readyz`, whether it can serve requests.

A load balancer asks often, anybody may ask, and the database may be frozen. So the check of the
store runs in a thread of its own, at most once a second, and few requests wait for its result.
"""

import logging
import threading
import time
from typing import Annotated, Literal

import flask
import FlaskSimpleAuth as fsa
from typing_extensions import TypedDict

from database import db
from web import responses

log = logging.getLogger("acme")

CHECK_SECONDS = 1.0  # between two checks, and how long one may take
MAX_WAITING = 4  # requests that wait for a check at once; others get the last result

Reason = Literal["store", "schema", "draining"]
WORDS: dict[Reason, str] = {
    "store": "the database is unavailable, or takes more than a second",
    "schema": "the database has a schema that this Acme does not work with",
}

health = flask.Blueprint("health", __name__)


class Readiness:
    """Why a process cannot serve requests: `store`, `schema` or `draining`; None if it can."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_WAITING)
        self._done = threading.Event()  # of the last check
        self._done.set()
        self._begun = -CHECK_SECONDS  # the time of the last check: monotonic seconds
        self._result: Reason | None = "store"  # of the last check that has ended
        self._logged: Reason | None = None
        self._is_draining = False

    def drain(self) -> None:
        """From now on the process is not ready, and each response ends its connection."""
        self._is_draining = True
        responses.close_connections()

    def reason(self) -> Reason | None:
        """Why the process is not ready, from a check that began at most a second ago."""
        if self._is_draining:
            return "draining"
        with self._lock:
            if self._done.is_set() and time.monotonic() >= self._begun + CHECK_SECONDS:
                self._done.clear()
                self._begun = time.monotonic()
                threading.Thread(target=self._check, name="readiness", daemon=True).start()
        left = self._begun + CHECK_SECONDS - time.monotonic()
        if not self._done.is_set() and left > 0:
            if not self._slots.acquire(blocking=False):
                return self._result
            try:
                self._done.wait(left)
            finally:
                self._slots.release()
        # a check that takes too long is that of a frozen database
        return self._log(self._result if self._done.is_set() else "store")

    def _check(self) -> None:
        try:
            self._result = None if db.has_current_schema() else "schema"
        except fsa.ErrorResponse:
            self._result = "store"
        except Exception:
            self._result = "store"
            log.exception("the check of the store failed")
        finally:
            self._done.set()

    def _log(self, reason: Reason | None) -> Reason | None:
        """The reason; a line in the log if it is another one than the last time."""
        with self._lock:
            if reason != self._logged:
                self._logged = reason
                log.error("not ready: %s", WORDS[reason]) if reason else log.warning("ready again")
        return reason


readiness = Readiness()


class Healthy(TypedDict):
    msg: str


class Unhealthy(TypedDict):
    error: Reason


Live = tuple[Healthy, Literal[200]]
Ready = Live | tuple[Unhealthy, Literal[503], Annotated[dict[str, str], "Retry-After"]]


@health.get("/livez", authz="OPEN")
def get_livez() -> Live:
    """Say that the process responds, without asking the database."""
    return {"msg": "alive"}, 200


@health.get("/readyz", authz="OPEN")
def get_readyz() -> Ready:
    """Say whether the process can serve requests; else 503 with the reason in one word.

    `store`: the database is unavailable. `schema`: it has another schema than this version needs.
    `draining`: the process is about to end. The database is checked at most once a second.
    """
    if reason := readiness.reason():
        return Unhealthy(error=reason), 503, {"Retry-After": "1"}
    return Healthy(msg="ready"), 200


def init_app(app: fsa.Flask) -> None:
    """Serve the health checks."""
    app.register_blueprint(health)
