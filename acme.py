"""The domain of Acme: users own stuff at a price.

First the rules: a type for each kind of value, so that a value that exists is a value that is
right. Each is made from what a request brought, and refuses anything else with an error 400 that
says what would do; `SCHEMA` is the same rule as JSON Schema, for openapi/. Then what a `Store`
does, and `AcmeData`, the one in memory.
"""

import abc
import bisect
import dataclasses
import datetime
import math
import re
import threading
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

import FlaskSimpleAuth as fsa
from email_validator import EmailNotValidError, validate_email
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

Schema = dict[str, Any]

MAX_PRICE = 10**12
MAX_PAGE = 1_000
SWEEP = 60.0  # seconds between two looks through all sessions in memory


class Login(str):
    """The name of a user: 2 to 32 lower case letters and digits, a letter first."""

    PATTERN = r"[a-z][a-z0-9]{1,31}"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": f"^{PATTERN}$", "examples": ["susie"]}

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str) or not re.fullmatch(cls.PATTERN, value):
            raise fsa.ErrorResponse(
                "login must be 2 to 32 lower case letters and digits, a letter first", 400
            )
        return super().__new__(cls, value)


class Password(str):
    """A password in clear, at most 256 characters: how strong it must be, `acme.conf` says.

    It never appears in an error, nor in its own representation.
    """

    MAX_LENGTH = 256
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "maxLength": MAX_LENGTH,
        "format": "password",
        "examples": ["Some-Pass-1"],
    }

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, str) or len(value) > cls.MAX_LENGTH:
            raise fsa.ErrorResponse(
                f"password must be a text of at most {cls.MAX_LENGTH} characters", 400
            )
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return "Password(…)"


class NewPassword(Password):
    """A password to be set: at most 256 characters, as strong as the configuration says."""


class Email(str):
    """An e-mail address (RFC 5322, RFC 6531), normalized; nobody asks whether it exists."""

    MAX_LENGTH = 254  # RFC 5321
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "format": "email",
        "maxLength": MAX_LENGTH,
        "examples": ["susie@acme.org"],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        try:
            if not isinstance(value, str) or len(value) > cls.MAX_LENGTH:
                raise EmailNotValidError(f"a text of at most {cls.MAX_LENGTH} characters")
            address = validate_email(value, check_deliverability=False, strict=True).normalized
        except EmailNotValidError as e:
            raise fsa.ErrorResponse(f"email must be an address: {e}", 400) from None
        return super().__new__(cls, address)


class Name(str):
    """The name of some stuff: 1 to 100 printable characters, no `/`, no blank at either end.

    It stands in a path, where `.` and `..` mean something else.
    """

    MAX_LENGTH = 100
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "maxLength": MAX_LENGTH,
        "pattern": r"^(?!\.{1,2}$)[^\s/]([^/]*[^\s/])?$",
        "format": "printable",  # no standard has that
        "examples": ["pinte"],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= cls.MAX_LENGTH
            or not value.isprintable()
            or "/" in value
            or value != value.strip()
            or value in (".", "..")
        ):
            raise fsa.ErrorResponse(
                f"stuff must be 1 to {cls.MAX_LENGTH} printable characters, "
                "without a / or a blank at either end, and not . or ..",
                400,
            )
        return super().__new__(cls, value)


class Price(float):
    """A price: a finite number from 0 to 10^12."""

    SCHEMA: ClassVar[Schema] = {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_PRICE,
        "examples": [6.5],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or not 0 <= value <= MAX_PRICE
        ):
            raise fsa.ErrorResponse(f"price must be a finite number from 0 to {MAX_PRICE}", 400)
        return super().__new__(cls, value + 0.0)  # a sum, because -0.0 + 0.0 is 0.0


class Limit(int):
    """How many things a page holds at most: an integer from 1 to 1,000."""

    SCHEMA: ClassVar[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PAGE:
            raise fsa.ErrorResponse(f"limit must be an integer from 1 to {MAX_PAGE}", 400)
        return super().__new__(cls, value)


class Code(str):
    """A one-time password: six digits, as text, since it may begin with 0."""

    PATTERN = "[0-9]{6}"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": f"^{PATTERN}$", "examples": ["123456"]}

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, str) or not re.fullmatch(cls.PATTERN, value):
            raise fsa.ErrorResponse("code must be a text of six digits", 400)
        return super().__new__(cls, value)


