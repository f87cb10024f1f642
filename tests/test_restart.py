"""Stops, reloads and restarts: nothing that a client sent is lost, and nothing is made twice."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import sys
import time

import pytest

import serve
from security import secret_files
from store.base import Profile
from tests.certificates import make_certificate
from tests.conftest import ROOT, free_port, listens, opened, run, until, wait_for
from tests.proxies import PROXIES, haproxy_servers, proxy_before
from tests.restarts import (
    MANY,
    RELOADS,
    SERVE,
    Load,
    check_stored,
    connect,
    main_process,
    reload,
    workers_of,
)


@pytest.mark.parametrize("proxied", [True, False], ids=["nginx", "standalone"])
def test_reload_under_load_loses_no_request(tmp_path, proxied):
    """SIGHUP, with several workers, several times."""
    behind, url = free_port(), f"sqlite:///{tmp_path}/acme.db"
    environ = {"ACME_DATABASE": url, "PORT": str(behind), "WORKERS": "2"}
    with contextlib.ExitStack() as stack:
        if proxied:
            environ["ACME_PROXIES"] = "1"
        process = stack.enter_context(main_process(**environ))
        wait_for(behind)
        port = stack.enter_context(proxy_before("nginx", tmp_path, behind)) if proxied else behind
        load = stack.enter_context(Load(port, tmp_path if proxied else None))
        for _ in range(RELOADS):
            load.until_more()
            reload(process)
            load.until_more()
        load.end.set()
    check_stored(url, load)


@pytest.mark.parametrize("proxy", PROXIES if MANY else ["haproxy"])
def test_restart_with_a_socket_of_systemd_loses_no_request(tmp_path, proxy):
    """A socket unit keeps the connections that arrive between the stop and the start."""
    url = f"sqlite:///{tmp_path}/acme.db"
    environ = {"ACME_DATABASE": url, "ACME_PROXIES": "1", "WORKERS": "2", "LISTEN_FDS": "1"}
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        number, port = listener.fileno(), listener.getsockname()[1]
        listener.set_inheritable(True)
        words = f"LISTEN_PID=$$ exec {sys.executable} serve.py 3<&{number}"
        command = ("bash", "-c", words)
        with contextlib.ExitStack() as stack:
            with main_process(*command, **environ):
                front = stack.enter_context(proxy_before(proxy, tmp_path, port))
                load = stack.enter_context(Load(front, tmp_path))
                load.until_more()
            for _ in range(RELOADS):
                with main_process(*command, **environ):
                    load.until_more()
            with main_process(*command, **environ):
                load.end.set()
                for thread in load.threads:
                    thread.join()
    check_stored(url, load)


def test_restarts_of_two_servers_behind_haproxy_lose_no_request(tmp_path):
    """Each in turn is restarted or reloaded, while the other one serves."""
    url, ports = f"sqlite:///{tmp_path}/acme.db", [free_port(), free_port()]
    environ = {"ACME_DATABASE": url, "ACME_PROXIES": "1", "WORKERS": "1"}
    environ["ACME_DRAIN"] = "3" if MANY else "1"  # seconds
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(contextlib.ExitStack()) for _ in ports]

        def start(number):
            return servers[number].enter_context(main_process(**environ, PORT=str(ports[number])))

        processes = [start(number) for number in range(2)]
        check = "1s" if MANY else "100ms"
        front = stack.enter_context(proxy_before("haproxy", tmp_path, *ports, check=check))
        load = stack.enter_context(Load(front, tmp_path))
        for number in range(RELOADS):
            load.until_more()
            if number % 4 in (1, 2):
                reload(processes[number % 2])
            else:
                servers[number % 2].close()  # SIGTERM, which must end it with status 0
                processes[number % 2] = start(number % 2)
            until(lambda: haproxy_servers(tmp_path) == ["UP", "UP"])
        load.until_more()
        load.end.set()
        for thread in load.threads:
            thread.join()
    check_stored(url, load)


def ask(connection, path):
    """Status, body and Connection header of a response; the connection stays open."""
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, json.loads(response.read()), response.getheader("Connection")


def get(port, path):
    """The same on a connection of its own."""
    with contextlib.closing(connect(port)) as connection:
        return ask(connection, path)


def test_sigterm_drains_first(tmp_path):
    """Not ready, new connections are served, each response ends its one; then no more."""
    port = free_port()
    environ = {"ACME_DATABASE": f"sqlite:///{tmp_path}/acme.db", "PORT": str(port)}
    with main_process(**environ, ACME_DRAIN="2", WORKERS="2") as process:
        wait_for(port)
        until(lambda: get(port, "/readyz") == (200, {"msg": "ready"}, None))
        process.terminate()
        until(lambda: get(port, "/readyz") == (503, {"error": "draining"}, "close"))
        assert get(port, "/hello")[::2] == (200, "close")
        until(lambda: not listens(port))
        process.wait(timeout=20)


def test_request_in_progress_at_sigterm_is_answered(tmp_path):
    """Its body arrives after the signal; an idle connection does not delay the end."""
    port = free_port()
    environ = {"ACME_DATABASE": f"sqlite:///{tmp_path}/acme.db", "PORT": str(port)}
    with main_process(**environ, WORKERS="1") as process:
        wait_for(port)
        idle = connect(port)
        assert ask(idle, "/hello")[0] == 200
        with socket.create_connection(("127.0.0.1", port), 20) as late:
            head = "POST /len HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            late.sendall(f"{head}Content-Length: 9\r\n\r\n{{".encode())
            time.sleep(0.1)  # the worker waits for the body
            process.terminate()
            until(lambda: not listens(port))
            late.sendall(b'"p":"x"}')
            assert late.recv(1000).startswith(b"HTTP/1.1 200 ")
        sent = time.monotonic()
        assert process.wait(timeout=20) == 0
        assert time.monotonic() < sent + 5
        idle.close()


@pytest.fixture
def place(tmp_path):
    """A copy of the application, with a certificate."""
    shutil.copytree(
        ROOT,
        tmp_path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".*", "node_modules", "acme.db*"),
    )
    make_certificate(tmp_path)
    return tmp_path


def test_reload_reads_code_configuration_and_certificate(place):
    """A wrong configuration changes nothing but the log; the process id stays."""
    port = free_port()
    environ = {"ACME_DATABASE": f"sqlite:///{place}/acme.db", "PORT": str(port), "WORKERS": "1"}
    environ |= {"CERT": "cert.pem", "KEY": "key.pem"}

    def version():
        with contextlib.closing(connect(port, place)) as connection:
            try:
                connection.request("GET", "/openapi.json", headers={"Origin": "https://two.org"})
            except ssl.SSLError:
                return "another certificate", None
            response = connection.getresponse()
            allowed = response.getheader("Access-Control-Allow-Origin")
            return json.loads(response.read())["info"]["version"], allowed

    with main_process(cwd=place, **environ) as process:
        wait_for(port)
        first = version()

        def reason():
            """The line that tells why there was no reload."""
            (line,) = (line for line in process.lines if "not reloaded" in line)
            process.lines.remove(line)
            assert version() == first
            return line

        (place / ".env").write_text("ACME_ORIGINS=nonsense\n")
        process.send_signal(signal.SIGHUP)
        until(lambda: any("not reloaded" in line for line in process.lines))
        assert "ACME_ORIGINS" in reason()
        half = (place / "key.pem").read_text()[:100]
        (place / "key.pem").write_text(half)  # while it is being replaced
        done = run(sys.executable, "reload.py", cwd=place)  # make reload
        assert (done.returncode, "its log says why" in done.stderr) == (1, True), done.stderr
        assert "CERT=cert.pem KEY=key.pem cannot be used" in reason()
        (place / ".env").write_text("ACME_ORIGINS=https://two.org\n")
        code = (place / "acme.py").read_text()
        (place / "acme.py").write_text(code.replace(f'"{first[0]}"', '"9.9.9"'))
        make_certificate(place)
        workers = workers_of(process)
        done = run(sys.executable, "reload.py", cwd=place)
        assert (done.returncode, done.stdout) == (0, f"acme: process {process.pid} reloaded\n")
        assert workers_of(process) - workers
        until(lambda: version() == ("9.9.9", "https://two.org"))
        for number in range(4):  # a signal during a reload is not forgotten
            new = code.replace(f'"{first[0]}"', f'"8.8.{number}"')
            (place / "acme.py").write_text(new)
            process.send_signal(signal.SIGHUP)
            time.sleep(0.3)
        until(lambda: version() == ("8.8.3", "https://two.org"))
    done = run(sys.executable, "reload.py", cwd=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no server of yours runs in {place}" in done.stderr


class UnixConnection(http.client.HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path):
        super().__init__("www.example.org")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


def accepts(path):
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def test_unix_socket(tmp_path):
    """For a proxy of the same group; it takes the place of one that nobody listens on."""
    path = tmp_path / "socket"
    environ = {"ACME_DATABASE": "memory:", "SOCKET": str(path), "ACME_PROXIES": "1"}
    for _ in range(2):  # the first one leaves it behind
        with main_process(**environ):
            until(lambda: accepts(path))
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            with contextlib.closing(UnixConnection(path)) as connection:
                assert ask(connection, "/readyz")[0] == 200
            refused = run(*SERVE, **environ)
            assert (refused.returncode, refused.stderr) == (
                1,
                f"acme: SOCKET={path}: another process listens there\n",
            )
    assert "ACME_PROXIES=1" in run(*SERVE, **environ | {"ACME_PROXIES": "0"}).stderr


@pytest.mark.parametrize(("proxies", "words"), [("1", "cannot listen on"), ("0", "TLS")])
def test_declared_proxy_allows_an_address_of_the_network(proxies, words):
    """In a container; the address here is that of no machine (RFC 5737)."""
    res = run(*SERVE, HOST="203.0.113.1", ACME_PROXIES=proxies)
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert words in res.stderr


@pytest.mark.parametrize(
    ("text", "value"),
    [("abc", "abc"), ("abc\n", "abc"), ("abc\r\n", "abc"), (" a b \n\n", " a b \n")],
)
def test_secret_of_a_file(tmp_path, monkeypatch, text, value):
    (tmp_path / "secret").write_text(text, newline="")
    monkeypatch.delenv("ACME_PASS")
    monkeypatch.setenv("ACME_PASS_FILE", str(tmp_path / "secret"))
    secret_files.load()
    assert os.environ["ACME_PASS"] == value
    assert "ACME_PASS_FILE" not in os.environ


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"a\0b"])
def test_wrong_secret_file_is_refused(tmp_path, monkeypatch, content):
    """One that is missing, empty, or no text."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.delenv("ACME_PASS")
    monkeypatch.setenv("ACME_PASS_FILE", str(path))
    with pytest.raises(ValueError, match=r"ACME_PASS_FILE=.*secret: "):
        secret_files.load()


