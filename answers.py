"""What every response passes: errors, headers, and whether pages of elsewhere may read it.

A response from 400 up is `{"error": message}`, whoever raised it.
"""

import contextlib
import json
import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NewType

import flask
import FlaskSimpleAuth as fsa
import orjson
from werkzeug.datastructures import Headers
from werkzeug.exceptions import (
    HTTPException,
    NotFound,
    RequestedRangeNotSatisfiable,
    ServiceUnavailable,
)

from web import slow_clients

ASCII = re.compile(r"[!-~]*")  # of which addresses are made
MAX_MESSAGE = 500  # characters of an error
MAX_DRAINED = 2**23  # bytes read of a body that is too large
HEADERS = {
    "Cache-Control": "no-store",  # answers are somebody's own, unless they say otherwise
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
HSTS = "max-age=31536000"  # seconds: a year (RFC 6797)
CORS_HEADERS = {
    "Access-Control-Expose-Headers": "Allow, Link, Location, Retry-After, WWW-Authenticate",
}
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, X-Requested-With",
    "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
    "Access-Control-Max-Age": "600",  # seconds
}
PAGE_HEADERS = {
    # nothing inline, and nothing from elsewhere
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
}


class Response(flask.Response):
    """A response that, where it is whole, goes out as it is: not copied, and in one piece."""

    def get_app_iter(self, environ: dict[str, Any]) -> Iterable[bytes]:
        """The body, as a list: a server sends that at once, and asks for each part of others."""
        if not self.is_sequence or self.direct_passthrough:
            return super().get_app_iter(environ)
        is_empty = environ["REQUEST_METHOD"] == "HEAD" or self.status_code in (204, 304)
        body = [] if is_empty else list(self.iter_encoded())
        self.close()
        return body

    def get_wsgi_headers(self, environ: dict[str, Any]) -> Headers:
        """The headers; Werkzeug would copy them to add a length, or to quote an address."""
        values = {name.lower(): value for name, value in self.headers}
        is_quoted = ASCII.fullmatch(values.get("location", "")) and "content-location" not in values
        if self.status_code in (200, 201) and "content-length" in values and is_quoted:
            return self.headers
        return super().get_wsgi_headers(environ)


