"""The front end in Firefox, driven by WebDriver BiDi, which needs no geckodriver."""

import json
import shutil
from pathlib import Path

import axe_playwright_python
import pytest

from tests.browser.steps import person
from tests.conftest import PASSWORD, new_name
from tests.node import needs_tools, node


def test_firefox_signs_in_adds_changes_and_signs_out(site, tmp_path):
    """With the keyboard, on a page without a fault of accessibility or an error in a script."""
    needs_tools()
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    if not executable:
        pytest.skip("no Firefox: sudo apt-get install firefox-esr")
    login, thing = person(site), new_name()
    walk = {
        **{"executable": executable, "profile": str(tmp_path / "profile"), "url": site.url},
        "axe": Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(),
        **{"login": login, "password": PASSWORD, "thing": thing},
    }
    done = node(Path(__file__).with_name("firefox.js"), stdin=json.dumps(walk))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faults"] == []
    found = site.send("GET", f"/stuff/{thing}", who=login)
    assert found.json["price"] == 7.5
