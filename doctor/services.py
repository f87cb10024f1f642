"""Checks of what is beside the database: Redis, and backups."""

import smtplib
import time
from collections.abc import Iterator
from typing import Any

import limits

from doctor.findings import Finding, Setup, check, error, ok, warning
from doctor.settings import check_private
from security.mail import Mailer
from security.rate_limit import MAX_CHECK_SECONDS

REDIS_SECONDS = 2.0  # for each response
OLD_HOURS, TOO_OLD_HOURS = 26, 7 * 24  # of the newest backup


@check
def check_redis(setup: Setup) -> Iterator[Finding]:
    """Whether failed logins are counted for all processes together."""
    topic, url = "rate limit", setup.setting("ACME_RATE_LIMIT_STORAGE", "memory://")
    if url.startswith("memory"):
        yield ok(topic, "failed logins are counted by each worker for itself")
        return
    name = f"ACME_RATE_LIMIT_STORAGE={url.partition(':')[0]}:…"
    remedy = "start Redis, or correct ACME_RATE_LIMIT_STORAGE: workers count for themselves now"
    try:
        times = {"socket_timeout": REDIS_SECONDS, "socket_connect_timeout": REDIS_SECONDS}
        options: Any = {**times, "retry": None}
        client = getattr(limits.storage.storage_from_string(url, **options), "storage")  # noqa: B009
        client.ping()  # connects
        start = time.monotonic()
        client.ping()
        seconds = time.monotonic() - start
        about = {**client.info("replication"), **client.info("memory")}
    except Exception as e:
        why = f"{type(e).__name__}: {e}".partition("\n")[0]
        yield error(topic, f"{name} cannot be used: {why}", remedy)
        return
    if about.get("role") != "master":
        yield error(topic, f"{name} is a replica, which cannot count", "name the master")
    elif about.get("maxmemory") and about.get("maxmemory_policy") != "noeviction":
        text = f"{name} forgets counts when it is full: maxmemory_policy"
        yield warning(topic, text, "CONFIG SET maxmemory-policy noeviction")
    elif seconds > MAX_CHECK_SECONDS:
        text = f"{name} answers in {seconds:.2f} s: one that takes {MAX_CHECK_SECONDS} has failed"
        yield warning(topic, text, "move it nearer, or look at its load")
    else:
        yield ok(topic, f"{name} answers in {1000 * seconds:.1f} ms")


@check
def check_mail(setup: Setup) -> Iterator[Finding]:
    """Whether the mail server takes a connection, with TLS and the password."""
    topic, server = "mail", setup.setting("ACME_MAIL")
    if not server:
        yield ok(topic, "no ACME_MAIL: no mails are sent")
        return
    try:
        mailer = Mailer(server, setup.setting("ACME_MAIL_FROM"), setup.setting("ACME_URL"))
    except ValueError as e:  # the application refuses it as well
        yield error(topic, str(e), "see README.md, Configuration")
        return
    try:
        with mailer.connection():
            yield ok(topic, f"{mailer.host} takes mails of {mailer.sender.addr_spec}")
    except (OSError, smtplib.SMTPException) as e:
        why = f"{mailer.host}: {type(e).__name__}: {e}".partition("\n")[0]
        yield error(topic, why, "correct ACME_MAIL, or the server; mails wait for a day")


@check
def check_backups(setup: Setup) -> Iterator[Finding]:
    """Whether there is a new one, which others cannot read."""
    topic, folder = "backups", setup.backups.absolute()
    if setup.database == "memory:":
        return
    files = [file for file in folder.glob("*.backup") if file.is_file()]
    if not files:
        remedy = "make backup FILE=/var/backups/acme, then make doctor FILE=/var/backups/acme"
        yield warning(topic, f"none in {folder}", remedy)
        return
    newest = max(files, key=lambda file: file.stat().st_mtime)
    hours = (time.time() - newest.stat().st_mtime) / 3600
    text = f"{newest} is {hours:,.0f} hours old, {newest.stat().st_size:,} bytes"
    again = f"make backup FILE={folder}, and see why the timer did not"
    if not newest.stat().st_size:
        yield error(topic, f"{newest} is empty", again)
    elif hours < 0:
        yield warning(topic, f"{newest} is of the future", "synchronize the clock (chrony)")
    elif hours > TOO_OLD_HOURS:
        yield error(topic, text, again)
    elif hours > OLD_HOURS:
        yield warning(topic, text, again)
    else:
        yield ok(topic, text)
    yield from check_private(topic, "the backup", newest)
