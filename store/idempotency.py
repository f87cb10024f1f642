"""Idempotency keys in the store: their calls, and how memory keeps their answers."""

import abc
import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import FlaskSimpleAuth as fsa

KEY_SECONDS = 24 * 3600.0  # for which the answer to an idempotency key is kept
MAX_KEYS = 100_000  # of one user in that time
KEYS_REMOVED = 3  # expired ones at most, with each new one


@dataclasses.dataclass(frozen=True)
class Claim:
    """An idempotency key of a user, and the fingerprint of the request that it stands for."""

    login: str
    key: str
    fingerprint: str
    now: float  # seconds since 1970


class Answers(abc.ABC):
    """The part of the contract of all stores that concerns idempotency keys."""

    @abc.abstractmethod
    def get_answer(self, login: str, key: str, now: float) -> tuple[str, str] | None:
        """The fingerprint and the answer that `once` has stored for a key of a user, if any."""

    @abc.abstractmethod
    def once(self, claim: Claim) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        """Make all changes of this thread one change, which is stored with its answer under a key.

        Yields a function that takes the answer: if it is not called the changes are undone (in
        memory they stay). 409 if the key is in use or has an answer, 429 if the user has
        `MAX_KEYS`, before the first change. Answers expire after `KEY_SECONDS`, and each new one
        removes a few of these.
        """


class AnswersInMemory(Answers):
    """Idempotency keys in memory: the answers, and the keys in each user."""

    _lock: threading.RLock
    users: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        # the oldest first: (login, key) -> (claim, answer); None in progress
        self._answers: dict[tuple[str, str], tuple[Claim, str | None]] = {}

    @abc.abstractmethod
    def _user(self, login: str) -> Any:
        """A user in memory; 404 for an unknown one."""

    def get_answer(self, login: str, key: str, now: float) -> tuple[str, str] | None:
        claim, answer = self._answers.get((login, key), (None, None))
        if claim is None or answer is None or claim.now <= now - KEY_SECONDS:
            return None
        return claim.fingerprint, answer

    @contextlib.contextmanager
    def once(self, claim: Claim) -> Iterator[Callable[[str], None]]:
        # changes by a route that then fails are not undone: there are no transactions in memory
        name = claim.login, claim.key
        with self._lock:
            if name in self._answers and self._answers[name][0].now > claim.now - KEY_SECONDS:
                raise key_in_use()
            own = self._user(claim.login).keys
            oldest = [(claim.login, key) for key in itertools.islice(own, 1)]
            self._remove_expired(oldest, claim.now)
            self._remove_expired(itertools.islice(self._answers, KEYS_REMOVED), claim.now)
            if len(own) >= MAX_KEYS:
                raise too_many_keys()
            self._answers.pop(name, None)  # so that it becomes the newest
            self._answers[name] = claim, None
            own.pop(claim.key, None)
            own[claim.key] = None
        answers: list[str] = []
        try:
            yield answers.append
        finally:
            with self._lock:
                user = self.users.get(claim.login)
                if answers and user and claim.key in user.keys:
                    self._answers[name] = claim, answers[0]
                elif self._answers.get(name, (None,))[0] is claim:
                    self._remove_answer(*name)

    def _remove_expired(self, names: Iterable[tuple[str, str]], now: float) -> None:
        """Remove those answers that have expired."""
        for name in list(names):
            if self._answers[name][0].now <= now - KEY_SECONDS:
                self._remove_answer(*name)

    def _remove_answer(self, login: str, key: str) -> None:
        del self._answers[login, key]
        if user := self.users.get(login):
            user.keys.pop(key, None)

    def forget_answers(self, login: str) -> None:
        """Remove the answers of a user who is being deleted."""
        for key in self._user(login).keys:
            self._answers.pop((login, key), None)


def key_in_use() -> fsa.ErrorResponse:
    """The error of a request whose key another one is using."""
    message = "a request with this Idempotency-Key is in progress: try again"
    return fsa.ErrorResponse(message, 409, {"Retry-After": "1"})  # seconds


def too_many_keys() -> fsa.ErrorResponse:
    """The error of a user with too many keys."""
    message = f"you have used {MAX_KEYS} keys in 24 hours: send no Idempotency-Key"
    return fsa.ErrorResponse(message, 429, {"Retry-After": "3600"})  # seconds
