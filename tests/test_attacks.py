"""Attacks that were tried on Acme, each with what it must not reach."""

import http.client
import sys
import urllib.parse

import pytest

from test import app
from tests.conftest import run

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
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status in (400, 404)
    assert EVIL not in str(answer.headers)
    assert answer.headers["Content-Type"] in ("application/json", None)
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


@pytest.mark.parametrize("target", ["memory"], indirect=True)
def test_no_page_may_be_framed(target):
    """Clickjacking: whatever is HTML forbids it, to old browsers as well."""
    paths = {rule.rule for rule in app.url_map.iter_rules() if "GET" in rule.methods}
    paths = {path for path in paths if "<" not in path} | {"/www/index.html", "/www/none", "/none"}
    pages = set()
    for path in sorted(paths):
        answer = target.send("GET", path)
        if "html" in answer.headers["Content-Type"]:
            pages.add(path)
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Frame-Options"] == "DENY"
    assert pages == {"/", "/docs", "/www/index.html"}
