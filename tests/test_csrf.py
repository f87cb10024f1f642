"""CSRF: other origins cannot change anything or sign a user in; the own origin can."""

import contextlib
import http.client
import json
import sys
import urllib.parse

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import Client

from test import app
from tests.conftest import PASSWORD, Target, configured, granian, new_name, run
from tests.test_auth import basic
from tests.test_cors import SCRIPT, some_page

OWN = "https://acme.example.org"
ALLOWED = "https://www.example.org"
EVIL = "https://evil.example.com"
MESSAGE = "cross-origin request refused"


@pytest.fixture
def local(monkeypatch):
    """The application in this process, with one allowed origin."""
    monkeypatch.setitem(app.config, "ACME_ORIGINS", [ALLOWED])
    with configured("memory:"):
        yield Target(None)


def post(headers, base=OWN, method="POST", application=None):
    """The status of a request that is right, sent to a host, and its error if any."""
    body = {"p": []} if method == "POST" else None
    client = Client(application or app, use_cookies=False)
    res = client.open("/len", base, method=method, json=body, headers=headers)
    return res.status_code, (res.json or {}).get("error", "")


# --- tables


# Sec-Fetch-Site, Origin, status
@pytest.mark.parametrize(
    ("site", "origin", "status"),
    [
        # clients that are no browsers
        (None, None, 200),
        # Acme's own pages, and those of browsers without Fetch Metadata
        ("same-origin", OWN, 200),
        ("same-origin", None, 200),
        ("none", None, 200),
        (None, OWN, 200),
        # other origins
        ("cross-site", None, 403),
        ("cross-site", EVIL, 403),
        ("cross-site", OWN, 403),
        ("cross-site", "null", 403),
        ("same-site", "https://www2.example.org", 403),
        ("same-site", OWN, 403),
        ("same-site", None, 403),
        ("same-origin", EVIL, 403),
        ("same-origin", "null", 403),
        ("none", EVIL, 403),
        ("", None, 403),
        ("Same-Origin", None, 403),
        ("same-origin, cross-site", None, 403),
        (None, EVIL, 403),
        (None, "null", 403),
        (None, "", 403),
        (None, "*", 403),
        (None, f"{OWN}, {EVIL}", 403),
        (None, f"{OWN} {EVIL}", 403),
        (None, f"{OWN}/", 403),
        (None, f"{OWN}:8443", 403),
        (None, f"{OWN}.evil.example.com", 403),
        (None, "https://xacme.example.org", 403),
        (None, "http://acme.example.org", 403),
        (None, "HTTPS://ACME.EXAMPLE.ORG", 403),
        (None, "https://acme.example.org\u0130", 403),
        (None, "acme.example.org", 403),
        # origins of ACME_ORIGINS
        ("cross-site", ALLOWED, 200),
        ("same-site", ALLOWED, 200),
        ("same-origin", ALLOWED, 200),  # a proxy that changes the Host
        (None, ALLOWED, 200),
        ("cross-site", f"{ALLOWED}.evil.example.com", 403),
        ("cross-site", f"{ALLOWED}:8443", 403),
        ("cross-site", ALLOWED.replace("https", "http"), 403),
        ("cross-site", ALLOWED.upper(), 403),
        ("cross-site", f"{ALLOWED}:443", 403),
    ],
)
def test_cross_origin_requests_are_refused(local, site, origin, status):
    headers = {"Sec-Fetch-Site": site, "Origin": origin}
    headers = {name: value for name, value in headers.items() if value is not None}
    found, error = post(headers)
    assert found == status
    assert (MESSAGE in error) == (status == 403)


# Host, Origin, status
@pytest.mark.parametrize(
    ("base", "origin", "status"),
    [
        ("http://localhost:5000", "http://localhost:5000", 200),
        ("http://localhost:5000", "http://localhost", 403),
        ("http://localhost:5000", "http://127.0.0.1:5000", 403),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001", 403),
        ("http://127.0.0.1", "http://127.0.0.1", 200),
        # default ports, which browsers leave out of an Origin
        ("http://127.0.0.1:80", "http://127.0.0.1", 200),
        ("https://acme.example.org:443", OWN, 200),
        ("https://acme.example.org:80", OWN, 403),
        ("http://acme.example.org:443", "http://acme.example.org", 403),
        # upper case, IPv6, a trailing dot
        ("https://ACME.Example.ORG", OWN, 200),
        ("http://[::1]:5000", "http://[::1]:5000", 200),
        ("http://[::1]", "http://[::1]", 200),
        ("http://[::1]:80", "http://[::1]", 200),
        ("http://[::1]:5000", "http://[::1]", 403),
        ("https://acme.example.org.", "https://acme.example.org.", 200),
        ("https://acme.example.org.", OWN, 403),
    ],
)
def test_own_origin_follows_host(local, base, origin, status):
    assert post({"Origin": origin}, base)[0] == status


