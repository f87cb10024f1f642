"""Checks of settings: configuration, secrets, modes of files, proxies, TLS, logs and metrics."""

import collections
import datetime
import ipaddress
import itertools
import math
import re
import stat
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import dotenv
import FlaskSimpleAuth as fsa

from doctor.findings import ROOT, Finding, Setup, check, error, ok, warning
from monitoring import metrics
from security import certificates, rate_limit, secret_files
from security.passwords import check_guessable

EXPIRY_DAYS = 14  # of a certificate, then a warning: most are renewed a month before
SECRET_BITS = 100  # estimated entropy
PASSWORD_SCORE = 3  # by zxcvbn, as make run asks for
# passwords of the documentation and of the tests: anybody may know them
EXAMPLES = {"Acme-Pass-1", "Some-Pass-1", "Bench-Pass-1", "choose-one", "choose-another"}
GENERATE = "openssl rand -base64 33"
README = "see README.md, Configuration"


@check
def check_configuration(setup: Setup) -> Iterator[Finding]:
    """Whether the application accepts it, unknown names, and settings for development."""
    topic = "configuration"
    file = setup.environ.get("ACME_CONFIG", "acme.conf")
    if setup.problem:
        yield error(topic, setup.problem, f"correct it in the environment, .env or {file}")
    known = {*re.findall(r"(?m)^#?(\w+)=", _text(ROOT / ".env.example")), *rate_limit.RENAMED}
    known |= {f"{name}_FILE" for name in secret_files.NAMES}
    unknown = {name for name in setup.environ if name.startswith("ACME_")} - known
    for name in sorted(unknown if known - unknown else ()):
        yield warning(topic, f"{name} is no setting of Acme", f"a typing error? {README}")
    unread = dotenv.dotenv_values(ROOT / ".env").keys() - setup.environ.keys()
    if unread := unread - {f"{name}_FILE" for name in secret_files.paths}:
        text = f"{ROOT / '.env'} was not read: {', '.join(sorted(unread))}"
        yield warning(topic, text, f"run this command in {ROOT}")
    if (mode := setup.mode) == "debug4":
        yield error(topic, "ACME_MODE=debug4 logs passwords and tokens", "ACME_MODE=prod")
    elif mode != "prod":
        yield warning(topic, f"ACME_MODE={mode} is for development", "ACME_MODE=prod")
    workers = setup.setting("WORKERS")
    if setup.database == "memory:" and workers not in ("", "1"):
        yield error(topic, f"WORKERS={workers} in memory: each has data of its own", "WORKERS=1")
    if not setup.problem:
        yield ok(topic, f"{file} is accepted, mode {mode}")


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def entropy(text: str) -> float:
    """An estimate of the bits in a secret: a person's repetitions and sequences count little."""
    steps = [ord(b) - ord(a) for a, b in itertools.pairwise(text)]
    period = (text + text).find(text, 1)  # of a repetition; the length without one

    def bits(parts: list[int]) -> float:
        counts = collections.Counter(parts).values()
        return -sum(n * math.log2(n / len(parts)) for n in counts)

    return min(bits([*map(ord, text)]) * period / max(1, len(text)), bits(steps))


def is_guessable(password: str) -> bool:
    """Whether `make run` would refuse a password for being guessable."""
    try:
        return not check_guessable(PASSWORD_SCORE, password)
    except fsa.ErrorResponse:
        return True


@check
def check_secrets(setup: Setup) -> Iterator[Finding]:
    """Whether a person could guess them."""
    topic = "secrets"
    secrets = setup.environ.get("ACME_TOKEN_SECRET")
    if secrets is None:
        yield warning(
            topic,
            "ACME_TOKEN_SECRET is not set: sessions end with the process, each has another one",
            f"make run writes one to .env; on several machines set the same: {GENERATE}",
        )
    else:
        found = secrets.split(",")
        for number, secret in enumerate(found, 1):
            which = "" if len(found) == 1 else f", number {number},"
            if len(secret.encode()) < 32:
                text = f"ACME_TOKEN_SECRET{which} has less than 32 bytes"
                yield error(topic, text, GENERATE)
            elif entropy(secret) < SECRET_BITS:
                text = f"ACME_TOKEN_SECRET{which} looks made by a person: it must be random"
                yield error(topic, text, GENERATE)
        which = f"{len(found)}, the first signs" if len(found) > 1 else f"{len(secrets)} characters"
        yield ok(topic, f"ACME_TOKEN_SECRET: {which}")
    passwords = {"ACME_PASS": setup.environ.get("ACME_PASS", "")}
    for name, url in _urls(setup).items():
        passwords[f"the password in {name}"] = _password_of(url)
    for name, password in passwords.items():
        if password in EXAMPLES:
            yield error(topic, f"{name} is an example of the documentation", "choose another one")
        elif password and is_guessable(password):
            text = f"{name} is too easy to guess"
            yield warning(topic, text, "choose another one: openssl rand -base64 15")


def _urls(setup: Setup) -> dict[str, str]:
    """The settings that are URLs with a password."""
    storage = setup.setting("ACME_RATE_LIMIT_STORAGE")
    mail = setup.setting("ACME_MAIL")
    return {
        "ACME_DATABASE": setup.database,
        "ACME_RATE_LIMIT_STORAGE": storage,
        "ACME_MAIL": mail,
    }


def _password_of(url: str) -> str:
    try:
        return urllib.parse.unquote(urllib.parse.urlsplit(url).password or "")
    except ValueError:  # the application refuses it
        return ""


