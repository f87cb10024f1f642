"""What every request and every response passes: bodies, parameters, errors.

A request that gets beyond here has well-formed parameters; what they may be, the types in `acme.py`
say. A response from 400 up is `{"error": message}`, whoever raised it.
"""

import contextlib
import functools
import io
import json
import logging
import math
import re
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, NewType, cast

import flask
import FlaskSimpleAuth as fsa
import orjson
from werkzeug.datastructures import (
    CombinedMultiDict,
    FileStorage,
    Headers,
    ImmutableMultiDict,
    MultiDict,
)
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    LengthRequired,
    NotFound,
    RequestedRangeNotSatisfiable,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.formparser import FormDataParser
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.utils import cached_property

import acme
import slow

MODES = ("prod", "dev", "debug", "debug1", "debug2", "debug3", "debug4")
CREDENTIALS = {"username", "password", "current", "code", "token", "access_token", "otp", "secret"}
LISTS = {"li"}  # parameters that may come several times in a query or a form
OBJECTS = {"who"}  # parameters that are JSON objects there
MAX_DEPTH = 100  # levels of arrays and objects in JSON
MAX_CONTAINERS = 100_000  # arrays and objects in JSON
MAX_FIELDS = 1_000  # parameters in a query or a form
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


def loads(text: str) -> Any:
    """A value from its JSON text (RFC 8259), strict where Python's `json` is lenient.

    Raises ValueError for what is malformed, ambiguous (a member twice), beyond what every store and
    client can hold (NaN, infinities, lone surrogates), or takes too long to look through (more than
    100 levels, more than 100,000 arrays and objects).
    """
    try:
        value = _decoder.decode(text)
        if "\\ud" in text.lower():  # surrogates: fine in pairs
            json.dumps(value, ensure_ascii=False).encode()
        # a cheap sufficient test first, as most bodies have few brackets
        if text.count("[") + text.count("{") > MAX_DEPTH:
            _check_containers(value)
    except UnicodeEncodeError:
        raise ValueError("lone surrogate") from None
    except ValueError as e:
        if "integer string conversion" in str(e):
            raise ValueError("an integer has too many digits") from None
        raise
    except RecursionError:
        raise ValueError(f"more than {MAX_DEPTH} levels") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a member is there twice")
    return members


def _constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError("a number is too large")
    return value


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)


def _check_containers(value: Any) -> None:
    """Level by level, refuse too many levels and too many arrays and objects in all."""
    level, total = [value], 0
    for _ in range(MAX_DEPTH):
        inside = (c.values() if isinstance(c, dict) else c for c in level)
        level = [v for values in inside for v in values if isinstance(v, (list, dict))]
        total += len(level)
        if total > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} arrays and objects")
    if level:
        raise RecursionError


_NOTHING: ImmutableMultiDict[str, str] = ImmutableMultiDict()
_NO_FILES: ImmutableMultiDict[str, FileStorage] = ImmutableMultiDict()


