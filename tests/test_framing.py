"""Where a request ends and which host it is for: lengths, chunks, the Host header (RFC 9112)."""

import contextlib
import http.client
import json
import socket

import pytest
from werkzeug.test import EnvironBuilder, run_wsgi_app

from test import app
from tests.conftest import LIVE, new_name

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
PART = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
MIB = 2**20


@pytest.mark.parametrize("kind", [JSON, FORM, "multipart/form-data", "text/plain"])
def test_content_type_with_empty_body_is_accepted(target, kind):
    """Some clients send a content type with each GET."""
    assert target.send("GET", "/hello", "", kind).status == 200


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