class Delete(str):
    """The word `delete`, for what must not happen by mistake."""

    SCHEMA: ClassVar[Schema] = {"type": "string", "const": "delete"}

    def __new__(cls, value: object) -> Self:
        if value != "delete":
            raise fsa.ErrorResponse("stuff may only be delete here", 400)
        return super().__new__(cls, value)


class Numbers(list[int]):
    """At most 50 integers of at most 300 digits each: so much `isprime` does in 0.2 s."""

    MAX_LENGTH = 50
    MAX_DIGITS = 300
    SCHEMA: ClassVar[Schema] = {
        "type": "array",
        "maxItems": MAX_LENGTH,
        "items": {
            "type": "integer",
            "exclusiveMinimum": -(10**MAX_DIGITS),
            "exclusiveMaximum": 10**MAX_DIGITS,
        },
        "examples": [[2, 3, 4, 5]],
    }

    def __init__(self, values: object):
        if (
            not isinstance(values, list)
            or len(values) > self.MAX_LENGTH
            or any(type(n) is not int or abs(n) >= 10**self.MAX_DIGITS for n in values)
        ):
            raise fsa.ErrorResponse(
                f"li must be a list of at most {self.MAX_LENGTH} integers "
                f"of at most {self.MAX_DIGITS} digits each",
                400,
            )
        super().__init__(values)


def _birthday(value: object) -> datetime.date:
    """A date from its text (RFC 3339 full-date), not after tomorrow in UTC.

    Somewhere east tomorrow has begun; pydantic alone would take numbers and times for dates.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("must be a date such as 2020-07-29")
    born = datetime.date.fromisoformat(value)
    if born > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise ValueError("must not be in the future")
    return born


@dataclass(config=ConfigDict(extra="forbid"))
class Someone:
    """Somebody with a name of 1 to 200 characters and a date of birth, and nothing else."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Susie"])]
    born: Annotated[datetime.date, BeforeValidator(_birthday), Field(examples=["2020-07-29"])]

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: Any) -> Any:
        """Say what is wrong in a line, instead of pydantic's page with the input in it."""
        try:
            if len(value.kwargs or ()) > len(cls.__annotations__):
                raise fsa.ErrorResponse("who must have a name and a date of birth, no more", 400)
            return handler(value)
        except ValidationError as e:
            faults = [
                f"{'.'.join(map(str, f['loc']))}: {f['msg'].removeprefix('Value error, ')}"
                for f in e.errors()
            ]
            message = f"who must have a name and a date of birth: {'; '.join(faults)}"
            raise fsa.ErrorResponse(message, 400) from None


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


@dataclasses.dataclass(frozen=True)
class Session:
    """What a token or a refresh cookie refers to; times are seconds since 1970."""

    id: str
    login: str
    created: float
    used: float
    expires: float
    origin: str  # an address
    secret: str | None = None  # the hash of the refresh cookie's


class ReusedError(Exception):
    """A refresh cookie was used that had been traded before: its session has been ended."""

    def __init__(self, login: str) -> None:
        super().__init__(login)
        self.login = login


