"""Starting and stopping: the configuration, `make run`, its secrets, its refusals."""

import concurrent.futures
import contextlib
import json
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import dotenv
import psutil
import pytest

import test as tutorial
from store.postgresql import PostgreSQL
from tests.conftest import (
    ROOT,
    free_port,
    granian,
    listens,
    run,
    serving,
    until,
    wait_for,
)

FLASK = (sys.executable, "-m", "flask", "--app", "./app.py", "run")
SERVE = (sys.executable, "serve.py")


@pytest.mark.parametrize(
    ("command", "environ", "words"),
    [
        (FLASK, {"ACME_PASS": None}, ["ACME_PASS", "not set", "digit"]),
        (FLASK, {"ACME_PASS": "Abc1"}, ["ACME_PASS", "too short"]),
        (FLASK, {"ACME_PASS": "AcmePass"}, ["ACME_PASS", "[0-9]", "digit"]),
        (FLASK, {"ACME_PASS": "Aa0" * 100}, ["ACME_PASS", "256"]),
        (FLASK, {"ACME_TOKEN_SECRET": "x" * 31}, ["ACME_TOKEN_SECRET", "32"]),
        (FLASK, {"ACME_DATABASE": "oracle://u:Secret@x"}, ["ACME_DATABASE=oracle:", "memory:"]),
        (FLASK, {"ACME_DATABASE": "sqlite:x.db"}, ["sqlite:///relative.db"]),
        (FLASK, {"ACME_DATABASE": "sqlite:///:memory:"}, ["memory:"]),
        (SERVE, {"ACME_DATABASE": "sqlite:///no/where.db"}, ["ACME_DATABASE", "No such file"]),
        (SERVE, {"ACME_DATABASE": "sqlite:///README.md"}, ["not a database"]),
        (
            SERVE,
            {"ACME_DATABASE": "postgresql://u:Secret@127.0.0.1:1/x", "ACME_WAIT": "0"},
            ["refused"],
        ),
        (FLASK, {"ACME_DATABASE": "postgresql://u:Secret@127.0.0.1:1/x"}, ["refused"]),
        (SERVE, {"ACME_DATABASE": "postgresql://u:Secret%w@127.0.0.1/x"}, ["percent-encoded"]),
        (FLASK, {"ACME_RATE_LIMIT_STORAGE": "redis+sentinel://u:Secret@h/x"}, ["memory://"]),
        (FLASK, {"ACME_CONFIG": "nowhere.conf"}, ["nowhere.conf"]),
        (SERVE, {"ACME_PASS": "AcmePass", "ACME_TOKEN_SECRET": "x" * 32}, ["ACME_PASS"]),
        (SERVE, {"ACME_PASS": "Aa0-xyzvw"}, ["ACME_PASS", "too short", "10 characters"]),
        (SERVE, {"ACME_PASS": "Password123"}, ["ACME_PASS", "easy to guess", "common"]),
        (SERVE, {"HOST": "0.0.0.0"}, ["HOST=0.0.0.0", "TLS"]),
        (SERVE, {"HOST": "example"}, ["HOST=example", "IP address"]),
        (SERVE, {"HOST": "127.0.0.1", "PORT": "http"}, ["PORT=http"]),
        (SERVE, {"PORT": "65536"}, ["PORT=65536"]),
        (SERVE, {"PORT": "5" * 5000}, ["PORT=555"]),
        (SERVE, {"HOST": "::"}, ["HOST=::", "TLS"]),
        (SERVE, {"HOST": "localhost.example"}, ["HOST=localhost.example", "IP address"]),
        (FLASK, {"ACME_CONFIG": "README.md"}, ["README.md", "line"]),
        (FLASK, {"ACME_CONFIG": os.devnull}, ["lacks 'ACME_ORIGINS'"]),
        (SERVE, {"WORKERS": "0"}, ["WORKERS=0"]),
        (SERVE, {"ACME_MODE": "debug4"}, ["ACME_MODE=debug4", "passwords and tokens"]),
        (SERVE, {"WORKERS": "2"}, ["WORKERS", "memory"]),
        (SERVE, {"CERT": "nowhere.pem"}, ["CERT", "KEY"]),
        (SERVE, {"CERT": "nowhere.pem", "KEY": "nowhere.pem"}, ["nowhere.pem", "No such file"]),
    ],
)
def test_unsafe_configuration_is_refused(tmp_path, command, environ, words):
    """With one line on standard error and status 1, without a traceback.

    tests/test_settings.py has more of them.
    """
    shutil.copytree(
        ROOT,
        tmp_path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".*", "node_modules", "acme.db*"),
    )
    res = run(*command, cwd=tmp_path, **environ)
    assert (res.returncode, res.stdout) == (1, "")
    assert len(res.stderr.splitlines()) == 1
    assert res.stderr.startswith("acme: ")
    assert "Secret" not in res.stderr
    for word in words:
        assert word in res.stderr


