"""What a check of the doctor takes and gives, and the list of all checks.

A fork adds a check of its own: a function with `@check`, in a module that `app.py` imports.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import cli

Level = Literal["ok", "warning", "ERROR"]

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Finding:
    """A line of the report: its topic, what was found, and how to remedy it, in one line."""

    level: Level
    topic: str
    text: str
    remedy: str = ""


def ok(topic: str, text: str) -> Finding:
    """What is as it should be."""
    return Finding("ok", topic, text)


def warning(topic: str, text: str, remedy: str) -> Finding:
    """What works, but not well or not for long."""
    return Finding("warning", topic, text, remedy)


def error(topic: str, text: str, remedy: str) -> Finding:
    """What does not work, or is unsafe."""
    return Finding("ERROR", topic, text, remedy)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is checked."""

    config: Mapping[str, Any]  # of the application; it may be incomplete if there is a `problem`
    environ: Mapping[str, str]
    backups: Path  # the folder of backups
    problem: str = ""  # why the application refuses its configuration

    def setting(self, name: str, default: str = "") -> str:
        """A setting of the application, or of the server."""
        found = self.config.get(name)
        return str(self.environ.get(name, default) if found is None else found)

    @property
    def mode(self) -> str:
        """The mode, as `make run` would have it."""
        given = self.environ.get("ACME_MODE")
        return self.setting("FSA_MODE", given) if given else "prod"

    @property
    def database(self) -> str:
        """The URL of the database, as `make run` would have it."""
        return cli.database_url(self.config, self.environ)


# each yields what it finds, in a thread of its own
Check = Callable[[Setup], Iterator[Finding]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Decorate a check: it runs after those before it. It must not change anything."""
    CHECKS.append(function)
    return function
