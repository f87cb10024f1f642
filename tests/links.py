"""Links of mails, for tests that have no mail server."""

import secrets
import time

from database import db
from security.mail import Mailer
from security.outbox import Outbox
from security.sessions import sha256
from store.mails import Mail
from test import app
from tests.conftest import new_name

URL = "https://acme.example.org"
# of a server that sends to nobody
SETTINGS = {
    "ACME_MAIL": "smtp://127.0.0.1:1",
    "ACME_MAIL_FROM": "Acme <noreply@acme.org>",
    "ACME_URL": URL,
    "ACME_REGISTRATION": "open",
}


def idle_outbox():
    """The outbox of such a server, in process and without its thread."""
    server, sender, url, _ = SETTINGS.values()
    found = Outbox(app, Mailer(server, sender, url), True)
    found.start = lambda: None
    return found


def new_link(kind, login="", email=None, life=60.0):
    """The token of a link, as if it had been mailed."""
    token, now = secrets.token_urlsafe(32), time.time()
    email = email or f"{new_name('mail')}@acme.org"
    times = {"created": now, "due": None, "expires": now + life}
    db.add_mail(Mail(new_name("id"), kind, login, email, "", **times, hash=sha256(token)))
    return token
