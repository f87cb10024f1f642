"""The outbox: mails are rows in the store until a thread of any process has sent them.

A row is written in the transaction of the change that it is about. A client that asks for a mail
gets one row, with the same work whatever exists: who gets a mail, and whether, is decided by the
thread that sends it. It makes the token of a link as it sends it; the store has the hash only.

A mail is sent at least once. It is tried for a day, then given up with a line in the audit trail.
"""

import dataclasses
import logging
import secrets
import smtplib
import threading
import time
from email.message import Message

import flask
import FlaskSimpleAuth as fsa

from database import db
from monitoring import metrics
from security.audit import audit
from security.mail import HOUR_SECONDS, LINKS, NOTICES, Mailer, envelope_address
from security.rate_limit import network
from security.sessions import sha256
from store.mails import ACCOUNT_LINKS, Mail

log = logging.getLogger("acme")

# limits in an hour: mails that a client asks for, that all clients do, and mails to an address
MAX_OF_CLIENT = 20
MAX_OF_ALL = 1_000
MAX_TO_ADDRESS = 3  # of a kind, else registrations would use up a user's resets
GIVE_UP_SECONDS = 24 * HOUR_SECONDS
RETRY_SECONDS = 60.0  # after the first failure of a mail, then twice as long each time
MAX_RETRY_SECONDS = HOUR_SECONDS
MAX_RECONNECT_SECONDS = 60.0  # until a server that cannot be reached is tried again
LEASE_SECONDS = 300.0  # in which a process sends a mail; then another one does
POLL_SECONDS = 5.0  # between two looks for mails of other processes
CLEAN_SECONDS = 600.0  # between two removals of expired rows
STOP_SECONDS = 5.0  # for a mail that is being sent when the process ends


