"""The audit trail: who did what to whom, when, and from where; never a secret."""

import getpass
import json
import logging
import sys
import time

import flask
import FlaskSimpleAuth as fsa

log = logging.getLogger("acme.audit")


def audit(event: str, who: str | None, whom: str | None = None) -> None:
    """Write a line to the audit trail: when, what, who, whom, from where; never a secret."""
    origin = flask.request.remote_addr if flask.has_request_context() else "command line"
    who = who if flask.has_request_context() else getpass.getuser()
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    line = {"time": now, "event": event, "who": who, "whom": whom or who, "from": origin}
    log.info(json.dumps(line))


def init_app(_app: fsa.Flask) -> None:
    """Write the audit trail to standard error, whatever is set up for other logs."""
    if not log.handlers:
        log.addHandler(logging.StreamHandler(sys.stderr))
    log.setLevel(logging.INFO)
    log.propagate = False
