"""Malformed requests get 400, or what HTTP has for the case, as JSON, whatever is wrong."""

import contextlib
import datetime
import http.client
import json
import os
import socket
import subprocess
import sys
import urllib.parse

import FlaskSimpleAuth as fsa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import EnvironBuilder, run_wsgi_app

import values
from store import base
from test import app
from tests.conftest import LIVE, ROOT, new_name
from web import errors

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"
PART = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
MIB = 2**20


def nested(levels: int) -> str:
    return '{"p":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def members(count: int) -> str:
    return json.dumps({str(n): n for n in range(count)})


# method, path, content type, body, status, what the message must contain
@pytest.mark.parametrize(
    ("method", "path", "kind", "body", "status", "word"),
    [
        # bodies in JSON
        ("POST", "/stuff", JSON, "{", 400, "JSON"),
        ("POST", "/stuff", JSON, "null", 400, "object"),
        ("POST", "/stuff", JSON, "5", 400, "object"),
        ("POST", "/stuff", JSON, '"x"', 400, "object"),
        ("POST", "/stuff", JSON, "[]", 400, "object"),
        ("POST", "/stuff", JSON, "[1,2]", 400, "object"),
        ("POST", "/stuff", JSON, "", 400, "missing"),
        ("POST", "/stuff", JSON, '{"stuff":"a","stuff":"b","price":1}', 400, "twice"),
        ("POST", "/stuff", JSON, b'{"stuff":"\xff","price":1}', 400, "UTF-8"),
        ("POST", "/stuff", JSON, '{"stuff":"a"}'.encode("utf-16"), 400, "UTF-8"),
        ("POST", "/stuff", JSON, r'{"stuff":"\ud800","price":1}', 400, "surrogate"),
        ("POST", "/stuff", JSON, r'{"stuff":"\uDFFF","price":1}', 400, "surrogate"),
        ("GET", "/len", JSON, '{"p":' + '{"p":' * 100 + "1" + "}" * 101, 400, "levels"),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":NaN}', 400, "NaN"),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":-Infinity}', 400, "Infinity"),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":1e999}', 400, "too large"),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":' + "1" * 5000 + "}", 400, "digits"),
        ("GET", "/len", JSON, nested(101), 400, "levels"),
        ("GET", "/len", JSON, nested(1000), 400, "levels"),
        ("GET", "/len", JSON, nested(100_000), 400, "levels"),
        ("GET", "/len", JSON, '{"p":[' + "[0]," * 110_000 + "0]}", 400, "100000 arrays"),
        ("GET", "/len", JSON, '{"p":[' + "7," * 100_000 + "7]}", 400, "100000 arrays"),
        ("GET", "/len", JSON, '{"p":"' + "7,[{" * 100_000 + '"}', 200, None),
        ("GET", "/len", JSON, '{"p":"' + '\\",' * 150_000 + '"}', 200, None),
        ("GET", "/hello", JSON, members(1001), 400, "1000 members"),
        ("GET", "/hello", JSON, members(1000), 400, "unexpected"),
        ("GET", "/len", JSON, '{"p":' + members(1001) + "}", 200, None),
        ("GET", "/hello", JSON, "{", 400, "JSON"),
        # credentials that are none, beside a token that is good
        ("POST", "/stuff", JSON, '{"stuff":"a","price":1,"username":null}', 400, "a text"),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":1,"password":["x"]}', 400, "a text"),
        ("GET", "/hello", "application/vnd.acme+json", "[]", 400, "object"),
        # bodies in forms, and in what is none
        ("POST", "/stuff", FORM, "stuff=%FF&price=1", 400, "UTF-8"),
        ("POST", "/stuff", FORM, b"stuff=\xff&price=1", 400, "UTF-8"),
        ("POST", "/stuff", "multipart/form-data", "stuff", 400, "malformed"),
        ("POST", "/stuff", "multipart/form-data; boundary=x", "--y\r\n", 400, "malformed"),
        ("POST", "/stuff", MULTIPART, PART.format("stuff", "") + "a\r\n--x--", 400, "missing"),
        (
            "POST",
            "/stuff",
            MULTIPART,
            PART.format("stuff", "").encode() + b"\xff\r\n--x--",
            400,
            "UTF",
        ),
        ("POST", "/stuff", MULTIPART, PART.format("s", ";a=b" * 500) + "a\r\n--x--", 400, "header"),
        *(
            ("POST", "/stuff", MULTIPART, body, 400, word)
            for body, word in [
                (PART.format("a\rb", "") + "a\r\n--x--", "a header"),
                (PART.format("a\nb", "") + "a\r\n--x--", "a header"),
                (PART.format("a\r\nb", "") + "a\r\n--x--", "a header"),
                (PART.format("a", "\r ;x=y") + "a\r\n--x--", "a header"),
                (PART.format("a", "\r\n ;x=y") + "a\r\n--x--", "a header"),
                (PART.format("a", "\r\nX-A: 1\r\nx-a: 2") + "a\r\n--x--", "a header"),
                (PART.format("", ";name*=utf-8''a%0D%0Ab")[:-4] + "\r\n\r\na\r\n--x--", "a name"),
                (PART.replace(";", "", 1).format("a", "") + "a\r\n--x--", "a name"),
                (PART.replace("name", "nom").format("a", "") + "a\r\n--x--", "a name"),
                ("--x\r\n\r\na\r\n--x--", "blank line"),
                ("--x\r\na\r\n--x--", "blank line"),
                (PART.format("a", "") + "a\r\n--x--more", "its boundary"),
                (PART.format("a", "") + "a\r\n--x\r\n", "its boundary"),
                ("before" + PART.format("a", "") + "a\r\n--x--", "its boundary"),
                ("--x--\r\n" + PART.format("a", "") + "a\r\n--x--", "blank line"),
                ((PART.format("a", "") + "a\r\n") * 101 + "--x--", "100 parts"),
                ((PART.format("a", "") + "a\r\n") * 100 + "--x--", '"a" is there twice'),
                ("--x--", "missing"),
            ]
        ),
        ("POST", "/stuff", f"multipart/form-data; boundary={'x' * 71}", "--x--", 400, "boundary"),
        ("POST", "/stuff", 'multipart/form-data; boundary=""', "----", 400, "boundary"),
        ("POST", "/stuff", "text/plain", '{"stuff":"a","price":1}', 400, "Content-Type"),
        ("POST", "/stuff", None, '{"stuff":"a","price":1}', 400, "Content-Type"),
        # parameters
        ("POST", "/stuff", JSON, '{"stuff":"a"}', 400, '"price" is missing'),
        ("POST", "/stuff", JSON, '{"stuff":"a","price":1,"<b>":2}', 400, "<b>"),
        ("POST", "/primes", FORM, "li=7&" * 1000 + "li=7", 400, "1000 parameters"),
        ("GET", "/hello?x=1", None, "", 400, "unexpected"),
        ("GET", "/hello?%3Cscript%3E=1", None, "", 400, "unexpected"),
        ("GET", "/stuff?after=%FF", None, "", 400, "UTF-8"),
        ("GET", "/stuff?limit=0", None, "", 400, "from 1 to 1000"),
        ("GET", "/stuff?limit=x", None, "", 400, "from 1 to 1000"),
        ("GET", "/stuff?after=", None, "", 400, "printable"),
        ("GET", "/hello-me?username=acme", None, "", 400, "URL"),
        ("GET", "/hello-me?password=x", None, "", 400, "URL"),
        ("GET", "/hello?code=x", None, "", 400, "URL"),
        ("GET", "/hello?otp=x", None, "", 400, "URL"),
        ("GET", "/hello?secret=x", None, "", 400, "URL"),
        ("PATCH", "/stuff/x?current=x", None, "", 400, "URL"),
        ("GET", "/stuff?access_token=x.y.z", None, "", 400, "URL"),
        ("GET", "/stuff?token=x.y.z", None, "", 400, "URL"),
        ("POST", "/stuff", FORM, "stuff=a&price=5&price=6", 400, '"price" is there twice'),
        ("POST", "/stuff?price=5&price=5", FORM, "stuff=a", 400, '"price" is there twice'),
        ("POST", "/stuff?price=5", FORM, "stuff=a&price=6", 400, '"price" is there twice'),
        ("POST", "/stuff?price=5", JSON, '{"stuff":"a","price":6}', 400, '"price" is there twice'),
        ("GET", "/stuff?limit=1&limit=2", None, "", 400, '"limit" is there twice'),
        ("POST", "/primes?li=7", JSON, '{"li":[7]}', 400, '"li" is there twice'),
        ("GET", "/hello?7=1", JSON, members(1000), 400, '"7" is there twice'),
        ("POST", "/days", FORM, 'who={"name":"a","name":"b","born":"2000-01-01"}', 400, "twice"),
        ("GET", "/days?who=%7B%22name%22:1,%22name%22:2%7D", None, "", 400, "twice"),
        ("POST", "/days", FORM, "who=x", 400, "must be JSON"),
        # addresses and methods
        ("GET", "/none", None, "", 404, "not found"),
        ("GET", "/nothing/%3Cb%3E", None, "", 404, "not found"),
        ("GET", "/stuff//x", None, "", 404, "not found"),
        ("GET", "/hello/", None, "", 404, "not found"),
        ("GET", "/stuff/a/b", None, "", 404, "not found"),
        ("GET", "/static/app.py", None, "", 404, "not found"),
        ("GET", "/stuff/%F0%9F%90%9E", None, "", 404, "no such stuff"),
        ("GET", "/stuff/a%0D%0AX-Bad:%201", None, "", 404, "no such stuff"),
        ("GET", "/stuff/%FF%00", None, "", 404, "no such stuff"),
        ("GET", "/stuff/" + "x" * 4000, None, "", 404, "no such stuff"),
        ("PUT", "/stuff", None, "", 405, "not allowed"),
        ("DELETE", "/hello", None, "", 405, "not allowed"),
        ("BREW", "/hello", None, "", 405, "not allowed"),
        # sizes
        ("POST", "/stuff", JSON, '{"stuff":"' + "x" * MIB + '"}', 413, "capacity"),
        ("POST", "/stuff", FORM, "stuff=" + "x" * MIB, 413, "capacity"),
        ("POST", "/stuff", None, "x" * 6 * MIB, 413, "capacity"),
        ("GET", "/len", JSON, '{"p":"' + "x" * (MIB - 8) + '"}', 200, None),
        ("POST", "/len", FORM, "p=%22" + "x" * (MIB - 8) + "%22", 200, None),
    ],
)
def test_malformed(target, method, path, kind, body, status, word):
    """Each gets its status, and one that is refused says why."""
    res = target.send(method, path, body, kind, who="susie")
    assert res.status == status, res
    if word:
        assert word in res.error


