"""`flask --app app doctor`: one screen that says what is wrong, and how to remedy it.

The checks change nothing, and run side by side, each in a thread of its own: the report comes
after `SECONDS`, whatever does not respond. `doctor/findings.py` says how to add one.
"""

import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import FlaskSimpleAuth as fsa

import acme
import cli
from doctor import databases, services, settings
from doctor.findings import CHECKS, Check, Finding, Level, Setup, error

__all__ = ["databases", "services", "settings"]  # they register their checks

SECONDS = 8.0  # for all checks
STATUS: dict[Level, int] = {"ok": 0, "warning": 1, "ERROR": 2}  # as Nagios has them
COLORS: dict[Level, str] = {"ok": "green", "warning": "yellow", "ERROR": "red"}


def examine(setup: Setup) -> list[Finding]:
    """What all checks find, in their order."""
    end = time.monotonic() + SECONDS
    found: list[list[Finding]] = [[] for _ in CHECKS]
    threads = []
    for function, findings in zip(CHECKS, found, strict=True):
        work = (function, setup, findings)
        threads.append(threading.Thread(target=_run, args=work, daemon=True))
        threads[-1].start()
    for function, thread, findings in zip(CHECKS, threads, found, strict=True):
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            text = f"no answer within {SECONDS:g} seconds"
            findings.append(error(_topic(function), text, "it hangs: look at what it asks"))
    return [finding for findings in found for finding in [*findings]]


def _topic(function: Check) -> str:
    return function.__name__.removeprefix("check_")


def _run(function: Check, setup: Setup, findings: list[Finding]) -> None:
    try:
        for finding in function(setup):
            findings.append(finding)  # one by one: the next one may hang
    except Exception as e:
        text = f"the check itself failed: {type(e).__name__}: {e}"
        findings.append(error(_topic(function), text, "run this command as the server's user"))


def report(setup: Setup) -> int:
    """Print what was found; returns the exit status."""
    findings = examine(setup)
    counts = [(sum(f.level == level for f in findings), level) for level in reversed(STATUS)]
    words = [f"{n} {level}{'s' * (level != 'ok' and n != 1)}" for n, level in counts if n]
    lines = [f"Acme {acme.__version__}: {', '.join(words).lower()}", ""]
    for finding in findings:
        level = click.style(f"{finding.level:<9}", fg=COLORS[finding.level])
        lines.append(f"{level}{finding.topic:<15}{finding.text}")
        if finding.remedy:
            lines.append(f"{'':<24}-> {finding.remedy}")
    text = "\n".join(lines)
    for secret in settings.secrets_of(setup):
        text = text.replace(secret, "…")
    click.echo(text)
    return max((STATUS[finding.level] for finding in findings), default=0)


def new_command(config: Mapping[str, Any], problem: str = "") -> click.Command:
    """The command, for a configuration and why the application refuses it."""

    @click.command()
    @click.option(
        "--backups",
        type=click.Path(path_type=Path),
        default=".",
        help="The folder of backups, by default this one.",
    )
    def doctor(backups: Path) -> None:
        """Check settings, files, the database and backups, and change nothing.

        The exit status is 0 if all is well, 1 for warnings, 2 for errors, as Nagios has it. It
        takes ten seconds at most, also if the database does not respond.
        """
        sys.exit(report(Setup(config, os.environ, backups, problem)))

    return doctor


def report_misconfigured(app: fsa.Flask, problem: str) -> None:
    """If the doctor is called, let it report why the application cannot be made; it exits."""
    if cli.is_own_command() and "doctor" in sys.argv:
        arguments = sys.argv[sys.argv.index("doctor") + 1 :]
        new_command(app.config, problem).main(arguments, "flask doctor")


def init_app(app: fsa.Flask) -> None:
    """Register the command."""
    app.cli.add_command(new_command(app.config))
