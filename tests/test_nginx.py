"""Behind nginx, as deploy/nginx.conf configures it: TLS, forwarded addresses, slow clients."""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys

import pytest

from tests.certificates import make_certificate
from tests.conftest import (
    PASSWORD,
    ROOT,
    SECRET,
    Target,
    free_port,
    serving,
    until,
    wait_for,
)

# around that file: an instance of our own, in a folder
CONFIGURATION = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {}
}}
"""


@contextlib.contextmanager
def nginx_before(place, behind):
    """nginx before Acme on the port `behind`, with files in a folder; yields its own port."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not program:
        pytest.skip("sudo apt-get install nginx")
    make_certificate(place)
    port = free_port()
    part = (ROOT / "deploy/nginx.conf").read_text()
    for old, new in [
        ("listen 443", f"listen 127.0.0.1:{port}"),
        ("/etc/acme/", f"{place}/"),
        ("127.0.0.1:5000", f"127.0.0.1:{behind}"),
    ]:
        assert old in part
        part = part.replace(old, new)
    (place / "nginx.conf").write_text(CONFIGURATION.format(part))
    with subprocess.Popen([program, "-p", place, "-c", "nginx.conf", "-e", "stderr"]) as process:
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def nginx(tmp_path_factory):
    """Acme behind nginx: the port of nginx, Acme itself, where it writes its log."""
    place = tmp_path_factory.mktemp("nginx")
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
    with serving(*command, ready="Ctrl-C", **environ), nginx_before(place, behind) as port:
        wait_for(behind)
        target = Target(f"http://127.0.0.1:{behind}")
        target.person("susie")
        yield place, port, target, log


def send(nginx, method, path, value=None, address="127.0.0.1", **headers):
    """Send a request over TLS, from an address of this machine."""
    place, port, _, _ = nginx
    context = ssl.create_default_context(cafile=place / "cert.pem")
    connection = http.client.HTTPSConnection(
        "127.0.0.1", port, timeout=20, source_address=(address, 0), context=context
    )
    dashed = {name.replace("_", "-"): text for name, text in headers.items()}
    headers |= dashed  # WSGI would take the one for the other: nginx drops the underscores
    body = json.dumps(value) if value is not None else None
    with contextlib.closing(connection):
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        response = connection.getresponse()
        return response.status, response.headers, json.loads(response.read() or "null")


def sign_in(nginx, password=PASSWORD, address="127.0.0.1", **headers):
    value = {"username": "susie", "password": password}
    return send(nginx, "POST", "/token", value, address, **headers)


def test_requests_over_tls_are_secure(nginx):
    """A Secure cookie, and Strict-Transport-Security: Acme knows that the client speaks TLS."""
    status, headers, _ = sign_in(nginx)
    assert status == 201
    assert "Secure" in headers["Set-Cookie"]
    assert headers["Strict-Transport-Security"].startswith("max-age=")
    assert headers["Server"] == "nginx"


@pytest.mark.parametrize(
    ("origin", "status"),
    [("https://127.0.0.1:{}", 200), ("https://127.0.0.1", 403), ("http://127.0.0.1:{}", 403)],
)
def test_own_origin_is_that_of_nginx(nginx, origin, status):
    """A page that nginx serves may change things, one on another port of it may not (CSRF)."""
    headers = {"Origin": origin.format(nginx[1]), "Sec-Fetch-Site": "same-origin"}
    assert send(nginx, "POST", "/len", {"p": []}, **headers)[0] == status


def test_client_cannot_forge_its_address(nginx):
    """Sessions and the audit trail have a client's address, whatever it says of itself."""
    forged = {"X_Forwarded_For": "198.51.100.1", "X_Forwarded_Host": "evil.org"}
    status, _, value = sign_in(nginx, address="127.0.0.5", **forged)
    assert status == 201
    token = f"Bearer {value['token']}"
    _, _, sessions = send(nginx, "GET", "/user/susie/sessions", Authorization=token, **forged)
    assert "127.0.0.5" in {session["from"] for session in sessions}
    log = nginx[3].read_text()
    assert '"from": "127.0.0.5"' in log
    assert "198.51.100.1" not in log + str(sessions)


def test_rate_limit_counts_the_client_address(nginx):
    """Failed logins count for their address, and another X-Forwarded-For makes no other one."""
    statuses = [
        sign_in(nginx, "Wrong-1", "127.0.0.6", X_Forwarded_For=f"198.51.100.{n}")[0]
        for n in range(4)
    ]
    assert statuses == [401, 401, 429, 429]
    assert sign_in(nginx, address="127.0.0.8")[0] == 201


def connect(nginx, address):
    """A connection over TLS, from an address of this machine, on which a body has begun."""
    place, port, _, _ = nginx
    context = ssl.create_default_context(cafile=place / "cert.pem")
    connection = socket.create_connection(("127.0.0.1", port), 20, (address, 0))
    secure = context.wrap_socket(connection, server_hostname="127.0.0.1")
    secure.sendall(b"POST /len HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
    return secure


def test_slow_bodies_never_reach_acme(nginx):
    """nginx waits for bodies, Acme for none: no request is even refused."""
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(nginx, "127.0.0.7"))
        for _ in range(10):
            assert send(nginx, "POST", "/len", {"p": []})[0] == 200


def test_connections_of_one_address_are_limited(nginx):
    """One address has 50 connections, others go on."""
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connect(nginx, "127.0.0.9"))

        def is_refused():
            try:
                send(nginx, "GET", "/hello", address="127.0.0.9")
            except json.JSONDecodeError:  # nginx's own page
                return True
            return False

        until(is_refused)
        assert send(nginx, "GET", "/hello")[0] == 200