class Request(flask.Request):
    """A request whose body is a JSON object, a form, or nothing."""

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, read in one go where its length is known: each read waits for the server.

        By RFC 9112 there is none without a length or a coding; in HTTP/2 there may be.
        """
        length = self.content_length
        if length is None and not self.has_open_end():
            return io.BytesIO()
        if length is None or length > (self.max_content_length or length):
            return super().stream
        source, body = self.environ["wsgi.input"], io.BytesIO()
        with contextlib.suppress(OSError):  # whoever goes away leaves a body that is too short
            while (left := length - body.tell()) and (more := source.read(left)):
                body.write(more)
        body.seek(0)
        return body

    # FlaskSimpleAuth looks for parameters in each of these: what is empty need not be parsed

    @property
    def args(self) -> MultiDict[str, str]:
        """The parameters of the query."""
        return super().args if self.query_string else _NOTHING

    @property
    def form(self) -> ImmutableMultiDict[str, str]:
        """The parameters of a form."""
        return super().form if self._is_form else _NOTHING

    @property
    def files(self) -> ImmutableMultiDict[str, FileStorage]:
        """The files of a form."""
        return super().files if self._is_form else _NO_FILES

    @cached_property
    def _is_form(self) -> bool:
        return "form" in self.mimetype and bool(self.get_data())

    def has_open_end(self) -> bool:
        """Whether there may be a body although no length is said."""
        protocol = self.environ.get("SERVER_PROTOCOL", "")
        return "HTTP_TRANSFER_ENCODING" in self.environ or not protocol.startswith("HTTP/1")

    def get_json(self, *_args: bool, **_kwargs: bool) -> Any:
        """The object, parsed once for all, FlaskSimpleAuth included; 400 if it is none."""
        return self._json_object

    @cached_property
    def is_json(self) -> bool:
        """Whether there are parameters in JSON; a content type with nothing behind it has none."""
        return bool(self.content_type) and super().is_json and bool(self._json_object)

    @cached_property
    def _json_object(self) -> dict[str, Any]:
        try:
            text = self.get_data().decode()
            value = loads(text) if text.strip() else {}
            if not isinstance(value, dict):
                raise ValueError("it is something else")
        except ValueError as e:
            raise BadRequest(f"the body must be a JSON object in UTF-8: {e}") from None
        # whether they are looked at or not: a token may come first
        if not isinstance(value.get("username", ""), str):
            raise BadRequest("username must be a text")
        if not isinstance(value.get("password", ""), str):
            raise BadRequest("password must be a text")
        return value

    def make_form_data_parser(self) -> FormDataParser:
        """A parser that complains of a broken form, rather than read it as an empty one."""
        parser = super().make_form_data_parser()
        parser.silent = False
        return parser


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
        """The headers; Werkzeug would copy them to add what is there."""
        names = {name.lower() for name, _ in self.headers}
        if self.status_code == 200 and "content-length" in names and "location" not in names:
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


def check_request() -> None:
    """Before a request: refuse what is malformed with 400, and what is too large with 413."""
    request = cast(Request, flask.globals.request_ctx.request)
    if not request.path.isascii() or not request.path.isprintable():
        # FlaskSimpleAuth shows the path in a header, which cannot hold just anything
        request.path = urllib.parse.quote(request.path)
    if request.query_string:
        if CREDENTIALS & request.args.keys():
            message = "credentials do not belong in a URL: send them in the body or a header"
            raise BadRequest(message)
        _check_urlencoded(request.query_string)
    body = b""
    if request.content_length or request.has_open_end():
        with slow.reading(request):
            body = request.get_data()
    if body or request.content_length:
        _check_body(request, body)
    if request.args or (body and not request.is_json):
        _check_parameters(request)


def _check_body(request: flask.Request, body: bytes) -> None:
    most = request.max_content_length
    if request.content_length is None:
        # Werkzeug cuts a chunked body off at the limit, and does not say whether there was more
        if len(body) == most:
            raise RequestEntityTooLarge
    elif len(body) != request.content_length:
        raise BadRequest("the body is shorter than its Content-Length")
    if request.mimetype == "application/json" or request.mimetype.endswith("+json"):
        request.get_json()
    elif request.mimetype == "application/x-www-form-urlencoded":
        if request.content_length is None:
            raise LengthRequired("a chunked form does not tell where it ends: send its length")
        _check_urlencoded(body)
    elif request.mimetype == "multipart/form-data":
        _check_multipart(request, body)
    else:
        raise BadRequest("the body must be a form or application/json: set Content-Type")


def _check_parameters(request: flask.Request) -> None:
    """Refuse a parameter that is there twice: which one is meant?

    And an object that FlaskSimpleAuth would take from a form without looking closely.
    """
    fields: MultiDict[str, Any] = CombinedMultiDict([request.args, request.form, request.files])
    names = [name for name, _ in fields.items(multi=True) if name not in LISTS]
    if request.is_json:
        names += request.get_json()
    if len(names) > len(set(names)):
        twice = min(name for name in names if names.count(name) > 1)
        raise BadRequest(f'parameter "{twice}" is there twice')
    for name in OBJECTS.intersection(fields):
        try:
            loads(fields[name])
        except (TypeError, ValueError) as e:
            raise BadRequest(f'parameter "{name}" must be JSON: {e}') from None


def _check_multipart(request: flask.Request, body: bytes) -> None:
    """Refuse what Werkzeug would mend, or take long for."""
    if re.search(rb"(?im)^content-[a-z-]+:[^\r\n]{1000}", body):
        raise BadRequest("the form is malformed: a header of more than 1000 bytes")
    try:
        values = request.form.items(multi=True)
    except ValueError as e:
        raise BadRequest(f"the form is malformed: {e}") from None
    if "\ufffd".encode() not in body and any("\ufffd" in key + value for key, value in values):
        raise BadRequest("parameters must be in UTF-8")


def _check_urlencoded(data: bytes) -> None:
    """Refuse too many parameters, and what is not UTF-8: Werkzeug would keep its `%FF` as text."""
    if data.count(b"&") >= MAX_FIELDS:
        raise BadRequest(f"more than {MAX_FIELDS} parameters")
    try:
        urllib.parse.unquote_to_bytes(data).decode()
    except UnicodeDecodeError:
        raise BadRequest("parameters must be in UTF-8") from None


def _drain() -> None:
    """Read on a little, for clients that send the whole of a body before they read an answer.

    Were the connection closed at once, that client would see it break, and no 413.
    """
    stream = flask.request.environ["wsgi.input"]
    left = min(flask.request.content_length or MAX_DRAINED, MAX_DRAINED)
    with contextlib.suppress(ServiceUnavailable), slow.reading(flask.request):
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


class Json(Any):  # type: ignore[misc]
    """The type of a parameter that is any JSON value, as `fsa.JsonData`, but strictly parsed."""


def _json(value: Any) -> Any:
    """A value as it is in a JSON body, or its JSON text in a form."""
    if flask.request.is_json:
        return value
    try:
        return loads(value)
    except (TypeError, ValueError) as e:
        raise fsa.ErrorResponse(f"it must be JSON: {e}", 400) from None


def _number(value: Any) -> Any:
    """A number from its decimal text in a query or a form; in JSON a text is no number."""
    if isinstance(value, str) and not flask.request.is_json and len(value) <= 1000:
        if re.fullmatch(r"-?[0-9]+", value):
            return int(value)
        if re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", value):
            return float(value)
    return value


def _numbers(value: Any) -> Any:
    """A list in a JSON body, and in a query or a form `li=1&li=10`."""
    request = flask.request
    if request.is_json:
        return value
    return [_number(v) for v in request.args.getlist("li") + request.form.getlist("li")]


def hide_query(record: logging.LogRecord) -> bool:
    """Leave what is behind the `?` out of a line of Werkzeug's access log: it may be a secret."""
    if isinstance(record.args, tuple):
        hidden = (re.sub(r"\?\S*", "?…", a) if isinstance(a, str) else a for a in record.args)
        record.args = tuple(hidden)
    return True


