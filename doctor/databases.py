"""Checks of the database, its schema, and its clock; they only read."""

import contextlib
import ipaddress
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosql

from database import connections_for, open_store
from doctor.findings import Finding, Setup, check, error, ok, warning
from doctor.settings import check_private, writable_by_others
from store import migrations
from store.sql import SqlStore
from store.sqlite import SQLite

HERE = Path(__file__).parent
CONNECT_SECONDS = 6.0  # to PostgreSQL, and for all that is asked
SLOW_SECONDS = 1.0  # to connect and to ask
INTEGRITY_SECONDS = 4.0  # for the check of an SQLite file
CLOCK_WARNING, CLOCK_ERROR = 2.0, 25.0  # seconds; a one-time password is good for 30
MIB = 2**20
LARGE_WAL = 256 * MIB
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
ROLES = "use a role of its own: docs/databases.md, PostgreSQL"


@check
def check_database(setup: Setup) -> Iterator[Finding]:
    """Whether the database can be used, now and for a while."""
    topic = "database"
    if setup.database == "memory:":
        remedy = "ACME_DATABASE=sqlite:///acme.db or postgresql://…"
        yield warning(topic, "memory: data end with the process", remedy)
        return
    try:
        store: Any = open_store(setup.database, 1)
    except ValueError as e:
        yield error(topic, str(e), "correct ACME_DATABASE")
        return
    queries: Any = aiosql.from_path(HERE / f"{store.folder}.sql", store.driver)
    examine = check_sqlite if isinstance(store, SQLite) else check_postgresql
    try:
        yield from examine(setup, store, queries)
    except store.driver_error as e:
        why = str(e).strip().partition("\n")[0]
        if getattr(e, "sqlite_errorcode", 0) & 0xFF in DAMAGED:
            yield error(topic, f"damaged: {why}", "make restore from a backup")
        elif store.is_unavailable(e):
            yield error(topic, f"unavailable: {why}", "start it, or correct ACME_DATABASE")
        else:
            yield error(topic, why, "compare it with docs/databases.md")


def check_schema(store: SqlStore, connection: Any) -> Finding:
    """Whether the database has the schema that this Acme needs."""
    topic = "schema"
    found, needed = store.schema_version(connection), len(migrations.scripts(store))
    if not found:
        return error(topic, "the database is empty", "make db-upgrade, or correct ACME_DATABASE")
    if found < needed:
        text = f"the database has {found}, this Acme needs {needed}"
        return error(topic, text, "make backup, then make db-upgrade")
    if found == needed:
        return ok(topic, f"{found}, as this Acme needs")
    try:
        migrations.check_not_newer(store, found, store.oldest_code(connection))
    except migrations.SchemaError as e:
        text, _, remedy = str(e).partition(": ")
        return error(topic, text, remedy)
    return ok(topic, f"{found}, with which this Acme works, though it needs {needed} only")


# SQLite


def check_sqlite(_setup: Setup, store: SQLite, queries: Any) -> Iterator[Finding]:
    """The file, its modes and its folder, the disk, and what is in the file."""
    topic, path = "database", store.path
    if not path.exists():
        text = f"there is no file {path}"
        yield error(topic, text, "make run creates it; or correct ACME_DATABASE; or make restore")
        return
    beside = [path, *(path.with_name(f"{path.name}-{end}") for end in ("wal", "shm"))]
    for file in beside:
        yield from check_private("files", "the database", file)
    if writable_by_others(path.parent):
        text = f"all users can replace files in {path.parent}"
        yield error("files", text, f"chmod o-w {path.parent}")
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK)):
        text = f"this user cannot write {path} and in its folder"
        yield error("files", text, "run as the user of the server, or chown both to it")
    start = time.monotonic()
    with contextlib.closing(_read_only(path)) as connection:
        yield check_schema(store, connection)
        yield ok(topic, f"SQLite, {path}: opened in {milliseconds(start)} ms")
        wal = beside[1]
        if wal.exists():  # else the mode cannot be seen without writing, and every start sets it
            yield from _check_wal(wal, queries.get_journal_mode(connection))
        yield check_integrity(connection, queries)
    yield check_disk(path)
    ahead = max(file.stat().st_mtime for file in beside if file.exists()) - time.time()
    if ahead > CLOCK_WARNING:
        text = f"the database was changed {ahead:.0f} seconds in the future"
        yield error("clock", text, "the clock was set back: synchronize it (chrony), then restart")
    else:
        yield ok("clock", "no file of the database is of the future")


def _read_only(path: Path) -> sqlite3.Connection:
    """A connection that leaves no file behind, and never makes the server wait."""
    # without a WAL nobody has opened it; SQLite would make the files beside it, and leave them
    is_used = path.with_name(f"{path.name}-wal").exists()
    options = "mode=ro" if is_used else "mode=ro&immutable=1"
    uri = f"file:{quote(str(path))}?{options}"
    return sqlite3.connect(uri, uri=True, timeout=SLOW_SECONDS, isolation_level=None)


def _check_wal(wal: Path, mode: str) -> Iterator[Finding]:
    size = wal.stat().st_size
    if mode != "wal":
        text = f"journal mode {mode} in place of WAL: readers and writers wait for each other"
        yield warning("database", text, "make db-upgrade, which sets it")
    elif size > LARGE_WAL:
        text = f"{wal} has {size // MIB:,} MiB: a program that reads for long keeps it from ending"
        yield warning("database", text, "end other programs that use the file, or restart")


def check_integrity(connection: sqlite3.Connection, queries: Any) -> Finding:
    """SQLite's quick check, as far as the time allows."""
    topic, end = "database", time.monotonic() + INTEGRITY_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, 1000)
    try:
        found = queries.check_integrity(connection)
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return ok(topic, f"quick_check found no damage in {INTEGRITY_SECONDS:g} s: large, not all")
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        return error(topic, f"damaged: {found}".replace("\n", " "), "make restore from a backup")
    return ok(topic, "quick_check found no damage")


