"""AcmeData: users, their sessions and their stuff, in memory."""

import bisect
import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from store.base import (
    MAX_API_KEYS,
    MAX_SESSIONS,
    ApiKey,
    Credentials,
    Profile,
    ReusedError,
    Session,
    Store,
    last_admin,
    no_stuff,
    no_user,
    not_owner,
    otp_is_on,
    owns_stuff,
    password_changed,
    stuff_taken,
    too_many_api_keys,
    user_taken,
)
from store.events import EventsInMemory
from store.idempotency import AnswersInMemory
from store.mails import MailsInMemory
from store.recovery import RecoveryCodesInMemory
from values import MAX_PAGE, Email, Login, Name, Price

__version__ = "0.2.0"  # of Acme; CHANGELOG.md has what changed

SWEEP_SECONDS = 60.0  # between two removals of expired sessions


@dataclasses.dataclass
class _User:
    """A user in the store in memory."""

    password: str
    email: str
    admin: bool
    created: float
    active: bool = True
    otp_secret: str | None = None
    otp: bool = False
    otp_step: int = 0
    recovery: set[str] = dataclasses.field(default_factory=set)  # hashes of recovery codes
    owned: list[str] = dataclasses.field(default_factory=list)  # the names of their stuff, sorted
    sessions: set[str] = dataclasses.field(default_factory=set)  # the ids of their sessions
    keys: dict[str, None] = dataclasses.field(default_factory=dict)  # of idempotency, oldest first
    api_keys: dict[str, ApiKey] = dataclasses.field(default_factory=dict)  # by id, in their order


@dataclasses.dataclass
class _Rotated:
    """A session in memory, and the last rotation of its refresh secret."""

    session: Session
    previous: str | None = None
    at: float = 0.0  # seconds since 1970