def secrets_of(setup: Setup) -> set[str]:
    """All that a report must not contain."""
    found = {setup.environ.get("ACME_PASS", ""), str(setup.config.get("ACME_PASS") or "")}
    found |= {*setup.environ.get("ACME_TOKEN_SECRET", "").split(",")}
    for url in _urls(setup).values():
        password = _password_of(url)
        found |= {password, urllib.parse.quote(password)}
    return {secret for secret in found if len(secret) > 3}


def check_private(topic: str, what: str, path: Path, allow_group: bool = False) -> list[Finding]:
    """What is wrong with the mode of a file with secrets; nothing if it is not there."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return []
    if not mode & (0o007 if allow_group else 0o077):
        return []
    who = "all users" if mode & 0o007 else "the group"
    text = f"{what} {path} has mode {mode:03o}: {who} can use it"
    remedy = f"chmod {'640' if allow_group else '600'} {path}"
    return [error(topic, text, remedy) if mode & 0o007 else warning(topic, text, remedy)]


@check
def check_files(setup: Setup) -> Iterator[Finding]:
    """Whether other users can read secrets, or write what Acme executes."""
    topic = "files"
    env = ROOT / ".env"
    has_secrets = not dotenv.dotenv_values(env).keys().isdisjoint(secret_files.NAMES)
    findings = check_private(topic, "secrets in", env) if has_secrets else []
    for path in secret_files.paths.values():
        # a container's runtime sets the modes in /run/secrets
        if Path("/run/secrets") not in path.absolute().parents:
            findings += check_private(topic, "the secret in", path)
    if key := setup.environ.get("KEY"):
        findings += check_private(topic, "the private key", Path(key), allow_group=True)
    for path in ROOT, ROOT / setup.environ.get("ACME_CONFIG", "acme.conf"), env:
        if path.exists() and writable_by_others(path):
            text = f"all users can write {path}, which Acme executes"
            findings.append(error(topic, text, f"chmod o-w {path}"))
    yield from findings
    if not findings:
        yield ok(topic, "secrets and code are closed to other users")


@check
def check_network(setup: Setup) -> Iterator[Finding]:
    """The address that `make run` listens on, and whether the headers of a proxy can be forged."""
    topic = "network"
    proxies = setup.setting("ACME_PROXIES", "0")
    has_tls = bool(setup.environ.get("CERT"))
    if path := setup.environ.get("SOCKET"):
        if proxies == "0":
            text = f"SOCKET={path} is for a proxy, and none is declared"
            yield error(topic, text, "ACME_PROXIES=1")
        else:
            yield ok(topic, f"Unix socket {path}, ACME_PROXIES={proxies}")
        return
    host = setup.setting("HOST", "127.0.0.1")
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        yield error(topic, f"HOST={host} is no IP address", "HOST=127.0.0.1, or 0.0.0.0 for all")
        return
    where = f"HOST={host}, ACME_PROXIES={proxies}"
    if proxies != "0" and not address.is_loopback and (has_tls or address.is_global):
        yield warning(
            topic,
            f"{where}: clients that do not come through the proxy can forge their address",
            "HOST=127.0.0.1, or SOCKET=, or ACME_PROXIES=0 without a proxy",
        )
    elif proxies != "0" and not address.is_loopback:
        yield ok(topic, f"{where}: only the proxy may reach the port, by firewall or network")
    elif proxies == "0" and not address.is_loopback and not has_tls:
        text = f"{where}: passwords would travel in clear, make run refuses that"
        yield error(topic, text, "CERT= and KEY=, or ACME_PROXIES=1 behind a proxy with TLS")
    elif proxies == "0" and not has_tls:
        yield ok(topic, f"{where}: for this machine; behind a proxy set ACME_PROXIES=1")
    else:
        yield ok(topic, where)


@check
def check_tls(setup: Setup) -> Iterator[Finding]:
    """Whether the certificate can be used, and for how long."""
    topic = "TLS"
    cert, key = setup.environ.get("CERT"), setup.environ.get("KEY")
    if not cert and not key:
        yield ok(topic, "no CERT: left to the proxy")
        return
    if not cert or not key:
        yield error(topic, "one of CERT and KEY is missing", "set both, PEM files")
        return
    try:
        start, end = certificates.check(cert, key)
    except (OSError, ValueError) as e:
        yield error(topic, str(e), "name a PEM certificate with its chain, and its key")
        return
    now = datetime.datetime.now(datetime.UTC)
    days = (end - now).days
    renew = "renew the certificate, then reload: kill -HUP"
    if not start <= now <= end:
        text = f"{cert} is valid only from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"
        yield error(topic, text, renew)
    elif days < EXPIRY_DAYS:
        yield warning(topic, f"{cert} expires in {days} days, {end:%Y-%m-%d}", renew)
    else:
        yield ok(topic, f"{cert} is valid for {days} days")


@check
def check_monitoring(setup: Setup) -> Iterator[Finding]:
    """The settings of logs and metrics."""
    topic = "monitoring"
    address = setup.environ.get("METRICS")
    said = f"ACME_LOG={setup.setting('ACME_LOG', 'text')}"
    if not address:
        yield ok(topic, f"{said}, no METRICS")
        return
    try:
        host, port = metrics.parse_address(address)
    except ValueError as e:
        yield error(topic, str(e), "METRICS=127.0.0.1:9100")
        return
    if not ipaddress.ip_address(host).is_loopback:
        text = f"METRICS={address} has neither TLS nor a password"
        yield warning(topic, text, f"METRICS=127.0.0.1:{port}, or open it to Prometheus only")
    else:
        yield ok(topic, f"{said}, METRICS={address}")


def writable_by_others(path: Path) -> bool:
    """Whether other users can change a file, or replace the files of a folder."""
    mode = path.stat().st_mode
    return bool(mode & stat.S_IWOTH and not mode & stat.S_ISVTX)
