"""Request validation: malformed requests get 400, or what HTTP has for the case, as JSON."""

import json
import os
import subprocess
import sys
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from test import app
from tests.conftest import ROOT, new_name

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
        ("POST", "/stuff", JSON, '{"stuff":"a","stuff":"b","price":1}', 400, "duplicate"),
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
                ((PART.format("a", "") + "a\r\n") * 100 + "--x--", 'duplicate parameter "a"'),
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
        ("GET", "/stuff?after=", None, "", 400, "Link"),
        ("GET", "/hello-me?username=acme", None, "", 400, "URL"),
        ("GET", "/hello-me?password=x", None, "", 400, "URL"),
        ("GET", "/hello?code=x", None, "", 400, "URL"),
        ("GET", "/hello?otp=x", None, "", 400, "URL"),
        ("GET", "/hello?secret=x", None, "", 400, "URL"),
        ("PATCH", "/stuff/x?current=x", None, "", 400, "URL"),
        ("GET", "/stuff?access_token=x.y.z", None, "", 400, "URL"),
        ("GET", "/stuff?token=x.y.z", None, "", 400, "URL"),
        ("POST", "/stuff", FORM, "stuff=a&price=5&price=6", 400, 'duplicate parameter "price"'),
        ("POST", "/stuff?price=5&price=5", FORM, "stuff=a", 400, 'duplicate parameter "price"'),
        ("POST", "/stuff?price=5", FORM, "stuff=a&price=6", 400, 'duplicate parameter "price"'),
        (
            "POST",
            "/stuff?price=5",
            JSON,
            '{"stuff":"a","price":6}',
            400,
            'duplicate parameter "price"',
        ),
        ("GET", "/stuff?limit=1&limit=2", None, "", 400, 'duplicate parameter "limit"'),
        ("POST", "/primes?li=7", JSON, '{"li":[7]}', 400, 'duplicate parameter "li"'),
        ("GET", "/hello?7=1", JSON, members(1000), 400, 'duplicate parameter "7"'),
        (
            "POST",
            "/days",
            FORM,
            'who={"name":"a","name":"b","born":"2000-01-01"}',
            400,
            "duplicate",
        ),
        ("GET", "/days?who=%7B%22name%22:1,%22name%22:2%7D", None, "", 400, "duplicate"),
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
def test_malformed_request_gets_its_status_and_reason(
    target, method, path, kind, body, status, word
):
    """The message says why it is refused."""
    res = target.send(method, path, body, kind, who="susie")
    assert res.status == status, res
    if word:
        assert word in res.error


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


def test_query_is_read_with_an_empty_json_body(target, thing):
    """Some clients send a JSON content type with each request."""
    name = thing("susie")
    for path in f"/stuff?limit=1&after={name}", "/primes?li=7", "/len?p=7":
        assert target.send("GET", path, "", JSON, who="susie").status == 200
    assert target.send("GET", "/len?p=7", "", JSON).json == {"len": "not available"}
    assert target.send("PATCH", f"/stuff/{name}?price=3", "{}", JSON, who="susie").status == 200


RANDOM_BODIES = st.one_of(
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
    body=RANDOM_BODIES,
    headers=HEADERS,
    authorization=st.sampled_from(["", "Basic", "Basic é", "Basic YTpi", "Bearer", "Bearer x.y.z"]),
)
def test_random_requests_are_never_5xx(method, path, query, kind, body, headers, authorization):
    """And from 400 up they get JSON."""
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