def test_import_with_a_wrong_configuration_raises_one_exception():
    code = "from web.application import ConfigurationError as E\n"
    code += "try: import app\nexcept E as e: print(e)"
    for environ, said in (
        ({"ACME_MODE": "fast"}, "ACME_MODE=fast is unknown"),
        ({"ACME_CONFIG": "nowhere.conf"}, "nowhere.conf"),
        ({"ACME_DATABASE": "sqlite:///no/where.db"}, "ACME_DATABASE: "),
    ):
        assert said in run(sys.executable, "-c", code, **environ).stdout


def test_acme_auth_token_refuses_passwords_on_other_routes():
    """`ACME_AUTH=token`: passwords open nothing but the token routes, open routes stay open."""
    code = """if True:
        from app import app
        from test import ACME_BASIC
        client = app.test_client()
        token = client.get("/token", headers=ACME_BASIC).json["token"]
        for path in "/hello", "/hello-me", "/stuff", "/token":
            statuses = [
                client.get(path, headers=headers).status_code
                for headers in ({}, ACME_BASIC, {"Authorization": "Bearer " + token})
            ]
            print(path, *statuses)
    """
    res = run(sys.executable, "-c", code, ACME_AUTH="token")
    assert res.stdout.splitlines() == [
        "/hello 200 200 200",
        "/hello-me 401 401 200",
        "/stuff 401 401 200",
        "/token 401 200 401",
    ], res.stderr