class AcmeData(EventsInMemory, AnswersInMemory, MailsInMemory, RecoveryCodesInMemory, Store):
    """The store in memory: simple, quick, and gone when the process ends."""

    def __init__(self) -> None:
        super().__init__()
        self.users: dict[str, _User] = {}
        # Stuff: name -> (owner, price)
        self.stuff: dict[str, tuple[str, float]] = {}
        self.sessions: dict[str, _Rotated] = {}
        # Index of API keys: hash -> (login, id)
        self._api_keys: dict[str, tuple[str, str]] = {}
        # Index: the logins, sorted
        self._logins: list[str] = []
        self._swept = 0.0  # when expired sessions were removed
        self._lock = threading.RLock()

    def has_current_schema(self) -> bool:
        return True

    def has_users(self) -> bool:
        return bool(self.users)

    def user_exists(self, login: str) -> bool:
        return login in self.users

    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        login, email = Login(login), Email(email)
        with self._lock:
            if login in self.users:
                raise user_taken(login)
            self.users[login] = _User(password, email, admin, time.time())
            bisect.insort(self._logins, login)

    def get_user_pass(self, login: str) -> str | None:
        user = self.users.get(login)
        return user.password if user else None

    def user_is_admin(self, login: str) -> bool:
        user = self.users.get(login)
        return bool(user and user.admin and user.active)

    def _user(self, login: str) -> _User:
        if login not in self.users:
            raise no_user(login)
        return self.users[login]

    def get_credentials(self, login: str) -> Credentials | None:
        user = self.users.get(login)
        return Credentials(user.password, user.active, user.otp) if user else None

    def get_user(self, login: str) -> Profile:
        user = self._user(login)
        recovery = len(user.recovery)
        return Profile(login, user.email, user.admin, user.active, user.otp, recovery)

    def get_address(self, login: str) -> tuple[str, bool]:
        user = self.users.get(login)
        return (user.email, user.active) if user else ("", False)

    def get_users(self, limit: int = MAX_PAGE, after: str | None = None) -> list[Profile]:
        with self._lock:
            start = bisect.bisect_right(self._logins, after or "")
            return [self.get_user(login) for login in self._logins[start : start + limit]]

    def change_user(
        self,
        login: str,
        email: str | None = None,
        admin: bool | None = None,
        active: bool | None = None,
    ) -> Profile:
        email = None if email is None else Email(email)
        with self._lock:
            user = self._user(login)
            if admin is False or active is False:
                self._check_admins(login)
            user.email = user.email if email is None else email
            user.admin = user.admin if admin is None else admin
            user.active = user.active if active is None else active
            if not user.active:
                self.delete_sessions(login)
            if email is not None or not user.active:
                self.void_links(login)
                self.forget_address(login, user.email)
            return self.get_user(login)

    def delete_user(self, login: str, stuff: bool = False) -> None:
        with self._lock:
            user = self._user(login)
            self._check_admins(login)
            if user.owned and not stuff:
                raise owns_stuff(login)
            for name in user.owned:
                del self.stuff[name]
            self.delete_sessions(login)
            self.forget_answers(login)
            for key in [*user.api_keys]:
                self.delete_api_key(login, key)
            self.forget_mails(login)
            del self.users[login]
            del self._logins[bisect.bisect_left(self._logins, login)]

    def _check_admins(self, login: str) -> None:
        """Refuse if a user is the last active administrator."""
        admins = [name for name, user in self.users.items() if user.admin and user.active]
        if admins == [login]:
            raise last_admin(login)

    def set_user_pass(self, login: str, password: str, old: str | None = None) -> None:
        with self._lock:
            user = self._user(login)
            if old is not None and (user.password != old or not user.active):
                raise password_changed(login)
            user.password = password
            self.delete_sessions(login)
            self.void_links(login)

    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        with self._lock:
            user = self.users.get(login)
            if not user or user.password != old:
                return False
            user.password = new
            return True

    def add_session(self, session: Session, checked: Credentials) -> int | None:
        now = session.created
        with self._lock:
            if abs(now - self._swept) > SWEEP_SECONDS:
                self._swept = now
                self._end(s for s, found in self.sessions.items() if found.session.expires <= now)
            user = self.users.get(session.login)
            if not user or not user.active or self.get_credentials(session.login) != checked:
                return None
            ended = 0
            if len(user.sessions) >= MAX_SESSIONS:
                newest = self.get_sessions(session.login, now)[::-1]
                ended = self._end(old.id for old in newest[MAX_SESSIONS - 1 :])
            self.sessions[session.id] = _Rotated(session)
            user.sessions.add(session.id)
            return ended

    def _end(self, sessions: Iterable[str]) -> int:
        """End sessions; returns their number."""
        ended = list(sessions)
        for name in ended:
            self.users[self.sessions.pop(name).session.login].sessions.remove(name)
        return len(ended)

    def get_session_user(self, session: str, now: float) -> str | None:
        found = self.sessions.get(session)
        return found.session.login if found and found.session.expires > now else None

    def get_sessions(
        self,
        login: str,
        now: float,
        limit: int = MAX_PAGE,
        after: tuple[float, str] | None = None,
    ) -> list[Session]:
        with self._lock:
            user = self.users.get(login)
            found = [self.sessions[name].session for name in user.sessions] if user else []
        keys = {(s.created, s.id): s for s in found if s.expires > now}
        return [keys[key] for key in sorted(keys) if after is None or key > after][:limit]

    def rotate_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> tuple[str, float] | None:
        with self._lock:
            found = self.sessions.get(session)
            if not found or found.session.expires <= now:
                return None
            secret = found.session.secret
            if old == secret:
                secret, found.previous, found.at = new, old, now
            elif old != found.previous or abs(now - found.at) > grace:
                self._end([session])
                raise ReusedError(found.session.login)
            found.session = dataclasses.replace(found.session, secret=secret, used=now)
            return found.session.login, found.session.expires

    def delete_session(self, login: str, session: str) -> bool:
        with self._lock:
            found = self.sessions.get(session)
            if not found or found.session.login != login:
                return False
            self._end([session])
            return True

    def delete_sessions(self, login: str, but: str = "") -> None:
        with self._lock:
            if user := self.users.get(login):
                self._end(user.sessions - {but})

    def add_api_key(self, key: ApiKey, checked: str) -> None:
        with self._lock:
            user = self._user(key.login)
            if user.password != checked or not user.active:
                raise password_changed(key.login)
            for old in [*user.api_keys.values()]:
                if old.expires <= key.created:
                    self.delete_api_key(key.login, old.id)
            if len(user.api_keys) >= MAX_API_KEYS:
                raise too_many_api_keys(key.login)
            user.api_keys[key.id] = key
            self._api_keys[key.hash] = key.login, key.id

    def get_api_key(self, hash: str, now: float) -> ApiKey | None:  # noqa: A002
        with self._lock:
            login, name = self._api_keys.get(hash, ("", ""))
            user = self.users.get(login)
            key = user.api_keys[name] if user and user.active else None
            return dataclasses.replace(key, hash="") if key and key.expires > now else None

    def get_api_keys(self, login: str) -> list[ApiKey]:
        with self._lock:
            keys = self.users[login].api_keys.values() if login in self.users else ()
            found = [dataclasses.replace(key, hash="") for key in keys]
        return sorted(found, key=lambda key: (key.created, key.id))

    def use_api_key(self, hash: str, day: float) -> None:  # noqa: A002
        with self._lock:
            login, name = self._api_keys.get(hash, ("", ""))
            if login and (key := self.users[login].api_keys[name]).used < day:
                self.users[login].api_keys[name] = dataclasses.replace(key, used=day)

    def delete_api_key(self, login: str, key: str) -> bool:
        with self._lock:
            user = self.users.get(login)
            found = user.api_keys.pop(key, None) if user else None
            if found:
                del self._api_keys[found.hash]
            return found is not None

    def set_otp(self, login: str, secret: str, checked: str | None = None) -> None:
        with self._lock:
            user = self._user(login)
            if user.otp:
                raise otp_is_on(login)
            if checked is not None and (user.password != checked or not user.active):
                raise password_changed(login)
            user.otp_secret, user.otp_step = secret, 0

    def get_otp(self, login: str) -> str | None:
        user = self.users.get(login)
        return user.otp_secret if user else None

    def use_otp(
        self, login: str, secret: str, step: int, on: bool | None = None, session: str = ""
    ) -> bool:
        with self._lock:
            user = self.users.get(login)
            if not user or user.otp_secret != secret or step <= user.otp_step:
                return False
            user.otp_step = step
            if on is not None:
                user.otp, user.recovery = on, set()
            if on:
                self.delete_sessions(login, but=session)
            return True

    def reset_otp(self, login: str) -> None:
        with self._lock:
            user = self._user(login)
            user.otp, user.otp_secret, user.recovery = False, None, set()

    def add_stuff(self, stuff: str, login: str, price: float) -> None:
        stuff, price = Name(stuff), Price(price)
        with self._lock:
            if stuff in self.stuff:
                raise stuff_taken(stuff)
            if login not in self.users:
                raise no_user(login)
            self.stuff[stuff] = (login, price)
            bisect.insort(self.users[login].owned, stuff)

    def get_stuff(self, stuff: str, login: str | None = None) -> tuple[str, float]:
        found = self.stuff.get(stuff)
        if not found:
            raise no_stuff(stuff)
        if login not in (None, found[0]):
            raise not_owner(stuff)
        return found

    def get_user_stuff(
        self, login: str, limit: int = MAX_PAGE, after: str | None = None
    ) -> list[tuple[str, float]]:
        with self._lock:
            names = self._user(login).owned
            start = 0 if after is None else bisect.bisect_right(names, after)
            return [(name, self.stuff[name][1]) for name in names[start : start + limit]]

    def change_stuff(self, stuff: str, price: float, login: str | None = None) -> None:
        price = Price(price)
        with self._lock:
            owner, _ = self.get_stuff(stuff, login)
            self.stuff[stuff] = (owner, price)

    def delete_stuff(self, stuff: str, login: str | None = None) -> None:
        with self._lock:
            owner, _ = self.get_stuff(stuff, login)
            names = self.users[owner].owned
            del names[bisect.bisect_left(names, stuff)]
            del self.stuff[stuff]

    @contextlib.contextmanager
    def isolated(self) -> Iterator[None]:
        with self._lock:
            yield

    def atomic(self) -> contextlib.AbstractContextManager[None]:
        return self.isolated()

    def after_commit(self, call: Callable[[], None]) -> None:
        call()

    def get_created(self, login: str) -> float:
        user = self.users.get(login)
        return user.created if user else math.inf

    def close(self) -> None:
        pass
