"""Request validation: the body and the parameters of every request, before any route.

A request that passes has well-formed parameters; the types in `values.py` then check each value.
"""

import contextlib
import functools
import io
import ipaddress
import logging
import re
import time
import urllib.parse
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import IO, Any, cast

import flask
import FlaskSimpleAuth as fsa
from werkzeug.datastructures import FileStorage, ImmutableMultiDict
from werkzeug.exceptions import (
    BadRequest,
    LengthRequired,
    RequestEntityTooLarge,
    ServiceUnavailable,
)
from werkzeug.http import parse_date
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.utils import cached_property

from flask_internals import current_request
from web import forms, parameters, slow_clients, strict_json
from web.parameters import LARGE_BYTES, NOTHING_DECLARED, parse_queue

log = logging.getLogger("acme")

MODES = ("prod", "dev", "debug", "debug1", "debug2", "debug3", "debug4")
MAX_MEMBERS = 1_000  # of the object in a JSON body
BODIES = ("POST", "PUT", "PATCH")  # methods whose parameters belong in the body

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
# a name, an IPv4 or IPv6 address, and a port (RFC 9110); granian joins two Host headers by a comma
HOST = re.compile(r"([A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
DATES = ("HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", "HTTP_IF_RANGE")

_NOTHING: ImmutableMultiDict[str, str] = ImmutableMultiDict()
_NO_FILES: ImmutableMultiDict[str, FileStorage] = ImmutableMultiDict()


class Request(flask.Request):
    """A request whose body is a JSON object, a form, or nothing."""

    is_large = False  # whether its parameters are parsed in `parse_queue`
    json_members: Mapping[str, Any] = MappingProxyType({})  # of the object in a JSON body

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.started = time.perf_counter()  # seconds
        if not self.path.isascii() or not self.path.isprintable():
            # it is in logs, and in a header of FlaskSimpleAuth: control characters would break both
            self.path = urllib.parse.quote(self.path)

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, read at once if its length is known: each read waits for the server.

        By RFC 9112 there is none without a length or a coding; in HTTP/2 there may be.
        """
        length = self.content_length
        if length is None and not self.has_open_end():
            return io.BytesIO()
        if length is None or length > (self.max_content_length or length):
            return super().stream
        source, body = self.environ["wsgi.input"], io.BytesIO()
        with contextlib.suppress(OSError):  # the client may disconnect: a short body
            while (left := length - body.tell()) and (more := source.read(left)):
                body.write(more)
        body.seek(0)
        return body

    # FlaskSimpleAuth looks for parameters in each of these: skip the parser for empty ones

    @cached_property
    def args(self) -> ImmutableMultiDict[str, str]:
        """The parameters of the query; 400 if they are malformed."""
        if not self.query_string:
            return _NOTHING
        try:
            return ImmutableMultiDict(forms.parse_urlencoded(self.query_string))
        except ValueError as e:
            raise BadRequest(str(e)) from None

    @property
    def form(self) -> ImmutableMultiDict[str, str]:
        """The parameters of a form."""
        return self._form[0]

    @property
    def files(self) -> ImmutableMultiDict[str, FileStorage]:
        """The files of a form."""
        return self._form[1]

    @cached_property
    def _form(self) -> tuple[ImmutableMultiDict[str, str], ImmutableMultiDict[str, FileStorage]]:
        """Fields and files of a form; 400 if it is malformed."""
        if not self.may_have_body() or "form" not in self.mimetype or not (body := self.get_data()):
            return _NOTHING, _NO_FILES
        try:
            if self.mimetype != MULTIPART:
                return ImmutableMultiDict(forms.parse_urlencoded(body)), _NO_FILES
            form = forms.parse_multipart(body, self.mimetype_params.get("boundary", ""))
        except ValueError as e:
            raise BadRequest(str(e)) from None
        return ImmutableMultiDict(form.fields), ImmutableMultiDict(form.files)

    def may_have_body(self) -> bool:
        """Whether there is a body by the headers, read from `environ`, which is fast."""
        return bool(self.environ.get("CONTENT_LENGTH", "").strip("0")) or self.has_open_end()

    def has_open_end(self) -> bool:
        """Whether there may be a body without a Content-Length."""
        protocol = self.environ.get("SERVER_PROTOCOL", "")
        return "HTTP_TRANSFER_ENCODING" in self.environ or not protocol.startswith("HTTP/1")

    def get_json(self, *_args: bool, **_kwargs: bool) -> Any:
        """The object, parsed once, also for FlaskSimpleAuth; 400 if the body is not an object."""
        return self._json_object

    @cached_property
    def is_json(self) -> bool:
        """Whether there are parameters in JSON; there are none in an empty body."""
        return self.may_have_body() and super().is_json and bool(self._json_object)

    @cached_property
    def _json_object(self) -> dict[str, Any]:
        try:
            text = self.get_data().decode()
            value = strict_json.loads(text) if text.strip() else {}
            if not isinstance(value, dict):
                raise ValueError("it is something else")
            if len(value) > MAX_MEMBERS:
                raise ValueError(f"it has more than {MAX_MEMBERS} members")
        except ValueError as e:
            raise BadRequest(f"the body must be a JSON object in UTF-8: {e}") from None
        # also if unused: a token may authenticate the request first
        if not isinstance(value.get("username", ""), str):
            raise BadRequest("username must be a text")
        if not isinstance(value.get("password", ""), str):
            raise BadRequest("password must be a text")
        self.json_members = value
        return value


def check_request() -> None:
    """Before a request: refuse what is malformed with 400, and what is too large with 413."""
    request = cast(Request, current_request())
    _check_head(request)
    body = None
    if request.may_have_body():
        with slow_clients.reading(request):
            body = request.get_data()
        request.is_large = len(body) > LARGE_BYTES
    if not request.is_large:
        _check_parameters(request, body)
        return
    try:
        with parse_queue:
            _check_parameters(request, body)
    except fsa.ErrorResponse as e:
        raise ServiceUnavailable(e.message, retry_after=1) from None


def _check_parameters(request: Request, body: bytes | None) -> None:
    if body is not None:
        _check_body(request, body)
    if request.args or (body and not request.is_json):
        _check_names(request)


def _check_head(request: Request) -> None:
    environ = request.environ
    host = environ.get("HTTP_HOST")
    # the last two are HTTP/1.0 in granian and Werkzeug, where Host is optional
    if not (host and HOST.fullmatch(host)) and (
        host or environ.get("SERVER_PROTOCOL") not in ("HTTP/1", "HTTP/1.0")
    ):
        raise BadRequest("a request must have one Host header, with a name or an address")
    for header in DATES:
        if header in environ:
            try:
                parse_date(environ[header])
            except (OverflowError, ValueError):  # a date out of range is ignored (RFC 9110)
                del environ[header]


def _check_body(request: Request, body: bytes) -> None:
    if request.content_length is not None:
        if len(body) != request.content_length:
            raise BadRequest("the body is shorter than its Content-Length")
    elif len(body) == request.max_content_length:
        # Werkzeug cuts a chunked body off at the limit, and does not say whether there was more
        raise RequestEntityTooLarge
    elif "HTTP_TRANSFER_ENCODING" in request.environ and not body.strip():
        # granian does not tell whether the last chunk has come; truncated JSON or a truncated
        # multipart form is malformed, unless nothing is left
        raise BadRequest("the chunked body is empty, or cut short")
    elif not body:
        return
    if request.mimetype == "application/json" or request.mimetype.endswith("+json"):
        request.get_json()
    elif request.mimetype == URLENCODED and request.content_length is None:
        raise LengthRequired("a chunked form does not tell where it ends: send its length")
    elif request.mimetype not in (URLENCODED, MULTIPART):
        raise BadRequest("the body must be a form or application/json: set Content-Type")


def _check_names(request: Request) -> None:
    """Refuse secrets in a URL, and duplicate parameters, which are ambiguous."""
    app = flask.current_app
    declared = app.extensions["parameters"].get(request.endpoint, NOTHING_DECLARED)
    in_url = request.args.keys()
    secrets = declared.secrets & in_url
    credentials = app.config["ACME_CREDENTIALS"] & in_url
    if secrets or (credentials and (request.method in BODIES or credentials - declared.names)):
        raise BadRequest("credentials do not belong in a URL: send them in the body or a header")
    in_json = request.json_members
    seen = set(in_json)
    for source in request.args, request.form, request.files:
        for name, _ in source.items(multi=True):
            if name in seen and (name in in_json or name not in declared.lists):
                raise BadRequest(f'duplicate parameter "{name}"')
            seen.add(name)


@functools.lru_cache(1000)
def client_address(said: str) -> str:
    """The IP address of a client in the header of a proxy, "" if there is none.

    Some proxies add a port, which would make each connection another client.
    """
    if said.startswith("["):
        said = said[1:].partition("]")[0]
    elif said.count(":") == 1:
        said = said.partition(":")[0]
    try:
        return str(ipaddress.ip_address(said.partition("%")[0]))  # an IPv6 scope may be any text
    except ValueError:
        return ""


def _with_client_address(wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ["REMOTE_ADDR"] = client_address(environ.get("REMOTE_ADDR", ""))
        return wsgi_app(environ, start_response)

    return application


def init_app(app: fsa.Flask) -> None:
    """Validate every request and its parameters before its route; ValueError for bad settings."""
    if app.config["FSA_MODE"] not in MODES:
        raise ValueError(f"ACME_MODE={app.config['FSA_MODE']} is unknown: use {', '.join(MODES)}")
    if app.config["FSA_MODE"] == "debug4":
        log.warning("ACME_MODE=debug4 writes passwords and tokens to the log")
    proxies = app.config["ACME_PROXIES"]
    if not re.fullmatch("[0-9]", proxies):
        raise ValueError(f"ACME_PROXIES={proxies} must be a number from 0 to 9")
    if n := int(proxies):
        inner = _with_client_address(app.wsgi_app)
        setattr(app, "wsgi_app", ProxyFix(inner, x_for=n, x_proto=n, x_host=n))  # noqa: B010
    app.before_request(check_request)
    app.config["ACME_CREDENTIALS"] = frozenset(app.config["ACME_CREDENTIALS"])
    parameters.init_app(app)
