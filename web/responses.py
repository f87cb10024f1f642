"""Responses: how they are written, and their security headers."""

import contextlib
import logging
import re
from collections.abc import Iterable
from typing import Any

import flask
import FlaskSimpleAuth as fsa
import orjson

from monitoring import metrics
from monitoring.request_id import request_id
from web import slow_clients

ASCII = re.compile(r"[!-~]*")  # of which addresses are made
AS_FLASK = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

HEADERS = [
    ("Cache-Control", "no-store"),  # responses are private to a user, unless they say otherwise
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]
HTML_HEADERS = [
    *HEADERS,
    # nothing inline, and nothing from other origins
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Frame-Options", "DENY"),  # the same for browsers without CSP level 2
]
CLOSE = ("Connection", "close")  # not in HEADERS unless the process drains
HSTS = ("Strict-Transport-Security", "max-age=31536000")  # seconds: a year (RFC 6797)


class Response(flask.Response):
    """A response with the security headers that it does not set itself, and the id of its request.

    They are added as it is written, since each one added to `headers` takes 1 % of a request. A
    complete body is sent at once, without a copy.
    """

    def get_wsgi_response(
        self, environ: dict[str, Any]
    ) -> tuple[Iterable[bytes], str, list[tuple[str, str]]]:
        """The body, the status and all headers."""
        values = {name.lower(): value for name, value in self.headers}
        # Werkzeug would add a length, or quote an address
        is_quoted = ASCII.fullmatch(values.get("location", "")) and "content-location" not in values
        if self.status_code in (200, 201) and "content-length" in values and is_quoted:
            headers = list(self.headers)
        else:
            headers = list(self.get_wsgi_headers(environ))
        is_page = values.get("content-type", "").startswith("text/html")
        for header in HTML_HEADERS if is_page else HEADERS:
            if header[0].lower() not in values:
                headers.append(header)
        headers.append(("X-Request-ID", request_id(environ)))
        # not for localhost, where a developer's other servers would need TLS as well
        host = environ.get("HTTP_HOST", "").partition(":")[0]
        if environ["wsgi.url_scheme"] == "https" and host != "localhost":
            headers.append(HSTS)
        body = self.get_app_iter(environ)
        if metrics.own_slot is not None:
            metrics.count_request(environ["werkzeug.request"], self.status_code)
        return body, self.status, headers

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """The body as a list, which a server sends at once, not part by part."""
        if not self.is_sequence or self.direct_passthrough:
            return super().get_app_iter(environ)
        is_empty = environ["REQUEST_METHOD"] == "HEAD" or self.status_code in (204, 304)
        body = [] if is_empty else list(self.iter_encoded())
        self.close()
        return body


class JSONProvider(fsa._JSONProvider):
    """Writes JSON by orjson, or by Flask for values that orjson cannot write.

    FlaskSimpleAuth's own, which knows dates and dataclasses, is private.
    """

    def response(self, *args: Any, **kwargs: Any) -> Any:
        """A response with a value as its body."""
        if len(args) == 1 and not kwargs:
            # orjson cannot write integers of more than 64 bits and lone surrogates
            with contextlib.suppress(TypeError):
                body = orjson.dumps(args[0], self._plain, AS_FLASK) + b"\n"
                return flask.current_app.response_class(body, content_type="application/json")
        return super().response(*args, **kwargs)

    def _plain(self, value: object) -> object:
        return float(value) if isinstance(value, float) else self.default(value)


def close_connections() -> None:
    """From now on each response ends its connection: clients open another, to another process."""
    HEADERS.append(CLOSE)
    HTML_HEADERS.append(CLOSE)


def hide_query(record: logging.LogRecord) -> bool:
    """Remove the query string from a line of Werkzeug's access log: it may have a secret."""
    if isinstance(record.args, tuple):
        hidden = (re.sub(r"\?\S*", "?…", a) if isinstance(a, str) else a for a in record.args)
        record.args = tuple(hidden)
    return True


def init_app(app: fsa.Flask) -> None:
    """Limit large responses, and keep queries out of Werkzeug's access log."""
    app.after_request(slow_clients.limit_unread)
    logging.getLogger("werkzeug").addFilter(hide_query)