def check_disk(path: Path) -> Finding:
    """Whether there is room for the database to grow, and for a copy of it."""
    free, size = shutil.disk_usage(path.parent).free, path.stat().st_size
    text = f"{free // MIB:,} MiB free on the disk, the database has {size / MIB:,.1f}"
    if free < 64 * MIB:
        return error("disk", text, f"make room on the disk of {path.parent}")
    if free < max(1024 * MIB, 2 * size):
        return warning("disk", text, f"make room on the disk of {path.parent}: make drill needs it")
    return ok("disk", text)


def milliseconds(start: float) -> int:
    """The time since then."""
    return round(1000 * (time.monotonic() - start))


# PostgreSQL


def check_postgresql(setup: Setup, store: Any, queries: Any) -> Iterator[Finding]:
    """The server, its clock and its connections, replication and the WAL archive."""
    topic, start = "database", time.monotonic()
    deadline = start + CONNECT_SECONDS
    with contextlib.closing(store.connect(deadline)) as connection:
        connection.deadline = deadline
        asked = time.time()
        version, is_standby, is_super, is_safe, commit, has_names, now = queries.get_server(
            connection
        )
        behind = (asked + time.time()) / 2 - now
        text = f"PostgreSQL {version}, {connection.info.host}: answers in {milliseconds(start)} ms"
        if time.monotonic() > start + SLOW_SECONDS:
            yield warning(topic, text, "look at its load, and at the network")
        else:
            yield ok(topic, text)
        if is_standby:
            remedy = "name the primary, or all hosts, in ACME_DATABASE"
            yield error(topic, "it is read-only, a standby", remedy)
        if is_super:
            yield warning(topic, "the role of ACME_DATABASE is a superuser", ROLES)
        if not connection.pgconn.ssl_in_use and not is_near(connection.info.host):
            text = "the connection is not encrypted: data and passwords travel in clear"
            yield warning(topic, text, "append ?sslmode=verify-full to ACME_DATABASE")
        yield check_schema(store, connection)
        yield from check_connections(setup, *queries.get_connections(connection))
        if not is_safe or commit == "off":
            text = "a power failure loses acknowledged writes"
            remedy = "fsync, full_page_writes and synchronous_commit = on in postgresql.conf"
            yield error("durability", text, remedy)
        yield check_replication(commit, has_names, *queries.get_standbys(connection))
        yield from check_archive(*queries.get_archiver(connection))
        if names := queries.get_idle_slots(connection):
            text = f"no reader of the replication slot {names}: WAL stays, and fills the disk"
            remedy = "start its reader (pg_receivewal, a standby), or pg_drop_replication_slot()"
            yield warning("backups", text, remedy)
    yield check_clock(behind)


def is_near(host: str) -> bool:
    """Whether a connection does not leave the machine: a Unix socket, or the loopback."""
    if host.startswith("/") or host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_connections(setup: Setup, used: int, most: int) -> Iterator[Finding]:
    """Whether there are enough, for all workers of this machine at least."""
    text = f"{used} of {most} connections are in use"
    remedy = "raise max_connections, or lower ACME_DATABASE_CONNECTIONS and WORKERS"
    workers = setup.environ.get("WORKERS", "")
    count = int(workers) if workers.isdecimal() and int(workers) else os.cpu_count() or 1
    each = setup.environ.get("ACME_DATABASE_CONNECTIONS", "")
    needed = count * (int(each) if each.isdecimal() else connections_for(count))
    if used > 0.8 * most:
        yield warning("database", text, remedy)
    elif needed > most:
        text = f"{count} workers may take {needed} connections, PostgreSQL has {most}"
        yield warning("database", text, remedy)
    else:
        yield ok("database", f"{text}; this Acme takes {needed} at most")


def check_replication(commit: str, has_names: bool, standbys: int, synchronous: Any) -> Finding:
    """Whether what was acknowledged survives the loss of the primary."""
    topic = "durability"
    if has_names and commit in ("off", "local"):
        text = f"synchronous_commit={commit}: acknowledged writes do not wait for the standby"
        return warning(topic, text, "synchronous_commit = on in postgresql.conf")
    if has_names and synchronous == 0:
        text = "no synchronous standby is connected: writes wait for one"
        return error(topic, text, "start the standby, or let Patroni manage synchronous_mode")
    if has_names:
        return ok(topic, f"synchronous replication is on, {standbys} standbys")
    if standbys:
        text = f"{standbys} standbys, none of them synchronous: a failover loses writes"
        return warning(topic, text, "synchronous_standby_names, or synchronous_mode of Patroni")
    return ok(topic, "synchronous replication is off, there is no standby")


def check_archive(is_on: bool, age: float | None, fails: bool) -> Iterator[Finding]:
    """Whether the WAL is archived, if that is on."""
    topic = "backups"
    if is_on and fails:
        text = "the archiving of the WAL fails: it stays, and fills the disk"
        yield error(topic, text, "look at archive_command in the log of PostgreSQL")
    elif is_on and age is not None:
        yield ok(topic, f"the WAL was last archived {age / 60:,.0f} minutes ago")


def check_clock(behind: float) -> Finding:
    """Whether this machine and the database agree about the time."""
    topic, text = "clock", f"{abs(behind):.1f} seconds from that of the database"
    remedy = "synchronize both machines (chrony)"
    if abs(behind) > CLOCK_ERROR:
        return error(topic, text, remedy)
    return warning(topic, text, remedy) if abs(behind) > CLOCK_WARNING else ok(topic, text)
