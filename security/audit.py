"""The audit trail: who did what to whom, when, and from where (OWASP Logging Cheat Sheet).

Each event is a line of the log and a row in the store, which is written in the transaction of the
change. It never contains secrets. JSON escapes control characters, so that no value can forge a
line.
"""

import dataclasses
import getpass
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable

import flask
import FlaskSimpleAuth as fsa

from database import db
from monitoring import metrics
from monitoring.logs import request_fields
from monitoring.stderr import StderrHandler
from security.caller import caller
from store.events import Event, event_id

log = logging.getLogger("acme.audit")
errors = logging.getLogger("acme")

DAY_SECONDS = 24 * 3600.0
STORE_SECONDS = 5.0  # between two times that attempts are stored
QUIET_SECONDS = 900.0  # between two rows of each process for attempts of one kind on one login
MAX_ATTEMPTS = 1_000  # logins and kinds that wait to be stored; further ones are only in the log
COMMAND_LINE = "command line"


def audit(
    event: str, who: str | None, whom: str | None = None, session: str = "", key: str = ""
) -> None:
    """Add an event to the audit trail: `who` did it to `whom`, by default to themselves.

    Call it with the change that it is about, within `db.atomic()`: then both are stored or neither
    is, and the line of the log follows the commit. `session` and `key` are ids, by default those of
    the caller.
    """
    record = _event(event, who, whom, session, key)
    write = _line(record)
    db.add_event(record, record.time - trail().seconds)
    db.after_commit(write)


def audit_attempt(event: str, login: str | None) -> None:
    """Add an event that changes nothing to the audit trail; `login` is None if it is malformed.

    Anybody may cause any number of these, also for logins that nobody has: each is in the log, but
    the store gets a row now and then, in the background, so that no request takes longer for it.
    """
    record = _event(event, login)
    _line(record)()
    if login:
        trail().add(record)


def _event(
    event: str, who: str | None, whom: str | None = None, session: str = "", key: str = ""
) -> Event:
    origin, now = COMMAND_LINE, time.time()
    if flask.has_request_context():
        origin, found = flask.request.remote_addr or "", caller()
        whom, session, key = whom or who, session or found.session, key or found.key
    else:
        who = _operator()
    return Event(event_id(now), now, event, whom or "", who or "", origin, session, key)


def _line(event: Event) -> Callable[[], None]:
    """A function that writes the line of an event to the log."""
    line: dict[str, str | None] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(event.time)),
        "event": event.event,
        "who": event.who or None,
        "whom": event.login or event.who or None,
        "from": event.origin,
        "level": "INFO",
    }
    line |= {name: value for name in ("session", "key") if (value := getattr(event, name))}
    text = json.dumps(line | request_fields())

    def write() -> None:
        metrics.add("acme_audit_events", event.event)
        log.info(text)

    return write


def _operator() -> str:
    """The account that runs a command; in a container it may have no name."""
    try:
        return "".join(c if c.isprintable() else "?" for c in getpass.getuser())
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


@dataclasses.dataclass
class _Attempts:
    """Attempts of one kind on one login that are not in the store."""

    last: Event
    due: float  # monotonic seconds: when they are stored
    times: int = 0


class Trail:
    """The audit trail in the store: how long it is kept, and attempts that it does not have yet."""

    def __init__(self, days: str) -> None:
        """ValueError if the number of days is malformed."""
        if not re.fullmatch("[1-9][0-9]{0,4}", days):
            raise ValueError(f"ACME_AUDIT_DAYS={days} must be a number of days from 1 to 99999")
        self.seconds = int(days) * DAY_SECONDS
        self._attempts: dict[tuple[str, str], _Attempts] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, event: Event) -> None:
        """Count an attempt, which is stored later."""
        with self._lock:
            found = self._attempts.get((event.login, event.event))
            if not found:
                if len(self._attempts) >= MAX_ATTEMPTS:
                    return
                found = _Attempts(event, 0.0)
                self._attempts[event.login, event.event] = found
            found.last, found.times = event, found.times + 1
            if not (self._thread and self._thread.is_alive()):  # which it is not after a fork
                self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while self._goes_on():
            time.sleep(STORE_SECONDS)
            try:
                self.store_attempts()
            except fsa.ErrorResponse:  # the database is unavailable, which the log has already
                pass
            except Exception:
                errors.exception("attempts are not in the audit trail of the store")

    def _goes_on(self) -> bool:
        """Whether the thread has something to wait for; if not, another one will start."""
        with self._lock:
            if not self._attempts:
                self._thread = None
            return self._thread is not None

    def store_attempts(self) -> None:
        """Store the attempts that are due; those on logins that nobody has are forgotten."""
        now = time.monotonic()
        with self._lock:
            due = {name: found for name, found in self._attempts.items() if found.due <= now}
            events = [self._row(found) for found in due.values() if found.times]
        known = db.add_attempts(events, time.time() - self.seconds) if events else set()
        stored = {(event.login, event.event): event.times for event in events}
        with self._lock:
            for name, found in due.items():
                found.times -= stored.get(name, 0)
                found.due = now + QUIET_SECONDS
                if name not in stored or name[0] not in known:
                    del self._attempts[name]

    @staticmethod
    def _row(found: _Attempts) -> Event:
        # its place in the trail is that of the moment, so that pages that were read stay the same
        return dataclasses.replace(found.last, id=event_id(time.time()), times=found.times)


def trail() -> Trail:
    """The audit trail of the current application."""
    found: Trail = flask.current_app.extensions["audit"]
    return found


def init_app(app: fsa.Flask) -> None:
    """Write the audit trail to standard error, independent of other loggers, and to the store.

    ValueError if `ACME_AUDIT_DAYS` is malformed.
    """
    if not log.handlers:
        log.addHandler(StderrHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    app.extensions["audit"] = Trail(app.config["ACME_AUDIT_DAYS"])
