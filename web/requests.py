"""Request validation: the body and the parameters of every request, before any route.

A request that gets beyond here has well-formed parameters; what they may be, the types in
`values.py` say.
"""

import contextlib
import io
import re
import urllib.parse
from collections.abc import Callable
from typing import IO, Any, cast

import flask
import FlaskSimpleAuth as fsa
from werkzeug.datastructures import (
    CombinedMultiDict,
    FileStorage,
    ImmutableMultiDict,
    MultiDict,
)
from werkzeug.exceptions import (
    BadRequest,
    LengthRequired,
    RequestEntityTooLarge,
)
from werkzeug.formparser import FormDataParser
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.utils import cached_property

import values
from web import slow_clients, strict_json

MODES = ("prod", "dev", "debug", "debug1", "debug2", "debug3", "debug4")
CREDENTIALS = {"username", "password", "current", "code", "token", "access_token", "otp", "secret"}
LISTS = {"li"}  # parameters that may come several times in a query or a form
OBJECTS = {"who"}  # parameters that are JSON objects there
MAX_FIELDS = 1_000  # parameters in a query or a form


_NOTHING: ImmutableMultiDict[str, str] = ImmutableMultiDict()
_NO_FILES: ImmutableMultiDict[str, FileStorage] = ImmutableMultiDict()


class Request(flask.Request):
    """A request whose body is a JSON object, a form, or nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.path.isascii() or not self.path.isprintable():
            # logs show it, and FlaskSimpleAuth in a header: neither can hold just anything
            self.path = urllib.parse.quote(self.path)

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
            value = strict_json.loads(text) if text.strip() else {}
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


def check_request() -> None:
    """Before a request: refuse what is malformed with 400, and what is too large with 413."""
    request = cast(Request, flask.globals.request_ctx.request)
    if request.query_string:
        if CREDENTIALS & request.args.keys():
            message = "credentials do not belong in a URL: send them in the body or a header"
            raise BadRequest(message)
        _check_urlencoded(request.query_string)
    body = b""
    if request.content_length or request.has_open_end():
        with slow_clients.reading(request):
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
            strict_json.loads(fields[name])
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


class Json(Any):  # type: ignore[misc]
    """The type of a parameter that is any JSON value, as `fsa.JsonData`, but strictly parsed."""


def _json(value: Any) -> Any:
    """A value as it is in a JSON body, or its JSON text in a form."""
    if flask.request.is_json:
        return value
    try:
        return strict_json.loads(value)
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


def init_app(app: fsa.Flask) -> None:
    """Put the guard before every route; ValueError for a wrong setting."""
    if app.config["FSA_MODE"] not in MODES:
        raise ValueError(f"ACME_MODE={app.config['FSA_MODE']} is unknown: use {', '.join(MODES)}")
    proxies = app.config["ACME_PROXIES"]
    if not re.fullmatch("[0-9]", proxies):
        raise ValueError(f"ACME_PROXIES={proxies} must be a number from 0 to 9")
    if n := int(proxies):
        setattr(app, "wsgi_app", ProxyFix(app.wsgi_app, x_for=n, x_proto=n, x_host=n))  # noqa: B010
    app.before_request(check_request)
    # how parameters get from a request into the types of values.py
    casts: dict[type, Callable[[Any], Any]] = {
        Json: _json,
        values.Price: lambda v: values.Price(_number(v)),
        values.Limit: lambda v: values.Limit(_number(v)),
        values.Numbers: lambda v: values.Numbers(_numbers(v)),
    }
    for kind, convert in casts.items():
        app.cast(kind, convert)