# X-Forwarded-Proto, X-Forwarded-Host, Origin, status
@pytest.mark.parametrize(
    ("proto", "host", "origin", "status"),
    [
        ("https", "acme.example.org", OWN, 200),
        ("https", "acme.example.org:443", OWN, 200),
        ("https", "acme.example.org:8443", f"{OWN}:8443", 200),
        ("https", "acme.example.org", f"{OWN}:8443", 403),
        ("https", "[2001:db8::1]:8443", "https://[2001:db8::1]:8443", 200),
        ("https", "[2001:db8::1]", "https://[2001:db8::1]", 200),
        ("HTTPS", "Acme.Example.org", OWN, 200),
        ("http", "acme.example.org", OWN, 403),
        ("https", "acme.example.org", "http://127.0.0.1:5000", 403),
        ("https", "acme.example.org", EVIL, 403),
        # of several, the last is the proxy's own
        ("http, https", "evil.example.com, acme.example.org", OWN, 200),
        ("http, https", "evil.example.com, acme.example.org", EVIL, 403),
        # a proxy that passes the Host on, but does not repeat it
        ("https", None, "https://127.0.0.1:5000", 200),
    ],
)
def test_own_origin_follows_proxy(local, proto, host, origin, status):
    headers = {"X-Forwarded-Proto": proto, "X-Forwarded-Host": host, "Origin": origin}
    headers = {name: value for name, value in headers.items() if value is not None}
    proxied = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)
    assert post(headers, "http://127.0.0.1:5000", application=proxied)[0] == status


def test_forwarded_headers_are_not_believed_without_proxy(local):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example.com"}
    assert post(headers | {"Origin": EVIL})[0] == 403


# headers that an origin of ACME_ORIGINS sends beside Origin, status
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Mode": "cors", "Authorization": "Bearer x.y.z"}, 200),
        ({"Sec-Fetch-Mode": "cors", "Authorization": "bearer x.y.z"}, 200),
        # a form, sendBeacon and fetch without CORS
        ({"Sec-Fetch-Mode": "navigate"}, 403),
        ({"Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Mode": "same-origin"}, 403),
        # what a browser adds by itself
        ({"Sec-Fetch-Mode": "cors", **basic("acme:x")}, 403),
        ({"Sec-Fetch-Mode": "cors", "Authorization": "basic x"}, 403),
        ({"Sec-Fetch-Mode": "cors", "Authorization": "Negotiate x"}, 403),
        ({"Sec-Fetch-Mode": "cors", "Cookie": "refresh=x"}, 403),
        (basic("acme:x"), 403),
        ({"Cookie": "refresh=x"}, 403),
    ],
)
@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_allowed_origins_have_tokens_only(local, site, headers, status):
    headers = {"Origin": ALLOWED} | headers
    if site:
        headers["Sec-Fetch-Site"] = site
    found, error = post(headers)
    assert found == status
    assert ("bearer token" in error) == (status == 403)
    # as above, of one's own pages by way of a proxy that changes the Host
    assert post(headers | {"Sec-Fetch-Site": "same-origin"})[0] == 200


# method, path, status
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/hello", 200),
        ("HEAD", "/hello", 200),
        ("OPTIONS", "/hello", 200),
        ("GET", "/stuff", 401),
        ("POST", "/stuff", 403),
        ("PUT", "/user/acme/password", 403),
        ("PATCH", "/user/acme", 403),
        ("DELETE", "/token", 403),
        ("post", "/token", 403),
        ("POST", "/token/refresh", 403),
        # what there is not, is not told either
        ("POST", "/none", 403),
        ("PUT", "/hello", 403),
        ("TRACE", "/hello", 403),
        ("PROPFIND", "/hello", 403),
        ("GETX", "/hello", 403),
    ],
)
def test_all_methods_but_safe_ones_are_refused(local, method, path, status):
    res = local.send(method, path, headers={"Origin": EVIL})
    assert res.status == status
    assert method == "HEAD" or status < 400 or res.error


