"""Where a request ends and which host it is for: lengths, chunks, the Host header (RFC 9112)."""

import contextlib
import http.client
import io
import json
import socket

import flask
import FlaskSimpleAuth as fsa
import pytest
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import EnvironBuilder, run_wsgi_app

from test import app
from tests.conftest import LIVE, new_name
from web import requests
from web.requests import Request

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
PART = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
MIB = 2**20


# not multipart: Werkzeug's client makes a body for it, with a boundary that may be too long
@pytest.mark.parametrize("kind", [JSON, FORM, "text/plain"])
def test_content_type_with_empty_body_is_accepted(target, kind):
    """Some clients send a content type with each GET."""
    assert target.send("GET", "/hello", "", kind).status == 200


def test_empty_multipart_form_needs_no_boundary():
    with app.test_client() as client:
        body = io.BytesIO()
        res = client.get("/hello", input_stream=body, content_type="multipart/form-data")
        assert res.status_code == 200


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("kind", [JSON, FORM, "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(
    ("size", "status"), [(9, 400), (MIB // 2, 400), (MIB, 413), (2 * MIB, 413)]
)
def test_chunked_body_gets_its_status(target, kind, size, status):
    """A body without Content-Length is read, and not cut off where it is too large.

    A form without a length is 411: a truncated one could not be told from a whole one.
    """
    if kind == FORM and status == 400:
        status = 411
    chunks = iter([b"x" * 65536] * (size // 65536) + [b"x" * (size % 65536)])
    headers = {"Content-Type": kind} | target.bearer("susie")
    connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/stuff", chunks, headers)
        with connection.getresponse() as response:
            assert response.status == status


def raw(target, head, body="", end=True):
    """The status of a raw request, 0 if the server only closes the connection.

    After the `end` nothing more is sent: the server is told so, and may close at once.
    """
    host, _, port = target.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        if end:
            connection.shutdown(socket.SHUT_WR)
        said = b""
        while data := connection.recv(65536):
            said += data
            if not end and b"\r\n\r\n" in said:
                break
    return int(said.split()[1]) if said else 0


HOSTS = [
    ("HTTP/1.1", [], 400),
    ("HTTP/1.1", ["acme.example", "acme.example"], 400),
    ("HTTP/1.1", ["acme.example", "other.example"], 400),
    ("HTTP/1.1", [""], 400),
    *(("HTTP/1.1", [host], 400) for host in ("a b", "a/b", "a@b", "a:b", "[::1", "a,b", "a?", "é")),
    *(
        ("HTTP/1.1", [host], 200)
        for host in ("localhost", "a_b.example:8080", "[::1]:80", "127.0.0.1")
    ),
    ("HTTP/1.0", [], 200),  # RFC 9112 asks for it from HTTP/1.1 on
    ("HTTP/1.0", ["a", "b"], 400),
]


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize(("protocol", "hosts", "status"), HOSTS)
def test_host_header_over_http(target, protocol, hosts, status):
    """A request has one Host header (RFC 9112), with a name or an address."""
    head = "\r\n".join([f"GET /hello {protocol}", *(f"Host: {host}" for host in hosts)])
    assert raw(target, head, end=False) == status


@pytest.mark.parametrize(("protocol", "hosts", "status"), HOSTS)
def test_host_header_is_required_once(protocol, hosts, status):
    """The same in process, as granian hands it on."""
    environ = EnvironBuilder("/hello").get_environ()
    environ |= {"SERVER_PROTOCOL": protocol, "HTTP_HOST": ",".join(hosts)}
    assert run_wsgi_app(app, environ)[1].split()[0] == str(status)
    if not hosts:
        del environ["HTTP_HOST"]
        assert run_wsgi_app(app, environ)[1].split()[0] == str(status)


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("kind", [JSON, MULTIPART])
@pytest.mark.parametrize("place", range(3))
def test_truncated_chunked_body_is_refused(target, kind, place):
    """400, and nothing is changed, at each place of the truncation."""
    name, token = new_name(), target.bearer("susie")["Authorization"]
    body = json.dumps({"stuff": name, "price": 650}) + "   "
    if kind == MULTIPART:
        body = PART.format("stuff", "") + f"{name}\r\n" + PART.format("price", "") + "650\r\n--x--"
    sent = ["", body[:3], body.rstrip(" ")[:-1]][place]
    chunk = f"{len(sent):x}\r\n{sent}\r\n" if sent else ""
    head = (
        f"POST /stuff HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        f"Authorization: {token}\r\nTransfer-Encoding: chunked"
    )
    assert raw(target, head, chunk) in (400, 0)
    assert raw(target, head, f"{chunk}zz\r\n", end=False) == 400
    assert target.send("GET", f"/stuff/{name}", who="susie").status == 404
    assert raw(target, head, f"{len(body):x}\r\n{body}\r\n0\r\n\r\n", end=False) == 201


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("headers", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_truncated_form_changes_nothing(target, headers):
    """Even if the truncated form looks complete."""
    name, token = new_name(), target.bearer("susie")["Authorization"]
    body = f"stuff={name}&price=650"
    sent = body[:-2] if "{}" in headers else f"{len(body):x}\r\n{body}\r\n"
    host, _, port = target.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            f"POST /stuff HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\n"
            f"Authorization: {token}\r\n{headers.format(len(body))}\r\n\r\n{sent}".encode()
        )
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass
    assert target.send("GET", f"/stuff/{name}", who="susie").status == 404


# --- in process, as granian hands requests on


def posted(body, kind, **environ):
    """The status of a body, and the error if there is one; chunked unless `environ` tells."""
    environ = {
        **EnvironBuilder(
            "/len", method="POST", input_stream=io.BytesIO(body), content_type=kind
        ).get_environ(),
        "CONTENT_LENGTH": None,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
    } | environ
    environ = {name: value for name, value in environ.items() if value is not None}
    body, line, _ = run_wsgi_app(app, environ)
    return int(line[:3]), json.loads(b"".join(body)).get("error")


WHOLE = f"{PART.format('p', '')}7\r\n--x--".encode()
NO_LENGTH = "a chunked form does not tell where it ends: send its length"
SHORT = "the chunked body is empty, or cut short"
TYPE = "the body must be a form or application/json: set Content-Type"
LARGE = RequestEntityTooLarge.description


@pytest.mark.parametrize(
    ("kind", "body", "status", "message"),
    [
        (JSON, b'{"p": 7}', 200, None),
        ("application/vnd.acme+json", b'{"p": 7}', 200, None),
        (MULTIPART, WHOLE, 200, None),
        (JSON, b"", 400, SHORT),
        (MULTIPART, b" \r\n", 400, SHORT),
        (FORM, b"p=7", 411, NO_LENGTH),
        ("text/plain", b"7", 400, TYPE),
        (JSON, b'{"p": 7}'.ljust(MIB - 1), 200, None),
        (JSON, b'{"p": 7}'.ljust(MIB), 413, LARGE),  # nobody knows whether there was more
    ],
)
def test_body_without_a_length_gets_its_status(kind, body, status, message):
    assert posted(body, kind) == (status, message)


def test_body_shorter_than_its_length_is_refused():
    environ = {"CONTENT_LENGTH": "9", "HTTP_TRANSFER_ENCODING": None}
    message = "the body is shorter than its Content-Length"
    assert posted(b'{"p": 7}', JSON, **environ) == (400, message)


def test_http_2_may_have_a_body_without_a_length():
    """Or none: there is no header that tells."""
    environ = {"SERVER_PROTOCOL": "HTTP/2", "HTTP_TRANSFER_ENCODING": None}
    assert posted(b'{"p": 7}', JSON, **environ) == (200, None)
    assert posted(b"", JSON, **environ) == (400, 'parameter "p" is missing')
    assert posted(b"p=7", FORM, **environ) == (411, NO_LENGTH)


@pytest.mark.parametrize("length", ["", "0", "00", None])
def test_length_of_zero_is_no_body(length):
    environ = EnvironBuilder("/hello", method="GET").get_environ() | {"CONTENT_LENGTH": length}
    if length is None:
        del environ["CONTENT_LENGTH"]
    assert run_wsgi_app(app, environ)[1].startswith("200 ")
    assert not Request(environ).may_have_body()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"SERVER_PROTOCOL": "HTTP/1.1"}, False),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, False),
        ({"SERVER_PROTOCOL": "HTTP/2"}, True),
        ({}, True),
        ({"SERVER_PROTOCOL": "HTTP/1.1", "HTTP_TRANSFER_ENCODING": "chunked"}, True),
    ],
)
def test_body_without_a_length_is_possible(environ, expected):
    request = Request(environ)
    assert (request.has_open_end(), request.may_have_body()) == (expected, expected)