def test_allow(target):
    """405 says what is allowed (RFC 9110)."""
    allowed = target.send("PUT", "/stuff").headers["Allow"].split(", ")
    assert sorted(allowed) == ["GET", "HEAD", "OPTIONS", "POST"]


def test_options_and_head(target):
    """What Flask answers by itself goes through the guard as well."""
    res = target.send("OPTIONS", "/stuff")
    assert (res.status, res.body) == (200, b"")
    assert "PATCH" in target.send("OPTIONS", "/stuff/x").headers["Allow"]
    assert target.send("HEAD", "/hello").status == 200


@pytest.mark.parametrize(
    ("method", "path", "value", "status"),
    [
        ("GET", "/hello", {}, 200),
        ("GET", "/hello-me", {}, 200),
        ("GET", "/stuff", {}, 200),
        ("POST", "/stuff", {"stuff": "</script><b>", "price": 1}, 400),
        ("GET", "/days", {"who": {"name": "<b>", "born": "2000-01-01"}}, 200),
        ("GET", "/primes", {"li": [2, 4]}, 200),
        ("GET", "/len", {"p": "<b>"}, 200),
    ],
)
def test_everything_is_json(target, method, path, value, status):
    """Never `text/html`, whatever the user's text is."""
    res = target.send_json(method, path, value, who="susie")
    assert res.status == status
    assert res.headers["Content-Type"] == "application/json"
    assert res.headers["Application"] == "Acme"
    assert res.headers["X-Content-Type-Options"] == "nosniff"
    assert res.headers["Cache-Control"] == "no-store"
    json.loads(res.body)