def test_secret_and_its_file_contradict():
    res = run(*SERVE, ACME_PASS_FILE="somewhere")
    assert (res.returncode, res.stderr) == (1, "acme: set ACME_PASS or ACME_PASS_FILE, not both\n")


def test_secret_file_of_the_environment_wins_over_env_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("From-File-1")
    (tmp_path / ".env").write_text("ACME_PASS=From-Env-1\nACME_TOKEN_SECRET=from-env\n")
    monkeypatch.setattr(serve, "ENV_FILE", tmp_path / ".env")
    monkeypatch.delenv("ACME_PASS")
    monkeypatch.setenv("ACME_PASS_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("ACME_TOKEN_SECRET", "from-environment")
    serve.load_secrets()
    found = (os.environ["ACME_PASS"], os.environ["ACME_TOKEN_SECRET"])
    assert found == ("From-File-1", "from-environment")


def test_commands_read_secret_files(tmp_path):
    """`flask` as well as `make run`, and the servers that are started from files."""
    for name, text in (("pass", "From-File-1"), ("db", f"sqlite:///{tmp_path}/acme.db")):
        (tmp_path / name).write_text(text)
    files = {"ACME_PASS_FILE": f"{tmp_path}/pass", "ACME_DATABASE_FILE": f"{tmp_path}/db"}
    # without the .env of `make run`, which flask would load
    environ = {"ACME_PASS": None, "ACME_DATABASE": None, "FLASK_SKIP_DOTENV": "1", **files}
    done = run(sys.executable, "-m", "flask", "--app", "./app.py", "user", "list", **environ)
    assert done.returncode == 0, done.stderr
    with contextlib.closing(opened(f"sqlite:///{tmp_path}/acme.db")) as store:
        assert store.get_user("acme") == Profile("acme", "acme@acme.org", True, True, False, 0)
