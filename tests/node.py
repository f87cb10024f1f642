"""Node.js and the tools of package.json, for the tests of the JavaScript client."""

import functools
import shutil
import subprocess
from pathlib import Path

import playwright
import pytest

from tests.conftest import ROOT

OLDEST = 20  # version of Node.js, as in package.json
TOOLS = ROOT / "node_modules"


def needs_tools() -> None:
    """Skip a test where the packages of package.json are not installed."""
    if not TOOLS.exists():
        pytest.skip("no node_modules: make client, which needs npm, installs them")


@functools.cache
def interpreter() -> str:
    """This machine's Node.js, else the one that Playwright brings."""
    if path := shutil.which("node"):
        version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
        if int(version.lstrip("v").partition(".")[0]) >= OLDEST:
            return path
    return str(Path(playwright.__file__).with_name("driver") / "node")


def node(
    *arguments: str | Path, cwd: Path = ROOT, stdin: str = "", env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Node.js."""
    return subprocess.run(
        [interpreter(), *arguments],
        cwd=cwd,
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def tsc(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """The errors that the TypeScript compiler finds."""
    return node(TOOLS / "typescript/bin/tsc", "--pretty", "false", *arguments, cwd=cwd).stdout
