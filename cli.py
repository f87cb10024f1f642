"""The operator's commands, on the database that `ACME_DATABASE` names.

`flask --app app db …` manages the database, `flask --app app user …` manages users even when no
administrator can sign in. Passwords are prompted for, or read from standard input: the arguments
of a command are visible to all users of the machine.
"""

import contextlib
import datetime
import json
import math
import os
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import click
import flask
import FlaskSimpleAuth as fsa
from flask.cli import AppGroup, FlaskGroup, with_appcontext

import values
from database import db, open_store
from monitoring.logs import escape
from security.audit import audit
from security.outbox import outbox
from security.passwords import hash_password
from store import migrations, transfer
from store.events import Event
from store.sql import SqlStore

DATED = re.compile(r"acme-\d{8}T\d{6}Z\.backup")  # the name of a backup without another one

SHOW_SECONDS = 0.5  # between two signs of progress

group = AppGroup("db", help="Manage the database: schema, backups, export and import.")


def is_own_command() -> bool:
    """Whether `flask` imports the application for one of the application's own commands.

    They open the database at first use: otherwise `db upgrade` would fail on an older schema.
    """
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.command, FlaskGroup)


def _fail(message: object) -> NoReturn:
    raise click.ClickException(str(message).strip())


def database_url(config: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> str:
    """The URL of the database, as `make run` would have it."""
    found = str(config.get("ACME_DATABASE", environ.get("ACME_DATABASE", "memory:")))
    is_default = found == "memory:" and "ACME_DATABASE" not in environ
    return "sqlite:///acme.db" if is_default else found


@contextlib.contextmanager
def _store() -> Iterator[SqlStore]:
    """The store; its errors become messages."""
    try:
        store = open_store(database_url(flask.current_app.config))
        if not isinstance(store, SqlStore):
            raise ValueError("data in memory have no schema and no backups: set ACME_DATABASE")
        with contextlib.closing(store):
            yield store
    except (OSError, ValueError) as e:
        _fail(e)
    except fsa.ErrorResponse as e:
        _fail(e.__cause__ or e.message)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """A file for secrets (mode 600), renamed to its name when it is complete."""
    if path.exists():
        raise ValueError(f"{path} exists: choose another name")
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        yield part
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


@group.command()
def upgrade() -> None:
    """Apply the migrations that the database lacks."""
    with _store() as store:
        done = migrations.upgrade(store)
        click.echo(f"schema {migrations.version(store)}, applied: {', '.join(done) or 'nothing'}")


def _dated_backups(folder: Path) -> list[Path]:
    """The backups in a folder that are named by their date, the oldest first."""
    return sorted(file for file in folder.iterdir() if DATED.fullmatch(file.name))


@group.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--keep", type=click.IntRange(1), help="keep that many backups that are named by date"
)
def backup(file: Path, keep: int | None) -> None:
    """Write a consistent backup of the database to FILE, while servers run.

    If FILE is a folder, the backup is named by date. With --keep, all but the newest ones of such
    names in its folder are deleted once it is complete.
    """
    if file.is_dir():
        file /= datetime.datetime.now(datetime.UTC).strftime("acme-%Y%m%dT%H%M%SZ.backup")
    with _store() as store:
        with _new_file(file) as part:
            if not migrations.version(store):
                raise ValueError("the database is empty: does ACME_DATABASE name the right one?")
            with _watched(part):
                store.backup(part)
        click.echo(f"{file}: {file.stat().st_size:,} bytes")
        if keep:
            for other in _dated_backups(file.parent)[:-keep]:
                if other != file:  # it is not the newest if the clock was set back
                    other.unlink()
                    click.echo(f"{other}: deleted")


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True))
def drill(file: Path) -> None:
    """Restore the backup FILE beside the database, and check it; the copy is removed.

    If FILE is a folder, it is the newest backup there that is named by date. Fails if the backup
    is damaged, has another schema, or no administrator who could sign in.
    """
    with _store() as store:
        if file.is_dir():
            folder, found = file, _dated_backups(file)
            if not found:
                raise ValueError(f"{folder} has no backup that is named by date: make backup")
            file = found[-1]
        age = datetime.timedelta(seconds=round(time.time() - file.stat().st_mtime))
        click.echo(f"{file}: {file.stat().st_size:,} bytes, made {age} ago (h:mm:ss)")
        began = time.monotonic()
        with store.temporary() as copy:
            try:
                with _Progress("rows") as progress:
                    transfer.restore(copy, file, progress.show)
                version, counts = migrations.version(copy), transfer.counts(copy)
                admins = len(copy.rows(copy.queries.lock_admins))
            except (ValueError, fsa.ErrorResponse) as e:
                why = str(e.__cause__ if isinstance(e, fsa.ErrorResponse) else e)
                why = why.removeprefix(f"{file} ")
                raise ValueError(f"{file} cannot be restored: {why}".partition("\n")[0]) from e
        if not admins:
            raise ValueError(f"{file} has no active administrator")
        now = {}
        with contextlib.suppress(fsa.ErrorResponse):  # the database may be what has been lost
            now = transfer.counts(store) if migrations.version(store) else {}
        words = [f"{name} {n:,} (now {now.get(name, '-')})" for name, n in counts.items()]
        click.echo(f"schema {version}, {', '.join(words)}, administrators {admins}")
        click.echo(f"restored in {time.monotonic() - began:.1f} seconds: the backup is good")