def test_host_is_optional_in_http_1_0_only():
    """Which granian writes as HTTP/1."""
    for protocol, status in ("HTTP/1", 200), ("HTTP/1.0", 200), ("HTTP/1.1", 400), ("HTTP/2", 400):
        environ = EnvironBuilder("/hello").get_environ() | {"SERVER_PROTOCOL": protocol}
        del environ["HTTP_HOST"]
        body, line, _ = run_wsgi_app(app, environ)
        assert line.startswith(f"{status} ")
        message = "a request must have one Host header, with a name or an address"
        assert status == 200 or json.loads(b"".join(body)) == {"error": message}


# a path, and what logs and headers get
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a b'c", "/a b'c"),
        ("/é", "/%C3%A9"),
        ("/a\r\nb", "/a%0D%0Ab"),
        ("/\x7f", "/%7F"),
    ],
)
def test_path_is_printable_ascii(path, expected):
    environ = EnvironBuilder(path).get_environ()
    environ["PATH_INFO"] = path.encode().decode("latin-1")
    assert Request(environ, populate_request=False).path == expected
    assert "werkzeug.request" not in environ


@pytest.mark.parametrize(("size", "is_large"), [(1, False), (2**16, False), (2**16 + 1, True)])
def test_body_over_64_kib_is_large(size, is_large):
    body = b'{"p": 7}'.ljust(size) if size > 1 else b""
    with app.test_request_context("/len", method="POST", data=body, content_type=JSON):
        requests.check_request()
        assert flask.request.is_large == is_large