@pytest.mark.parametrize(
    ("proxies", "expected"),
    [
        ("0", "127.0.0.1 http localhost"),
        ("1", "2.2.2.2 https two.org"),
        ("2", "1.1.1.1 https one.org"),
    ],
)
def test_forwarded_headers_count_for_declared_proxies_only(proxies, expected):
    """One address for each declared proxy counts, and no more."""
    code = """if True:
        from app import app
        import flask
        @app.get("/where", authz="OPEN")
        def get_where():
            request = flask.request
            return {"where": f"{request.remote_addr} {request.scheme} {request.host}"}
        headers = {
            "X-Forwarded-For": "1.1.1.1, 2.2.2.2",
            "X-Forwarded-Proto": "https, https",
            "X-Forwarded-Host": "one.org, two.org",
        }
        res = app.test_client().get("/where", headers=headers)
        print(res.json.get("where", res.json))
    """
    res = run(sys.executable, "-c", code, ACME_PROXIES=proxies)
    assert res.stdout.strip() == expected, res.stderr


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A copy of the application, as on a new machine: without secrets."""
    monkeypatch.delenv("ACME_PASS")
    monkeypatch.delenv("ACME_DATABASE")
    shutil.copytree(
        ROOT,
        tmp_path,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns(".*", "node_modules", "acme.db*"),
    )
    return tmp_path


def get(url, password, context=None, path="/hello-me", value=None):
    """The response of a route to the administrator; a POST if there is a value."""
    body = json.dumps(value).encode() if value else None
    headers = tutorial.basic_auth("acme", password) | {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, body, headers)
    with urllib.request.urlopen(request, timeout=20, context=context) as response:
        assert ("Strict-Transport-Security" in response.headers) == url.startswith("https:")
        return json.load(response)


def test_first_start_creates_secrets(place):
    """`.env` and `acme.db` are made with mode 600, and kept over a restart; the screen says so."""
    port = free_port()
    for start in range(2):
        with serving(*SERVE, ready="Ctrl-C", cwd=place, PORT=str(port)) as said:
            env = dotenv.dotenv_values(place / ".env")
            wait_for(port)
            things = [["thing", 1.0]] if start else []
            assert get(f"http://127.0.0.1:{port}", env["ACME_PASS"], path="/stuff") == things
            if not start:
                new = {"stuff": "thing", "price": 1}
                get(f"http://127.0.0.1:{port}", env["ACME_PASS"], path="/stuff", value=new)
            assert dotenv.dotenv_values(place / ".env") == env
    for secret in ".env", "acme.db":
        assert stat.S_IMODE((place / secret).stat().st_mode) == 0o600
    assert str(place / "acme.db") in said
    assert set(env) == {"ACME_PASS", "ACME_TOKEN_SECRET"}
    assert f"http://127.0.0.1:{port}" in said
    assert str(place / ".env") in said
    assert not any(secret in said for secret in env.values())


def test_environment_takes_precedence_over_env_file(place):
    """It is not written to `.env`.

    A missing secret is added to `.env` on a line of its own.
    """
    (place / ".env").write_text("ACME_PASS=From-File-1")
    (place / ".env").chmod(0o644)
    port = free_port()
    environ = {"PORT": str(port), "ACME_PASS": "From-Environ-1"}
    with serving(*SERVE, ready="Ctrl-C", cwd=place, **environ) as said:
        wait_for(port)
        assert get(f"http://127.0.0.1:{port}", "From-Environ-1") == {"msg": "hello", "user": "acme"}
    env = dotenv.dotenv_values(place / ".env")
    assert env["ACME_PASS"] == "From-File-1"
    assert len(env["ACME_TOKEN_SECRET"]) >= 32
    assert stat.S_IMODE((place / ".env").stat().st_mode) == 0o600
    assert "in the environment" in said


@pytest.mark.parametrize(
    ("ending", "send"),
    [(signal.SIGINT, os.killpg), (signal.SIGTERM, os.kill), (signal.SIGTERM, os.killpg)],
    ids=["Ctrl-C", "SIGTERM", "systemd"],
)
def test_signal_ends_the_server(place, ending, send):
    """It ends in silence, with status 0, at once, and the port is free again."""
    port = free_port()
    process = subprocess.Popen(
        SERVE,
        cwd=place,
        env=os.environ | {"PORT": str(port), "WORKERS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_for(port)
        # the main process listens before its workers have started
        get(f"http://127.0.0.1:{port}", dotenv.dotenv_values(place / ".env")["ACME_PASS"])
        send(process.pid, ending)
        assert process.communicate(timeout=8)[1] == b""  # after ten seconds workers are killed
        assert process.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def start(place, **environ):
    """A server that has just said that it serves; its workers may not have begun."""
    process = subprocess.Popen(
        SERVE,
        cwd=place,
        env=os.environ | {"PORT": str(free_port()), "WORKERS": "1"} | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )
    while "Ctrl-C" not in process.stdout.readline():
        assert process.poll() is None
    return process


def test_sigterm_in_the_first_moments_ends_it(place):
    """Also while workers are forked, which would ignore it otherwise, for ten seconds."""
    for milliseconds in (0, 10, 30):
        with start(place) as process:
            time.sleep(milliseconds / 1000)
            process.terminate()
            try:
                assert process.wait(timeout=5) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            assert process.stdout.read() == ""


FORK = """
import os, signal, time
os.register_at_fork(after_in_child=lambda: time.sleep(0.1))  # slow, as a loaded machine is
import serve
serve.handle_signals()
signal.signal(signal.SIGTERM, lambda *_: None)  # as granian's
if child := os.fork():
    os.kill(child, signal.SIGTERM)
    assert os.waitpid(child, 0)[1] == signal.SIGTERM
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""


def test_sigterm_at_the_fork_of_a_worker_ends_it():
    """The handler of the main process must not swallow it."""
    subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, check=True, timeout=20)


def test_sighup_replaces_workers(place):
    """It does not end the server, whether a terminal or a person has sent it."""
    port = free_port()
    with start(place, PORT=str(port)) as process:
        try:
            os.killpg(process.pid, signal.SIGHUP)
            wait_for(port)
            url = f"http://127.0.0.1:{port}"
            worker = worker_of(url)
            process.send_signal(signal.SIGHUP)
            until(lambda: not worker.is_running() and find_worker(url))
            password = dotenv.dotenv_values(place / ".env")["ACME_PASS"]
            assert get(url, password) == {"msg": "hello", "user": "acme"}
            process.terminate()
            assert process.wait(timeout=20) == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_port_in_use(place):
    """Somebody listens there already: one line, and what to do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        res = run(*SERVE, cwd=place, PORT=str(other.getsockname()[1]))
    assert (res.returncode, len(res.stderr.splitlines())) == (1, 1)
    assert "PORT=" in res.stderr


# the application with a route that shows what its environment is
SHOW = """if True:
    import os, subprocess
    import flask
    from app import app

    @app.get("/environ", authz="OPEN")
    def get_environ():
        child = subprocess.run(["env"], capture_output=True, text=True).stdout
        request = {name: str(value) for name, value in flask.request.environ.items()}
        return {"request": request, "process": dict(os.environ), "child": child}, 200

    if __name__ == "__main__":
        import serve
        serve.main()
