"""Logs: one format for every line on standard error, as `ACME_LOG` says.

`text` is for people, `json` has one object a line. Both escape what could end a line or change the
screen, so that nothing from outside can forge a line (CWE-117), and neither has a query string.
"""

import functools
import json
import logging
import os
import re
import sys
import time
from typing import Any

import flask

from monitoring.request_id import request_id, trace_id
from monitoring.stderr import StderrHandler

FORMATS = ("text", "json")
MAX_MESSAGE = 2_000  # characters
MAX_TRACEBACK = 16_000  # characters: of a longer one the last
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
COLOR = re.compile(r"\x1b\[[0-9;]*m")  # Werkzeug's

access_log = logging.getLogger("acme.access")
# granian's lines go the same way as all others
GRANIAN = {"loggers": {"_granian": {"handlers": [], "propagate": True}}, "handlers": {}}


def method_of(request: flask.Request) -> str:
    """The method, `other` for an unknown one: a client can invent any number of them."""
    return request.method if request.method in METHODS else "other"


def route_of(request: flask.Request) -> str:
    """The route as it is declared, such as `/stuff/<sid>`; `unmatched` for any other path."""
    return _declared(request.url_rule.rule) if request.url_rule else "unmatched"


@functools.cache
def _declared(rule: str) -> str:
    """A rule as the route declares it; FlaskSimpleAuth adds `string:` to parameters."""
    return rule.replace("<string:", "<")


def request_fields() -> dict[str, str]:
    """What a line tells of the request at hand; nothing outside of one."""
    if not flask.has_request_context():
        return {}
    request = flask.request
    fields = {"request": request_id(request.environ)}
    if trace := trace_id(request.environ):
        fields["trace"] = trace
    return fields | {"method": method_of(request), "route": route_of(request)}


def caller_fields() -> dict[str, str]:
    """The authenticated user, if there is one, and the address of the request at hand."""
    if not flask.has_request_context():
        return {}
    login = getattr(flask.request.environ.get("acme.caller"), "login", "")
    who = {"who": str(login)} if login else {}
    return who | {"from": flask.request.remote_addr or ""}


def escape(text: str) -> str:
    """The text without colors, and with escapes in place of all that is not printable."""
    text = COLOR.sub("", text)
    if text.isprintable():
        return text
    escaped = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(escaped)


class _Formatter(logging.Formatter):
    """The fields of a line: time (UTC), level, logger, message, and those of the request."""

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """The fields in their order; `traceback` last, if there is one."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        message = record.getMessage()
        if len(message) > MAX_MESSAGE:
            message = f"{message[:MAX_MESSAGE]}…"
        found = {
            "time": f"{seconds}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name.strip("_"),
            "message": message,
            **request_fields(),
            **getattr(record, "fields", {}),
            **caller_fields(),
        }
        if record.exc_info:
            found["traceback"] = self.formatException(record.exc_info)[-MAX_TRACEBACK:]
        return found


class JsonFormatter(_Formatter):
    """A JSON object a line, in ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return json.dumps(self.fields(record))


class TextFormatter(_Formatter):
    """`time level logger [fields of the request] message`, and an indented traceback.

    The message comes last and is the only part with text of a client, which cannot forge a field.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        fields = self.fields(record)
        head = [fields.pop(name) for name in ("time", "level", "logger")]
        message, traceback = fields.pop("message"), fields.pop("traceback", "")
        if fields:
            head.append(f"[{' '.join(f'{name}={value}' for name, value in fields.items())}]")
        lines = [" ".join([*map(str, head), message]), *traceback.split("\n")]
        return "\n    ".join(escape(line) for line in lines if line)


handler = StderrHandler()


def log_access(response: flask.Response) -> flask.Response:
    """After a request: its line in the access log."""
    request: Any = flask.request
    ms = round(1000 * (time.perf_counter() - request.started), 1)
    fields = {"status": response.status_code, "ms": ms}
    what = f"{method_of(request)} {route_of(request)} {response.status_code}"
    access_log.info(what, extra={"fields": fields})
    return response


def init_app(app: flask.Flask) -> None:
    """Set the format of all lines, and log each request if `access` is set; else ValueError.

    A handler that a fork has given the root logger before stays as it is.
    """
    # a configuration file of version 0.2 does not have it
    setting = app.config.setdefault("ACME_LOG", os.environ.get("ACME_LOG", "text"))
    kind, *more = setting.split() or [""]
    if kind not in FORMATS or more not in ([], ["access"]):
        raise ValueError(
            f"ACME_LOG={setting} is unknown: use text or json, "
            "and append access for one line a request, as in json access"
        )
    handler.setFormatter(JsonFormatter() if kind == "json" else TextFormatter())
    root = logging.getLogger()
    for other in list(root.handlers):
        # that of logging.basicConfig
        if type(other) is logging.StreamHandler and other.stream is sys.stderr:
            root.removeHandler(other)
            root.addHandler(handler)
    if more:
        access_log.setLevel(logging.INFO)
        app.after_request(log_access)
