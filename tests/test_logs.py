"""Logs: the format of each line, the id of each request, and what nobody may write into them."""

import io
import json
import logging
import os
import re
import select
import subprocess
import sys
import threading

import pytest

import test as tutorial
from monitoring import logs, stderr
from monitoring.stderr import StderrHandler
from tests.application import new_application
from tests.conftest import PASSWORD, ROOT, SECRET, Target, free_port, until, wait_for
from web.application import ConfigurationError

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
ID = re.compile(r"[0-9a-f]{16}")
FORGED = "x\n2026-01-01T00:00:00.000Z INFO acme.audit forged\r\x1b[2J\x9b\u2028\u202e"


@pytest.fixture
def written(monkeypatch):
    """What the application writes to standard error in this process, with an `ACME_LOG`."""

    def arrange(setting, **environ):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", [logging.StreamHandler(stream)])
        monkeypatch.setattr(logging.getLogger("acme.access"), "level", logging.NOTSET)
        return stream, new_application(ACME_LOG=setting, **environ)

    return arrange


def add_failing_route(app):
    @app.get("/fail/<x>", authz="OPEN")
    def get_fail(x: str) -> None:
        raise ValueError(FORGED)


def test_json_lines_tell_the_request(written):
    """Each line of a request has its id, which is in the response as well."""
    stream, application = written("json access", ACME_PROXIES="1")
    headers = {"X-Forwarded-For": "127.0.0.9", "X-Request-ID": "a-1.B_", "traceparent": TRACEPARENT}
    with application as app:
        add_failing_route(app)
        with app.test_client() as client:
            res = client.get("/fail/Some%20Text", headers=headers)
            assert (res.status_code, res.headers["X-Request-ID"]) == (500, "a-1.B_")
            assert res.json["error"].endswith(" (request a-1.B_)")
            basic = tutorial.basic_auth("acme", os.environ["ACME_PASS"])
            assert client.get("/token?x=1", headers=headers | basic).status_code == 400
            assert client.get("/token", headers=headers | basic).status_code == 200
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    request = {"request": "a-1.B_", "trace": TRACE, "method": "GET", "from": "127.0.0.9"}
    assert all(line.items() >= request.items() for line in lines)
    assert [line["level"] for line in lines] == ["ERROR", "ERROR", "INFO", "INFO", "INFO", "INFO"]
    assert "ValueError" in lines[1]["traceback"]
    assert lines[2]["route"] == "/fail/<x>"
    assert lines[2]["message"] == "GET /fail/<x> 500"
    assert (lines[3]["status"], "who" in lines[3]) == (400, True)
    assert lines[4]["event"] == "sign-in"
    assert lines[5].items() >= {"status": 200, "route": "/token", "who": "acme"}.items()
    assert lines[5]["ms"] > 0
    assert all(re.fullmatch(r"\S{19}(\.\d{3})?Z", line["time"]) for line in lines)


def test_text_lines_cannot_be_forged(written):
    """Neither by a message nor by an exception: their line breaks and controls are escaped."""
    stream, application = written("text access")
    with application as app:
        add_failing_route(app)
        with app.test_client() as client:
            client.get("/fail/x%0a%0d%1b[2J", headers={"X-Request-ID": "forged"})
        logging.getLogger("acme").error("%s", FORGED)
    lines = stream.getvalue().split("\n")
    assert lines.pop() == ""
    start = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (ERROR|INFO) (fsa|acme[.a]*)")
    fields = r" \[request=[0-9a-f]{16} method=GET route=/fail/<x> .*from=127.0.0.1\] "
    for line in lines:
        assert line.isprintable()
        assert line.startswith("    ") or start.match(line)
    assert [bool(re.search(fields, line)) for line in lines if start.match(line)] == [
        True,
        True,
        True,
        False,
    ]


