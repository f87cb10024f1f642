"""The contract of every store: its calls, its records, and its errors."""

import abc
import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import FlaskSimpleAuth as fsa

from store import events, idempotency, mails, recovery
from store.password_hash import PasswordHash
from values import MAX_PAGE, Email, Login, Name, OtpSecret, Price

MAX_SESSIONS = 100  # of one user
MAX_API_KEYS = 50  # API keys of one user


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What a sign-in is checked against."""

    password: str  # its hash
    active: bool
    otp: bool


@dataclasses.dataclass(frozen=True)
class Profile:
    """What may be shown of a user."""

    login: str
    email: str
    admin: bool
    active: bool
    otp: bool
    recovery: int  # how many recovery codes are left


@dataclasses.dataclass(frozen=True)
class Session:
    """The session of an access token or refresh cookie; times are in seconds since 1970."""

    id: str
    login: str
    created: float
    used: float
    expires: float
    origin: str  # the address of the client that signed in
    secret: str | None = None  # the hash of the refresh cookie's secret, if there is a cookie


@dataclasses.dataclass(frozen=True)
class ApiKey:
    """An API key; times are in seconds since 1970."""

    id: str
    login: str
    name: str
    scope: str  # read or write
    created: float
    expires: float
    used: float = 0.0  # the day of the last use
    hash: str = ""  # SHA-256; not of keys that are listed


class ReusedError(Exception):
    """A refresh secret was used after its rotation: the session has been ended."""

    def __init__(self, login: str) -> None:
        super().__init__(login)
        self.login = login


class Store(events.Events, idempotency.Answers, mails.Mails, recovery.RecoveryCodes, abc.ABC):
    """The contract of all stores: the same calls have the same results.

    Safe to be called from several threads. Errors are `fsa.ErrorResponse`: 400 for a value that
    breaks a rule, 403 for the stuff of another user, 404 for what does not exist, 409 for a name
    that is taken, 503 if the database is unavailable. A call that fails has changed nothing.
    """

    @abc.abstractmethod
    def has_current_schema(self) -> bool:
        """Whether the database has the schema of this Acme, or a newer one that it works with."""

    @abc.abstractmethod
    def has_users(self) -> bool:
        """Whether there is any user."""

    @abc.abstractmethod
    def user_exists(self, login: str) -> bool:
        """Whether there is a user with that login."""

    @abc.abstractmethod
    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        """Add a user with the hash of a password, who begins now; 409 if the login is taken."""

    @abc.abstractmethod
    def get_user_pass(self, login: str) -> str | None:
        """The hash of a user's password, None for an unknown user."""

    @abc.abstractmethod
    def user_is_admin(self, login: str) -> bool:
        """Whether a user exists, is active and is an administrator."""

    @abc.abstractmethod
    def get_credentials(self, login: str) -> Credentials | None:
        """What a sign-in is checked against, None for an unknown user."""

    @abc.abstractmethod
    def get_user(self, login: str) -> Profile:
        """The profile of a user; 404 for an unknown user."""

    @abc.abstractmethod
    def get_created(self, login: str) -> float:
        """When a user was added, in seconds since 1970; infinity for an unknown user."""

    @abc.abstractmethod
    def get_users(self, limit: int = MAX_PAGE, after: str | None = None) -> list[Profile]:
        """The users in the order of logins, at most `limit`, starting after `after`."""

    @abc.abstractmethod
    def change_user(
        self,
        login: str,
        email: str | None = None,
        admin: bool | None = None,
        active: bool | None = None,
    ) -> Profile:
        """Change what is not None; disabling a user ends all sessions of the user.

        That, and a new address, make the links in mails to the user void.

        Raises 404 for an unknown user, 409 if no active administrator would be left.
        """

    @abc.abstractmethod
    def delete_user(self, login: str, stuff: bool = False) -> None:
        """Delete a user with all sessions, and with the user's stuff if `stuff` is true.

        Raises 404 for an unknown user, 409 if the user owns stuff and `stuff` is false, or no
        active administrator would be left.
        """

    @abc.abstractmethod
    def set_user_pass(self, login: str, password: str, old: str | None = None) -> None:
        """Set the hash of a user's password, end all sessions and make links in mails void.

        404 for an unknown user.

        If `old` is given, 403 unless the user is active and that is still the hash.
        """

    @abc.abstractmethod
    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        """Replace a hash by another one of the same password; False if it has changed meanwhile."""

    @abc.abstractmethod
    def add_session(self, session: Session, checked: Credentials) -> int | None:
        """Begin a session if the user is active and the credentials are still those checked.

        They are the hash, and whether a second factor is on. Returns how many of the user's oldest
        sessions it has ended, so that there are at most `MAX_SESSIONS`; None if it does not begin.
        Expired sessions are removed.
        """

    @abc.abstractmethod
    def get_session_user(self, session: str, now: float) -> str | None:
        """The user of a session, None if it has ended or expired, or the user is not active."""

    @abc.abstractmethod
    def get_sessions(
        self,
        login: str,
        now: float,
        limit: int = MAX_PAGE,
        after: tuple[float, str] | None = None,
    ) -> list[Session]:
        """The sessions of a user by creation time and id: at most `limit`, starting after `after`.

        Expired ones are left out.
        """

    @abc.abstractmethod
    def rotate_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> tuple[str, float] | None:
        """Replace the hash of a session's refresh secret (RFC 9700, 4.14.2).

        Returns the user and when the session expires, None if it has ended. Within `grace` seconds
        of a rotation the hash before it is accepted any number of times, and changes nothing. Any
        other hash ends the session, and raises ReusedError.
        """

    @abc.abstractmethod
    def delete_session(self, login: str, session: str) -> bool:
        """End a session of a user; returns whether it existed."""

    @abc.abstractmethod
    def delete_sessions(self, login: str, but: str = "") -> None:
        """End all sessions of a user except `but`."""

    @abc.abstractmethod
    def add_api_key(self, key: ApiKey, checked: str) -> None:
        """Add an API key; the user's expired ones are removed.

        Raises 403 unless the user is active and has the password hash `checked`, 409 for more than
        `MAX_API_KEYS`.
        """

    @abc.abstractmethod
    def get_api_key(self, hash: str, now: float) -> ApiKey | None:  # noqa: A002
        """The API key with a hash, None if it has expired, or its user is not active."""

    @abc.abstractmethod
    def get_api_keys(self, login: str) -> list[ApiKey]:
        """The API keys of a user by creation time and id, with expired ones."""

    @abc.abstractmethod
    def use_api_key(self, hash: str, day: float) -> None:  # noqa: A002
        """Note the day of the last use of an API key, unless a later one is noted."""

    @abc.abstractmethod
    def delete_api_key(self, login: str, key: str) -> bool:
        """Delete an API key of a user; returns whether it existed."""

    @abc.abstractmethod
    def set_otp(self, login: str, secret: str, checked: str | None = None) -> None:
        """Give a user a new secret for one-time passwords, not yet on; 409 if they are on.

        If `checked` is given, 403 unless the user is active and has that password hash. Time steps
        that were used with another secret may be used again.
        """

    @abc.abstractmethod
    def get_otp(self, login: str) -> str | None:
        """A user's secret for one-time passwords, even if they are not yet on; None without one."""

    @abc.abstractmethod
    def use_otp(
        self, login: str, secret: str, step: int, on: bool | None = None, session: str = ""
    ) -> bool:
        """Use the one-time password of a secret and time step; `active` switches them on or off.

        Switching them on ends all sessions of the user but `session`; both remove recovery codes.
        False, and nothing is changed, for a step that is not later than the last one used, and for
        a secret that is not the user's.
        """

    @abc.abstractmethod
    def reset_otp(self, login: str) -> None:
        """Remove a user's secret and recovery codes, and switch off; 404 for an unknown user."""

    @abc.abstractmethod
    def add_stuff(self, stuff: str, login: str, price: float) -> None:
        """Add stuff of a user; 409 if any user has stuff of that name, 404 for an unknown user."""

    @abc.abstractmethod
    def get_stuff(self, stuff: str, login: str | None = None) -> tuple[str, float]:
        """The owner and price of stuff; 404 for none, 403 if `login` is given and not its owner."""

    @abc.abstractmethod
    def get_user_stuff(
        self, login: str, limit: int = MAX_PAGE, after: str | None = None
    ) -> list[tuple[str, float]]:
        """A user's stuff as (name, price) by name, at most `limit`, starting after `after`."""

    @abc.abstractmethod
    def change_stuff(self, stuff: str, price: float, login: str | None = None) -> None:
        """Set a price; 404 for none, 403 if `login` is given and not its owner now."""

    @abc.abstractmethod
    def delete_stuff(self, stuff: str, login: str | None = None) -> None:
        """Delete stuff; 404 for none, 403 if `login` is given and not its owner now."""

    @abc.abstractmethod
    def isolated(self) -> contextlib.AbstractContextManager[None]:
        """Let no other change come between the calls of this thread: 412 if one does."""

    @abc.abstractmethod
    def atomic(self) -> contextlib.AbstractContextManager[None]:
        """Make all changes of this thread one change, all or nothing (in memory they stay).

        It begins with the first change, and is part of `once` or `isolated` where there is one.
        """

    @abc.abstractmethod
    def after_commit(self, call: Callable[[], None]) -> None:
        """Call a function once the changes at hand are durable, and not at all if they are undone.

        Outside of `atomic`, `once` and `isolated` it is called at once.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Close all connections; the next call opens one again."""