class Store(abc.ABC):
    """What every store does, and how: the same calls with the same results.

    Safe to be called from several threads. Errors are `fsa.ErrorResponse`: 400 for a value that
    breaks a rule, 403 for somebody else's stuff, 404 for what is not there, 409 for a name that is
    taken, 503 where the database is away. A call that fails has changed nothing.
    """

    @abc.abstractmethod
    def has_users(self) -> bool:
        """Whether there is any user."""

    @abc.abstractmethod
    def user_exists(self, login: str) -> bool:
        """Whether there is a user of that name."""

    @abc.abstractmethod
    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        """Add a user with the hash of a password; 409 if there is one of that name."""

    @abc.abstractmethod
    def get_user_pass(self, login: str) -> str | None:
        """The hash of a user's password, None for nobody."""

    @abc.abstractmethod
    def user_is_admin(self, login: str) -> bool:
        """Whether a user is an administrator; nobody is not."""

    @abc.abstractmethod
    def get_credentials(self, login: str) -> "Credentials | None":
        """What a sign-in is checked against, None for nobody."""

    @abc.abstractmethod
    def get_user(self, login: str) -> "Profile":
        """What may be shown of a user; 404 for nobody."""

    @abc.abstractmethod
    def get_users(self, limit: int = MAX_PAGE, after: str | None = None) -> "list[Profile]":
        """The users by login, at most `limit`, those after `after`."""

    @abc.abstractmethod
    def change_user(
        self,
        login: str,
        email: str | None = None,
        admin: bool | None = None,
        active: bool | None = None,
    ) -> "Profile":
        """Change what is not None; whoever is disabled has no sessions any more.

        Raises 404 for nobody, 409 if no active administrator would be left.
        """

    @abc.abstractmethod
    def delete_user(self, login: str, stuff: bool = False) -> None:
        """Remove a user with the sessions, and with the stuff if told so.

        Raises 404 for nobody, 409 if stuff is left, or no active administrator would be.
        """

    @abc.abstractmethod
    def set_user_pass(self, login: str, password: str, old: str | None = None) -> None:
        """Set the hash of a user's password, and end all sessions; 404 for nobody.

        If `old` is given, 403 unless the user is active and that is still the hash.
        """

    @abc.abstractmethod
    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        """Replace a hash by another one of the same password; False if it has changed meanwhile."""

    @abc.abstractmethod
    def add_session(self, session: "Session", checked: "Credentials") -> bool:
        """Begin a session if the user is active and all is still as it was checked.

        That is the hash, and whether one-time passwords are on. Expired sessions go.
        """

    @abc.abstractmethod
    def get_session_user(self, session: str, now: float) -> str | None:
        """Whose session it is, None if it has ended or its user is not active."""

    @abc.abstractmethod
    def get_sessions(self, login: str, now: float) -> "list[Session]":
        """The sessions of a user that have not ended, by the time they began."""

    @abc.abstractmethod
    def trade_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> "tuple[str, float] | None":
        """Replace the hash of a session's secret; its user and when it expires, None if it ended.

        The hash before the last trade is taken once more within `grace` seconds of that trade, and
        then stays replaced by what it was. Any other hash ends the session, and raises ReusedError.
        """

    @abc.abstractmethod
    def delete_session(self, login: str, session: str) -> bool:
        """End a session of a user; whether there was one."""

    @abc.abstractmethod
    def delete_sessions(self, login: str, but: str = "") -> None:
        """End all sessions of a user, but for one if it is given."""

    @abc.abstractmethod
    def set_otp(self, login: str, secret: str) -> None:
        """Give a user a secret for one-time passwords, not yet on; 409 if they are on."""

    @abc.abstractmethod
    def get_otp(self, login: str) -> str | None:
        """A user's secret for one-time passwords, whether on or not yet; None for none."""

    @abc.abstractmethod
    def use_otp(self, login: str, secret: str, step: int, on: bool | None = None) -> bool:
        """Use the one-time password of a secret and time step, and switch them on or off if told.

        False, and nothing is changed, for a step that is not later than the last one used, and a
        secret that the user has no more.
        """

    @abc.abstractmethod
    def reset_otp(self, login: str) -> None:
        """Take a user's one-time passwords away; 404 for nobody."""

    @abc.abstractmethod
    def add_stuff(self, stuff: str, login: str, price: float) -> None:
        """Give a user new stuff; 409 if the name is taken, by whomever, 404 for no such user."""

    @abc.abstractmethod
    def get_stuff(self, stuff: str, login: str | None = None) -> tuple[str, float]:
        """The owner and price of some stuff; 404 for none, 403 if not of `login` (if given)."""

    @abc.abstractmethod
    def get_user_stuff(
        self, login: str, limit: int = MAX_PAGE, after: str | None = None
    ) -> list[tuple[str, float]]:
        """A user's stuff as (name, price) by name, at most `limit`, those after `after`."""

    @abc.abstractmethod
    def change_stuff(self, stuff: str, price: float, login: str | None = None) -> None:
        """Set a price; 403 if there is a `login` and it does not own the stuff at this moment."""

    @abc.abstractmethod
    def delete_stuff(self, stuff: str, login: str | None = None) -> None:
        """Remove stuff; 403 if there is a `login` and it does not own the stuff at this moment."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give back what is open; the next call opens it again."""


# the errors that stores have in common
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
otp_is_on = _error(409, "one-time passwords are on already")


