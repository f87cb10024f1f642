"""The store in SQL: SQLite or PostgreSQL behind the calls of `base.Store`.

Who is first, who owns what, and whether it is still so, is decided by the statement that makes the
change, so that any number of threads, processes and machines may use one database at a time.
"""

import abc
import contextlib
import dataclasses
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiosql
import FlaskSimpleAuth as fsa

import values
from store import base
from values import Email, Login, Name, Price

log = logging.getLogger("acme")

HERE = Path(__file__).parent
USER_COLUMNS = (
    *("login", "password", "email", "admin"),
    *("active", "otp_secret", "otp", "otp_step"),
)
FLAGS = {"admin", "active", "otp"}  # which SQLite keeps as 0 and 1
PAGE = 1_000  # rows that an export or import holds in memory
SILENCE = 5.0  # seconds between two lines in the log about a database that is away


class SchemaError(ValueError):
    """The database has another schema than this Acme needs, or cannot be given it."""


class SqlStore(base.Store):
    """What both engines have in common; each call takes a connection and gives it back.

    Idle connections wait on a stack: there are never more than calls at the same time.
    """

    driver: str | type  # aiosql's name of the driver, or what runs queries
    engine: str  # the folder with the migrations and what is the engine's own
    _wrong: type[Exception]  # the driver's errors
    _unstorable: tuple[type[Exception], ...] = (UnicodeEncodeError,)  # surrogates

    def __init__(self) -> None:
        texts = (HERE / "queries.sql", HERE / self.engine / "engine.sql")
        self._queries: Any = aiosql.from_str("\n".join(f.read_text() for f in texts), self.driver)
        self._idle: list[Any] = []
        self._complained = time.monotonic()  # at the start, who opens the store does

    # what the engines differ in

    @abc.abstractmethod
    def _connect(self) -> Any:
        """A new connection, in autocommit."""

    @abc.abstractmethod
    def _alive(self, connection: Any) -> bool:
        """Whether an idle connection may be used, as far as can be told without asking."""

    @abc.abstractmethod
    def _is_away(self, e: Exception) -> bool:
        """Whether an error says that the database is away, rather than that we are wrong."""

    @abc.abstractmethod
    def _is_missing_owner(self, e: Exception) -> bool:
        """Whether an error says that a row refers to one that is not there."""

    @abc.abstractmethod
    def _statements(self, script: str) -> Iterator[str]:
        """The statements of a script, in what units the driver takes them."""

    # connections

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        """A connection for one call; 503 if the database is away, and then it is not used again."""
        connection = None
        try:
            connection = self._take()
            yield connection
        except Exception as e:
            if not self._is_away(e):
                if connection:
                    self._idle.append(connection)
                raise
            if connection:
                connection.close()
            if time.monotonic() > self._complained + SILENCE:
                self._complained = time.monotonic()
                log.error("the database is away: %s", str(e).partition("\n")[0])
            headers = {"Retry-After": "1"}  # seconds
            raise fsa.ErrorResponse("the database is away: try again", 503, headers) from e
        except fsa.ErrorResponse:
            self._idle.append(connection)
            raise
        except BaseException:
            if connection:
                connection.close()
            raise
        self._idle.append(connection)

    def _take(self) -> Any:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread took the last one
                connection = self._idle.pop()
                if self._alive(connection):
                    return connection
                connection.close()
        return self._connect()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextlib.contextmanager
    def _transaction(self, begin: Callable[[Any], Any]) -> Iterator[Any]:
        """A transaction, all or nothing."""
        with self._connection() as connection:
            begin(connection)
            try:
                yield connection
            except BaseException:
                self._queries.rollback(connection)
                raise
            self._queries.commit(connection)

    # schema

    def migrations(self) -> list[Path]:
        """The scripts that make the schema, from 1 on."""
        return sorted((HERE / self.engine).glob("[0-9]*.sql"))

    def schema_version(self) -> int:
        """How many of the migrations the database has seen; 0 if it is empty."""
        with self._connection() as connection:
            return self._schema_version(connection)

    def _schema_version(self, connection: Any) -> int:
        if not self._queries.schema_is_there(connection):
            return 0
        return self._queries.get_schema_version(connection) or 0

    def check_schema(self) -> None:
        """Set up an empty database; SchemaError if it has another schema, and what to do."""
        found, needed = self.schema_version(), len(self.migrations())
        if found == 0:
            self.upgrade()
        elif found < needed:
            raise SchemaError(
                f"the database has schema {found}, and this Acme needs {needed}: "
                "make a backup, then run make db-upgrade"
            )
        else:
            self._check_not_newer(found)

    def _check_not_newer(self, found: int) -> None:
        needed = len(self.migrations())
        if found > needed:
            raise SchemaError(
                f"the database has schema {found}, newer than the {needed} of this Acme: "
                "run the Acme that it was upgraded with, or make restore from before"
            )

    def upgrade(self) -> list[str]:
        """Apply the migrations that are missing, in one transaction; returns their names.

        Several processes may do so at once: one works, the others wait and find nothing to do.
        Raises SchemaError if one fails, or the database is newer.
        """
        self._prepare()
        with self._transaction(self._queries.begin_alone) as connection:
            found = self._schema_version(connection)
            self._check_not_newer(found)
            missing = self.migrations()[found:]
            for version, script in enumerate(missing, found + 1):
                try:
                    for statement in self._statements(script.read_text()):
                        connection.execute(statement)
                    self._queries.add_schema_version(connection, version=version)
                except self._wrong as e:
                    why = str(e).partition("\n")[0]
                    message = f"migration {script.stem} failed, nothing is changed: {why}"
                    raise SchemaError(message) from e
        return [script.stem for script in missing]

    def _prepare(self) -> None:
        """What must be done before a migration, and cannot be in its transaction."""

    # copies

    @abc.abstractmethod
    def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to a new file, whatever goes on meanwhile."""

    def restore(self, path: Path) -> None:
        """Bring a copy back into an empty database; ValueError if the file is none.

        Its sessions are not: whoever signed out since the copy was made stays out.
        """
        self._restore(path)
        if self.schema_version() >= 2:  # which brought sessions
            self._call(self._queries.delete_all_sessions)

    @abc.abstractmethod
    def _restore(self, path: Path) -> None:
        """Bring all of a copy back."""

    def count(self) -> int:
        """How many rows `export` yields."""
        with self._connection() as connection:
            return int(self._queries.count_rows(connection))

    def export_rows(self) -> Iterator[dict[str, Any]]:
        """All users and then all stuff, as they are at one moment."""
        tables = {
            "user": (self._queries.export_users, USER_COLUMNS),
            "stuff": (self._queries.export_stuff, ("name", "owner", "price")),
        }
        with self._transaction(self._queries.begin) as connection:
            for kind, (query, names) in tables.items():
                after = ""
                while rows := list(query(connection, after=after, limit=PAGE)):
                    for row in rows:
                        values = dict(zip(names, row, strict=True))
                        flags = {name: bool(values[name]) for name in FLAGS & values.keys()}
                        yield {"kind": kind} | values | flags
                    after = rows[-1][0]

    def import_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Add what `export_rows` yielded to a database without users, all or nothing.

        Raises ValueError where a row is malformed or the database has users.
        """
        kinds: dict[str, tuple[Any, Callable[..., dict[str, Any]]]] = {
            "user": (self._queries.import_users, _user_row),
            "stuff": (self._queries.import_stuff, _stuff_row),
        }
        with self._transaction(self._queries.begin_alone) as connection:
            if self._queries.has_users(connection):
                raise ValueError("the database has users: import into an empty one")
            try:
                for kind, page in _pages(rows):
                    query, row = kinds[kind]
                    query(connection, [row(**values) for values in page])
            except self._wrong as e:
                if self._is_away(e):
                    raise
                raise ValueError(f"rows that do not fit each other: {e}") from e
            except (AttributeError, KeyError, OverflowError, TypeError) as e:
                raise ValueError(f"a malformed row: {e!r}") from e
            except fsa.ErrorResponse as e:
                raise ValueError(f"a malformed row: {e.message}") from e

    # calls

    def _call(self, query: Any, **values: Any) -> Any:
        """What a query gives; None, as if nothing were found, for text that no store can hold."""
        try:
            with self._connection() as connection:
                return query(connection, **values)
        except self._unstorable:
            return None

    def has_users(self) -> bool:
        return bool(self._call(self._queries.has_users))

    def user_exists(self, login: str) -> bool:
        return self.get_credentials(login) is not None

    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        login, email = Login(login), Email(email)
        added = self._call(
            self._queries.add_user, login=login, password=password, email=email, admin=admin
        )
        if not added:
            raise base.user_taken(login)

    def get_user_pass(self, login: str) -> str | None:
        credentials = self.get_credentials(login)
        return credentials.password if credentials else None

    def user_is_admin(self, login: str) -> bool:
        user = self._call(self._queries.get_credentials, login=login)
        return bool(user and user[1] and user[3])

    def get_credentials(self, login: str) -> base.Credentials | None:
        user = self._call(self._queries.get_credentials, login=login)
        return base.Credentials(user[0], bool(user[1]), bool(user[2])) if user else None

    def get_user(self, login: str) -> base.Profile:
        return _profile(login, self._call(self._queries.get_profile, login=login))

    def get_users(
        self, limit: int = values.MAX_PAGE, after: str | None = None
    ) -> list[base.Profile]:
        with self._connection() as connection:
            rows = self._queries.get_profiles(connection, after=after or "", limit=limit)
            return [_profile("", row) for row in rows]

    def change_user(
        self,
        login: str,
        email: str | None = None,
        admin: bool | None = None,
        active: bool | None = None,
    ) -> base.Profile:
        email = None if email is None else Email(email)
        with self._transaction(self._queries.begin_change) as connection:
            if admin is False or active is False:
                self._lock_admins(connection, login)
            row = self._queries.change_user(
                connection, login=login, email=email, admin=admin, active=active
            )
            profile = _profile(login, row)
            if not profile.active:
                self._queries.delete_sessions(connection, login=login, but="")
        return profile

    def delete_user(self, login: str, stuff: bool = False) -> None:
        try:
            with self._transaction(self._queries.begin_change) as connection:
                self._lock_admins(connection, login)
                if stuff:
                    self._queries.delete_user_stuff(connection, login=login)
                self._queries.delete_user(connection, login=login)
        except Exception as e:
            if self._is_missing_owner(e):
                raise base.owns_stuff(login) from None
            raise

    def _lock_admins(self, connection: Any, login: str) -> None:
        """Hold the administrators and a user until the end of the transaction.

        Raises 404 for nobody, and 409 if the user is the last active administrator. The locks are
        taken in one order, so that nobody waits for one that waits for him.
        """
        admins = [name for (name,) in self._queries.lock_admins(connection)]
        if not self._queries.lock_user(connection, login=login):
            raise base.no_user(login)
        if admins == [login]:
            raise base.last_admin(login)

    def set_user_pass(self, login: str, password: str, old: str | None = None) -> None:
        with self._transaction(self._queries.begin_change) as connection:
            values = {"login": login, "password": password, "old": old}
            if not self._queries.set_user_pass(connection, **values):
                if not self._queries.lock_user(connection, login=login):
                    raise base.no_user(login)
                raise base.password_changed(login)
            self._queries.delete_sessions(connection, login=login, but="")

    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        return bool(self._call(self._queries.renew_user_pass, login=login, old=old, new=new))

    def add_session(self, session: base.Session, checked: base.Credentials) -> bool:
        values = dataclasses.asdict(session) | {"password": checked.password, "otp": checked.otp}
        with self._connection() as connection:
            self._queries.delete_expired_sessions(connection, now=session.created)
            return checked.active and bool(self._queries.add_session(connection, **values) > 0)

    def get_session_user(self, session: str, now: float) -> str | None:
        login = self._call(self._queries.get_session_user, session=session, now=now)
        return login if login is None else str(login)

    def get_sessions(self, login: str, now: float) -> list[base.Session]:
        with self._connection() as connection:
            return [
                base.Session(*r)
                for r in self._queries.get_sessions(connection, login=login, now=now)
            ]

    def rotate_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> tuple[str, float] | None:
        values = {"session": session, "old": old, "new": new, "now": now, "grace": grace}
        if rotated := self._call(self._queries.rotate_session, **values):
            login, expires = rotated
            return login, expires
        login = self._call(self._queries.end_session, session=session, now=now)
        if login:
            raise base.ReusedError(login)
        return None

    def delete_session(self, login: str, session: str) -> bool:
        return bool(self._call(self._queries.delete_session, login=login, session=session))

    def delete_sessions(self, login: str, but: str = "") -> None:
        self._call(self._queries.delete_sessions, login=login, but=but)

    def set_otp(self, login: str, secret: str) -> None:
        if not self._call(self._queries.set_otp, login=login, secret=secret):
            self.get_user(login)
            raise base.otp_is_on(login)

    def get_otp(self, login: str) -> str | None:
        secret = self._call(self._queries.get_otp, login=login)
        return secret if secret is None else str(secret)

    def use_otp(self, login: str, secret: str, step: int, on: bool | None = None) -> bool:
        values = {"login": login, "secret": secret, "step": step, "active": on}
        return bool(self._call(self._queries.use_otp, **values))

    def reset_otp(self, login: str) -> None:
        if not self._call(self._queries.reset_otp, login=login):
            raise base.no_user(login)

    def add_stuff(self, stuff: str, login: str, price: float) -> None:
        stuff, price = Name(stuff), Price(price)
        try:
            added = self._call(self._queries.add_stuff, name=stuff, owner=login, price=price)
        except Exception as e:
            if self._is_missing_owner(e):
                raise base.no_user(login) from None
            raise
        if not added:
            raise base.stuff_taken(stuff)

    def get_stuff(self, stuff: str, login: str | None = None) -> tuple[str, float]:
        found = self._call(self._queries.get_stuff, name=stuff)
        if not found:
            raise base.no_stuff(stuff)
        owner, price = found
        if login not in (None, owner):
            raise base.not_owner(stuff)
        return owner, float(price)

    def get_user_stuff(
        self, login: str, limit: int = values.MAX_PAGE, after: str | None = None
    ) -> list[tuple[str, float]]:
        with self._connection() as connection:
            rows = self._queries.get_user_stuff(
                connection, owner=login, after=after or "", limit=limit
            )
            found = [(name, float(price)) for name, price in rows]
        if not found and not self.user_exists(login):
            raise base.no_user(login)
        return found

    def change_stuff(self, stuff: str, price: float, login: str | None = None) -> None:
        price = Price(price)
        if not self._call(self._queries.change_stuff, name=stuff, price=price, owner=login):
            self._explain(stuff)

    def delete_stuff(self, stuff: str, login: str | None = None) -> None:
        if not self._call(self._queries.delete_stuff, name=stuff, owner=login):
            self._explain(stuff)

    def _explain(self, stuff: str) -> None:
        """Why a change of stuff found nothing: it is not there (404), or not the caller's (403)."""
        self.get_stuff(stuff)
        raise base.not_owner(stuff)


