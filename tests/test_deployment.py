"""docs/deployment.md: its commands work, and its lines of the log are those of the code."""

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

import test as tutorial
from tests.certificates import make_certificate
from tests.conftest import ROOT, free_port
from tests.proxies import NGINX, program
from tests.test_docs import blocks
from tests.test_systemd import UNITS, unit
from tests.unprivileged import copy_of_acme

PAGE = "docs/deployment.md"
MAX_LINES = 20

# programs of the machine, in place of which a log of their arguments is written
FAKES = {
    "apt-get": "",
    "useradd": "",
    "systemctl": "",
    "nginx": "",
    "curl": "cat >> $LOG",
    "git": 'test "$1" = pull || cp -r "$SOURCE" "$3"',
    "make": "test -e Makefile",
    "certbot": "cp -r $CERTIFICATE $LIVE",
}


@pytest.fixture
def machine(tmp_path):
    """Executes lines as on a bare machine whose root is a folder; returns what they called."""
    source, certificate = tmp_path / "source", tmp_path / "certificate"
    copy_of_acme(source)
    certificate.mkdir()
    make_certificate(certificate)
    (certificate / "cert.pem").rename(certificate / "fullchain.pem")
    (certificate / "key.pem").rename(certificate / "privkey.pem")
    for folder in "srv", "etc/systemd/system", "etc/nginx/conf.d", "etc/letsencrypt/live", "bin":
        (tmp_path / folder).mkdir(parents=True)
    for name, action in FAKES.items():
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\necho "{name} $*" >> $LOG\n{action}\n')
        script.chmod(0o755)
    log = tmp_path / "log"

    def run(script):
        environ = {
            "PATH": f"{tmp_path}/bin:/usr/bin:/bin",
            "LOG": str(log),
            "SOURCE": str(source),
            "CERTIFICATE": str(certificate),
            "LIVE": f"{tmp_path}/etc/letsencrypt/live/www.example.org",
        }
        script = re.sub(r"(?<![\w.-])/(srv|etc|var)/", rf"{tmp_path}/\1/", script)
        script = script.replace("install -m 640 -g acme ", f"install -m 640 -g {os.getgid()} ")
        subprocess.run(["bash", "-euo", "pipefail", "-c", script], env=environ, check=True)
        return log.read_text()

    return run


def test_few_lines_lead_from_a_bare_debian_to_https(machine, tmp_path):
    """They leave all that the units and nginx name, and try it at the end."""
    script = blocks(PAGE, "bash")[0]
    assert len(script.splitlines()) <= MAX_LINES
    called = machine(script)
    etc = tmp_path / "etc"
    assert sorted(path.name for path in (etc / "systemd/system").iterdir()) == UNITS
    named = {value.partition(":")[2] for name in UNITS for value in unit(name)["LoadCredential"]}
    assert {f"/etc/acme/{name}" for name in ("pass", "token-secret", "database")} == named
    for path in named:
        assert (tmp_path / path.lstrip("/")).read_text()
    password = (etc / "acme/pass").read_text().strip()
    assert all(re.search(rule, password) for rule in tutorial.app.config["FSA_PASSWORD_RE"])
    assert len((etc / "acme/token-secret").read_text()) > 32
    assert (etc / "acme").stat().st_mode & 0o077 == 0
    settings = tmp_path / "srv/acme/.env"
    assert settings.read_text() == (ROOT / "deploy/acme.env").read_text()
    assert settings.stat().st_mode & 0o777 == 0o640
    assert called.endswith(
        f'curl --config - https://www.example.org/hello-me\nuser = "acme:{password}"\n'
    )


def block(words):
    """The block of commands that has these words."""
    (found,) = (text for text in blocks(PAGE, "bash") if words in text)
    return found


def test_upgrade_makes_a_backup_first_and_reloads_at_the_end(machine):
    called = machine(blocks(PAGE, "bash")[0] + block("git pull"))
    steps = ["systemctl start acme-backup", "git pull", "make reload"]
    assert called.splitlines()[-3:] == steps


def test_rotation_leaves_a_new_secret_and_restarts_with_both_in_between(machine, tmp_path):
    file = tmp_path / "etc/acme/token-secret"
    show = f"cat {file} >> {tmp_path}/shown"
    script = block("token-secret && systemctl restart")
    machine(
        blocks(PAGE, "bash")[0] + show + "\n" + script.replace("systemctl", f"{show}; systemctl")
    )
    first, both, last = (tmp_path / "shown").read_text().split()
    new, old = both.split(",")
    assert old == first != new == last
    assert len(new) > 32


def test_nginx_accepts_what_these_lines_make(machine, tmp_path):
    path = program("nginx")
    machine(blocks(PAGE, "bash")[0])
    text = (tmp_path / "etc/nginx/conf.d/acme.conf").read_text()
    assert "server_name www.example.org;" in text
    text = text.replace("listen 443", f"listen 127.0.0.1:{free_port()}")
    text = text.replace("/etc/acme/", f"{tmp_path}/etc/acme/")
    (tmp_path / "nginx.conf").write_text(NGINX.format(text))
    command = [path, "-t", "-q", "-p", tmp_path, "-c", "nginx.conf", "-e", "stderr"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_units_and_targets_in_commands_exist():
    """Of systemctl and make, in blocks and in the text."""
    text = (ROOT / PAGE).read_text()
    targets = set(re.findall(r"(?m)^([a-z./-]+):", (ROOT / "Makefile").read_text()))
    for name in re.findall(r"(?m)(?:^|&& |`)make ([a-z./-]+)", text):
        assert name in targets, name
    known = {*UNITS, *(name.partition(".")[0] for name in UNITS), "nginx"}
    verbs = "start|stop|restart|reload|edit|status|enable --now"
    for names in re.findall(rf"systemctl (?:{verbs})((?: [a-z][\w.-]+)+)", text):
        assert set(names.split()) <= known, names
    for name in re.findall(r"deploy/([\w.-]+\.\w+)", text):
        assert (ROOT / "deploy" / name).exists() or name in ("secrets",), name


def quoted_lines():
    """The lines of the log in the table of troubles."""
    _, _, section = (ROOT / PAGE).read_text().partition("## Trouble")
    return re.findall(r"(?m)^\| `(.+?)` \|", section.partition("\n## ")[0])


def texts():
    """The code, and that of the server and FlaskSimpleAuth, with joined strings."""
    site = Path(sysconfig.get_path("purelib"))
    files = [*ROOT.glob("*.py"), *ROOT.glob("[!.t]*/**/*.py")]
    files += [*site.glob("granian/server/*.py"), site / "FlaskSimpleAuth.py"]
    for file in files:
        yield re.sub(r'"\s*\n\s*f?"', "", file.read_text())


def test_log_lines_in_the_troubles_are_those_of_the_code():
    lines, code = quoted_lines(), "\n".join(texts())
    assert len(lines) >= 10
    for line in lines:
        parts = [re.escape(part) for part in line.removeprefix("acme: ").split("…")]
        # where the page has …, the code has a value to format
        pattern = r"[^\n]{1,60}".join(parts)
        assert re.search(pattern, code), f"{PAGE}: no code logs {line}"