"""


@pytest.mark.parametrize("server", ["granian", "flask run"])
def test_requests_do_not_have_the_environment_of_the_process(place, server):
    """A route, or an error that shows its request, would tell secrets; granian copies them all."""
    (place / "show.py").write_text(SHOW)
    port = free_port()
    environ = {"PORT": str(port), "ACME_DATABASE": "memory:", "WORKERS": "1", "OTHER": "Marker-1"}
    environ |= {"ACME_PASS": "Marker-Aa0", "ACME_TOKEN_SECRET": "Marker-2" * 4}
    command = (sys.executable, "show.py")
    if server == "flask run":
        command = (sys.executable, "-m", "flask", "--app", "./show.py", "run", "-p", str(port))
    with serving(*command, ready=str(port), cwd=place, **environ):
        wait_for(port)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/environ") as response:
            shown = json.load(response)
    assert shown["request"]["PATH_INFO"] == "/environ"
    assert "Marker" not in str(shown["request"])
    assert shown["process"]["OTHER"] == "Marker-1"
    if server == "granian":
        assert "ACME_" not in str(shown["process"])
        assert "ACME_" not in shown["child"]
        assert "PATH=" in shown["child"]


def test_secrets_of_the_env_file_are_in_no_environment(place):
    """Neither in that with which the server was started, which `ps e` shows to its user."""
    with start(place) as process:
        try:
            main = psutil.Process(process.pid)
            until(main.children)
            secrets = dotenv.dotenv_values(place / ".env").values()
            shown = str([p.environ() for p in [main, *main.children()]])
            assert not any(secret in shown for secret in secrets)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_programs_of_postgresql_do_not_get_secrets_of_acme(tmp_path, monkeypatch):
    """They need what the URL says, and PATH."""
    (tmp_path / "pg_dump").write_text(f"#!/bin/sh\nenv > {tmp_path}/shown\n")
    (tmp_path / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    PostgreSQL("postgresql://susie:Some-Pass-1@127.0.0.1/some", 1).backup(tmp_path / "copy")
    shown = (tmp_path / "shown").read_text()
    assert "PGPASSWORD=Some-Pass-1" in shown
    assert "PATH=" in shown
    assert "ACME_" not in shown


def worker_of(url):
    """The process that serves there; of several workers, one."""
    until(lambda: find_worker(url))
    return find_worker(url)


def find_worker(url):
    """The same, or None while it is replaced."""
    port = urllib.parse.urlsplit(url).port
    mains = psutil.Process().children()  # which keep the socket as well
    for process in (worker for main in mains for worker in main.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it has ended
            if any(c.laddr.port == port for c in process.net_connections() if c.status == "LISTEN"):
                return process
    return None


def test_killed_worker_is_replaced(tmp_path):
    """After `kill -9` of the only worker another one serves."""
    with granian(ACME_DATABASE=f"sqlite:///{tmp_path}/acme.db", WORKERS="1") as url:
        worker = worker_of(url)
        worker.kill()
        until(lambda: find_worker(url) not in (worker, None))
        assert get(url, os.environ["ACME_PASS"]) == {"msg": "hello", "user": "acme"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no child")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    """Otherwise they would serve on, and the next `make run` would find the port in use."""
    with granian(ACME_DATABASE=f"sqlite:///{tmp_path}/acme.db", WORKERS="1") as url:
        worker = worker_of(url)
        worker.parent().kill()
        until(lambda: not listens(urllib.parse.urlsplit(url).port))
        worker.wait(timeout=20)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is what needs it")
def test_hashes_leave_no_memory():
    """A worker that has hashed passwords, however many at once, gives their memory back."""
    with granian(ACME_DATABASE="memory:", WORKERS="1") as url:
        worker = worker_of(url)
        before = worker.memory_info().rss
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            signed_in = [pool.submit(get, url, os.environ["ACME_PASS"]) for _ in range(16)]
            assert all(response.result() for response in signed_in)
        grown = worker.memory_info().rss - before
    assert grown < 1024 * tutorial.app.config["FSA_PASSWORD_OPTS"]["memory_cost"]
