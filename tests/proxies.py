"""nginx and HAProxy before Acme, each with its file in deploy/, on addresses of a test."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import make_certificate
from tests.conftest import ROOT, free_port, until, wait_for

PROXIES = ["nginx", "haproxy"]

# around deploy/nginx.conf: an instance of our own, in a folder
NGINX = """
daemon off; master_process off; pid nginx.pid; error_log stderr crit;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {}
}}
"""


def program(name: str) -> str:
    """The path of a program; the test is skipped if it is not installed."""
    path = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not path:
        pytest.skip(f"sudo apt-get install {name}")
    return path


def replaced(name: str, changes: list[tuple[str, str]]) -> str:
    """A file of deploy/, with addresses and paths of a test."""
    text = (ROOT / "deploy" / name).read_text()
    for old, new in changes:
        assert old in text, f"deploy/{name}: no {old}"
        text = text.replace(old, new)
    return text


def nginx_configuration(place: Path, port: int, behind: list[int]) -> Path:
    changes = [("listen 443", f"listen 127.0.0.1:{port}"), ("/etc/acme/", f"{place}/")]
    changes.append(("127.0.0.1:5000", f"127.0.0.1:{behind[0]}"))
    file = place / "nginx.conf"
    file.write_text(NGINX.format(replaced("nginx.conf", changes)))
    return file


def haproxy_configuration(place: Path, port: int, behind: list[int], check: str = "1s") -> Path:
    """`check` is the time between two health checks."""
    changes = [
        ("bind :443", f"bind 127.0.0.1:{port}"),
        ("/etc/acme/", f"{place}/"),
        ("/run/haproxy/admin.sock", f"{place}/admin"),
        ("127.0.0.1:5000", f"127.0.0.1:{behind[0]}"),
        ("127.0.0.1:5001", f"127.0.0.1:{behind[-1]}"),
        ("inter 1s", f"inter {check}"),
        # of root
        *((line, "") for line in ("user haproxy", "group haproxy", "chroot /var/lib/haproxy")),
    ]
    (place / "cert.pem.key").write_bytes((place / "key.pem").read_bytes())
    file = place / "haproxy.cfg"
    file.write_text(replaced("haproxy.cfg", changes))
    return file


@contextlib.contextmanager
def proxy_before(name: str, place: Path, *behind: int, **options: str) -> Iterator[int]:
    """A proxy before Acmes on the ports `behind`, with files in a folder; yields its own port."""
    path, port = program(name), free_port()
    make_certificate(place)
    if name == "nginx":
        nginx_configuration(place, port, [*behind])
        command = [path, "-p", str(place), "-c", "nginx.conf", "-e", "stderr"]
    else:
        file = haproxy_configuration(place, port, [*behind], **options)
        command = [path, "-db", "-f", str(file)]
    with subprocess.Popen(command) as process:
        try:
            wait_for(port)
            if name == "haproxy":
                until(lambda: set(haproxy_servers(place)) == {"UP"})
            yield port
        finally:
            process.terminate()


def haproxy_servers(place: Path) -> list[str]:
    """The state of each server: UP, DOWN, or on the way to the other."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(place / "admin"))
        connection.sendall(b"show stat acme 4 -1\n")
        with connection.makefile() as file:
            names, *servers = [line.split(",") for line in file if line.strip()]
    return [server[names.index("status")] for server in servers]