@pytest.mark.parametrize("target", LIVE, indirect=True)
def test_no_versions(target):
    """In production no header tells a version, or what FlaskSimpleAuth did."""
    for path, status in ("/hello", 200), ("/stuff", 401), ("/", 200), ("/none", 404):
        res = target.send("GET", path)
        assert res.status == status
        assert not [name for name in res.headers if name.lower().startswith("fsa-")]
        assert res.headers["Server"] == "granian"


@pytest.mark.parametrize("target", ["memory"], indirect=True)
@pytest.mark.parametrize(
    ("address", "url", "status"),
    [
        ("192.0.2.1", "http://acme.org", 403),
        ("192.0.2.1", "http://localhost", 403),
        ("::ffff:192.0.2.1", "http://acme.org", 403),
        ("12.7.0.1", "http://acme.org", 403),
        ("192.0.2.1", "https://acme.org", 201),
        ("127.0.0.9", "http://acme.org", 201),
        ("::1", "http://acme.org", 201),
    ],
)
def test_plain_http_from_another_machine_is_refused(target, address, url, status):
    """403, in JSON, and nothing is changed."""
    name = new_name()
    with app.test_client() as client:
        res = client.post(
            "/stuff",
            json={"stuff": name, "price": 1},
            headers=target.bearer("susie"),
            base_url=url,
            environ_base={"REMOTE_ADDR": address},
        )
    assert (res.status_code, list(res.json)) == (status, ["error" if status == 403 else "msg"])
    found = target.send("GET", f"/stuff/{name}", who="susie").status
    assert found == (404 if status == 403 else 200)


