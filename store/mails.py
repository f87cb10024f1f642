"""Mails that wait to be sent, the links in them, and confirmed addresses: records, calls, memory.

A row is written in the transaction of the change that it is about, and a thread of any process
sends it. The row of a mail with a link stays until the link expires, with the hash of its token.
That of a void link stays as long, without the hash: the limits of mails count it.
"""

import abc
import dataclasses
import threading

from values import MAX_PAGE

# kinds of mails with a link that concerns an account: a change of its password or address voids it
ACCOUNT_LINKS = ("reset", "invitation", "confirmation")


@dataclasses.dataclass(frozen=True)
class Mail:
    """A mail in the outbox; times are in seconds since 1970."""

    id: str
    kind: str  # of its template
    login: str  # the user concerned, or the login that somebody has asked for; "" if none
    email: str  # the recipient; "" until it is known, and if it is not to be sent
    origin: str  # the network of the client that has asked for it; "" if it follows from a change
    created: float
    due: float | None  # when it is sent, or sent again; None once that is done
    expires: float  # when the row is removed, and the link in it is void
    tries: int = 0
    hash: str | None = None  # SHA-256 of the link's token, made as it is sent


class Mails(abc.ABC):
    """The part of the contract of all stores that concerns mails."""

    @abc.abstractmethod
    def add_mail(self, mail: Mail) -> None:
        """Add a mail."""

    @abc.abstractmethod
    def ask_mail(self, mail: Mail, since: float, of_origin: int, of_all: int) -> bool:
        """Add a mail that a client has asked for, with the same work whatever is known.

        False if there were as many since a time, from its origin or from all.
        """

    @abc.abstractmethod
    def next_mail(self) -> float | None:
        """When the next mail is due; None without one."""

    @abc.abstractmethod
    def count_waiting(self) -> int:
        """How many mails wait to be sent."""

    @abc.abstractmethod
    def claim_mail(self, now: float, until: float) -> Mail | None:
        """The mail that has been due longest, counted as tried; no other call gets it until then.

        So it is sent again if this process does not say in time what has become of it.
        """

    @abc.abstractmethod
    def count_mails(self, kind: str, email: str, since: float) -> int:
        """How many mails of a kind to an address, in any case, have been tried since a time."""

    @abc.abstractmethod
    def save_mail(self, mail: Mail) -> bool:
        """Set `email`, `due`, `expires` and `hash` of a mail; False if it no longer waits."""

    @abc.abstractmethod
    def clean_mails(self, now: float, before: float) -> list[Mail]:
        """Remove expired rows, and mails from before a time that still wait; returns the latter."""

    @abc.abstractmethod
    def get_link(self, hash: str, now: float, lock: bool = False) -> Mail | None:  # noqa: A002
        """The mail with the link whose token has a hash, None if there is none, or it is void.

        `lock` keeps others from using or voiding it until the end of `atomic`.
        """

    @abc.abstractmethod
    def get_mails(self, login: str, since: float, limit: int = MAX_PAGE) -> list[Mail]:
        """The mails that concern a user and were added since a time, by that."""

    @abc.abstractmethod
    def void_links(self, login: str) -> None:
        """End all links that concern an account; mails with one that still wait are not sent."""

    @abc.abstractmethod
    def void_registrations(self, email: str) -> None:
        """The same for the links to register an address."""

    @abc.abstractmethod
    def get_address_user(self, email: str) -> str | None:
        """The user who has confirmed an address, and has it still; None without one."""

    @abc.abstractmethod
    def get_confirmed_address(self, login: str) -> str | None:
        """The address of an active user who has confirmed it; None for all others."""

    @abc.abstractmethod
    def confirm_address(self, login: str, email: str) -> bool:
        """Note that a user has confirmed the address; False if another user has it."""