# content type, body
@pytest.mark.parametrize(
    ("kind", "body"),
    [("application/json", "{"), ("text/plain", "x"), ("application/json", "x" * 2**21)],
    ids=["malformed", "of no known type", "too large"],
)
def test_refused_before_body_and_authentication(local, audit_trail, kind, body):
    """The body is not parsed, no password is checked, no failure counted."""
    res = local.send("POST", "/user", body, kind, headers=basic("acme:wrong") | {"Origin": EVIL})
    assert res.status == 403
    assert MESSAGE in res.error
    assert audit_trail() == []


def test_error_tells_both_origins(local):
    """So that an operator sees what is wrong with the proxy."""
    _, error = post({"Origin": "https://acme.example.org:8443"})
    assert "https://acme.example.org:8443" in error
    assert f"{OWN} " in error
    assert "ACME_ORIGINS" in error


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": EVIL}])
def test_get_token_is_refused_as_well(local, headers):
    """It begins a session: an image on another origin would, with cached credentials."""
    local.person("susie")
    sign_in = basic(f"susie:{PASSWORD}")
    sessions = f"/user/{local.person('susie')}/sessions"
    before = local.send("GET", sessions, who="susie").json
    refused = local.send("GET", "/token", headers=headers | sign_in)
    assert (refused.status, MESSAGE in refused.error) == (403, True)
    assert local.send("GET", sessions, who="susie").json == before
    assert local.send("GET", "/token", headers=sign_in).status == 200


FORK = """
import json, sys
from app import app

changes = []

@app.post("/note", authz="OPEN")
def post_note(text: str):
    changes.append(text)
    return "", 204

@app.delete("/note", authz="AUTH")
def delete_note():
    changes.append("deleted")
    return "", 204

with app.test_client() as client:
    for method in "POST", "DELETE":
        for origin in "http://localhost", "http://evil.example.com":
            headers = {"Origin": origin}
            res = client.open("/note", method=method, json={"text": "x"}, headers=headers)
            changes.append([res.status_code, bool(res.data) and list(res.json)])
print(json.dumps(changes))
"""


def test_new_routes_are_covered():
    """A route that is added to the application needs nothing of its own."""
    done = run(sys.executable, "-c", FORK)
    refused = [403, ["error"]]
    assert json.loads(done.stdout) == ["x", [204, False], refused, [401, ["error"]], refused]


# --- over HTTP


@pytest.mark.parametrize("size", [0, 100_000, 2**21])
def test_refused_body_does_not_break_connection(site, size):
    """A client that sends the whole of a body first still reads the error, and goes on."""
    netloc = urllib.parse.urlsplit(site.url).netloc
    with contextlib.closing(http.client.HTTPConnection(netloc, timeout=20)) as connection:
        for _ in range(10):
            body = b"p=" + b"x" * size
            connection.request("POST", "/len", body, {"Origin": EVIL})
            response = connection.getresponse()
            assert (response.status, list(json.load(response))) == (403, ["error"])


# --- in a browser

FORM = """([url, fields, policy, sandbox]) => {
    document.head.innerHTML = `<meta name="referrer" content="${policy}">`
    const form = document.createElement("form")
    Object.assign(form, { method: "post", action: url })
    for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { name, value }))
    }
    document.body.append(form)
    setTimeout(() => form.submit())
}"""
FRAME = """([url, fields]) => {
    const inputs = Object.entries(fields).map(([k, v]) => `<input name="${k}" value="${v}">`)
    const frame = document.createElement("iframe")
    frame.sandbox = "allow-scripts allow-forms allow-top-navigation"
    frame.srcdoc = `<form method="post" action="${url}" target="_top">${inputs.join("")}</form>
        <script>document.forms[0].submit()</script>`
    document.body.append(frame)
}"""
SEND = """([url, fields, mode]) => {
    const body = new URLSearchParams(fields)
    return fetch(url, { method: "POST", body, mode, credentials: "include" }).catch((e) => e.name)
}"""
BEACON = """([url, fields]) => navigator.sendBeacon(url, new URLSearchParams(fields))"""
ATTACKS = {
    "form": (FORM, "unsafe-url"),
    "form without referrer": (FORM, "no-referrer"),
    "sandboxed form": (FRAME,),
    "fetch without CORS": (SEND, "no-cors"),
    "beacon": (BEACON,),
}


@pytest.fixture(scope="module")
def evil():
    """The address of a page on another port of Acme's own host."""
    with some_page() as url:
        yield url