def _write_json(app: fsa.Flask) -> None:
    """Let orjson write what routes return, as Flask would but for those values that it cannot."""
    provider: Any = app.json
    by_flask = provider.response
    as_flask = (
        orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
    )

    def plain(value: object) -> object:
        return float(value) if isinstance(value, float) else provider.default(value)

    def response(*args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and not kwargs:
            # integers beyond 64 bits and lone surrogates are not orjson's
            with contextlib.suppress(TypeError):
                body = orjson.dumps(args[0], plain, as_flask) + b"\n"
                return app.response_class(body, content_type="application/json")
        return by_flask(*args, **kwargs)

    setattr(provider, "response", response)  # noqa: B010


def _drain() -> None:
    """Read on a little, for clients that send the whole of a body before they read an answer.

    Were the connection closed at once, that client would see it break, and no 413.
    """
    stream = flask.request.environ["wsgi.input"]
    left = min(flask.request.content_length or MAX_DRAINED, MAX_DRAINED)
    with contextlib.suppress(ServiceUnavailable), slow_clients.reading(flask.request):
        while left > 0 and (data := stream.read(min(left, 65536))):
            left -= len(data)


def http_error(e: HTTPException) -> flask.typing.ResponseReturnValue:
    """The answer to an HTTP error, with the headers that belong to it, such as `Allow`."""
    if e.code == 413:
        _drain()
    response = e.get_response()
    response.data = json.dumps({"error": e.description or e.name})
    response.content_type = "application/json"
    return response


def _is_insecure(request: flask.Request) -> bool:
    """Whether a request came in clear from another machine: FSA_SECURE refuses all of these."""
    address = request.remote_addr or ""
    return not (request.is_secure or address.startswith("127.") or address == "::1")


def finish_response(response: flask.Response) -> flask.Response:
    """After a request: an error is JSON even where it was text, and a line of bearable length.

    Every response gets the headers that keep browsers from guessing and from keeping.
    """
    if response.status_code == 500 and _is_insecure(flask.request):
        response.status_code = 403  # FlaskSimpleAuth takes it for a fault of its own
    if response.status_code >= 400:
        message = response.get_data(as_text=True)
        if response.is_json:
            body = json.loads(message)
            message = str(body["error"]) if isinstance(body, dict) and "error" in body else message
        if len(message) > MAX_MESSAGE:
            message = f"{message[:MAX_MESSAGE]}…"
        response.data = json.dumps({"error": message}) + "\n"
        response.content_type = "application/json"
    names = {name for name, _ in response.headers}
    for name, value in HEADERS.items():
        if name not in names:
            response.headers.add(name, value)
    if response.mimetype == "text/html":
        response.headers.update(PAGE_HEADERS)
    # not for localhost, where whatever else a developer runs would have to speak TLS as well
    if flask.request.is_secure and not flask.request.host.startswith("localhost"):
        response.headers["Strict-Transport-Security"] = HSTS
    return response


def check_origins(origins: list[str]) -> None:
    """ValueError for what is no origin (RFC 6454): a scheme, a host, maybe a port."""
    for origin in origins:
        if not re.fullmatch(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?", origin):
            raise ValueError(
                f"ACME_ORIGINS: {origin} must be like https://www.example.org or "
                "http://localhost:8080: no path, no *, lower case"
            )


def answer_preflight() -> flask.Response | None:
    """The answer to a browser that asks whether a page of elsewhere may call: before all else."""
    headers = flask.request.headers
    if flask.request.method == "OPTIONS" and "Access-Control-Request-Method" in headers:
        return flask.Response(status=204, headers=PREFLIGHT_HEADERS)
    return None


def allow_origin(response: flask.Response) -> flask.Response:
    """Let pages of `ACME_ORIGINS` read an answer, whatever it is, but send no cookies (CORS)."""
    response.vary.add("Origin")
    origin = flask.request.headers.get("Origin")
    if origin in flask.current_app.config["ACME_ORIGINS"]:
        response.headers.update(CORS_HEADERS)
        response.headers["Access-Control-Allow-Origin"] = origin
    return response


def set_challenge(response: flask.Response) -> flask.Response:
    """A 401 says how to do better (RFC 9110): with what the route takes, or a better token.

    A front end that sends `X-Requested-With: fetch` is not told of Basic, lest the browser ask the
    user by itself.
    """
    if response.status_code == 401:
        offered = response.headers.get("WWW-Authenticate", "")  # FlaskSimpleAuth's
        challenges = [c for c in offered.split(", ") if c.startswith("Bearer")]
        if "Basic" in offered and flask.request.headers.get("X-Requested-With") != "fetch":
            challenges.insert(0, 'Basic realm="acme", charset="UTF-8"')
        # parameters and cookies are no scheme of HTTP's, which wants one all the same
        text = ", ".join(challenges) or 'Bearer realm="acme"'
        response.headers["WWW-Authenticate"] = flask.request.environ.get("acme.challenge", text)
    return response


File = NewType("File", flask.Response)  # what is no answer of the API


def send(folder: Path, name: str) -> File:
    """A file of a folder, which browsers keep and ask for again (ETag); 404 if there is none."""
    try:
        response = flask.send_from_directory(folder, name)
    except NotFound:
        raise fsa.ErrorResponse(f"no such page: {name}", 404) from None
    except RequestedRangeNotSatisfiable:
        raise fsa.ErrorResponse("the page has no such range", 416) from None
    if response.status_code != 304:
        # in one piece, or whoever is slow to take them would hold a thread
        response.direct_passthrough = False
        response.data = response.get_data()
    return File(response)


def hide_query(record: logging.LogRecord) -> bool:
    """Leave what is behind the `?` out of a line of Werkzeug's access log: it may be a secret."""
    if isinstance(record.args, tuple):
        hidden = (re.sub(r"\?\S*", "?…", a) if isinstance(a, str) else a for a in record.args)
        record.args = tuple(hidden)
    return True


def init_app(app: fsa.Flask) -> None:
    """Pass every response through here; ValueError for what is no origin in `ACME_ORIGINS`.

    Before `guard.init_app`: preflights are answered before anything is asked of a request.
    """
    app.response_class = Response
    _write_json(app)
    if origins := app.config["ACME_ORIGINS"]:
        check_origins(origins)
        app.before_request(answer_preflight)
        app.after_request(allow_origin)
    app.after_request(finish_response)
    app.after_request(set_challenge)
    app.register_error_handler(HTTPException, http_error)
    logging.getLogger("werkzeug").addFilter(hide_query)
