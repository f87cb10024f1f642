"""Errors: a status from 400 up is `{"error": message}`, whoever raised it."""

import contextlib
import json
from typing import cast

import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from security.caller import caller
from web import slow_clients
from web.requests import Request

MAX_MESSAGE = 500  # characters of an error
MAX_DRAINED = 2**23  # bytes read of a body that nobody has looked at


def _is_unread(request: Request) -> bool:
    """Whether a request has a body that nobody has begun to read."""
    has_body = request.content_length or request.has_open_end()
    return bool(has_body) and "stream" not in vars(request)


def _drain(request: Request) -> None:
    """Read what is left of a body, for clients that send it whole before they read a response.

    Were the connection closed at once, such a client would see it break, and no error.
    """
    stream = request.environ["wsgi.input"]
    left = min(request.content_length or MAX_DRAINED, MAX_DRAINED)
    with contextlib.suppress(ServiceUnavailable), slow_clients.reading(request):
        while left > 0 and (data := stream.read(min(left, 65536))):
            left -= len(data)


def http_error(e: HTTPException) -> flask.typing.ResponseReturnValue:
    """The answer to an HTTP error, with the headers that belong to it, such as `Allow`."""
    request = cast(Request, flask.globals.request_ctx.request)
    # 503 may be about a body that is slow to arrive
    if e.code == 413 or (e.code != 503 and _is_unread(request)):
        _drain(request)
    response = e.get_response()
    response.data = json.dumps({"error": e.description or e.name})
    response.content_type = "application/json"
    return response


def _is_insecure(request: flask.Request) -> bool:
    """Whether a request came in clear from another machine: FSA_SECURE refuses all of these."""
    address = request.remote_addr or ""
    return not (request.is_secure or address.startswith("127.") or address == "::1")


def finish_error(response: flask.Response) -> flask.Response:
    """After a request: an error is JSON even where it was text, and a line of bearable length."""
    if response.status_code < 400:
        return response
    if response.status_code == 500 and _is_insecure(flask.request):
        response.status_code = 403  # FlaskSimpleAuth takes it for a fault of its own
    message = response.get_data(as_text=True)
    if response.is_json:
        body = json.loads(message)
        message = str(body["error"]) if isinstance(body, dict) and "error" in body else message
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}…"
    response.data = json.dumps({"error": message}) + "\n"
    response.content_type = "application/json"
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
        response.headers["WWW-Authenticate"] = caller().challenge or text
    return response


def init_app(app: fsa.Flask) -> None:
    """Let every error be JSON."""
    app.after_request(finish_error)
    app.after_request(set_challenge)
    app.register_error_handler(HTTPException, http_error)
