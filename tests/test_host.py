"""The Host header, which a client chooses, leads no other client anywhere (cache poisoning)."""

import pytest

from test import app
from tests.conftest import PASSWORD, Target, configured, new_name

EVIL = "evil.example.com"


@pytest.fixture
def local():
    with configured("memory:"):
        target = Target(None)
        target.person("susie")
        yield target


@pytest.mark.parametrize("host", [EVIL, f"{EVIL}:99", f"localhost.{EVIL}", f"localhost@{EVIL}"])
def test_no_response_repeats_host(local, host):
    """Addresses are relative in headers and bodies, pages and errors included."""
    name, login = new_name(), new_name("u")
    sign_in = {"username": "susie", "password": PASSWORD}
    user = {"login": login, "password": PASSWORD, "email": f"{login}@acme.org"}
    headers = {"Host": host, "X-Forwarded-Host": host, "Forwarded": f"host={host}"}
    with app.test_client() as client:
        for method, path, who, body, status in [
            ("POST", "/token", None, sign_in, 201),
            ("POST", "/stuff", "susie", {"stuff": name, "price": 1}, 201),
            ("GET", "/stuff?limit=1", "susie", None, 200),
            ("POST", "/user", "acme", user, 201),
            ("GET", "/", None, None, 200),
            ("GET", "/docs", None, None, 200),
            ("GET", "/docs/start.js", None, None, 200),
            ("GET", "/www/acme.js", None, None, 200),
            ("GET", "/openapi.json", None, None, 200),
            ("GET", "/stuff", None, None, 401),
            ("GET", "/stuff/", None, None, 404),
            ("GET", "/www", None, None, 404),
            ("GET", "/docs/", None, None, 404),
            ("PUT", "/stuff", None, None, 405),
        ]:
            who = local.bearer(who) if who else {}
            res = client.open(path, method=method, json=body, headers=headers | who)
            # what is no host is refused as such (RFC 9112)
            assert res.status_code == (400 if "@" in host else status), path
            assert EVIL not in f"{res.headers}{res.text}", path


# Host, whether browsers are told to use TLS from now on
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("acme.example.org", True),
        ("localhost.example.org", True),
        ("localhost", False),
        ("localhost:8443", False),
    ],
)
def test_strict_transport_security_is_left_out_for_localhost_only(local, host, expected):
    with app.test_client() as client:
        res = client.get("/hello", base_url=f"https://{host}")
        assert ("Strict-Transport-Security" in res.headers) == expected