# errors of all stores
def _error(status: int, message: str) -> Callable[[str], fsa.ErrorResponse]:
    return lambda name: fsa.ErrorResponse(f"{message}: {name}", status)


user_taken = _error(409, "cannot overwrite existing user")
stuff_taken = _error(409, "cannot overwrite existing stuff")
no_user = _error(404, "no such user")
no_stuff = _error(404, "no such stuff")
not_owner = _error(403, "stuff belongs to somebody else")


last_admin = _error(409, "this is the last active administrator")
owns_stuff = _error(409, "the user owns stuff: pass it with stuff=delete, or remove it before")
password_changed = _error(403, "the password has been changed meanwhile")
too_many_api_keys = _error(409, f"there are {MAX_API_KEYS} API keys, delete one before")
otp_is_on = _error(409, "one-time passwords are on already")


def changed_meanwhile() -> fsa.ErrorResponse:
    """The error of a change within `isolated` that comes too late."""
    return fsa.ErrorResponse("precondition failed: it has been changed meanwhile", 412)


# what export, import and count carry


def boolean(value: object) -> bool:
    """A boolean; 0 and 1 are refused."""
    if not isinstance(value, bool):
        raise fsa.ErrorResponse("admin, active and otp must be true or false", 400)
    return value


def _otp_secret(value: object) -> str | None:
    return None if value is None else OtpSecret(value)


