"""Pages of other origins: those of `ACME_ORIGINS` may call with tokens, others may not."""

import contextlib
import functools
import http.server
import json
import sys
import threading

import pytest

from tests.application import new_application
from tests.conftest import PASSWORD, Target, granian, new_name, run
from web import cors

SCRIPT = """async ([url, method, token, body]) => {
    const headers = {"X-Requested-With": "fetch"}
    if (token) headers.Authorization = `Bearer ${token}`
    if (body) headers["Content-Type"] = "application/json"
    try {
        const response = await fetch(url, {method, headers, body})
        const shown = ["Location", "Link", "Retry-After", "WWW-Authenticate", "Allow"]
            .filter(name => response.headers.get(name))
        const text = await response.text()
        return [response.status, text ? JSON.parse(text) : null, shown]
    } catch (error) {
        return [0, error.name, []]
    }
}"""


@contextlib.contextmanager
def some_page():
    """A page of another origin, which is its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def origins():
    """Two pages, of which Acme knows the first."""
    with some_page() as known, some_page() as stranger:
        yield known, stranger


@pytest.fixture(scope="module")
def server(origins, tmp_path_factory):
    """Acme for browsers, where the third failed attempt is too many."""
    environ = {
        "ACME_DATABASE": f"sqlite:///{tmp_path_factory.mktemp('cors')}/acme.db",
        "ACME_ORIGINS": f"https://example.org, {origins[0]}",
        "ACME_RATE_LIMIT": "2/hour, 100/hour",
        "WORKERS": "1",
    }
    with granian(**environ) as url:
        target = Target(url)
        target.person("susie")
        yield target


@pytest.fixture(scope="module")
def target():
    """Acme in this process."""
    with new_application(ACME_ORIGINS="https://example.org, http://[::1]:8080") as app:
        target = Target(None, app)
        target.person("susie")
        yield target


def test_allowed_origin_signs_in_calls_and_reads_errors(server, origins, page):
    """It signs in, calls, and reads errors of every kind, with what headers say of them."""
    token = server.people["susie"]
    name = new_name()
    page.goto(origins[0])

    def call(method, path, body=None, token=token):
        return page.evaluate(SCRIPT, [server.url + path, method, token, body])

    sign_in = '{{"username": "{}", "password": "{}"}}'.format
    status, value, shown = call("POST", "/token", sign_in("susie", PASSWORD), None)
    assert (status, list(value), shown) == (201, ["token"], ["Location"])
    new = f'{{"stuff": "{name}", "price": 5}}'
    for method, path, body, expected, header in [
        ("POST", "/stuff", new, 201, ["Location"]),
        ("POST", "/stuff", new, 409, []),
        ("GET", "/stuff?limit=1", None, 200, ["Link"]),
        ("PATCH", f"/stuff/{name}", '{"price": 6}', 200, []),
        ("DELETE", f"/stuff/{name}", None, 204, []),
        ("POST", "/stuff", "{", 400, []),
        ("GET", "/user", None, 403, []),
        ("GET", "/none", None, 404, []),
        ("PUT", "/stuff", None, 405, ["Allow"]),
        ("POST", "/stuff", "x" * 2**21, 413, []),
    ]:
        status, value, shown = call(method, path, body)
        assert (status, shown) == (expected, header), value
        assert status < 400 or list(value) == ["error"]
    assert call("GET", "/stuff", None, "x")[::2] == [401, ["WWW-Authenticate"]]
    for expected in 401, 401, 429:
        status, value, shown = call("POST", "/token", sign_in("nobody", "Wrong-1"), None)
        assert (status, list(value)) == (expected, ["error"])
    assert shown == ["Retry-After"]


def test_other_origin_can_neither_call_nor_read(server, origins, page):
    """It can neither call with a token nor read a response."""
    page.goto(origins[1])
    for method, path, body, token in [
        ("GET", "/stuff", None, server.people["susie"]),
        ("GET", "/hello", None, None),
        ("POST", "/token", '{"username": "susie", "password": "x"}', None),
    ]:
        url = server.url + path
        assert page.evaluate(SCRIPT, [url, method, token, body]) == [0, "TypeError", []]


# origin, what is allowed
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://example.org", "https://example.org"),
        ("https://example.org.evil.com", None),
        ("https://evil-example.org", None),
        ("https://www.example.org", None),
        ("https://example.org@evil.com", None),
        ("https://example.org%2eevil.com", None),
        ("https://example.org, https://evil.com", None),
        ("https://evil.com https://example.org", None),
        ("https://example.org/", None),
        ("https://example.org.", None),
        ("https://example.org:443", None),
        ("https://example.org:8443", None),
        ("https://example.org:80", None),
        ("http://example.org", None),
        ("http://example.org:443", None),
        ("file://example.org", None),
        ("//example.org", None),
        ("example.org", None),
        ("HTTPS://example.org", None),
        ("https://EXAMPLE.org", None),
        ("null", None),
        ("", None),
        ("*", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_only_exact_origins_get_cors_headers(target, origin, allowed, method):
    """`Vary: Origin` keeps responses apart in caches; credentials are not allowed."""
    headers = {"Origin": origin} if origin is not None else {}
    if method == "OPTIONS":
        headers |= {"Access-Control-Request-Method": "PATCH"}
    for path in "/stuff", "/none", "/hello":
        res = target.send(method, path, headers=headers)
        assert res.headers.get("Access-Control-Allow-Origin") == allowed
        assert "Origin" in res.headers["Vary"].split(", ")
        assert "Access-Control-Allow-Credentials" not in res.headers
        if method == "OPTIONS":
            assert res.status == 204
        names = "Allow, ETag, Link, Location, Retry-After, WWW-Authenticate, X-Request-ID"
        exposed = names if allowed else None
        assert res.headers.get("Access-Control-Expose-Headers") == exposed


# method, path, headers, body, status
@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status"),
    [
        ("GET", "/hello", {}, "", 200),
        ("HEAD", "/hello", {}, "", 200),
        ("GET", "/", {}, "", 200),
        ("GET", "/www/acme.js", {}, "", 200),
        ("GET", "/www/acme.js", {"Range": "bytes=0-1"}, "", 206),
        ("GET", "/www/acme.js", {"Range": "bytes=99999999-"}, "", 416),
        ("GET", "/www/acme.js", {"If-None-Match": "*"}, "", 304),
        ("GET", "/docs", {}, "", 200),
        ("GET", "/openapi.json", {}, "", 200),
        ("OPTIONS", "/stuff", {}, "", 200),
        ("OPTIONS", "/stuff", {"Access-Control-Request-Method": "PATCH"}, "", 204),
        ("POST", "/stuff", {"Content-Type": "application/json"}, "{", 400),
        ("GET", "/stuff", {}, "", 401),
        ("POST", "/hello", {"Sec-Fetch-Site": "cross-site"}, "", 403),
        ("GET", "/none", {}, "", 404),
        ("PUT", "/stuff", {}, "", 405),
        ("POST", "/stuff", {}, "x" * 2**21, 413),
    ],
)
def test_every_response_varies_with_origin(target, method, path, headers, body, status):
    """Or a cache would give the response for one origin to another."""
    assert target.send(method, path, body, headers=headers).status == status
    for origin in None, "https://example.org", "https://evil.com", "null":
        sent = headers | ({"Origin": origin} if origin else {})
        res = target.send(method, path, body, headers=sent)
        assert "Origin" in res.headers["Vary"].split(", ")
        allowed = "https://example.org" if origin == "https://example.org" else None
        assert res.headers.get("Access-Control-Allow-Origin") == allowed


# what a browser says of the page, whether the response has the refresh cookie
@pytest.mark.parametrize(
    ("headers", "has_cookie"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "https://example.org"}, False),
        ({"Origin": "https://example.org", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "https://example.org", "Sec-Fetch-Site": "same-site"}, False),
        # the server's own page, behind a proxy that changes the Host
        ({"Origin": "https://example.org", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
def test_allowed_origin_gets_no_cookie(target, headers, has_cookie):
    sign_in = json.dumps({"username": "susie", "password": PASSWORD})
    res = target.send("POST", "/token", sign_in, "application/json", headers=headers)
    assert res.status == 201
    assert ("Set-Cookie" in res.headers) == has_cookie


FORK = """
from app import app