@group.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def restore(file: Path) -> None:
    """Restore the backup in FILE into an empty database, and upgrade it."""
    with _store() as store, _Progress("rows") as progress:
        rows = transfer.restore(store, file, progress.show)
        progress.end()
        click.echo(f"schema {migrations.version(store)}, {rows:,} rows")


@group.command("export")
@click.argument("file", type=click.Path(path_type=Path))
def export_(file: Path) -> None:
    """Export users with their password hashes, and stuff, to FILE: one JSON object a line."""
    with _store() as store:
        migrations.check(store)
        with (
            _new_file(file) as part,
            part.open("w") as lines,
            _progress(transfer.count(store)) as bar,
        ):
            for row in transfer.export_rows(store):
                lines.write(json.dumps(row) + "\n")
                bar.update(1)
    click.echo(f"{file}: {file.stat().st_size:,} bytes")


@group.command("import")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def import_(file: Path) -> None:
    """Import what `export` wrote to FILE, on any engine, into an empty database."""
    with _store() as store:
        migrations.check(store)
        with file.open() as lines, _progress(file.stat().st_size) as bar:

            def rows() -> Iterator[dict[str, Any]]:
                for line in lines:
                    yield json.loads(line)
                    bar.update(len(line))

            transfer.import_rows(store, rows())
        click.echo(f"{transfer.count(store):,} rows")


class _Progress:
    """How far a long command is, in a line on standard error, if that is a terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._began = time.monotonic()
        self._next = self._began + SHOW_SECONDS
        self._width = 0

    def show(self, done: int) -> None:
        """Show how many are done, unless that was shown a moment ago."""
        if (now := time.monotonic()) >= self._next and sys.stderr.isatty():
            self._next = now + SHOW_SECONDS
            line = f"{done:,} {self._unit}, {now - self._began:.0f} s"
            click.echo(f"\r{line.ljust(self._width)}", err=True, nl=False)
            self._width = len(line)

    def end(self) -> None:
        """Remove the line."""
        if self._width:
            click.echo(f"\r{' ' * self._width}\r", err=True, nl=False)
            self._width = 0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_args: object) -> None:
        self.end()


@contextlib.contextmanager
def _watched(file: Path) -> Iterator[None]:
    """Show how a file grows."""
    done = threading.Event()

    def watch() -> None:
        with _Progress("bytes") as progress:
            while not done.wait(SHOW_SECONDS):
                progress.show(file.stat().st_size)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _progress(length: int) -> Any:
    """A progress bar on standard error, if that is a terminal."""
    return click.progressbar(length=length, file=sys.stderr, update_min_steps=length // 100 + 1)


users = AppGroup("user", help="Manage users: passwords, roles, second factors.")


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Errors of the store, and of its opening at first use, as messages."""
    try:
        yield
    except fsa.ErrorResponse as e:
        _fail(e.message)
    except UnicodeError:
        _fail("the login or the password is not UTF-8")
    except ValueError as e:
        _fail(e)


@contextlib.contextmanager
def _change(event: str, login: str) -> Iterator[None]:
    """A change of a user: its errors become messages, its success a line in the audit trail."""
    if flask.current_app.config["ACME_DATABASE"] == "memory:":
        _fail("data in memory end with this command: set ACME_DATABASE")
    with _messages(), db.atomic():
        yield
        audit(event, None, login)
    click.echo(f"{login}: {event}")


def _password(*about: str) -> str:
    """Prompt for a password, or read it from standard input; returns its hash.

    `about` is what others know of its user.
    """
    if sys.stdin.isatty():
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        text = sys.stdin.readline().rstrip("\r\n")
    return hash_password(values.Password(text), *about)