def _otp_step(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise fsa.ErrorResponse("otp_step must be an integer from 0 to 4294967295", 400)
    return value


def _check_user(user: dict[str, Any]) -> None:
    if user["otp"] and not user["otp_secret"]:
        raise fsa.ErrorResponse("one-time passwords that are on need a secret", 400)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose rows are exported as objects in JSON, and checked on import.

    Each column has a function that returns a valid value, or raises an error 400. The first column
    is the primary key, a text. `defaults` are for columns that exports of older versions lack.
    """

    kind: str  # the name of its rows in an export
    columns: dict[str, Callable[[Any], Any]]
    defaults: dict[str, Any] = dataclasses.field(default_factory=dict)
    check: Callable[[dict[str, Any]], None] = lambda row: None  # noqa: ARG005


# in an order in which no row refers to one that comes later
TABLES = {
    "events": Table("event", events.COLUMNS),
    "users": Table(
        "user",
        {
            "login": Login,
            "password": PasswordHash,
            "email": Email,
            "admin": boolean,
            "active": boolean,
            "otp_secret": _otp_secret,
            "otp": boolean,
            "otp_step": _otp_step,
            "created": events.seconds,
        },
        {"active": True, "otp_secret": None, "otp": False, "otp_step": 0, "created": 0.0},
        _check_user,
    ),
    "addresses": Table("confirmed address", {"email": Email, "login": Login}),
    "recovery_codes": Table("recovery code", recovery.COLUMNS),
    "stuff": Table("stuff", {"name": Name, "owner": Login, "price": Price}),
}
# tables that are left out on purpose
NOT_EXPORTED = {
    "schema_version",  # belongs to the migrations
    "sessions",  # end with the move: all users sign in again
    "idempotency_keys",  # expire within a day
    "api_keys",  # as sessions
    "mails",  # and the links in them expire within a day
}