def _profile(login: str, row: Any) -> base.Profile:
    """The profile in a row; 404 if there is none."""
    if not row:
        raise base.no_user(login)
    name, email, admin, active, otp = row
    return base.Profile(name, email, bool(admin), bool(active), bool(otp))


def _pages(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Rows by their kind, in lists of at most `PAGE`, without the kind."""
    for kind, group in itertools.groupby(rows, key=lambda row: row.pop("kind")):
        while page := list(itertools.islice(group, PAGE)):
            yield kind, page


def _user_row(
    *,
    login: str,
    password: str,
    email: str,
    admin: bool,
    active: bool = True,
    otp_secret: str | None = None,
    otp: bool = False,
    otp_step: int = 0,
) -> dict[str, Any]:
    if not all(isinstance(value, bool) for value in (admin, active, otp)):
        raise TypeError("admin, active and otp must be true or false")
    if not re.match(r"\$(argon2|2[aby]\$)", password):
        raise TypeError(f"no hash of a password: that of {login}")
    if otp_secret is not None and not re.fullmatch("[A-Z2-7]+", otp_secret):
        raise TypeError(f"no secret for one-time passwords: that of {login}")
    if otp and not otp_secret:
        raise TypeError(f"one-time passwords without a secret: those of {login}")
    values = (Login(login), password, Email(email), admin, active, otp_secret, otp, int(otp_step))
    return dict(zip(USER_COLUMNS, values, strict=True))


def _stuff_row(name: str, owner: str, price: float) -> dict[str, Any]:
    return {"name": Name(name), "owner": Login(owner), "price": Price(price)}