class MailsInMemory(Mails):
    """Mails and confirmed addresses in memory."""

    _lock: threading.RLock

    def __init__(self) -> None:
        self._mails: dict[str, Mail] = {}
        self._confirmed: dict[str, str] = {}  # address -> login

    @abc.abstractmethod
    def get_address(self, login: str) -> tuple[str, bool]:
        """The address of a user, and whether the user is active; ("", False) for an unknown one."""

    def add_mail(self, mail: Mail) -> None:
        with self._lock:
            self._mails[mail.id] = mail

    def ask_mail(self, mail: Mail, since: float, of_origin: int, of_all: int) -> bool:
        with self._lock:
            asked = [m.origin for m in self._mails.values() if m.origin and m.created > since]
            if asked.count(mail.origin) >= of_origin or len(asked) >= of_all:
                return False
            self.add_mail(mail)
            return True

    def _waiting(self) -> list[tuple[float, str]]:
        return [(mail.due, mail.id) for mail in self._mails.values() if mail.due is not None]

    def next_mail(self) -> float | None:
        with self._lock:
            return min(self._waiting(), default=(None,))[0]

    def count_waiting(self) -> int:
        with self._lock:
            return len(self._waiting())

    def claim_mail(self, now: float, until: float) -> Mail | None:
        with self._lock:
            due, name = min(self._waiting(), default=(now + 1, ""))
            if due > now:
                return None
            found = self._mails[name]
            self._mails[name] = dataclasses.replace(found, due=until, tries=found.tries + 1)
            return self._mails[name]

    def count_mails(self, kind: str, email: str, since: float) -> int:
        with self._lock:
            tried = [m for m in self._mails.values() if m.tries and m.created > since]
            return sum((m.kind, m.email.lower()) == (kind, email.lower()) for m in tried)

    def save_mail(self, mail: Mail) -> bool:
        with self._lock:
            found = self._mails.get(mail.id)
            if not found or found.due is None:
                return False
            self._mails[mail.id] = mail
            return True

    def clean_mails(self, now: float, before: float) -> list[Mail]:
        with self._lock:
            late = [m for m in self._mails.values() if m.due is not None and m.created <= before]
            done = [m for m in self._mails.values() if m.due is None and m.expires <= now]
            for mail in [*late, *done]:
                del self._mails[mail.id]
            return late

    def get_link(self, hash: str, now: float, lock: bool = False) -> Mail | None:  # noqa: A002, ARG002
        with self._lock:
            found = (m for m in self._mails.values() if m.hash == hash and m.expires > now)
            return next(found, None)

    def get_mails(self, login: str, since: float, limit: int = MAX_PAGE) -> list[Mail]:
        with self._lock:
            mine = [m for m in self._mails.values() if m.login == login and m.created >= since]
        return sorted(mine, key=lambda mail: (mail.created, mail.id))[:limit]

    def void_links(self, login: str) -> None:
        with self._lock:
            mine = (m for m in self._mails.values() if m.login == login)
            self._void([mail for mail in mine if mail.kind in ACCOUNT_LINKS])

    def void_registrations(self, email: str) -> None:
        with self._lock:
            found = (m for m in self._mails.values() if m.email == email)
            self._void([mail for mail in found if mail.kind == "registration"])

    def _void(self, mails: list[Mail]) -> None:
        for mail in mails:
            self._mails[mail.id] = dataclasses.replace(mail, hash=None, due=None)

    def get_address_user(self, email: str) -> str | None:
        with self._lock:
            login = self._confirmed.get(email)
            return login if login and self.get_address(login)[0] == email else None

    def get_confirmed_address(self, login: str) -> str | None:
        with self._lock:
            email, active = self.get_address(login)
            return email if active and self._confirmed.get(email) == login else None

    def confirm_address(self, login: str, email: str) -> bool:
        with self._lock:
            if self.get_address_user(email) not in (None, login):
                return False
            self.forget_address(login, email)
            self._confirmed[email] = login
            return True

    def forget_address(self, login: str, but: str = "") -> None:
        """Forget the address that a user has confirmed, unless it is `but`."""
        for email in [email for email, name in self._confirmed.items() if name == login]:
            if email != but:
                del self._confirmed[email]

    def forget_mails(self, login: str) -> None:
        """Remove all mails of a user who is being deleted, and the confirmed address.

        Of what clients have asked for, empty rows stay, which the limits count.
        """
        for mail in [mail for mail in self._mails.values() if mail.login == login]:
            del self._mails[mail.id]
            if mail.origin:
                empty = dataclasses.replace(mail, login="", email="", hash=None, due=None)
                self._mails[mail.id] = empty
        self.forget_address(login)