def test_text_of_a_route_is_no_html():
    """A fork whose route returns a text does not serve it as HTML."""
    with app.test_request_context():
        assert app.make_response("<script>").content_type == "text/plain"


@pytest.mark.parametrize(
    ("body", "shown"), [({"error": "no tea"}, "no tea"), ({"x": 1}, '{"x":1}')]
)
def test_errors_of_a_fork(body, shown):
    """An error that a route makes by itself has the same shape as all others."""
    with app.test_request_context():
        response = app.make_response((body, 418))
        assert errors.finish_error(response).json["error"].strip() == shown


@pytest.mark.parametrize("kind", [JSON, FORM, "multipart/form-data", "text/plain"])
def test_empty_body(target, kind):
    """What some clients send with GET: a content type, and nothing behind it."""
    assert target.send("GET", "/hello", "", kind).status == 200


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("kind", [JSON, FORM, "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(
    ("size", "status"), [(9, 400), (MIB // 2, 400), (MIB, 413), (2 * MIB, 413)]
)
def test_chunked(target, kind, size, status):
    """A body without Content-Length is read, and not cut off where it is too large.

    Not so a form, of which nobody could tell whether it is all there: 411.
    """
    if kind == FORM and status == 400:
        status = 411
    chunks = iter([b"x" * 65536] * (size // 65536) + [b"x" * (size % 65536)])
    headers = {"Content-Type": kind} | target.bearer("susie")
    connection = http.client.HTTPConnection(target.url.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        connection.request("POST", "/stuff", chunks, headers)
        with connection.getresponse() as answer:
            assert answer.status == status


def raw(target, head, body="", end=True):
    """The status of what is sent to the server as it is, 0 if it only closes the connection.

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
def test_host_header(protocol, hosts, status):
    """The same in process, as granian hands it on."""
    environ = EnvironBuilder("/hello").get_environ()
    environ |= {"SERVER_PROTOCOL": protocol, "HTTP_HOST": ",".join(hosts)}
    assert run_wsgi_app(app, environ)[1].split()[0] == str(status)
    if not hosts:
        del environ["HTTP_HOST"]
        assert run_wsgi_app(app, environ)[1].split()[0] == str(status)


@pytest.mark.parametrize("path", ["/", "/www/index.html", "/docs", "/hello"])
@pytest.mark.parametrize("header", ["If-Modified-Since", "If-Unmodified-Since", "If-Range", "Date"])
@pytest.mark.parametrize(
    "date",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 10000 00:00:00 GMT",
        "Mon, 01 Jan 0001 00:00:00 +1400",
        "Fri, 31 Dec 9999 23:59:59 -1400",
        "Mon, 01 Jan 2020 00:00:00 +99999999999",
        "Mon, 99999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 2020 99999999999:00:00 GMT",
        "Mon, 00 Jan 0000 00:00:00 GMT",
        "9" * 5000,
        "x",
    ],
)
def test_dates_beyond_any_calendar_are_ignored(path, header, date):
    """As RFC 9110 asks of what is no date."""
    with app.test_client() as client:
        res = client.get(path, headers={header: date, "Range": "bytes=0-1"}, buffered=True)
    assert res.status_code in (200, 206, 304)


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("kind", [JSON, MULTIPART])
@pytest.mark.parametrize("place", range(3))
def test_truncated_chunked_body_is_refused(target, kind, place):
    """Chunks whose end does not come are 400 and change nothing, wherever they break off."""
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


def test_worst_requests_are_bounded():
    """What once took too much keeps within 0.5 s of CPU and 50 MiB (make worst has all)."""
    words = ["in the query", "levels", "form: percent", "header with CR", "an order: many"]
    done = subprocess.run(
        [sys.executable, "bench/worst.py", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,  # seconds, whatever else the machine does
    )
    assert done.returncode == 0, done.stdout
    assert len(done.stdout.splitlines()) > 12


@pytest.mark.parametrize("target", LIVE, indirect=True)
@pytest.mark.parametrize("headers", ["Content-Length: {}", "Transfer-Encoding: chunked"])
def test_cut_short(target, headers):
    """A body whose end does not arrive changes nothing, even if what is there looks whole."""
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


def test_query_beside_json_type(target, thing):
    """Some clients send a JSON content type with everything: the query is read as ever."""
    name = thing("susie")
    for path in f"/stuff?limit=1&after={name}", "/primes?li=7", "/len?p=7":
        assert target.send("GET", path, "", JSON, who="susie").status == 200
    assert target.send("GET", "/len?p=7", "", JSON).json == {"len": "not available"}
    assert target.send("PATCH", f"/stuff/{name}?price=3", "{}", JSON, who="susie").status == 200


def test_errors_are_short(target):
    """An error does not repeat a request of any length."""
    for value in {f"x{n}": 1 for n in range(50_000)}, {"who": ["x" * 100_000]}:
        res = target.send_json("POST", "/days", value)
        assert res.status == 400
        assert len(res.error) <= 501


def test_no_dev_headers_break(monkeypatch):
    """In `dev` mode the path is shown in a header, whatever it is (in process nobody notices)."""
    monkeypatch.setattr(app._fsa, "_mode", 2)
    with app.test_client() as client:
        for path in "/é", "/🍺", "/a\r\nb", "/%FF", "/%00":
            res = client.get(path)
            assert res.status_code == 404
            assert all(str(v).isascii() for v in res.headers.values())


RUBBISH = st.one_of(
    st.binary(max_size=60),
    st.text(st.characters(codec="utf-8"), max_size=30).map(str.encode),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3),
    ).map(lambda v: json.dumps(v).encode()),
)
SEGMENTS = ["hello", "hello-me", "stuff", "token", "refresh", "otp", "user", "sessions", "days"]
SEGMENTS += ["primes", "len", "acme", "password", "www", "index.html", "docs", "openapi.json", ".."]


NAMES = "Accept Content-Length Cookie Expect Host If-Modified-Since If-None-Match If-Range Origin "
NAMES += "Range Referer X-Forwarded-For X-Requested-With"
HEADERS = st.dictionaries(
    st.sampled_from(NAMES.split()),
    st.sampled_from(
        ["refresh=x.y", "fetch", "bytes=0-1", "bytes=9-", '"x"', "a:b", "[::1]:x", "-1"]
    )
    | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=10),
    max_size=3,
)


# EXAMPLES=20000 for a long run
@settings(
    max_examples=int(os.environ.get("EXAMPLES", "300")),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "FOO"]),
    path=st.lists(st.sampled_from(SEGMENTS) | st.text(max_size=5), max_size=3).map("/".join),
    query=st.binary(max_size=20).map(lambda b: b.decode("latin-1")),
    kind=st.sampled_from([JSON, FORM, "multipart/form-data; boundary=x", "text/plain", "", "é"]),
    body=RUBBISH,
    headers=HEADERS,
    authorization=st.sampled_from(["", "Basic", "Basic é", "Basic YTpi", "Bearer", "Bearer x.y.z"]),
)
def test_rubbish(method, path, query, kind, body, headers, authorization):
    """Whatever comes in, no 5xx, and JSON from 400 up."""
    with app.test_client() as client:
        res = client.open(
            path=f"/{urllib.parse.quote(path.strip('/'))}?{urllib.parse.quote(query, safe='%&=')}",
            method=method,
            data=body,
            headers={"Content-Type": kind, "Authorization": authorization} | headers,
            buffered=True,
        )
    assert res.status_code < 500
    assert res.status_code < 400 or method == "HEAD" or list(res.json) == ["error"]


# --- pages


@pytest.mark.parametrize("path", ["/", "/www/index.html"])
def test_page(target, path):
    """A page gets nothing from elsewhere; browsers keep it as long as it is the same."""
    page = target.send("GET", path)
    assert page.status == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert page.headers["Cache-Control"] == "no-cache"
    again = target.send("GET", path, headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize("target", ["memory"], indirect=True)
@pytest.mark.parametrize("path", ["/", "/www/index.html", "/docs"])
def test_pages_run_nothing_inline_and_load_nothing_from_other_origins(target, path):
    """The content security policy of each page, whole: one word more may open it."""
    policy = target.send("GET", path).headers["Content-Security-Policy"]
    assert dict(directive.strip().split(" ", 1) for directive in policy.split(";")) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


@pytest.mark.parametrize(("part", "status"), [("bytes=0-1", 206), ("bytes=99999999-", 416)])
def test_range(target, part, status):
    """A part of a page; one that there is not is no fault of ours."""
    assert target.send("GET", "/", headers={"Range": part}).status == status


@pytest.mark.parametrize(
    "path", ["/www/no", "/www/../app.py", "/www/%2e%2e/app.py", "/www/%2fetc/passwd"]
)
def test_no_page(target, path):
    """What is no file of the front end is a JSON 404."""
    answer = target.send("GET", path)
    assert answer.status == 404
    assert answer.error


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whole_answers(target, method):
    """An answer has its length, and HEAD that of GET's, without the body; 204 has neither."""
    res = target.send(method, "/hello")
    body = (
        json.dumps({"msg": "hello", "version": fsa.__version__}, separators=",:").encode() + b"\n"
    )
    assert (res.status, res.headers["Content-Length"]) == (200, str(len(body)))
    assert res.body == (body if method == "GET" else b"")
    name = new_name()
    assert target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, "susie").status == 201
    res = target.send("DELETE", f"/stuff/{name}", who="susie")
    assert (res.status, res.body, res.headers.get("Content-Length")) == (204, b"", None)


def test_coroutines():
    """What Flask asks of each hook and route at each request is remembered, and still asked."""

    async def route() -> None:
        pass

    assert app.ensure_sync(len) is len
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async"):
            app.ensure_sync(route)


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [("x", 1.5), None, True]},
        [values.Price(6.5), 1e22, 5e-324, 2**63, 10**300, -1],
        {"é": '€ \x7f \u2028 " \\ \0', "": ""},
        ["\ud800"],
        {1: 2},
        base.Profile("susie", "susie@acme.org", True, True, False),
        datetime.date(2020, 7, 29),
        datetime.datetime(2020, 7, 29, 1, 2, 3),
        values.Login("susie"),
    ],
)
def test_answers_in_json(value):
    """Whoever writes it, JSON of a value says the same, in the same order."""
    with app.test_request_context():
        text = app.json.response(value).get_data(as_text=True)
    expected = json.loads(app.json.dumps(value))
    assert json.loads(text) == expected
    assert text.endswith("\n")
    assert not isinstance(expected, dict) or list(json.loads(text)) == list(expected)
