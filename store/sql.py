"""The store in SQL: SQLite or PostgreSQL behind the calls of `base.Store`.

The statement that makes a change also decides whether it is allowed, so that any number of threads,
processes and machines may use one database at the same time.
"""

import dataclasses
import math
import time
from typing import Any

from store import base, events, migrations
from store.mails_sql import SqlMails
from values import MAX_PAGE, Email, Login, Name, Price


class SqlStore(SqlMails, base.Store):
    """The calls of a store in SQL, each a query or a transaction."""

    def __init__(self, connections: int) -> None:
        super().__init__(connections)
        # now: the scripts of a newer Acme may take the place of these while the server runs
        self._schema = len(migrations.scripts(self))

    def has_current_schema(self) -> bool:
        found = self.call(self.schema_version)
        if found <= self._schema:
            return bool(found == self._schema)
        return bool(self.call(self.oldest_code) <= self._schema)

    def statistics(self, now: float) -> tuple[int, int]:
        """The number of sessions that have not ended, and the size of the database in bytes."""
        return (
            self.call(self.queries.count_sessions, now=now),
            self.call(self.queries.get_database_size),
        )

    def has_users(self) -> bool:
        return bool(self.call(self.queries.has_users))

    def user_exists(self, login: str) -> bool:
        return self.get_credentials(login) is not None

    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        login, email = Login(login), Email(email)
        added = self.change(
            self.queries.add_user,
            login=login,
            password=password,
            email=email,
            admin=admin,
            now=time.time(),
        )
        if not added:
            raise base.user_taken(login)

    def get_user_pass(self, login: str) -> str | None:
        credentials = self.get_credentials(login)
        return credentials.password if credentials else None

    def user_is_admin(self, login: str) -> bool:
        user = self.call(self.queries.get_credentials, login=login)
        return bool(user and user[1] and user[3])

    def get_credentials(self, login: str) -> base.Credentials | None:
        user = self.call(self.queries.get_credentials, login=login)
        return base.Credentials(user[0], bool(user[1]), bool(user[2])) if user else None

    def get_user(self, login: str) -> base.Profile:
        return _profile(login, self.call(self.queries.get_profile, login=login))

    def get_created(self, login: str) -> float:
        created = self.call(self.queries.get_created, login=login)
        return math.inf if created is None else float(created)

    def get_users(self, limit: int = MAX_PAGE, after: str | None = None) -> list[base.Profile]:
        rows = self.rows(self.queries.get_profiles, after=after or "", limit=limit)
        return [_profile("", row) for row in rows]

    def change_user(
        self,
        login: str,
        email: str | None = None,
        admin: bool | None = None,
        active: bool | None = None,
    ) -> base.Profile:
        email = None if email is None else Email(email)
        with self.changes() as connection:
            if admin is False or active is False:
                self._lock_admins(connection, login)
            row = self.queries.change_user(
                connection, login=login, email=email, admin=admin, active=active
            )
            profile = _profile(login, row)
            if not profile.active:
                self.queries.delete_sessions(connection, login=login, but="")
            if email is not None or not profile.active:
                self.queries.void_links(connection, login=login)
                self.queries.forget_address(connection, login=login, email=profile.email)
        return profile

    def delete_user(self, login: str, stuff: bool = False) -> None:
        try:
            with self.changes() as connection:
                self._lock_admins(connection, login)
                if stuff:
                    self.queries.delete_user_stuff(connection, login=login)
                self.queries.delete_user_keys(connection, login=login)
                self.queries.forget_user_mails(connection, login=login)
                self.queries.delete_user_mails(connection, login=login)
                self.queries.delete_user(connection, login=login)
        except Exception as e:
            if self.is_missing_owner(e):
                raise base.owns_stuff(login) from None
            raise

    def _lock_admins(self, connection: Any, login: str) -> None:
        """Lock the administrators and a user until the end of the transaction.

        Raises 404 for an unknown user, 409 if the user is the last active administrator. A
        consistent lock order prevents deadlock.
        """
        admins = [name for (name,) in self.queries.lock_admins(connection)]
        if not self.queries.lock_user(connection, login=login):
            raise base.no_user(login)
        if admins == [login]:
            raise base.last_admin(login)

    def set_user_pass(self, login: str, password: str, old: str | None = None) -> None:
        with self.changes() as connection:
            values = {"login": login, "password": password, "old": old}
            if not self.queries.set_user_pass(connection, **values):
                if not self.queries.lock_user(connection, login=login):
                    raise base.no_user(login)
                raise base.password_changed(login)
            self.queries.delete_sessions(connection, login=login, but="")
            self.queries.void_links(connection, login=login)

    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        return bool(self.change(self.queries.renew_user_pass, login=login, old=old, new=new))

    def add_session(self, session: base.Session, checked: base.Credentials) -> int | None:
        now = session.created
        self.change_before(self.queries.delete_expired_sessions, now=now)
        values = dataclasses.asdict(session) | {"password": checked.password, "otp": checked.otp}
        oldest = {"but": session.id, "now": now, "keep": base.MAX_SESSIONS - 1}
        with self.changes() as connection:
            if not checked.active or not self.queries.add_session(connection, **values):
                return None
            query = self.queries.end_oldest_sessions
            return int(query(connection, login=session.login, **oldest))

    def get_session_user(self, session: str, now: float) -> str | None:
        login = self.call(self.queries.get_session_user, session=session, now=now)
        return login if login is None else str(login)

    def get_sessions(
        self,
        login: str,
        now: float,
        limit: int = MAX_PAGE,
        after: tuple[float, str] | None = None,
    ) -> list[base.Session]:
        created, id_ = after or (0.0, "")
        keys = {"login": login, "now": now, "created": created, "id": id_, "limit": limit}
        return [base.Session(*row) for row in self.rows(self.queries.get_sessions, **keys)]

    def rotate_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> tuple[str, float] | None:
        values = {"session": session, "old": old, "new": new, "now": now, "grace": grace}
        if rotated := self.change(self.queries.rotate_session, **values):
            login, expires = rotated
            return login, expires
        login = self.change(self.queries.end_session, session=session, now=now)
        if login:
            raise base.ReusedError(login)
        return None

    def delete_session(self, login: str, session: str) -> bool:
        return bool(self.change(self.queries.delete_session, login=login, session=session))

    def delete_sessions(self, login: str, but: str = "") -> None:
        # a user before the user's sessions: a consistent lock order prevents deadlock
        with self.changes() as connection:
            self.queries.lock_user(connection, login=login)
            self.queries.delete_sessions(connection, login=login, but=but)

    def add_api_key(self, key: base.ApiKey, checked: str) -> None:
        with self.changes() as connection:
            self.queries.lock_user(connection, login=key.login)
            user = self.queries.get_credentials(connection, login=key.login)
            if not user:
                raise base.no_user(key.login)
            if user[0] != checked or not user[1]:
                raise base.password_changed(key.login)
            self.queries.delete_expired_api_keys(connection, login=key.login, now=key.created)
            if self.queries.count_api_keys(connection, login=key.login) >= base.MAX_API_KEYS:
                raise base.too_many_api_keys(key.login)
            self.queries.add_api_key(connection, **dataclasses.asdict(key))

    def get_api_key(self, hash: str, now: float) -> base.ApiKey | None:  # noqa: A002
        row = self.call(self.queries.get_api_key, hash=hash, now=now)
        return base.ApiKey(*row) if row else None

    def get_api_keys(self, login: str) -> list[base.ApiKey]:
        return [base.ApiKey(*row) for row in self.rows(self.queries.get_api_keys, login=login)]

    def use_api_key(self, hash: str, day: float) -> None:  # noqa: A002
        self.change(self.queries.use_api_key, hash=hash, day=day)

    def delete_api_key(self, login: str, key: str) -> bool:
        return bool(self.change(self.queries.delete_api_key, login=login, id=key))

    def set_otp(self, login: str, secret: str, checked: str | None = None) -> None:
        if not self.change(self.queries.set_otp, login=login, secret=secret, checked=checked):
            is_on = self.get_user(login).otp
            raise base.otp_is_on(login) if is_on else base.password_changed(login)

    def get_otp(self, login: str) -> str | None:
        secret = self.call(self.queries.get_otp, login=login)
        return secret if secret is None else str(secret)

    def use_otp(
        self, login: str, secret: str, step: int, on: bool | None = None, session: str = ""
    ) -> bool:
        values = {"login": login, "secret": secret, "step": step, "active": on}
        with self.changes() as connection:
            used = bool(self.queries.use_otp(connection, **values))
            if used and on is not None:
                self.queries.delete_recovery_codes(connection, login=login)
            if used and on:
                self.queries.delete_sessions(connection, login=login, but=session)
        return used

    def reset_otp(self, login: str) -> None:
        with self.atomic():
            if not self.change(self.queries.reset_otp, login=login):
                raise base.no_user(login)
            self.change(self.queries.delete_recovery_codes, login=login)

    # a user before the user's recovery codes: a consistent lock order prevents deadlock

    def set_recovery_codes(self, login: str, hashes: list[str]) -> bool:
        with self.changes() as connection:
            self.queries.lock_user(connection, login=login)
            self.queries.delete_recovery_codes(connection, login=login)
            add = self.queries.add_recovery_code
            return all(add(connection, login=login, hash=text) for text in hashes)

    def use_recovery_code(self, login: str, hash: str) -> bool:  # noqa: A002
        with self.changes() as connection:
            self.queries.lock_user(connection, login=login)
            return bool(self.queries.delete_recovery_code(connection, login=login, hash=hash))

    def add_event(self, event: events.Event, expired: float) -> None:
        with self.changes() as connection:
            self.queries.add_event(connection, **dataclasses.asdict(event))
            self._delete_expired_events(connection, expired)

    def add_attempts(self, attempts: list[events.Event], expired: float) -> set[str]:
        with self.changes() as connection:
            query, known = self.queries.add_attempt, set()
            for event in attempts:
                if query(connection, **dataclasses.asdict(event)):
                    known.add(event.login)
            if known:
                self._delete_expired_events(connection, expired)
        return known

    def _delete_expired_events(self, connection: Any, expired: float) -> None:
        limits = {"before": events.id_at(expired), "limit": events.EVENTS_REMOVED}
        self.queries.delete_expired_events(connection, **limits)

    def get_events(
        self,
        login: str | None,
        limit: int = MAX_PAGE,
        after: str | None = None,
        since: float = 0.0,
        until: float = math.inf,
        event: str | None = None,
    ) -> list[events.Event]:
        last = events.id_at(until)
        values: dict[str, Any] = {"first": events.id_at(since), "last": min(after or last, last)}
        values |= {"event": event, "limit": limit}
        if login is None:
            rows = self.rows(self.queries.get_events, **values)
        else:
            rows = self.rows(self.queries.get_user_events, login=login, **values)
        return [events.Event(*row) for row in rows]

    def add_stuff(self, stuff: str, login: str, price: float) -> None:
        stuff, price = Name(stuff), Price(price)
        if not self._add(self.queries.add_stuff, name=stuff, owner=login, price=price):
            raise base.stuff_taken(stuff)

    def _add(self, query: Any, /, **row: Any) -> bool:
        """Insert the row of an `owner`, 404 for an unknown one; False if its key is taken."""
        try:
            return bool(self.change(query, **row))
        except Exception as e:
            if self.is_missing_owner(e):
                raise base.no_user(row["owner"]) from None
            raise

    def get_stuff(self, stuff: str, login: str | None = None) -> tuple[str, float]:
        found = self.call(self.queries.get_stuff, name=stuff)
        if not found:
            raise base.no_stuff(stuff)
        owner, price = found
        if login not in (None, owner):
            raise base.not_owner(stuff)
        return owner, float(price)

    def get_user_stuff(
        self, login: str, limit: int = MAX_PAGE, after: str | None = None
    ) -> list[tuple[str, float]]:
        rows = self.rows(self.queries.get_user_stuff, owner=login, after=after or "", limit=limit)
        found = [(name, float(price)) for name, price in rows]
        if not found and not self.user_exists(login):
            raise base.no_user(login)
        return found

    def change_stuff(self, stuff: str, price: float, login: str | None = None) -> None:
        price = Price(price)
        if not self.change(self.queries.change_stuff, name=stuff, price=price, owner=login):
            self._explain(stuff)

    def delete_stuff(self, stuff: str, login: str | None = None) -> None:
        if not self.change(self.queries.delete_stuff, name=stuff, owner=login):
            self._explain(stuff)

    def _explain(self, stuff: str) -> None:
        """Raise the reason why a change found no stuff: 404 if it does not exist, else 403."""
        self.get_stuff(stuff)
        raise base.not_owner(stuff)


def _profile(login: str, row: Any) -> base.Profile:
    """The profile in a row; 404 without a row."""
    if not row:
        raise base.no_user(login)
    name, email, admin, active, otp, recovery = row
    return base.Profile(name, email, bool(admin), bool(active), bool(otp), recovery)
