"""The image of deploy/Containerfile, built and run without a container, and deploy/compose.yaml."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
import yaml

import test as tutorial
from tests.certificates import make_certificate
from tests.conftest import PASSWORD, ROOT, SECRET, free_port, until, wait_for
from tests.restarts import main_process, proxied
from tests.test_docs import blocks, settings_of_the_readme
from tests.unprivileged import give_away, make_venv, unprivileged

COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
SERVICES = COMPOSE["services"]


def instructions():
    """The instructions of the Containerfile, each with its argument."""
    text = (ROOT / "deploy/Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def argument(name):
    (found,) = (text for instruction, text in instructions() if instruction == name)
    return found


class Image:
    """Its files in a folder, and how it is started."""

    def __init__(self, folder):
        self.folder, self.work, self.built = folder, folder, []
        make_venv(folder / "usr")
        self.environ = {"PATH": f"{folder}/usr/bin:{os.environ['PATH']}"}
        for name, text in instructions():
            if hasattr(self, f"_{name.lower()}"):
                getattr(self, f"_{name.lower()}")(text)

    def _workdir(self, text):
        self.work = self.folder / text.lstrip("/")
        self.work.mkdir(parents=True)

    def _env(self, text):
        self.environ |= dict(part.split("=", 1) for part in shlex.split(text))

    def _copy(self, text):
        """A file, or the context without what .dockerignore names."""
        source, target = text.split()
        assert target == "."
        patterns = [
            line.removeprefix("**/")
            for line in (ROOT / ".dockerignore").read_text().splitlines()
            if not line.startswith("#")
        ]
        if source != ".":
            shutil.copy(ROOT / source, self.work)
            return
        hidden = shutil.ignore_patterns(*patterns)
        shutil.copytree(ROOT, self.work, dirs_exist_ok=True, ignore=hidden)

    def _run(self, text):
        """Nothing is downloaded: the packages are those of the tests, in the same versions."""
        environ = self.environ | {"PIP_NO_INDEX": "1"}
        done = subprocess.run(
            ["sh", "-c", text], cwd=self.work, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.built.append(done.stdout)

    def _user(self, _):
        """From here on, nothing can be written."""
        for path in [self.work, *self.work.rglob("*/")]:
            path.chmod(0o555)


@pytest.fixture(scope="module")
def image():
    with tempfile.TemporaryDirectory(prefix="acme") as folder:
        os.chmod(folder, 0o755)
        yield Image(Path(folder))
        for path in Path(folder).rglob("*/"):
            path.chmod(0o755)


def test_image_has_what_is_pinned_and_neither_secrets_nor_tests(image):
    assert "Requirement already satisfied: granian==" in image.built[0]
    names = {path.name for path in image.work.iterdir()}
    assert {"serve.py", "app.py", "acme.conf", "web", "www", "store"} <= names
    assert not names & {".env", ".git", ".venv", "tests", "deploy", "acme.db"}
    assert list(image.work.glob("web/__pycache__/*.pyc"))
    user, group = map(int, argument("USER").split(":"))
    assert user > 0 and group > 0
    release = re.fullmatch(r"docker.io/library/python:3\.(\d+)-slim-\w+", argument("FROM"))[1]
    assert f'"3.{release}"' in (ROOT / ".github/workflows/ci.yml").read_text()


def as_first_process(command):
    """A command as process 1, where the system allows that."""
    words = ["unshare", "--pid", "--fork", "--kill-child"]
    able = subprocess.run([*words, "true"], capture_output=True).returncode == 0
    return [*words, *command] if able else command


def test_container_runs_as_its_file_says(image):
    """CMD, HEALTHCHECK and SIGTERM, with secrets in files, and no folder that can be written."""
    port, secrets = free_port(), image.folder / "secrets"
    secrets.mkdir()
    for name, text in {"pass": PASSWORD, "token-secret": SECRET, "database": "memory:"}.items():
        (secrets / name).write_text(text)
        give_away(secrets / name)
    before = sorted(image.work.iterdir())
    environ = image.environ | SERVICES["acme"]["environment"] | {"PORT": str(port)}
    environ |= {"HOST": "127.0.0.1", "METRICS": f"127.0.0.1:{free_port()}"}
    text = shlex.join(f"{name}={value}" for name, value in environ.items())
    text = text.replace("/run/secrets", str(secrets))
    command = shlex.join(as_first_process(unprivileged(*json.loads(argument("CMD")))))
    with main_process("sh", "-c", f"exec env -i {text} {command}", cwd=image.work) as process:
        wait_for(port)
        until(lambda: proxied(port, "/readyz") == 200)
        assert proxied(port, "/token", **tutorial.basic_auth("acme", PASSWORD)) == 200
        check = argument("HEALTHCHECK").partition("CMD")[2]
        health = unprivileged(*json.loads(check))
        assert subprocess.run(health, env=environ).returncode == 0
        down = environ | {"PORT": str(free_port())}
        assert subprocess.run(health, env=down, stderr=subprocess.DEVNULL).returncode == 1

        outer = psutil.Process(process.pid)
        (main,) = outer.children() if outer.name() == "unshare" else [outer]
        assert main.uids().real == int((os.getuid() and main.uids().real) or 65534)
        main.terminate()
        assert process.wait(timeout=20) == 0
    assert sorted(image.work.iterdir()) == before


def test_settings_of_the_containers_are_known(image):
    names = {*SERVICES["acme"]["environment"], *image.environ} - {"PATH"}
    assert {name.removesuffix("_FILE") for name in names} <= settings_of_the_readme()


def test_compose_fits_the_containerfile():
    acme = SERVICES["acme"]
    build = ROOT / "deploy" / acme["build"]["context"]
    assert (build / acme["build"]["dockerfile"]).samefile(ROOT / "deploy/Containerfile")
    files = [value for name, value in acme["environment"].items() if name.endswith("_FILE")]
    assert sorted(files) == sorted(f"/run/secrets/{name}" for name in acme["secrets"])
    used = [name for service in SERVICES.values() for name in service.get("secrets", [])]
    assert sorted(used) == sorted(COMPOSE["secrets"])
    assert acme["read_only"] and acme["cap_drop"] == ["ALL"] and "ports" not in acme
    networks = [name for service in SERVICES.values() for name in service["networks"]]
    assert set(networks) == COMPOSE["networks"].keys()
    assert not {*SERVICES["nginx"]["networks"]} & {*SERVICES["postgresql"]["networks"]}
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()


def test_nginx_of_compose_reaches_the_port_of_the_containerfile(tmp_path):
    """Its command writes deploy/nginx.conf with that address, which nginx accepts."""
    port = argument("EXPOSE")
    change = re.match("sed (.*) /acme/nginx.conf > ", SERVICES["nginx"]["command"][2])[1]
    changed = subprocess.check_output(["sed", change, ROOT / "deploy/nginx.conf"], text=True)
    assert f"proxy_pass http://acme:{port};" in changed
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["nginx"]["volumes"])
    assert (ROOT / "deploy" / next(iter(mounts))).samefile(ROOT / "deploy/nginx.conf")
    assert {"/etc/acme/cert.pem", "/etc/acme/key.pem"} <= {*mounts.values()}
    for path in re.findall("/etc/acme/[^;]*", changed):
        assert path in mounts.values()


def test_documented_commands_make_the_secrets_of_compose(tmp_path):
    """All that compose.yaml takes, such that Acme and PostgreSQL accept it."""
    (script,) = (text for text in blocks("docs/deployment.md", "bash") if "deploy/secrets" in text)
    make_certificate(tmp_path)
    for name, file in {"fullchain": "cert", "privkey": "key"}.items():
        old = f"/etc/letsencrypt/live/www.example.org/{name}.pem"
        assert old in script
        script = script.replace(old, f"{tmp_path}/{file}.pem")
    (tmp_path / "deploy").mkdir()
    script, found = re.subn(r"&& docker compose --file deploy/compose.yaml up .*", "", script)
    assert found == 1
    subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, check=True)
    secrets = {path.name: path.read_text() for path in (tmp_path / "deploy/secrets").iterdir()}
    assert secrets.keys() == {*COMPOSE["secrets"], "cert.pem", "key.pem"}
    user, password = "acme", secrets["database-password"].strip()
    assert secrets["database"] == f"postgresql://{user}:{password}@postgresql/{user}\n"
    assert {*SERVICES["postgresql"]["environment"].values()} >= {user}
    assert len(secrets["token-secret"]) > 32
    assert all(re.search(rule, secrets["pass"]) for rule in tutorial.app.config["FSA_PASSWORD_RE"])
