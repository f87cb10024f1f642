"""Mail: the server that takes it (SMTP, RFC 5321), and messages from the templates in mails/."""

import contextlib
import datetime
import email.message
import email.policy
import email.utils
import ipaddress
import re
import smtplib
import ssl
import urllib.parse
from collections.abc import Iterator
from email.headerregistry import Address
from pathlib import Path
from typing import NamedTuple

import FlaskSimpleAuth as fsa
import jinja2
from email_validator import validate_email

from values import Email

MAILS = Path(__file__).parents[1] / "mails"
HOUR_SECONDS = 3600.0
# links by the kind of their mail, and for how long they are good, in hours
LINKS = {"reset": 1, "invitation": 24, "registration": 24, "confirmation": 24}
NOTICES = ("registered", "password", "address", "recovery")
FRAGMENTS = {"reset": "reset", "invitation": "reset", "confirmation": "confirm"}
PORTS = {"smtp": 587, "smtps": 465}
TIMEOUT_SECONDS = 10.0  # for each response of the server
# the subject is no template, so that it has nothing that a user has typed
SUBJECT = re.compile(r"Subject: ([ -z|~]{1,100})\n\n")
SAMPLE = {"login": "susie", "url": "https://acme.org", "link": "https://acme.org/#x", "hours": "x"}


def is_local(host: str) -> bool:
    """Whether a host is this machine, to which nothing travels over a network."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def envelope_address(address: str) -> str:
    """An address as the server gets it: in ASCII, unless its part before the @ is not."""
    found = validate_email(address, check_deliverability=False)
    return found.ascii_email or found.normalized


class Template(NamedTuple):
    """The parts of a mail."""

    subject: str
    text: jinja2.Template
    html: jinja2.Template


def load_templates(folder: Path = MAILS) -> dict[str, Template]:
    """The templates of all kinds; ValueError if one is missing, or cannot be rendered."""
    settings = {"undefined": jinja2.StrictUndefined, "keep_trailing_newline": True}
    text, html = (jinja2.Environment(autoescape=is_html, **settings) for is_html in (False, True))  # type: ignore[arg-type] # noqa: S701
    found = {}
    for kind in (*LINKS, *NOTICES):
        try:
            source = (folder / f"{kind}.txt").read_text()
            subject = SUBJECT.match(source)
            if not subject:
                raise ValueError(
                    "it must begin with a line `Subject: …` in ASCII, and an empty one"
                )
            parts = Template(
                subject[1],
                text.from_string(source[subject.end() :]),
                html.from_string((folder / f"{kind}.html").read_text()),
            )
            for part in parts.text, parts.html:
                if kind in LINKS and SAMPLE["link"] not in part.render(SAMPLE):
                    raise ValueError("it lacks {{ link }}")
        except (OSError, ValueError, jinja2.TemplateError) as e:
            raise ValueError(f"mails/{kind}: {e}") from None
        found[kind] = parts
    return found


class Mailer:
    """Sends messages through the server of a URL, as in `ACME_MAIL`."""

    def __init__(self, server: str, sender: str, url: str) -> None:
        """`sender` is an address, or `Name <address>`, `url` the public address of Acme.

        Raises ValueError if a setting or a template is wrong.
        """
        self._parse_server(server)
        name, address = email.utils.parseaddr(sender)
        try:
            self.sender = Address(name, addr_spec=envelope_address(Email(address)))
        except (fsa.ErrorResponse, ValueError):  # that of what is not ASCII
            message = f"ACME_MAIL_FROM={sender} must be an address, such as noreply@example.org"
            raise ValueError(message) from None
        if not _is_public(url):
            raise ValueError(
                f"ACME_URL={url} must be the address of Acme for browsers, such as "
                "https://acme.example.org: https, unless it is this machine"
            )
        self.url = url.rstrip("/")
        self._templates = load_templates()

    def _parse_server(self, server: str) -> None:
        scheme = server.partition(":")[0]
        try:
            parts = urllib.parse.urlsplit(server)
            self._port = parts.port or PORTS[scheme]
            credentials = (
                urllib.parse.unquote(parts.username or ""),
                urllib.parse.unquote(parts.password or ""),
            )
            rest = parts.path.strip("/") + parts.query + parts.fragment
            if not parts.hostname or rest or bool(credentials[0]) != bool(credentials[1]):
                raise ValueError
            "".join(credentials).encode("ascii")  # smtplib cannot send others
        except (ValueError, KeyError):
            raise ValueError(
                f"ACME_MAIL={scheme}:… must be like smtp://user:password@mail.example.org:587 "
                "or smtps://user:password@mail.example.org:465, in ASCII"
            ) from None
        self.host = parts.hostname
        self._has_tls, self._credentials = scheme == "smtps", credentials

    @contextlib.contextmanager
    def connection(self) -> Iterator[smtplib.SMTP]:
        """A connection to the server, authenticated; OSError or SMTPException if it fails.

        It has TLS, with a certificate that is valid, unless the server is this machine.
        """
        name = self.sender.domain  # smtplib would ask the name server for that of this machine
        if self._has_tls:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self._port, name, timeout=TIMEOUT_SECONDS, context=_tls()
            )
        else:
            smtp = smtplib.SMTP(self.host, self._port, name, timeout=TIMEOUT_SECONDS)
        with smtp:
            if not self._has_tls and not is_local(self.host):
                smtp.starttls(context=_tls())
            if self._credentials[0]:
                smtp.login(*self._credentials)
            yield smtp

    def message(self, kind: str, recipient: str, login: str, token: str) -> email.message.Message:
        """A message of a kind to an address; its link has the token in the fragment."""
        template = self._templates[kind]
        hours = LINKS.get(kind, 0)
        values = {
            "login": login,
            "url": self.url,
            "link": f"{self.url}/#{FRAGMENTS.get(kind, kind)}={token}",
            "hours": "an hour" if hours == 1 else f"{hours} hours",
        }
        message = email.message.EmailMessage(policy=email.policy.SMTP)
        message["Subject"] = template.subject
        message["From"] = self.sender
        name, _, domain = recipient.rpartition("@")
        message["To"] = Address("", name, domain)  # `addr_spec` refuses what is not ASCII
        message["Date"] = email.utils.format_datetime(datetime.datetime.now(datetime.UTC))
        message["Message-ID"] = email.utils.make_msgid(domain=self.sender.domain)
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic answers, please
        message.set_content(template.text.render(values))
        message.add_alternative(template.html.render(values), subtype="html")
        return message


def _is_public(url: str) -> bool:
    """Whether an address is one that links in mails may have."""
    try:
        parts = urllib.parse.urlsplit(url)
        is_safe = parts.scheme == "https" or (
            parts.scheme == "http" and is_local(parts.hostname or "")
        )
        return bool(
            re.fullmatch(r"[!-~]+", url)
            and not re.search("[\"'<>@?#]", url)
            and (parts.hostname and is_safe and parts.port != 0)
        )
    except ValueError:  # of a malformed port
        return False


def _tls() -> ssl.SSLContext:
    """A context that trusts the system's authorities, or those of `SSL_CERT_FILE`."""
    return ssl.create_default_context()
