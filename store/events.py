"""The audit trail in the store: its records, its calls, and how memory keeps it."""

import abc
import bisect
import dataclasses
import itertools
import math
import secrets
import threading
from typing import Any

import FlaskSimpleAuth as fsa

from values import MAX_PAGE, EventKey

EVENTS_REMOVED = 3  # expired ones at most, with each new one
MAX_IN_MEMORY = 50_000  # about 30 MiB
MAX_TEXT = 255  # characters
SAME_TIME = 1_000_000  # microseconds for which a clock that stands still or goes back is ignored


@dataclasses.dataclass(frozen=True)
class Event:
    """An entry of the audit trail; it is never changed."""

    id: str  # in the order of time, see `event_id`
    time: float  # seconds since 1970
    event: str
    login: str  # the user concerned, who may have been deleted since
    who: str  # the login of who did it, or the operator's account
    origin: str  # the address of the client, or "command line"
    session: str = ""  # the id of the session that it is about, or that was used
    key: str = ""  # the same of an API key
    times: int = 1  # for how many attempts it stands, the last one at `time`


_last_id = 0
_id_lock = threading.Lock()


def id_at(time: float) -> str:
    """The id before which all events of earlier times come."""
    return f"{int(min(max(time, 0.0), 1e10) * 1_000_000):014x}"


def event_id(now: float) -> str:
    """A new id: the time in microseconds, then random; ids of one process are in order."""
    global _last_id
    with _id_lock:
        time = int(now * 1_000_000)
        _last_id = _last_id + 1 if 0 <= _last_id - time < SAME_TIME else time
        return f"{_last_id:014x}{secrets.token_hex(4)}"


class Events(abc.ABC):
    """The part of the contract of all stores that concerns the audit trail."""

    @abc.abstractmethod
    def add_event(self, event: Event, expired: float) -> None:
        """Add an event, in the transaction at hand if there is one.

        A few of the events before the time `expired` are removed.
        """

    @abc.abstractmethod
    def add_attempts(self, events: list[Event], expired: float) -> set[str]:
        """Add events whose users exist, and did at their times; returns their logins."""

    @abc.abstractmethod
    def get_events(
        self,
        login: str | None,
        limit: int = MAX_PAGE,
        after: str | None = None,
        since: float = 0.0,
        until: float = math.inf,
        event: str | None = None,
    ) -> list[Event]:
        """The events about a user, or all, the newest first: at most `limit`, following `after`.

        Only those from `since` until before `until`, and only those with the name `event`.
        """


class EventsInMemory(Events):
    """The audit trail in memory: of more than `MAX_IN_MEMORY` events the oldest are removed."""

    _lock: threading.RLock

    def __init__(self) -> None:
        super().__init__()
        self._events: dict[str, Event] = {}  # by id, the oldest first
        self._events_of: dict[str, list[str]] = {}  # index: login -> ids, sorted

    @abc.abstractmethod
    def get_created(self, login: str) -> float:
        """See `base.Store`."""

    def add_event(self, event: Event, expired: float) -> None:
        with self._lock:
            self._events[event.id] = event
            bisect.insort(self._events_of.setdefault(event.login, []), event.id)
            limit, before = len(self._events) - MAX_IN_MEMORY, id_at(expired)
            for number, old in enumerate([*itertools.islice(self._events, EVENTS_REMOVED)]):
                if old < before or number < limit:
                    ids = self._events_of[self._events.pop(old).login]
                    ids.remove(old)

    def add_attempts(self, events: list[Event], expired: float) -> set[str]:
        with self._lock:
            known = [event for event in events if self.get_created(event.login) <= event.time]
            for event in known:
                self.add_event(event, expired)
            return {event.login for event in known}

    def get_events(
        self,
        login: str | None,
        limit: int = MAX_PAGE,
        after: str | None = None,
        since: float = 0.0,
        until: float = math.inf,
        event: str | None = None,
    ) -> list[Event]:
        first, last = id_at(since), min(after or "g", id_at(until))  # no id has a "g"
        with self._lock:
            ids = sorted(self._events) if login is None else self._events_of.get(login, [])
            found = ids[bisect.bisect_left(ids, first) : bisect.bisect_left(ids, last)]
            wanted = (self._events[name] for name in reversed(found))
            return [*itertools.islice((e for e in wanted if event in (None, e.event)), limit)]


# what export and import carry


def seconds(value: object) -> float:
    """A time in seconds since 1970."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e10:
        raise fsa.ErrorResponse("a time must be a number of seconds since 1970", 400)
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        message = f"texts of an event must have at most {MAX_TEXT} printable characters"
        raise fsa.ErrorResponse(message, 400)
    return value


def _times(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**32:
        raise fsa.ErrorResponse("times must be an integer from 1 to 4294967295", 400)
    return value


COLUMNS: dict[str, Any] = dict.fromkeys((f.name for f in dataclasses.fields(Event)), _text)
COLUMNS |= {"id": EventKey, "time": seconds, "times": _times}
