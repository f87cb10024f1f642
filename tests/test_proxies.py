"""Behind nginx and HAProxy, as deploy/ configures them: TLS, forwarded addresses, slow clients."""

import contextlib
import http.client
import json
import socket
import ssl
import sys

import pytest

from tests.certificates import make_certificate
from tests.conftest import PASSWORD, SECRET, Target, free_port, run, serving, until, wait_for
from tests.proxies import PROXIES, haproxy_configuration, program, proxy_before, replaced


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request, tmp_path_factory):
    """Acme behind a proxy: a folder, the proxy's port, Acme itself, the file of its log."""
    place = tmp_path_factory.mktemp(request.param)
    behind, log = free_port(), place / "log"
    environ = {
        "ACME_DATABASE": f"sqlite:///{place}/acme.db",
        "ACME_RATE_LIMIT": "2/hour, 3/hour",
        "ACME_PROXIES": "1",
        "ACME_TOKEN_SECRET": SECRET,
        "PORT": str(behind),
        "WORKERS": "1",
    }
    command = ("sh", "-c", f"exec {sys.executable} serve.py 2>{log}")
    with serving(*command, ready="Ctrl-C", **environ):
        wait_for(behind)
        with proxy_before(request.param, place, behind) as port:
            target = Target(f"http://127.0.0.1:{behind}")
            target.person("susie")
            yield place, port, target, log


def send(proxy, method, path, value=None, address="127.0.0.1", **headers):
    """Send a request over TLS, from an address of this machine."""
    place, port, _, _ = proxy
    context = ssl.create_default_context(cafile=place / "cert.pem")
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=20, source_address=(address, 0), context=context
    )
    dashed = {name.replace("_", "-"): text for name, text in headers.items()}
    headers |= dashed  # WSGI would take the one for the other: proxy drops the underscores
    body = json.dumps(value) if value is not None else None
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read() or "null")


def sign_in(proxy, password=PASSWORD, address="127.0.0.1", **headers):
    value = {"username": "susie", "password": password}
    return send(proxy, "POST", "/token", value, address, **headers)


def test_haproxy_accepts_its_file(tmp_path):
    """Except for addresses and the certificate, as it is."""
    make_certificate(tmp_path)
    haproxy_configuration(tmp_path, 443, [5000, 5001])
    file = tmp_path / "whole.cfg"
    file.write_text(replaced("haproxy.cfg", [("/etc/acme/", f"{tmp_path}/")]))
    done = run(program("haproxy"), "-c", "-f", str(file))
    assert (done.returncode, done.stderr) == (0, "")


def test_requests_over_tls_are_secure(proxy):
    """A Secure cookie, and Strict-Transport-Security: Acme knows that the client speaks TLS."""
    status, headers, _ = sign_in(proxy)
    assert status == 201
    assert "Secure" in headers["Set-Cookie"]
    assert headers["Strict-Transport-Security"].startswith("max-age=")


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://127.0.0.1:{}", 200), ("https://127.0.0.1", 403), ("http://127.0.0.1:{}", 403)],
)
def test_own_origin_is_that_of_the_proxy(proxy, origin, status):
    """A page that the proxy serves may change things, one on another port of it may not (CSRF)."""
    headers = {"Origin": origin.format(proxy[1]), "Sec-Fetch-Site": "same-origin"}
    assert send(proxy, "POST", "/len", {"p": []}, **headers)[0] == status


def test_client_cannot_forge_its_address(proxy):
    """Sessions and the audit trail have a client's address, whatever it says of itself."""
    forged = {"X_Forwarded_For": "198.51.100.1", "X_Forwarded_Host": "evil.org"}
    status, _, value = sign_in(proxy, address="127.0.0.5", **forged)
    assert status == 201
    token = f"Bearer {value['token']}"
    _, _, sessions = send(proxy, "GET", "/user/susie/sessions", Authorization=token, **forged)
    assert "127.0.0.5" in {session["from"] for session in sessions}
    log = proxy[3].read_text()
    assert '"from": "127.0.0.5"' in log
    assert "198.51.100.1" not in log + str(sessions)


def test_rate_limit_counts_the_client_address(proxy):
    """Failed logins count for their address, and another X-Forwarded-For makes no other one."""
    statuses = [
        sign_in(proxy, "Wrong-1", "127.0.0.6", X_Forwarded_For=f"198.51.100.{n}")[0]
        for n in range(4)
    ]
    assert statuses == [401, 401, 429, 429]
    assert sign_in(proxy, address="127.0.0.8")[0] == 201


def connect(proxy, address, size=1):
    """A connection over TLS, from an address of this machine, on which a body has begun."""
    place, port, _, _ = proxy
    context = ssl.create_default_context(cafile=place / "cert.pem")
    connection = socket.create_connection(("127.0.0.1", port), 20, (address, 0))
    secure = context.wrap_socket(connection, server_hostname="127.0.0.1")
    secure.sendall(
        b"POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b" " * size
    )
    return secure


def test_slow_bodies_never_reach_acme(proxy):
    """The proxy waits for bodies, Acme for none: no request is even refused."""
    with contextlib.ExitStack() as stack:
        for number in range(40):  # of two addresses: one alone never gets all slots
            address = f"127.0.0.{10 + number % 2}"
            stack.enter_context(connect(proxy, address, size=900_000))
        for _ in range(10):
            assert send(proxy, "POST", "/len", {"p": []})[0] == 200


def test_connections_of_one_address_are_limited(proxy):
    """One address has 50 connections, others go on."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(proxy, "127.0.0.9"))

        def is_refused():
            try:
                send(proxy, "GET", "/hello", address="127.0.0.9")
            except (
                json.JSONDecodeError,
                OSError,
            ):  # nginx's own page; HAProxy closes the connection
                return True
            return False

        until(is_refused)
        assert send(proxy, "GET", "/hello")[0] == 200
