"""What the tests of mails share: a mail server with TLS, and the application that sends to it."""

import contextlib
import email
import email.policy
import math
import queue
import re
import ssl

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from database import db
from security import outbox
from security.mail import Mailer
from test import app
from tests.accounts import call, new_user
from tests.certificates import make_certificate
from tests.conftest import new_name

URL = "https://acme.example.org"
SENDER = "Acme <noreply@acme.org>"
USER, PASSWORD = "mailer", "Some:Pass@1"  # of the mail server


class _Controller(Controller):
    def _trigger_server(self):
        self.port = self.server.sockets[0].getsockname()[1]  # the one that was free
        super()._trigger_server()


class Server:
    """An SMTP server that keeps what it gets, and can refuse it."""

    def __init__(self, place, implicit_tls=True, has_tls=True):
        make_certificate(place)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(place / "cert.pem", place / "key.pem")
        self.authority = str(place / "cert.pem")
        self.scheme = "smtps" if implicit_tls else "smtp"
        self.controller = _Controller(
            self,
            "127.0.0.1",
            0,
            server_hostname="127.0.0.1",
            authenticator=self._authenticate,
            auth_require_tls=has_tls and not implicit_tls,
            enable_SMTPUTF8=True,
            require_starttls=not implicit_tls,
            **({"ssl_context" if implicit_tls else "tls_context": context} if has_tls else {}),
        )
        self._got = queue.Queue()
        self.refused = {}  # recipient -> answer
        self.answers = []  # to the next messages, in place of 250
        self.before_answer = lambda: None

    @property
    def url(self):
        password = PASSWORD.replace(":", "%3A").replace("@", "%40")
        return f"{self.scheme}://{USER}:{password}@127.0.0.1:{self.controller.port}"

    def _authenticate(self, _server, _session, _envelope, _mechanism, data):
        right = (data.login, data.password) == (USER.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)

    async def handle_RCPT(self, _server, session, envelope, address, _options):  # noqa: N802
        if not session.authenticated:
            return "530 authenticate first"
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802
        self.before_answer()
        if self.answers:
            return self.answers.pop(0)
        message = email.message_from_bytes(envelope.content, policy=email.policy.SMTPUTF8)
        self._got.put((envelope, message))
        return "250 OK"

    def got(self):
        """The envelopes and messages since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._got.get_nowait())
        return found


@contextlib.contextmanager
def running(place, **options):
    server = Server(place, **options)
    server.controller.start()
    yield server
    server.controller.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("mail")) as server:
        yield server


class Mails:
    """The outbox of the application, whose thread does not run."""

    def __init__(self, server):
        self.server = server
        self.outbox = outbox.Outbox(app, Mailer(server.url, SENDER, URL), True)
        self.outbox.start = lambda: None

    def send(self):
        """Send what is due; the messages that the server got."""
        with app.app_context():
            self.outbox.send_due()
        return [message for _, message in self.server.got()]

    def ask(self, path, body):
        """Send a request that is 202."""
        res = call("POST", path, body)
        assert (res.status_code, res.json) == (202, {"msg": "see your mail"})

    def link(self):
        """The kind and token of the link in the only message that is sent."""
        (message,) = self.send()
        return link_in(message)

    def confirmed_user(self):
        """A user with a confirmed address; the login, which is the first part of the address."""
        login = new_user()
        assert db.confirm_address(login, address_of(login))
        return login

    def register(self):
        """The token of a link to register, and its address."""
        address = f"{new_name('mail')}@acme.org"
        self.ask("/registration", {"email": address})
        kind, token = self.link()
        assert kind == "registration"
        return token, address

    def reset(self, login):
        """The token of a link for a new password."""
        self.ask("/reset", {"login": login})
        kind, token = self.link()
        assert kind == "reset"
        return token


def address_of(login):
    return f"{login}@acme.org"


def link_in(message):
    """The kind and token of the link, which both parts of a message have."""
    parts = {part.get_content_type(): part.get_content() for part in message.iter_parts()}
    assert [*parts] == ["text/plain", "text/html"]
    found = {re.search(rf"{URL}/#(\w+)=([\w-]{{43}})\b", text).groups() for text in parts.values()}
    (link,) = found
    return link


@pytest.fixture
def mails(server, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", server.authority)
    monkeypatch.setattr(outbox, "MAX_OF_CLIENT", 100_000)
    monkeypatch.setattr(outbox, "MAX_OF_ALL", 100_000)
    found = Mails(server)
    monkeypatch.setitem(app.extensions, "outbox", found.outbox)
    yield found
    server.refused, server.answers, server.before_answer = {}, [], lambda: None
    server.got()
    db.clean_mails(math.inf, math.inf)