@pytest.fixture(scope="module")
def allowed():
    """The same, of `ACME_ORIGINS`."""
    with some_page() as url:
        yield url.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def site(allowed, tmp_path_factory):
    """Acme, at 127.0.0.1."""
    database = f"sqlite:///{tmp_path_factory.mktemp('csrf')}/acme.db"
    origins = f"{allowed}, {allowed.replace('localhost', '127.0.0.1')}"
    with granian(ACME_DATABASE=database, ACME_ORIGINS=origins, WORKERS="1") as url:
        yield Target(url)


def attack(context, site, origin, how, path, fields):
    """The status of what a page of an origin sends without CORS, one way or the other."""
    script, *more = ATTACKS[how]
    page = context.new_page()
    page.goto(origin)
    with page.expect_response(f"{site.url}{path}", timeout=20_000) as response:
        page.evaluate(script, [site.url + path, fields, *more])
    return response.value.status


def from_everywhere(test):
    """Run a test from another site, from another port of the same host, and in each way."""
    test = pytest.mark.parametrize("how", ATTACKS)(test)
    return pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])(test)


@from_everywhere
def test_other_origin_cannot_replace_refresh_cookie(context, site, evil, host, how):
    """Login CSRF: from then on, the victim would work in the attacker's account."""
    victim, attacker = site.person(new_name("u")), site.person(new_name("u"))
    body = {"username": victim, "password": PASSWORD}
    assert context.request.post(f"{site.url}/token", data=body).status == 201
    (before,) = context.cookies(f"{site.url}/token")
    origin = evil.replace("127.0.0.1", host)
    body["username"] = attacker
    assert attack(context, site, origin, how, "/token", body) == 403
    assert context.cookies(f"{site.url}/token") == [before]


@pytest.fixture
def cached(new_context, site):
    """A browser that has the administrator's Basic credentials, for this server."""
    credentials = {"username": "acme", "password": app.config["ACME_PASS"], "origin": site.url}
    context = new_context(http_credentials=credentials)
    page = context.new_page()
    assert page.goto(f"{site.url}/hello-me").status == 200
    assert page.goto(f"{site.url}/stuff").request.all_headers()["authorization"].startswith("Basic")
    return context


@from_everywhere
def test_other_origin_cannot_use_cached_credentials(cached, site, evil, host, how):
    """Nobody is added, nothing is added."""
    origin = evil.replace("127.0.0.1", host)
    user = {"login": new_name("u"), "email": "evil@example.com", "password": PASSWORD}
    name = new_name()
    assert attack(cached, site, origin, how, "/user", user) == 403
    assert attack(cached, site, origin, how, "/stuff", {"stuff": name, "price": "1"}) == 403
    site.person("acme")
    assert site.send("GET", f"/user/{user['login']}", who="acme").status == 404
    assert site.send("GET", f"/stuff/{name}", who="acme").status == 404


@pytest.mark.parametrize("how", ATTACKS)
def test_allowed_origin_cannot_use_forms(cached, site, allowed, how):
    """Nor anything else that is sent without CORS: only a script's own token counts."""
    name = new_name()
    assert attack(cached, site, allowed, how, "/stuff", {"stuff": name, "price": "1"}) == 403
    site.person("acme")
    assert site.send("GET", f"/stuff/{name}", who="acme").status == 404


def test_allowed_origin_can_use_tokens(page, site, allowed):
    """It signs in and changes things by fetch, with a token."""
    login, name = site.person(new_name("u")), new_name()
    page.goto(allowed)
    sign_in = json.dumps({"username": login, "password": PASSWORD})
    status, value, _ = page.evaluate(SCRIPT, [f"{site.url}/token", "POST", None, sign_in])
    assert status == 201
    stuff = json.dumps({"stuff": name, "price": 5})
    assert page.evaluate(SCRIPT, [f"{site.url}/stuff", "POST", value["token"], stuff])[0] == 201
    assert site.send("GET", f"/stuff/{name}", who=login).status == 200


def test_browser_of_allowed_origin_gets_no_cookie(page, site, allowed):
    """Not even on the same site, where a browser would take one that is SameSite=Strict."""
    login = site.person(new_name("u"))
    page.goto(allowed.replace("localhost", "127.0.0.1"))
    body = {"username": login, "password": PASSWORD}
    assert page.evaluate(SEND, [f"{site.url}/token", body, "cors"]) == "TypeError"
    assert len(site.send("GET", f"/user/{login}/sessions", who=login).json) == 2
    assert page.context.cookies(f"{site.url}/token") == []
