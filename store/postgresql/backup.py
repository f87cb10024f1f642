"""Backups of PostgreSQL: files of pg_dump, whose rows pg_restore prints.

Nothing in the file is executed, since it would run with all rights of the owner.
"""

import contextlib
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from psycopg import sql

from store.engine import Backup, Engine

Run = Callable[..., str]
# a line of `pg_restore --list`: numbers, kind, schema, name, owner
ENTRY = re.compile(r"(?m)^\d+; \d+ \d+ ([A-Z]+(?: [A-Z]+)*) (\S+) (.*) \S*$")
# kinds of entries with rows, or without an effect on the schema
IGNORED = {
    *("ACL", "COMMENT", "DEFAULT", "DEFAULT ACL", "EXTENSION", "SCHEMA"),
    *("SEQUENCE OWNED BY", "SEQUENCE SET", "STATISTICS DATA", "TABLE DATA"),
}
COPY = re.compile(rb'COPY \S+\."?(\w+)"? \(([^()]*)\) FROM stdin;\n')
SET_SEQUENCE = re.compile(rb"SELECT pg_catalog\.setval\('([^']+)', (\d+), (true|false)\);\n")
ENCODING = re.compile(rb"SET client_encoding = '([^']*)';\n")
END = b"\\.\n"


def environment() -> dict[str, str]:
    """The environment for programs of PostgreSQL, without the secrets of Acme."""
    return {name: text for name, text in os.environ.items() if not name.startswith("ACME_")}


class PostgreSQLBackup(Backup):
    """An archive in the custom format of pg_dump."""

    def __init__(self, store: Engine, run: Run, path: Path) -> None:
        self._store = store
        self._path = path
        listed = run("pg_restore", "--list", str(path))
        self._entries = [(match[0], match[1], match[3]) for match in ENTRY.finditer(listed)]
        rows = run("pg_restore", "--data-only", "--table=schema_version", "--file=-", str(path))
        versions = re.findall(r"(?m)^(\d+)(?:\t.*)?$", rows)
        if not versions:
            raise ValueError(f"{path} is no backup of a PostgreSQL database of Acme")
        self.version = max(map(int, versions))

    def objects(self) -> set[str]:
        found = [f"{kind} {name}" for _, kind, name in self._entries if kind not in IGNORED]
        twice = [name for name, count in Counter(found).items() if count > 1]
        return {*found, *(f"{name} (twice)" for name in twice)}

    def load(self, connection: Any, tables: dict[str, list[str]]) -> None:
        data = {name: line for line, kind, name in self._entries if kind == "TABLE DATA"}
        if lost := tables.keys() - data.keys():
            raise ValueError(f"{self._path} has no rows of {', '.join(sorted(lost))}")
        # pg_restore sorts them by name, which is not the order that foreign keys need
        lines = [data[table] for table in tables]
        lines += [line for line, kind, _ in self._entries if kind == "SEQUENCE SET"]
        with tempfile.NamedTemporaryFile("w") as entries, tempfile.TemporaryFile() as errors:
            entries.write("\n".join(lines))
            entries.flush()
            command = ["pg_restore", "--data-only", f"--use-list={entries.name}", "--file=-"]
            command.append(str(self._path))
            pipe = subprocess.PIPE
            with subprocess.Popen(
                command, env=environment(), stdout=pipe, stderr=errors
            ) as process:
                assert process.stdout
                self._load(connection, tables, process.stdout)
            if process.returncode:
                errors.seek(0)
                raise ValueError(errors.read().decode(errors="replace").strip())

    def _load(self, connection: Any, tables: dict[str, list[str]], script: IO[bytes]) -> None:
        """Insert the rows in a script, and nothing else."""
        for line in script:
            if match := COPY.fullmatch(line):
                self._copy(connection, tables, match, script)
            elif match := SET_SEQUENCE.fullmatch(line):
                name, value, used = (group.decode() for group in match.groups())
                self._store.queries.set_sequence(connection, name=name, value=value, used=used)
            elif (match := ENCODING.fullmatch(line)) and match[1] != b"UTF8":
                raise ValueError(f"{self._path} is not in UTF-8: make it with pg_dump -E UTF8")

    def _copy(
        self, connection: Any, tables: dict[str, list[str]], match: re.Match[bytes], rows: IO[bytes]
    ) -> None:
        """Insert the rows of a table, up to the line that ends them."""
        table = match[1].decode()
        columns = [column.strip('"') for column in match[2].decode().split(", ")]
        if sorted(columns) != sorted(tables.get(table, ())):
            raise ValueError(f"{self._path} has other columns: {table} ({', '.join(columns)})")
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
            sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for line in rows:
                if line == END:
                    return
                copy.write(line)
                self.count_row()
        raise ValueError(f"{self._path} ends in the rows of {table}")


@contextlib.contextmanager
def opened(store: Engine, run: Run, path: Path) -> Iterator[PostgreSQLBackup]:
    """Open a backup; ValueError for any other file."""
    yield PostgreSQLBackup(store, run, path)
