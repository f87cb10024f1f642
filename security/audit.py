"""The audit trail: who did what to whom, when, and from where (OWASP Logging Cheat Sheet).

It never contains secrets. JSON escapes control characters, so that no value can forge a line.
"""

import getpass
import json
import logging
import os
import time

import flask
import FlaskSimpleAuth as fsa

from monitoring import metrics
from monitoring.logs import request_fields
from monitoring.stderr import StderrHandler

log = logging.getLogger("acme.audit")


def audit(event: str, who: str | None, whom: str | None = None) -> None:
    """Write an event to the audit trail: `who` did it to `whom`, by default to themselves."""
    origin = flask.request.remote_addr if flask.has_request_context() else "command line"
    who = who if flask.has_request_context() else _operator()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"time": now, "event": event, "who": who, "whom": whom or who, "from": origin}
    metrics.add("acme_audit_events", event)
    log.info(json.dumps(line | {"level": "INFO"} | request_fields()))


def _operator() -> str:
    """The account that runs a command; in a container it may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def init_app(_app: fsa.Flask) -> None:
    """Write the audit trail to standard error, independent of other loggers."""
    if not log.handlers:
        log.addHandler(StderrHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
