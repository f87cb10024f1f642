"""Errors: a status from 400 up is `{"error": message}`, also those of libraries."""

import contextlib
import json
from typing import cast

import flask
import FlaskSimpleAuth as fsa
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from flask_internals import current_request
from monitoring.request_id import request_id
from security.caller import caller
from web import frontend, slow_clients
from web.requests import Request

MAX_MESSAGE = 500  # characters of an error
MAX_DRAINED = 2**23  # bytes read of a body that no route has read


def _is_unread(request: Request) -> bool:
    """Whether a request has a body that has not been read."""
    return request.may_have_body() and "stream" not in vars(request)


def _drain(request: Request) -> None:
    """Read the rest of a body, for clients that send all of it before they read a response.

    If the connection were closed at once, such a client would see a reset instead of the error.
    """
    stream = request.environ["wsgi.input"]
    left = min(request.content_length or MAX_DRAINED, MAX_DRAINED)
    with contextlib.suppress(ServiceUnavailable), slow_clients.reading(request):
        while left > 0 and (data := stream.read(min(left, 65536))):
            left -= len(data)


def http_error(e: HTTPException) -> flask.typing.ResponseReturnValue:
    """The response for an HTTP error, with its headers, such as `Allow`."""
    request = cast(Request, current_request())
    # 503 may be about a body that is slow to arrive
    if e.code == 413 or (e.code != 503 and _is_unread(request)):
        _drain(request)
    response = e.get_response()
    response.data = json.dumps({"error": e.description or e.name})
    response.content_type = "application/json"
    return response


def _is_insecure(request: flask.Request) -> bool:
    """Whether a request came unencrypted from another machine: FSA_SECURE refuses these."""
    address = request.remote_addr or ""
    return not (request.is_secure or address.startswith("127.") or address == "::1")


def finish_error(response: flask.Response) -> flask.Response:
    """After a request: make an error JSON, also one in text, and limit its length.

    That of a 500 ends with the id of the request, which leads to the log.
    """
    if response.status_code < 400:
        return response
    if response.status_code == 500 and _is_insecure(flask.request):
        response.status_code = 403  # FlaskSimpleAuth responds with 500
    if response.status_code == 404 and _is_mistyped(flask.request):
        response.data = frontend.not_found_page()
        response.content_type = "text/html; charset=utf-8"
        return response
    message = response.get_data(as_text=True)
    if response.is_json:
        body = json.loads(message)
        message = str(body["error"]) if isinstance(body, dict) and "error" in body else message
    if len(message) > MAX_MESSAGE:
        message = f"{message[:MAX_MESSAGE]}…"
    if response.status_code == 500:
        message = f"{message} (request {request_id(flask.request.environ)})"
    response.data = json.dumps({"error": message}) + "\n"
    response.content_type = "application/json"
    return response


def _is_mistyped(request: flask.Request) -> bool:
    """Whether a browser shows the response to a person, and the path is none of the API's."""
    takes_html = "text/html" in request.headers.get("Accept", "")
    return takes_html and request.method in ("GET", "HEAD") and request.url_rule is None


def set_challenge(response: flask.Response) -> flask.Response:
    """Set the challenge of a 401 (RFC 9110): schemes of the route, or the fault of the token.

    With `X-Requested-With: fetch` it leaves Basic out, so that a browser shows no dialog.
    """
    if response.status_code == 401:
        offered = response.headers.get("WWW-Authenticate", "")  # FlaskSimpleAuth's
        challenges = [c for c in offered.split(", ") if c.startswith("Bearer")]
        if "Basic" in offered and flask.request.headers.get("X-Requested-With") != "fetch":
            challenges.insert(0, 'Basic realm="acme", charset="UTF-8"')
        # HTTP requires a challenge, but has no scheme for parameters and cookies
        text = ", ".join(challenges) or 'Bearer realm="acme"'
        response.headers["WWW-Authenticate"] = caller().challenge or text
    return response


def init_app(app: fsa.Flask) -> None:
    """Make every error JSON."""
    app.after_request(finish_error)
    app.after_request(set_challenge)
    app.register_error_handler(HTTPException, http_error)
