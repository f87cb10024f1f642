"""Units of work: all changes of one request in one transaction (for `Idempotency-Key`, `If-Match`
and the audit trail).

A unit belongs to the thread that begins it. Its transaction begins with the first change, and takes
all later calls of that thread; other threads, and requests without such a header, do not notice.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import FlaskSimpleAuth as fsa

from monitoring import metrics
from store import base, idempotency
from store.engine import Engine
from store.idempotency import KEY_SECONDS, Claim
from store.time_limit import time_limit


@dataclasses.dataclass
class Unit:
    """A unit of work, and what it has come to."""

    stack: contextlib.ExitStack  # ends the transaction, and the turn of a writer
    claim: Claim | None = None
    connection: Any = None  # of the transaction, once it has begun
    answer: str | None = None  # to be stored for the claim, unless nothing is to be changed
    error: fsa.ErrorResponse | None = None  # why nothing can be changed any more
    after: list[Callable[[], None]] = dataclasses.field(default_factory=list)  # the commit


class _UndoneError(Exception):
    """Rolls a transaction back."""


class Units(Engine):
    """An engine whose calls may be parts of a unit of work."""

    def __init__(self, connections: int) -> None:
        super().__init__(connections)
        self._units: dict[int, Unit] = {}  # by the threads that have begun them

    # the calls of the contract, see base.Store

    def get_answer(self, login: str, key: str, now: float) -> tuple[str, str] | None:
        since = now - KEY_SECONDS
        found = self.call(self.queries.get_answer, login=login, key=key, since=since)
        if not found:
            return None
        # the primary may have it without a standby: a change that is confirmed comes after it
        self.change(self.queries.confirm_answer, login=login, key=key)
        return found[0], found[1]

    @contextlib.contextmanager
    def once(self, claim: Claim) -> Iterator[Callable[[str], None]]:
        with contextlib.suppress(_UndoneError), self._unit(claim) as unit:

            def keep(answer: str) -> None:
                unit.answer = answer

            yield keep
            if unit.error:
                raise unit.error
            if unit.answer is None:
                raise _UndoneError
            self._store_answer(unit, claim)

    @contextlib.contextmanager
    def isolated(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if not self._unit_of_thread():
                stack.enter_context(self._unit())
            unit = self._begin(self.queries.begin_isolated)
            yield
            if unit.error:
                raise unit.error

    @contextlib.contextmanager
    def atomic(self) -> Iterator[None]:
        if self._unit_of_thread():
            yield
            return
        with self._unit() as unit:
            yield
            if unit.error:
                raise unit.error

    def after_commit(self, call: Callable[[], None]) -> None:
        if unit := self._unit_of_thread():
            unit.after.append(call)
        else:
            call()

    # the calls of the engine; `super()` would take longer

    def _call(self, named: Any, query: Any, values: dict[str, Any]) -> Any:
        unit = self._unit_of_thread() if self._units else None
        if unit is None or unit.connection is None:
            return Engine._call(self, named, query, values)
        try:
            with self._part(unit) as connection:
                return query(connection, **values)
        except Exception as e:
            if self.is_unstorable(e):
                return None
            raise

    def change(self, query: Any, /, **values: Any) -> Any:
        if not self._units or self._unit_of_thread() is None:
            return Engine.change(self, query, **values)
        self._begin(self.queries.begin_change)
        return self._call(query, query, values)

    def changes(self) -> contextlib._GeneratorContextManager[Any]:
        if not self._units or self._unit_of_thread() is None:
            return Engine.changes(self)
        return self._part(self._begin(self.queries.begin_change))

    def change_before(self, query: Any, /, **values: Any) -> None:
        """A change of its own, before those of the unit: its locks would be out of order there.

        It is left out if the transaction of the unit has begun.
        """
        unit = self._unit_of_thread()
        if unit is None or unit.connection is None:
            Engine.change(self, query, **values)

    # a unit

    def _unit_of_thread(self) -> Unit | None:
        return self._units.get(threading.get_ident())

    @contextlib.contextmanager
    def _unit(self, claim: Claim | None = None) -> Iterator[Unit]:
        """A unit of this thread, which is committed at the end, and rolled back on an error."""
        thread = threading.get_ident()
        with contextlib.ExitStack() as stack:
            self._units[thread] = unit = Unit(stack, claim)
            try:
                yield unit
            finally:
                del self._units[thread]
        for call in unit.after:
            call()

    def _begin(self, begin: Callable[[Any], Any]) -> Unit:
        """Begin the transaction of this thread's unit, unless it has begun."""
        unit = self._unit_of_thread()
        assert unit
        if unit.connection is None and unit.error is None:
            try:
                unit.stack.enter_context(self.turn())
                unit.connection = unit.stack.enter_context(self.transaction(begin, time_limit()))
                if unit.claim:
                    self._check_claim(unit, unit.claim)
            except fsa.ErrorResponse as e:
                unit.error = e
        if unit.error:
            raise unit.error
        return unit

    @contextlib.contextmanager
    def _part(self, unit: Unit) -> Iterator[Any]:
        """A part of a unit: if it fails nothing of it is changed, and the unit may go on."""
        if unit.error:
            raise unit.error
        connection = unit.connection
        try:
            self.queries.savepoint(connection)
            try:
                yield connection
            except BaseException:
                with contextlib.suppress(self.driver_error):
                    self.queries.rollback_to_savepoint(connection)
                raise
            self.queries.release_savepoint(connection)
        except Exception as e:
            if self.is_outdated(e):
                unit.error = base.changed_meanwhile()
            elif self.is_unavailable(e):
                metrics.add("acme_store_errors", "unavailable")
                if self.is_lost(e):
                    self.lost(connection)
                unit.error = self._unavailable(e)
            if unit.error:
                raise unit.error from e
            raise

    def _check_claim(self, unit: Unit, claim: Claim) -> None:
        """Lock a key until the end of the unit; 409 if it is in use, or has just been."""
        key = {"login": claim.login, "key": claim.key}
        since = claim.now - KEY_SECONDS
        with self._part(unit) as connection:
            if not self.queries.lock_key(connection, **key):
                raise idempotency.key_in_use()
            used, keys = self.queries.check_key(connection, **key, since=since)
            if used:
                raise idempotency.key_in_use()
            if keys >= idempotency.MAX_KEYS:
                raise idempotency.too_many_keys()

    def _store_answer(self, unit: Unit, claim: Claim) -> None:
        """Store the answer, and remove a few expired ones."""
        self._begin(self.queries.begin_change)
        values = dataclasses.asdict(claim) | {"answer": unit.answer}
        since = claim.now - KEY_SECONDS
        try:
            with self._part(unit) as connection:
                self.queries.delete_key(connection, login=claim.login, key=claim.key, since=since)
                self.queries.add_answer(connection, **values)
                self.queries.delete_expired_keys(
                    connection, since=since, limit=idempotency.KEYS_REMOVED
                )
        except fsa.ErrorResponse as e:
            if e.status == 412:  # another request has stored its own, after this one's snapshot
                raise idempotency.key_in_use() from e
            raise