@dataclasses.dataclass
class _User:
    """What the store in memory keeps of a user."""

    password: str
    email: str
    admin: bool
    active: bool = True
    otp_secret: str | None = None
    otp: bool = False
    otp_step: int = 0
    owned: list[str] = dataclasses.field(default_factory=list)  # the names of their stuff, sorted


@dataclasses.dataclass
class _Trade:
    """A session in memory, and the last trade of its secret."""

    session: Session
    previous: str | None = None
    traded: float = 0.0


class AcmeData(Store):
    """The store in memory: simple, quick, and gone when the process ends."""

    def __init__(self) -> None:
        self.users: dict[str, _User] = {}
        # Stuff: name -> (owner, price)
        self.stuff: dict[str, tuple[str, float]] = {}
        self.sessions: dict[str, _Trade] = {}
        # Index: the logins, sorted
        self._logins: list[str] = []
        self._swept = 0.0  # when expired sessions were removed
        self._lock = threading.RLock()

    def has_users(self) -> bool:
        return bool(self.users)

    def user_exists(self, login: str) -> bool:
        return login in self.users

    def add_user(self, login: str, password: str, email: str, admin: bool) -> None:
        login, email = Login(login), Email(email)
        with self._lock:
            if login in self.users:
                raise user_taken(login)
            self.users[login] = _User(password, email, admin)
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
        return Profile(login, user.email, user.admin, user.active, user.otp)

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

    def renew_user_pass(self, login: str, old: str, new: str) -> bool:
        with self._lock:
            user = self.users.get(login)
            if not user or user.password != old:
                return False
            user.password = new
            return True

    def add_session(self, session: Session, checked: Credentials) -> bool:
        with self._lock:
            if session.created > self._swept + SWEEP:
                self._swept = session.created
                for name, trade in list(self.sessions.items()):
                    if trade.session.expires <= session.created:
                        del self.sessions[name]
            user = self.users.get(session.login)
            if not user or Credentials(user.password, user.active, user.otp) != checked:
                return False
            self.sessions[session.id] = _Trade(session)
            return True

    def get_session_user(self, session: str, now: float) -> str | None:
        trade = self.sessions.get(session)
        return trade.session.login if trade and trade.session.expires > now else None

    def get_sessions(self, login: str, now: float) -> list[Session]:
        with self._lock:
            sessions = [trade.session for trade in self.sessions.values()]
        mine = [s for s in sessions if s.login == login and s.expires > now]
        return sorted(mine, key=lambda s: (s.created, s.id))

    def trade_session(
        self, session: str, old: str, new: str, now: float, grace: float
    ) -> tuple[str, float] | None:
        with self._lock:
            trade = self.sessions.get(session)
            if not trade or trade.session.expires <= now:
                return None
            if old == trade.session.secret:
                trade.previous, trade.traded = old, now
                trade.session = dataclasses.replace(trade.session, secret=new, used=now)
            elif old == trade.previous and now <= trade.traded + grace:
                trade.previous = None
            else:
                del self.sessions[session]
                raise ReusedError(trade.session.login)
            return trade.session.login, trade.session.expires

    def delete_session(self, login: str, session: str) -> bool:
        with self._lock:
            trade = self.sessions.get(session)
            if not trade or trade.session.login != login:
                return False
            del self.sessions[session]
            return True

    def delete_sessions(self, login: str, but: str = "") -> None:
        with self._lock:
            for name, trade in list(self.sessions.items()):
                if trade.session.login == login and name != but:
                    del self.sessions[name]

    def set_otp(self, login: str, secret: str) -> None:
        with self._lock:
            user = self._user(login)
            if user.otp:
                raise otp_is_on(login)
            user.otp_secret = secret

    def get_otp(self, login: str) -> str | None:
        user = self.users.get(login)
        return user.otp_secret if user else None

    def use_otp(self, login: str, secret: str, step: int, on: bool | None = None) -> bool:
        with self._lock:
            user = self.users.get(login)
            if not user or user.otp_secret != secret or step <= user.otp_step:
                return False
            user.otp_step = step
            if on is not None:
                user.otp = on
            return True

    def reset_otp(self, login: str) -> None:
        with self._lock:
            user = self._user(login)
            user.otp, user.otp_secret = False, None

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

    def close(self) -> None:
        pass