class Outbox:
    """The outbox of an application; without a mailer nothing is written or sent."""

    def __init__(self, app: fsa.Flask, mailer: Mailer | None, registration: bool) -> None:
        self.mailer = mailer
        self.registration = registration  # whether it is open
        self._app = app
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._awake = threading.Event()
        self._stopping = False
        self._failures = 0  # to connect, in a row
        self._cleaned = 0.0  # seconds since 1970

    def check(self, registration: bool = False) -> None:
        """404 unless mails are sent here; with `registration`, unless registration is open."""
        if not self.mailer or (registration and not self.registration):
            what = "nobody can register here" if registration else "no mails are sent here"
            raise fsa.ErrorResponse(f"{what}: ask an administrator", 404)

    # write

    def ask(self, kind: str, login: str = "", email: str = "") -> None:
        """Add a mail that a client asks for; 429 after too many."""
        origin = network(flask.request.remote_addr) or "unknown"
        mail = _new_mail(kind, login, email, origin)
        since = mail.created - HOUR_SECONDS
        if not db.ask_mail(mail, since, MAX_OF_CLIENT, MAX_OF_ALL):
            headers = {"Retry-After": str(int(HOUR_SECONDS))}
            raise fsa.ErrorResponse("too many mails in an hour: try again later", 429, headers)
        db.after_commit(self.wake)

    def add(self, kind: str, login: str, email: str) -> None:
        """Add a mail to the change at hand; nothing where no mails are sent."""
        if self.mailer:
            db.add_mail(_new_mail(kind, login, email, ""))
            db.after_commit(self.wake)

    def notify(self, kind: str, login: str) -> None:
        """The same, to the address that a user has confirmed, if any."""
        if self.mailer and (email := db.get_confirmed_address(login)):
            self.add(kind, login, email)

    def confirm(self, login: str, email: str, is_own: bool = False) -> bool:
        """Add a mail with a link to confirm an address, unless the user has; whether it did.

        Users who change their own address, and could send mails to anybody, get 429 after too many.
        """
        if not self.mailer or db.get_confirmed_address(login) == email:
            return False
        (self.ask if is_own else self.add)("confirmation", login, email)
        return True

    # send

    def wake(self) -> None:
        """Let the thread of this process look for mails now; a command leaves them to a server."""
        self._awake.set()
        if flask.has_request_context():
            self.start()

    def start(self) -> None:
        """Start the thread of this process, unless it runs or is not needed."""
        with self._lock:
            is_alive = self._thread and self._thread.is_alive()  # not in a forked process
            if self.mailer and not is_alive and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="mail", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Begin no more mails in this process."""
        self._stopping = True
        self._awake.set()

    def join(self) -> None:
        """After `stop`: wait for the mail that is being sent, for `STOP_SECONDS`."""
        if self._thread:
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopping:
            seconds = POLL_SECONDS
            try:
                with self._app.app_context():
                    seconds = self.send_due()
            except fsa.ErrorResponse:  # the database is unavailable, which is in the log
                pass
            except Exception:
                log.exception("the outbox failed, and goes on")
            self._awake.wait(seconds)
            self._awake.clear()

    def send_due(self) -> float:
        """Send the mails that are due; returns for how many seconds there is nothing to do."""
        assert self.mailer
        now = time.time()
        if abs(now - self._cleaned) > CLEAN_SECONDS:
            self._cleaned = now
            for mail in db.clean_mails(now, now - GIVE_UP_SECONDS):
                self._give_up(mail, "it has waited for a day")
        due = db.next_mail()
        if due is None or due > now:
            return POLL_SECONDS if due is None else min(POLL_SECONDS, due - now)
        try:
            # first, so that a mail that is not sent takes the same work as one that is
            with self.mailer.connection() as smtp:
                self._failures = 0
                while not self._stopping and self._send_next(smtp):
                    pass
        except (OSError, smtplib.SMTPException) as e:
            self._failures += 1
            log.error("mails wait for the mail server: %s", _reason(e))
            return min(2.0**self._failures, MAX_RECONNECT_SECONDS)
        return 0.0

    def _send_next(self, smtp: smtplib.SMTP) -> bool:
        """Send a mail that is due; False if there is none, or the connection may be broken."""
        assert self.mailer
        now = time.time()
        mail = db.claim_mail(now, now + LEASE_SECONDS)
        if not mail:
            return False
        found = self._address(mail, now)
        kind, login, email = found or (mail.kind, mail.login, "")
        token = secrets.token_urlsafe(32) if kind in LINKS else ""
        if token and found:
            end = now + LINKS[kind] * HOUR_SECONDS
            mail = dataclasses.replace(mail, hash=sha256(token), expires=end)
        mail = dataclasses.replace(mail, email=email)
        is_sent = db.save_mail(mail) and found is not None  # else it has become void
        sender = self.mailer.sender.addr_spec
        recipient = envelope_address(email or sender)
        message = self.mailer.message(kind, recipient, login, token)
        try:
            if is_sent:
                smtp.send_message(message, sender, [recipient])
            else:
                _pretend(smtp, message, sender)
        except (OSError, smtplib.SMTPException) as e:
            self._after_failure(mail, e)
            return False
        if is_sent:
            metrics.add("acme_mails", "sent")
        db.save_mail(dataclasses.replace(mail, due=None))
        return True

    def _address(self, mail: Mail, now: float) -> tuple[str, str, str] | None:
        """The kind of a mail, the login that it names, and its recipient; None if it is not sent.

        A link goes to an active user only, one for a new password to a confirmed address only.
        """
        kind, login, email = mail.kind, mail.login, mail.email
        if kind in ACCOUNT_LINKS:
            user = db.get_credentials(login)
            if not user or not user.active:
                return None
        if kind == "reset":
            email = db.get_confirmed_address(login) or ""
        elif kind in ("registration", "confirmation"):
            known = db.get_address_user(email)
            if known not in (None, login):
                kind, login = "registered", known or ""
        others = db.count_mails(mail.kind, email, now - HOUR_SECONDS) - (mail.email == email)
        if not email or (mail.kind not in NOTICES and others >= MAX_TO_ADDRESS):
            return None
        return kind, login, email

    def _after_failure(self, mail: Mail, e: Exception) -> None:
        """Try a mail again later, or give it up if the server has refused it for good."""
        code = 0
        if isinstance(e, smtplib.SMTPRecipientsRefused):
            ((code, _),) = e.recipients.values()
        elif isinstance(e, smtplib.SMTPDataError):
            code = e.smtp_code
        if code >= 500 or isinstance(e, smtplib.SMTPNotSupportedError):
            db.save_mail(dataclasses.replace(mail, hash=None, due=None))
            self._give_up(mail, _reason(e))
            return
        metrics.add("acme_mails", "failed")
        wait = min(RETRY_SECONDS * 2.0 ** (mail.tries - 1), MAX_RETRY_SECONDS)
        log.warning("a mail is tried again in %.0f seconds: %s", wait, _reason(e))
        db.save_mail(dataclasses.replace(mail, due=time.time() + wait))

    def _give_up(self, mail: Mail, why: str) -> None:
        metrics.add("acme_mails", "given up")
        log.error("a mail (%s) is not sent: %s", mail.kind, why)
        audit(f"mail not sent: {mail.kind}", None, mail.login or None)


def _pretend(smtp: smtplib.SMTP, message: Message, sender: str) -> None:
    """Do the work of a mail that is not sent: else requests after it would tell that by their time.

    They share the process, and so its CPU, with the thread that sends.
    """
    message.as_bytes()
    smtp.mail(sender)
    smtp.noop()
    smtp.noop()
    smtp.rset()


def _reason(e: Exception) -> str:
    """An error in one line, with the type, since some have no text."""
    return f"{type(e).__name__}: {e}".partition("\n")[0]


def _new_mail(kind: str, login: str, email: str, origin: str) -> Mail:
    now = time.time()
    return Mail(secrets.token_hex(16), kind, login, email, origin, now, now, now + HOUR_SECONDS)


def outbox() -> Outbox:
    """The outbox of the current application."""
    found: Outbox = flask.current_app.extensions["outbox"]
    return found


def init_app(app: fsa.Flask) -> None:
    """Set up the outbox as configured; ValueError if a setting or a template is wrong."""
    server, registration = app.config.get("ACME_MAIL"), app.config.get("ACME_REGISTRATION", "off")
    if registration not in ("off", "open"):
        raise ValueError(f"ACME_REGISTRATION={registration} is unknown: use off or open")
    mailer = None
    if server:
        needed = {name: app.config.get(name) or "" for name in ("ACME_MAIL_FROM", "ACME_URL")}
        for name, value in needed.items():
            if not value:
                raise ValueError(f"ACME_MAIL needs {name}: see README.md, Configuration")
        mailer = Mailer(server, *needed.values())
    elif registration == "open":
        raise ValueError("ACME_REGISTRATION=open needs ACME_MAIL, which sends the links")
    app.extensions["outbox"] = Outbox(app, mailer, registration == "open")
