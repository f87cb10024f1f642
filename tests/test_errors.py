"""Errors: what is done with a body that nobody has read, and the parts of the response."""

import io

import flask
import pytest
from werkzeug.exceptions import NotFound, RequestEntityTooLarge, ServiceUnavailable

from monitoring.request_id import request_id
from test import app
from web import errors, slow_clients
from web.requests import Request
from web.responses import Response

CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}  # refused before the body is read
MIB = 2**20


class Body(io.BytesIO):
    """A body that counts what is read of it, and the largest part read at once."""

    largest = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


def post(body, length, headers=None, path="/len"):
    """A request with a body of a length, or None for a chunked one."""
    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    environ = (
        {"CONTENT_LENGTH": ""} | environ if length is None else {"CONTENT_LENGTH": str(length)}
    )
    with app.test_client() as client:
        return client.post(
            path,
            input_stream=body,
            content_type="application/json",
            headers=headers,
            environ_overrides=environ,
        )


# size, what is sent of its length, status, bytes read
@pytest.mark.parametrize(
    ("size", "length", "headers", "status", "read"),
    [
        (100_000, 100_000, CROSS_SITE, 403, 100_000),
        (100_000, None, CROSS_SITE, 403, 100_000),  # chunked
        (65_537, 65_537, CROSS_SITE, 403, 65_537),  # a last part of one byte
        (2 * MIB, 2 * MIB, {}, 413, 2 * MIB),
        (2 * MIB, None, {}, 413, 2 * MIB),
        (9 * MIB, 9 * MIB, {}, 413, 8 * MIB),  # no more, for clients without an end
        (9 * MIB, 9 * MIB, CROSS_SITE, 403, 8 * MIB),
        (9 * MIB, None, CROSS_SITE, 403, 8 * MIB),
        (50, 40, CROSS_SITE, 403, 40),  # the rest is the next request
        (50, 60, CROSS_SITE, 403, 50),  # the client has gone
    ],
)
def test_refused_body_is_read_up_to_8_mib(size, length, headers, status, read):
    """So that a client which sends all of it first sees the error; in parts of 64 KiB."""
    body = Body(b"x" * size)
    res = post(body, length, headers)
    assert (res.status_code, body.tell()) == (status, read)
    assert list(res.json) == ["error"]
    if status == 403:
        assert body.largest <= 65536


def test_body_is_not_read_while_too_many_are_slow(monkeypatch):
    """A refused body waits for a slot as others do: without one its connection may break."""
    monkeypatch.setattr(slow_clients, "READERS", 0)
    monkeypatch.setattr(slow_clients, "MAX_PENALIZED_READERS", 0)
    monkeypatch.setattr(slow_clients, "SLOT_TIMEOUT", 0.0)
    for headers, status in ({}, 503), (CROSS_SITE, 403):
        body = Body(b"{}" * 50)
        res = post(body, 100, headers)
        assert (res.status_code, body.tell()) == (status, 0)
    assert not slow_clients._readers


def test_unavailable_response_does_not_wait_for_the_body():
    """Which may be what is late."""
    for error, read in (ServiceUnavailable(), 0), (NotFound(), 100):
        body = Body(b"x" * 100)
        with app.test_request_context(method="POST", input_stream=body) as context:
            context.request.environ["CONTENT_LENGTH"] = "100"
            assert errors.http_error(error).status_code == error.code
        assert body.tell() == read


def test_body_that_was_read_is_not_waited_for_again():
    """An error of a route, after its parameters: a server would wait for the next request."""
    body = Body(b'{"p": "x"}' + b"next")
    assert post(body, 10, path="/none").status_code == 404
    assert body.tell() == 10


def test_error_of_werkzeug_has_its_description_or_its_name():
    with app.test_request_context():
        for error, message in (
            (RequestEntityTooLarge("no more"), "no more"),
            (RequestEntityTooLarge(), RequestEntityTooLarge.description),
        ):
            res = errors.http_error(error)
            assert (res.status_code, res.json) == (413, {"error": message})
            assert res.content_type == "application/json"
        error = RequestEntityTooLarge()
        error.description = None
        assert errors.http_error(error).json == {"error": "Request Entity Too Large"}


# body, type, message
@pytest.mark.parametrize(
    ("status", "body", "kind", "message"),
    [
        (400, "text", "text/plain", "text"),
        (500, '{"error": "no tea"}', "application/json", "no tea"),
        (400, '{"error": 5}', "application/json", "5"),
        (400, '{"other": 5}', "application/json", '{"other": 5}'),
        (400, '["error"]', "application/json", '["error"]'),
        (400, "<b>", "text/html", "<b>"),
        (400, "é" * 500, "text/plain", "é" * 500),
        (400, "é" * 501, "text/plain", "é" * 500 + "…"),
    ],
)
def test_every_error_has_one_member(status, body, kind, message):
    with app.test_request_context(environ_base={"REMOTE_ADDR": "127.0.0.1"}):
        if status == 500:
            message += f" (request {request_id(flask.request.environ)})"
        response = errors.finish_error(Response(body, status, content_type=kind))
    assert (response.status_code, response.json) == (status, {"error": message})
    assert response.content_type == "application/json"
    assert response.data.endswith(b"}\n")


def test_success_is_left_as_it_is():
    with app.test_request_context():
        response = errors.finish_error(Response("text", 399, content_type="text/plain"))
    assert (response.data, response.content_type) == (b"text", "text/plain")


# address, scheme, whether FlaskSimpleAuth's 500 means that it was refused
@pytest.mark.parametrize(
    ("address", "scheme", "status"),
    [
        ("192.0.2.1", "http", 403),
        ("192.0.2.1", "https", 500),
        ("127.0.0.1", "http", 500),
        ("127.9.9.9", "http", 500),
        ("::1", "http", 500),
        ("::11", "http", 403),
        ("12.7.0.0", "http", 403),
        (None, "http", 403),
    ],
)
def test_error_500_of_plain_http_from_another_machine_is_403(address, scheme, status):
    environ = {"REMOTE_ADDR": address, "wsgi.url_scheme": scheme}
    with app.test_request_context(environ_overrides=environ):
        assert errors.finish_error(Response("no", 500)).status_code == status
        assert errors.finish_error(Response("no", 501)).status_code == 501


def test_init_app_makes_errors_json_after_other_hooks():
    """Of an application that has nothing else."""
    other = flask.Flask("other")
    other.request_class = Request
    errors.init_app(other)
    other.get("/fail")(lambda: flask.Response("no", 401))
    with other.test_client() as client:
        assert client.get("/none").json["error"].startswith("The requested URL")
        res = client.get("/fail")
        assert (res.json, res.headers["WWW-Authenticate"]) == (
            {"error": "no"},
            'Bearer realm="acme"',
        )