def test_large_body_is_503_where_too_many_are_parsed(monkeypatch):
    @contextlib.contextmanager
    def full():
        raise fsa.ErrorResponse("too many", 503)
        yield

    monkeypatch.setattr(requests, "parse_queue", full())
    body = b'{"p": 7}'.ljust(2**16 + 1)
    with app.test_client() as client:
        res = client.post("/len", data=body, content_type=JSON)
    assert (res.status_code, res.json, res.headers["Retry-After"]) == (
        503,
        {"error": "too many"},
        "1",
    )


def test_proxies_tell_address_scheme_and_host():
    """As many as `ACME_PROXIES` says; the address is without a port or a scope."""
    other = fsa.Flask("other")
    other.config.update(FSA_MODE="prod", ACME_PROXIES="2", ACME_CREDENTIALS=["code"])
    requests.init_app(other)
    assert other.config["ACME_CREDENTIALS"] == {"code"}
    proxied = other.wsgi_app
    counts = (proxied.x_for, proxied.x_proto, proxied.x_host, proxied.x_port, proxied.x_prefix)
    assert counts == (2, 2, 2, 0, 0)
    said = []
    inner = requests._with_client_address(lambda environ, _: said.append(environ["REMOTE_ADDR"]))
    for environ in (
        {"REMOTE_ADDR": "[2001:db8::1]:80"},
        {"REMOTE_ADDR": "192.0.2.1:80"},
        {"REMOTE_ADDR": "unknown"},
        {},
    ):
        inner(environ, None)
    assert said == ["2001:db8::1", "192.0.2.1", "", ""]


def test_credentials_in_a_url_are_refused_with_the_reason():
    with app.test_client() as client:
        message = "credentials do not belong in a URL: send them in the body or a header"
        assert client.post("/len?code=1").json == {"error": message}


@pytest.mark.parametrize("name", requests.DATES)
def test_date_out_of_range_is_ignored(name):
    """RFC 9110; Werkzeug would raise an error."""
    for year, is_kept in ("2026", True), ("99999999999", False):
        date = f"Thu, 01 Jan {year} 00:00:00 GMT"
        with app.test_request_context("/hello", environ_overrides={name: date}):
            requests.check_request()
            assert (name in flask.request.environ) == is_kept