@users.command("list")
def list_() -> None:
    """List the users: login, email, and whether admin, disabled or with a second factor."""
    with _messages():
        after = None
        while page := db.get_users(after=after):
            for user in page:
                marks = {"admin": user.admin, "disabled": not user.active, "otp": user.otp}
                words = [word for word, is_so in marks.items() if is_so]
                click.echo(f"{user.login:32} {user.email} {' '.join(words)}".rstrip())
            after = page[-1].login


@users.command()
@click.argument("login")
@click.argument("email")
def add(login: str, email: str) -> None:
    """Add the user LOGIN with the address EMAIL."""
    with _change("user added", login):
        db.add_user(login, _password(login, email), email, False)


@users.command()
@click.argument("login")
@click.argument("email")
def invite(login: str, email: str) -> None:
    """Mail a link to EMAIL, by which LOGIN sets a first password within 24 hours.

    The user is added, or has that address already. A server sends the mail.
    """
    with _change("invited", login):
        outbox().check()
        email = values.Email(email)
        if not db.user_exists(login):
            nobody_knows = secrets.token_urlsafe()
            app = cast(fsa.Flask, flask.current_app)
            db.add_user(login, app.hash_password(nobody_knows, check=False), email, False)
        elif db.get_user(login).email != email:
            _fail(f"{login} has another address")
        outbox().add("invitation", login, email)


@users.command()
@click.argument("login")
def password(login: str) -> None:
    """Set the password of LOGIN and end all sessions of that user."""
    with _change("password changed", login):
        db.set_user_pass(login, _password(login))
        outbox().notify("password", login)


@users.command()
@click.argument("login")
@click.option("--stuff", is_flag=True, help="and all stuff that the user owns")
def delete(login: str, stuff: bool) -> None:
    """Delete the user LOGIN."""
    with _change("user deleted", login):
        db.delete_user(login, stuff)


@users.command("otp-reset")
@click.argument("login")
def otp_reset(login: str) -> None:
    """Switch off the second factor of LOGIN, for a lost device."""
    with _change("one-time passwords reset", login):
        db.reset_otp(login)


def _switch(name: str, help_: str, admin: bool | None = None, active: bool | None = None) -> None:
    """Add a command that changes a user's role or state."""

    @users.command(name, help=help_)
    @click.argument("login")
    def command(login: str) -> None:
        with _change(f"{name.removesuffix('e')}ed", login):
            db.change_user(login, admin=admin, active=active)


_switch("promote", "Make LOGIN an administrator.", admin=True)
_switch("demote", "Take the role of administrator from LOGIN.", admin=False)
_switch("enable", "Allow LOGIN to sign in again.", active=True)
_switch("disable", "Refuse LOGIN at sign-in, and end all sessions of that user.", active=False)


TIME = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"])


def _seconds(_context: object, _option: object, value: datetime.datetime | None) -> float | None:
    return value.replace(tzinfo=datetime.UTC).timestamp() if value else None


@click.command("audit")
@click.option("--login", help="about this user, who may have been deleted")
@click.option("--event", help='with this name, such as "sign-in"')
@click.option("--since", type=TIME, callback=_seconds, help="from this time on (UTC)")
@click.option("--until", type=TIME, callback=_seconds, help="before this time (UTC)")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="at most")
@click.option("--json", "as_json", is_flag=True, help="one JSON object a line")
@with_appcontext
def audit_trail(
    login: str | None,
    event: str | None,
    since: float | None,
    until: float | None,
    limit: int,
    as_json: bool,
) -> None:
    """Show the events of the audit trail in the database, the newest first."""
    with _store() as store:
        migrations.check(store)
        after = None
        while limit > 0:
            size = min(limit, values.MAX_PAGE)
            page = store.get_events(login, size, after, since or 0.0, until or math.inf, event)
            for found in page:
                click.echo(_audit_line(found, as_json))
            limit = limit - size if len(page) == size else 0
            after = page[-1].id if page else None


def _audit_line(event: Event, as_json: bool) -> str:
    """An event as a line for people, or with the names of the log."""
    now = datetime.datetime.fromtimestamp(event.time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if as_json:
        names = {"whom": event.login, "who": event.who, "from": event.origin}
        row = {"id": event.id, "time": now, "event": event.event, **names}
        others = {"session": event.session, "key": event.key, "times": event.times}
        return json.dumps(row | {name: value for name, value in others.items() if value})
    times = f", {event.times} times" if event.times > 1 else ""
    by = "" if event.who == event.login else f" by {event.who}"
    return escape(f"{now} {event.login}: {event.event}{by}, from {event.origin}{times}")


def init_app(app: fsa.Flask) -> None:
    """Register the commands."""
    app.cli.add_command(group)
    app.cli.add_command(users)
    app.cli.add_command(audit_trail)
