"""Acme as another user executes it, in a folder of its own: what deploy/ is tested with."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOBODY = 65534
MINOR = f"python3.{sys.version_info.minor}"


def unprivileged(*command: str) -> list[str]:
    """A command as a user without privileges: nobody, or the user of the tests."""
    user = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
    prefix = ["setpriv", "--no-new-privs", *(user if os.getuid() == 0 else [])]
    return [*prefix, "sh", "-c", f"exec {shlex.join(command)}"]  # with nothing left of root's


def give_away(*paths: Path) -> None:
    """Let files belong to that user."""
    for path in paths:
        if os.getuid() == 0:
            os.chown(path, NOBODY, NOBODY)


def interpreter() -> str:
    """A Python like the one of the tests that every user may execute."""
    for path in os.path.realpath(sys.executable), f"/usr/local/bin/{MINOR}", f"/usr/bin/{MINOR}":
        done = subprocess.run(unprivileged(path, "-c", "import venv"), capture_output=True)
        if done.returncode == 0:
            return path
    pytest.skip(f"no {MINOR} that every user may execute")


def make_venv(place: Path) -> None:
    """A virtual environment with the packages of the tests, which nothing is downloaded for."""
    subprocess.run([interpreter(), "-m", "venv", "--without-pip", str(place)], check=True)
    (site,) = place.glob("lib/*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))
    for name, python, module in (
        ("flask", f"{place}/bin/python", "flask.cli"),
        # of the tests, whose packages may fit another release
        ("pip", sys.executable, "pip._internal.cli.main"),
    ):
        script = place / "bin" / name
        text = f"#!{python}\nimport sys\nfrom {module} import main\nsys.exit(main())\n"
        script.write_text(text)
        script.chmod(0o755)


def copy_of_acme(place: Path) -> None:
    """A copy of Acme that the user can read."""
    hidden = shutil.ignore_patterns(
        ".*", "node_modules", "acme.db*", "mutants", "screenshots", "__pycache__"
    )
    shutil.copytree(ROOT, place, ignore=hidden)
    make_venv(place / ".venv")
