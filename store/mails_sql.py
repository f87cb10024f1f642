"""Mails and confirmed addresses in SQL."""

import dataclasses

from store.mails import Mail, Mails
from store.units import Units
from values import MAX_PAGE


class SqlMails(Units, Mails):
    """The calls of `Mails` in SQL, each a query or a transaction."""

    def add_mail(self, mail: Mail) -> None:
        self.change(self.queries.add_mail, **dataclasses.asdict(mail))

    def ask_mail(self, mail: Mail, since: float, of_origin: int, of_all: int) -> bool:
        limits = {"since": since, "of_origin": of_origin, "of_all": of_all}
        return bool(self.change(self.queries.ask_mail, **dataclasses.asdict(mail), **limits))

    def next_mail(self) -> float | None:
        due = self.call(self.queries.next_mail)
        return None if due is None else float(due)

    def count_waiting(self) -> int:
        return int(self.call(self.queries.count_waiting))

    def claim_mail(self, now: float, until: float) -> Mail | None:
        row = self.change(self.queries.claim_mail, now=now, until=until)
        return Mail(*row) if row else None

    def count_mails(self, kind: str, email: str, since: float) -> int:
        return int(self.call(self.queries.count_mails, kind=kind, email=email, since=since))

    def save_mail(self, mail: Mail) -> bool:
        values = dataclasses.asdict(mail)
        names = ("id", "email", "due", "expires", "hash")
        return bool(self.change(self.queries.save_mail, **{name: values[name] for name in names}))

    def clean_mails(self, now: float, before: float) -> list[Mail]:
        with self.changes() as connection:
            late = list(self.queries.delete_late_mails(connection, before=before))
            self.queries.delete_expired_mails(connection, now=now)
        return [Mail(*row) for row in late]

    def get_link(self, hash: str, now: float, lock: bool = False) -> Mail | None:  # noqa: A002
        if not lock:
            row = self.call(self.queries.get_link, hash=hash, now=now)
            return Mail(*row) if row else None
        with self.changes() as connection:
            # a user before the user's mails: a consistent lock order prevents deadlock
            row = self.queries.get_link(connection, hash=hash, now=now)
            if row and (login := Mail(*row).login):
                self.queries.lock_user(connection, login=login)
            row = self.queries.lock_link(connection, hash=hash, now=now)
        return Mail(*row) if row else None

    def get_mails(self, login: str, since: float, limit: int = MAX_PAGE) -> list[Mail]:
        values = {"login": login, "since": since, "limit": limit}
        return [Mail(*row) for row in self.rows(self.queries.get_mails, **values)]

    def void_links(self, login: str) -> None:
        self.change(self.queries.void_links, login=login)

    def void_registrations(self, email: str) -> None:
        self.change(self.queries.void_registrations, email=email)

    def get_address_user(self, email: str) -> str | None:
        login = self.call(self.queries.get_address_user, email=email)
        return login if login is None else str(login)

    def get_confirmed_address(self, login: str) -> str | None:
        email = self.call(self.queries.get_confirmed_address, login=login)
        return email if email is None else str(email)

    def confirm_address(self, login: str, email: str) -> bool:
        with self.changes() as connection:
            self.queries.forget_address(connection, login=login, email=email)
            self.queries.forget_former_address(connection, email=email)
            return bool(self.queries.confirm_address(connection, login=login, email=email))
