"""TLS as `make run` speaks it: which certificates it takes, and clients that do not finish."""

import contextlib
import os
import socket
import ssl

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.certificates import make_certificate
from tests.conftest import SECRET, free_port, listens, run, serving, until
from tests.test_serve import SERVE, get


def settings(folder):
    return {
        "ACME_DATABASE": "memory:",
        "ACME_TOKEN_SECRET": SECRET,
        "CERT": f"{folder}/cert.pem",
        "KEY": f"{folder}/key.pem",
    }


@contextlib.contextmanager
def acme(folder):
    """A server with the certificate of a folder; yields its port, and what it said."""
    port = free_port()
    with serving(*SERVE, ready="Ctrl-C", PORT=str(port), **settings(folder)) as said:
        until(lambda: listens(port))
        yield port, said


def test_client_that_trusts_the_certificate_is_served(tmp_path):
    make_certificate(tmp_path)
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with acme(tmp_path) as (port, said):
        url = f"https://127.0.0.1:{port}"
        assert get(url, os.environ["ACME_PASS"], context) == {"msg": "hello", "user": "acme"}
    assert url in said
    assert "valid only" not in said


@pytest.mark.parametrize("begins", [-2, 2], ids=["expired", "not yet valid"])
def test_certificate_that_clients_will_refuse_gives_a_warning(tmp_path, begins):
    make_certificate(tmp_path, begins=begins)
    with acme(tmp_path) as (_, said):
        assert f"CERT={tmp_path}/cert.pem is valid only from " in said


@pytest.mark.parametrize("kind", ["other key", "P-521"])
def test_unusable_key_is_refused(tmp_path, kind):
    """In one line at the start, rather than in each connection."""
    make_certificate(tmp_path, ec.SECP521R1)
    if kind == "other key":
        other = tmp_path / "other"
        other.mkdir()
        make_certificate(other)
        (other / "key.pem").rename(tmp_path / "key.pem")
    res = run(*SERVE, **settings(tmp_path))
    assert (res.returncode, res.stdout) == (1, "")
    assert res.stderr.startswith(f"acme: CERT={tmp_path}/cert.pem")
    assert len(res.stderr.splitlines()) == 1


def test_slow_handshake_is_cut_off(tmp_path):
    """After 10 seconds, which are granian's own; plain HTTP ends at once."""
    make_certificate(tmp_path)
    outgoing = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="x")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    with acme(tmp_path) as (port, _), contextlib.ExitStack() as stack:
        connections = []
        for sent in b"", hello[:100], hello, b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n":
            connection = socket.create_connection(("127.0.0.1", port), 20)
            connections.append(stack.enter_context(connection))
            connection.sendall(sent)
        for connection in connections:
            with contextlib.suppress(ConnectionError):
                while connection.recv(65536):
                    pass