# the header, whether a proxy is declared, whether it is taken
@pytest.mark.parametrize(
    ("given", "proxies", "taken"),
    [
        ("a", "1", True),
        ("Az09._-" + 57 * "x", "1", True),
        ("a", "0", False),
        ("", "1", False),
        ("x" * 65, "1", False),
        ("x" * 65536, "1", False),
        ("a b", "1", False),
        ("a\tb", "1", False),
        ('a"', "1", False),
        ("ä", "1", False),
        ("a,b", "1", False),
    ],
)
def test_request_id_is_taken_from_a_proxy_if_it_is_well_formed(given, proxies, taken):
    with new_application(ACME_PROXIES=proxies) as app, app.test_client() as client:
        found = client.get("/hello", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert found == given if taken else ID.fullmatch(found)


@pytest.mark.parametrize("end", ["\n", "\r\nSet-Cookie: x=1", "\0"])
def test_request_id_with_a_line_break_is_replaced(end):
    """No server passes these on, but a test of a fork may not have one."""
    with new_application(ACME_PROXIES="1") as app:
        headers = {"HTTP_X_REQUEST_ID": f"a{end}", "HTTP_TRACEPARENT": f"{TRACEPARENT}{end}"}
        res = app.test_client().get("/hello", environ_overrides=headers)
        with app.test_request_context(environ_overrides=headers):
            assert "trace" not in logs.request_fields()
    assert ID.fullmatch(res.headers["X-Request-ID"])
    assert "Set-Cookie" not in res.headers


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (TRACEPARENT, TRACE),
        (f"01-{TRACE}-b7ad6b7169203331-01-later", TRACE),
        (TRACEPARENT.upper(), None),
        (TRACEPARENT.replace(TRACE, "0" * 32), None),
        ("x" * 65536, None),
        ("", None),
    ],
)
def test_trace_id_is_that_of_the_traceparent(header, trace):
    with tutorial.app.test_request_context(headers={"traceparent": header}):
        assert logs.request_fields().get("trace") == trace


def test_every_response_has_an_id_of_its_own(target):
    found = [target.send(method, path).headers["X-Request-ID"] for method, path in REQUESTS]
    assert all(map(ID.fullmatch, found))
    assert len(set(found)) == len(found)


REQUESTS = [("GET", "/hello"), ("GET", "/none"), ("POST", "/stuff"), ("GET", "/"), ("PUT", "/len")]


@pytest.mark.parametrize("setting", ["", "xml", "access", "text json", "json access access"])
def test_unknown_log_setting_is_refused(setting):
    with (
        pytest.raises(ConfigurationError, match=f"ACME_LOG={setting} is unknown"),
        new_application(ACME_LOG=setting),
    ):
        pass


def test_configuration_without_a_log_setting_has_text(monkeypatch, tmp_path):
    """A file of one's own, from version 0.2."""
    shipped = (ROOT / "acme.conf").read_text()
    (tmp_path / "own.conf").write_text(re.sub(r"(?m)^ACME_LOG = .*$", "", shipped))
    with new_application(ACME_CONFIG=str(tmp_path / "own.conf")) as app:
        assert app.config["ACME_LOG"] == "text"


def test_logging_of_a_fork_stays_as_it_is(written, monkeypatch):
    """A handler that was there before is not replaced."""
    other = logging.NullHandler()
    _, application = written("json")
    monkeypatch.setattr(logging.getLogger(), "handlers", [other])
    with application:
        assert logging.getLogger().handlers == [other]


# the handler


@pytest.fixture
def pipe(monkeypatch):
    """A handler whose standard error is a pipe: the reading end, and a function that logs."""
    reading, writing = os.pipe()
    # pytest sets sys.stderr anew when the test begins
    monkeypatch.setattr(stderr, "_descriptor", lambda: writing)
    handler = StderrHandler()

    def log(message):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, message, None, None))

    yield reading, log, handler
    os.close(reading)
    until(lambda: not handler._writing.locked())
    os.close(writing)


def test_full_pipe_makes_nobody_wait_and_reports_what_is_lost(pipe, monkeypatch):
    monkeypatch.setattr(stderr, "MAX_LINES", 100)
    reading, log, handler = pipe
    for n in range(1000):  # a pipe has 64 KiB
        log(f"{n} {'x' * 1000}")
    received = b""
    while (is_ready := select.select([reading], [], [], 0.1)[0]) or handler._writing.locked():
        received += os.read(reading, 65536) if is_ready else b""
    log("later")
    lines = (received + os.read(reading, 65536)).decode().split("\n")
    numbers = [int(line.split()[0]) for line in lines if line.endswith("x")]
    assert numbers == sorted(numbers)
    lost = [int(line.split()[0]) for line in lines if "lines of the log were lost" in line]
    assert len(numbers) == 1000 - sum(lost) < 300
    assert lines[-2:] == ["later", ""]


