"""Attacks that were tried on Acme, each with what it must not reach."""

import base64
import hmac
import http.client
import json
import sys
import urllib.parse

import flask
import pytest

from test import app
from tests.application import new_application
from tests.conftest import SECRET, run

EVIL = "evil.example"


@pytest.mark.parametrize("target", ["memory-http"], indirect=True)
@pytest.mark.parametrize("path", [EVIL, "hello", ";", f"//{EVIL}", f"/\\{EVIL}", f"/%2f{EVIL}"])
@pytest.mark.parametrize("header", ["Host", "X-Forwarded-Host", "X-Original-URL"])
def test_nothing_redirects_to_an_address_of_the_client(target, path, header):
    """An address without `/` was 308 to the `Host`, in HTML."""
    server = urllib.parse.urlsplit(target.url).netloc
    connection = http.client.HTTPConnection(server, timeout=20)
    connection.putrequest("GET", path, skip_host=header == "Host")
    connection.putheader(header, EVIL)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status in (400, 404)
    assert EVIL not in str(response.headers)
    assert response.headers["Content-Type"] in ("application/json", None)
    assert b"<" not in body


def test_a_route_of_a_fork_does_not_redirect():
    """Not to the other spelling of an address either."""
    code = f"""if True:
        from app import app
        @app.get("/late/", authz="OPEN")
        def get_late():
            return {{}}
        for path in "/late", "/late/":
            res = app.test_client().get(path, headers={{"Host": "{EVIL}"}})
            print(res.status_code, res.content_type)
    """
    said = run(sys.executable, "-c", code).stdout.splitlines()
    assert said == ["404 application/json", "200 application/json"]


@pytest.mark.parametrize(
    "path",
    ["/%0aERROR:acme:forged", "/%0d%0aX-Bad:%201", "/%1b[2J", "/%c2%9b2J", "/%e2%80%a8", "/%00"],
)
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 404),
        ("DELETE", {"Origin": f"https://{EVIL}"}, 403),
    ],
)
def test_a_path_forges_neither_headers_nor_log_lines(caplog, path, method, headers, status):
    """In `dev` mode a header shows it, whichever check refuses the request first."""
    response = app.test_client().open(path, method=method, headers=headers)
    assert response.status_code == status
    assert all(value.isascii() and value.isprintable() for value in response.headers.values())
    assert all(record.getMessage().isprintable() for record in caplog.records)


def test_the_address_of_a_client_behind_a_proxy_is_an_address():
    """Logs and pages show it, sign-ins are counted by it, and plain HTTP is refused by it."""
    expected = {
        "192.0.2.1": "192.0.2.1",
        "192.0.2.1:4711": "192.0.2.1",
        "2001:DB8::1": "2001:db8::1",
        "[2001:db8::1]:4711": "2001:db8::1",
        "fe80::1%<script>": "fe80::1",
        "unknown": "",
        "\x1b[31m": "",
        "\x9b31m": "",
        "127.0.0.1.evil.example": "",
    }
    with new_application(ACME_PROXIES="1") as fork:
        fork.get("/where", authz="OPEN")(lambda: ([flask.request.remote_addr], 200))
        client = fork.test_client()
        for said, address in expected.items():
            headers = {"X-Forwarded-For": said, "X-Forwarded-Proto": "https"}
            assert client.get("/where", headers=headers).json == [address]


@pytest.mark.parametrize("target", ["memory"], indirect=True)
def test_html_cannot_be_framed(target):
    """Clickjacking: every HTML response forbids it, to old browsers as well."""
    paths = {rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods}
    paths = {path for path in paths if "<" not in path} | {"/www/index.html", "/www/none", "/none"}
    pages = set()
    for path in sorted(paths):
        response = target.send("GET", path)
        if "html" in response.headers["Content-Type"]:
            pages.add(path)
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Frame-Options"] == "DENY"
    assert pages == {"/", "/docs", "/www/index.html"}


# the header of a token, and what signs it: our key or none
@pytest.mark.parametrize(
    ("header", "key"),
    [
        *(({"alg": alg}, "") for alg in ("none", "None", "", None, "hs256", ["HS256"], {}, 1)),
        *(({"alg": alg}, SECRET) for alg in ("none", "HS384", "RS256", "ES256", "", None)),
        ({"alg": "HS256"}, ""),
        ({"alg": "HS256", "kid": "../../dev/null"}, ""),
        ({"alg": "HS256", "kid": "x' UNION SELECT '"}, ""),
        ({"alg": "HS256", "jwk": {"kty": "oct", "k": ""}}, ""),
        ({"alg": "HS256", "jku": "http://127.0.0.1:1/keys"}, ""),
        ({"alg": "HS256", "x5u": "http://127.0.0.1:1/keys"}, ""),
        ({"alg": "HS256", "crit": ["exp"]}, SECRET),
        ({"alg": "HS256", "crit": ["b64"], "b64": False}, SECRET),
        ({"alg": "HS256", "b64": False}, SECRET),
    ],
)
@pytest.mark.parametrize("target", ["memory-http"], indirect=True)
def test_the_header_of_a_token_decides_nothing(target, header, key):
    """Neither the algorithm nor where the key is (RFC 8725)."""
    payload = target.bearer(target.person("susie"))["Authorization"].split(".")[1]
    text = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    signature = hmac.digest(key.encode(), f"{text}.{payload}".encode(), "sha256")
    for end in "", base64.urlsafe_b64encode(signature).rstrip(b"=").decode():
        token = f"{text}.{payload}.{end}"
        response = target.send("GET", "/hello-me", headers={"Authorization": f"Bearer {token}"})
        assert (response.status, response.error) == (401, "invalid token: get a new one at /token")