def init_app(app: fsa.Flask) -> None:
    """Put the guard before and behind every route; ValueError for a wrong setting."""
    if app.config["FSA_MODE"] not in MODES:
        raise ValueError(f"ACME_MODE={app.config['FSA_MODE']} is unknown: use {', '.join(MODES)}")
    proxies = app.config["ACME_PROXIES"]
    if not re.fullmatch("[0-9]", proxies):
        raise ValueError(f"ACME_PROXIES={proxies} must be a number from 0 to 9")
    if n := int(proxies):
        setattr(app, "wsgi_app", ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n))  # noqa: B010
    app.request_class = Request
    app.response_class = Response
    _write_json(app)
    # Flask asks of each hook and route, at each request, whether it is a coroutine
    setattr(app, "ensure_sync", functools.lru_cache(1024)(app.ensure_sync))  # noqa: B010
    app.url_map.merge_slashes = False  # a wrong address is 404, not a page that redirects
    if origins := app.config["ACME_ORIGINS"]:
        check_origins(origins)
        app.before_request(answer_preflight)
        app.after_request(allow_origin)
    app.before_request(check_request)
    app.after_request(finish_response)
    app.after_request(set_challenge)
    app.register_error_handler(HTTPException, http_error)
    logging.getLogger("werkzeug").addFilter(hide_query)
    # how parameters get from a request into the types of acme.py
    casts: dict[type, Callable[[Any], Any]] = {
        Json: _json,
        acme.Price: lambda v: acme.Price(_number(v)),
        acme.Limit: lambda v: acme.Limit(_number(v)),
        acme.Numbers: lambda v: acme.Numbers(_numbers(v)),
    }
    for kind, convert in casts.items():
        app.cast(kind, convert)