def test_lines_of_many_threads_are_all_written_whole(pipe, monkeypatch):
    monkeypatch.setattr(stderr, "MAX_LINES", 10_000)
    reading, log, _ = pipe
    received = []

    def read():
        while len(b"".join(received).split(b"\n")) < 2001:
            received.append(os.read(reading, 65536))

    reader = threading.Thread(target=read)
    writers = [
        threading.Thread(target=lambda n=n: [log(f"{n}:{m}:{'x' * 100}") for m in range(100)])
        for n in range(20)
    ]
    for thread in [reader, *writers]:
        thread.start()
    for thread in [*writers, reader]:
        thread.join(timeout=30)
    lines = b"".join(received).decode().splitlines()
    assert sorted(lines) == sorted(f"{n}:{m}:{'x' * 100}" for n in range(20) for m in range(100))


def test_line_longer_than_a_pipe_takes_at_once_is_written_whole(pipe):
    reading, log, _ = pipe
    log("x" * 200_000)
    received = b""
    while not received.endswith(b"\n"):
        received += os.read(reading, 65536)
    assert received == b"x" * 200_000 + b"\n"


@pytest.mark.parametrize("broken", ["closed pipe", "closed stream", "none", "full disk"])
def test_broken_standard_error_raises_nothing(monkeypatch, broken):
    if broken == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
        stream = os.fdopen(writing, "w")
    elif broken == "full disk":
        stream = open("/dev/full", "w")  # noqa: SIM115
    else:
        stream = io.StringIO() if broken == "closed stream" else None
    if broken == "closed stream":
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    handler = StderrHandler()
    for _ in range(3):
        handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, "y", None, None))
    assert handler.lost == (0 if broken == "none" else 3)
    if stream:
        stream.close()


# a server whose output nobody reads


def start(place, redirect, **environ):
    """`make run` with a redirection of the shell."""
    environ = {
        "ACME_DATABASE": f"sqlite:///{place}/acme.db",
        "ACME_TOKEN_SECRET": SECRET,
        "ACME_LOG": "json access",
        "PORT": str(free_port()),
        "WORKERS": "1",
    } | environ
    process = subprocess.Popen(
        ["sh", "-c", f"exec {sys.executable} serve.py {redirect}"],
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    wait_for(int(environ["PORT"]))
    return process, Target(f"http://127.0.0.1:{environ['PORT']}")


def sign_in_wrongly(target, times):
    value = {"username": "acme", "password": PASSWORD + "wrong"}
    return [target.send_json("POST", "/token", value).status for _ in range(times)]


@pytest.mark.parametrize("redirect", ["", "2>&1", ">&- 2>&-", "2>/dev/full"])
def test_server_whose_output_is_closed_or_full_serves_on(tmp_path, redirect):
    process, target = start(tmp_path, redirect)
    try:
        process.stdout.close()
        process.stderr.close()
        assert sign_in_wrongly(target, 3) == [401] * 3
        assert target.send("GET", "/hello").status == 200
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert b"failed attempt" not in (tmp_path / "acme.db").read_bytes()


def test_server_whose_output_is_not_read_serves_on(tmp_path):
    """A pipe has 64 KiB: about 300 lines of the access log."""
    process, target = start(tmp_path, "")
    try:
        for _ in range(600):
            assert target.send("GET", "/hello").status == 200
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert len(errors) > 50_000


def test_lines_of_granian_have_the_same_format(tmp_path):
    """A worker that is killed: the line of granian's that says so."""
    process, target = start(tmp_path, "")
    try:
        target.send("GET", "/hello")
        (worker,) = subprocess.run(
            ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        os.kill(int(worker), 9)
        lines = (json.loads(line) for line in process.stderr)
        line = next(line for line in lines if line["logger"] == "granian")
        assert line["message"] == "Unexpected exit from worker-1"
        assert line["level"] == "ERROR"
    finally:
        process.terminate()
        process.communicate(timeout=20)
