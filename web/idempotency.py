"""Idempotency keys: a write that is repeated with the same key is made once.

The header `Idempotency-Key` is that of the IETF draft draft-ietf-httpapi-idempotency-key-header. It
works on each authenticated write of the application, also of a fork, except those that
`returns_secret` marks: all changes that the route makes in the store, and its answer, are one
transaction. A repeat gets that answer: status, body and headers, `Set-Cookie` aside. Errors are not
stored, because they change nothing. A route without authentication ignores the header.
"""

import functools
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from typing import Any, cast

import flask
import FlaskSimpleAuth as fsa

from database import db
from flask_internals import current_request
from security.declarations import WRITES, may_be_stored
from store.idempotency import Claim
from web.requests import Request

MAX_ANSWER_BYTES = 2**16  # of a body that is stored
# the text of the draft's structured field (RFC 9651), or without quotes; a comma would be that of
# two headers, which servers join
KEY = re.compile(r'"([ !#-\[\]-~]{1,64})"|(?=[^ ])([ !#-+\--~]{1,64})(?<! )')
NOT_STORED = frozenset({"content-length", "set-cookie"})


def key_of(header: str) -> str:
    """The key in a header; 400 if it is malformed."""
    found = KEY.fullmatch(header.strip(" \t"))
    if not found:
        message = "Idempotency-Key must have 1 to 64 printable ASCII characters, and be sent once"
        raise fsa.ErrorResponse(message, 400)
    return found[1] or found[2]


def _fingerprints(app: fsa.Flask, request: Request) -> list[str]:
    """What tells a request from others, by each of `ACME_TOKEN_SECRETS`, the current one first.

    Keyed, since a body may have a password, which a plain hash of it would let guess.
    """
    form = [*request.form.items(multi=True)]
    files = [
        (name, file.filename, hashlib.sha256(file.stream.read()).hexdigest(), file.stream.seek(0))
        for name, file in request.files.items(multi=True)
    ]
    query = [*request.args.items(multi=True)]
    parts = [request.method, request.path, query, dict(request.json_members), form, files]
    text = json.dumps(parts, sort_keys=True).encode()
    secrets = app.config["ACME_TOKEN_SECRETS"]
    return [hmac.new(s.encode(), b"idempotency " + text, "sha256").hexdigest() for s in secrets]


def _to_text(response: flask.Response) -> str:
    """A response as it is stored; 400 if it is too large."""
    body = b"" if response.is_streamed else response.get_data()
    if response.is_streamed or len(body) > MAX_ANSWER_BYTES:
        raise fsa.ErrorResponse("the answer is too large: send no Idempotency-Key", 400)
    headers = [(k, v) for k, v in response.headers if k.lower() not in NOT_STORED]
    return json.dumps([response.status_code, headers, body.decode("latin-1")])


def _from_text(text: str) -> flask.Response:
    status, headers, body = json.loads(text)
    return flask.current_app.response_class(body.encode("latin-1"), status, headers)


def _once(app: fsa.Flask, header: str, call: Callable[[], Any]) -> Any:
    """Call a route once for each key of a user."""
    request = cast(Request, current_request())
    if not may_be_stored(app, request.endpoint or ""):
        raise fsa.ErrorResponse("send no Idempotency-Key here: the answer is not stored", 400)
    login = app._fsa.current_user()
    if not login:
        return call()
    key, (fingerprint, *older) = key_of(header), _fingerprints(app, request)
    now = time.time()
    if stored := db.get_answer(login, key, now):
        if stored[0] not in (fingerprint, *older):
            message = f"this Idempotency-Key was sent with another request: {key}"
            raise fsa.ErrorResponse(message, 422)
        # a permission may have ended since, such as that on what the first request has deleted
        app._fsa._local.need_authorization = False
        return _from_text(stored[1])
    with db.once(Claim(login, key, fingerprint, now)) as store:
        response = app.make_response(call())
        if response.status_code < 400:
            store(_to_text(response))
    return response


def _repeatable(app: fsa.Flask, call: Callable[..., Any]) -> Callable[..., Any]:
    """A layer of a route that calls the next one once for each key."""

    @functools.wraps(call)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        environ = current_request().environ
        header = environ.get("HTTP_IDEMPOTENCY_KEY")
        if header is None or environ["REQUEST_METHOD"] not in WRITES:
            return call(*args, **kwargs)
        return _once(app, header, lambda: call(*args, **kwargs))

    return wrapper


def init_app(app: fsa.Flask) -> None:
    """Let each write that is declared from now on take an `Idempotency-Key`.

    FlaskSimpleAuth calls in turn: authentication, groups, parameters, permissions, the route. This
    comes before the parameters, because there is no permission on what has been deleted. The
    methods are private: tests/test_idempotency.py pins them.
    """
    manager, add_url_rule = app._fsa._pm, app._fsa.add_url_rule
    layers = {name: getattr(manager, name) for name in ("_parameters", "_noparams")}

    def add(rule: str, endpoint: str | None = None, view_func: Any = None, **options: Any) -> Any:
        if WRITES.isdisjoint(options.get("methods") or ()):
            return add_url_rule(rule, endpoint, view_func, **options)
        for name, layer in layers.items():
            around = functools.partial(_around, app, layer)
            setattr(manager, name, around)
        try:
            return add_url_rule(rule, endpoint, view_func, **options)
        finally:
            for name, layer in layers.items():
                setattr(manager, name, layer)

    setattr(app._fsa, "add_url_rule", add)  # noqa: B010


def _around(app: fsa.Flask, layer: Callable[..., Any], *how: Any) -> Callable[..., Any]:
    """A decorator of FlaskSimpleAuth's, with a repeatable result."""
    return lambda fun: _repeatable(app, layer(*how)(fun))