@app.get("/note", authz="OPEN")
def get_note():
    raise RuntimeError("something is wrong")

with app.test_client() as client:
    for origin in "https://example.org", "https://evil.com":
        res = client.get("/note", headers={"Origin": origin})
        print(res.status_code, res.vary, res.headers.get("Access-Control-Allow-Origin"))
"""


def test_error_500_varies_with_origin():
    """Of a new route as well."""
    done = run(sys.executable, "-c", FORK, ACME_ORIGINS="https://example.org")
    assert done.stdout.splitlines() == ["500 Origin https://example.org", "500 Origin None"]


def test_cors_is_off_by_default():
    """Without `ACME_ORIGINS` no response has CORS headers."""
    with new_application(ACME_ORIGINS="") as app:
        for method in "GET", "OPTIONS":
            headers = {"Origin": "null", "Access-Control-Request-Method": "PATCH"}
            res = app.test_client().open("/hello", method=method, headers=headers)
            assert res.status_code == 200
            assert "Vary" not in res.headers
            assert not [name for name, _ in res.headers if name.startswith("Access-Control")]


def test_preflight_allows_what_the_front_end_sends(target):
    """And only a preflight is answered before the route."""
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "PATCH"}
    res = target.send("OPTIONS", "/stuff/x", headers=headers)
    assert (res.status, res.body) == (204, b"")
    allowed = {
        "Access-Control-Allow-Headers": "Authorization, Content-Type, Idempotency-Key, If-Match, "
        "X-Requested-With",
        "Access-Control-Allow-Methods": "DELETE, GET, PATCH, POST, PUT",
        "Access-Control-Allow-Origin": "https://example.org",
        "Access-Control-Max-Age": "600",
    }
    assert allowed.items() <= dict(res.headers).items()
    assert target.send("GET", "/hello", headers=headers).status == 200
    del headers["Access-Control-Request-Method"]
    assert target.send("OPTIONS", "/stuff/x", headers=headers).status == 200


def test_origin_with_a_default_port_or_a_path_is_no_origin():
    """What `check_origins` takes and refuses; browsers send the one form only."""
    cors.check_origins(
        ["https://a.org", "http://localhost:8080", "http://[::1]", "http://a.org:443"]
    )
    cors.check_origins(["https://a.org:80", "https://a-b.c9.org:65535"])
    for origin in (
        *("*", "null", "a.org", "https://", "https://a.org/", "https://A.org", "ftp://a.org"),
        *("http://a.org:80", "https://a.org:443", "https://a.org:0", "https://a.org\n"),
    ):
        with pytest.raises(ValueError, match="ACME_ORIGINS: ") as error:
            cors.check_origins(["https://a.org", origin])
        assert str(error.value) == (
            f"ACME_ORIGINS: {origin} must be like https://www.example.org or "
            "http://localhost:8080: no path, no *, lower case, no default port"
        )
