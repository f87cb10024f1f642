"""Each of examples/ runs as it stands, against a server on another port."""

import contextlib
import functools
import http.server
import os
import subprocess
import threading

import pytest
from playwright.sync_api import expect

from tests.conftest import PASSWORD, ROOT, Target, granian, new_name
from tests.node import TOOLS, needs_tools, node

EXAMPLES = ROOT / "examples"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving_files(folder):
    """The origin at which the files of a folder are served."""
    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Acme, the folder of another origin that may call it, and that origin."""
    folder = tmp_path_factory.mktemp("examples")
    place = f"sqlite:///{tmp_path_factory.mktemp('acme')}/acme.db"
    with (
        serving_files(folder) as origin,
        granian(ACME_DATABASE=place, ACME_ORIGINS=origin, WORKERS="1") as url,
    ):
        yield Target(url), folder, origin


def built_react(folder):
    """The files of the example in React, bundled."""
    needs_tools()
    entry = EXAMPLES / "react/main.jsx"
    options = ("--bundle", "--jsx=automatic", "--minify", f"--outdir={folder}", "--log-level=error")
    subprocess.run([TOOLS / ".bin/esbuild", entry, *options], check=True, timeout=60)
    return [EXAMPLES / "react/index.html", folder / "main.js"]


@pytest.mark.parametrize("name", ["vanilla", "react"])
def test_page_of_another_origin_signs_in_and_adds_stuff(name, site, page):
    """Across a reload it keeps nothing: neither a cookie nor a storage has a token."""
    target, root, origin = site
    login, thing = target.person(new_name("u")), new_name()
    (folder := root / name).mkdir()
    files = (EXAMPLES / name).iterdir() if name == "vanilla" else built_react(folder)
    for file in files:
        text = file.read_text().replace("http://127.0.0.1:5000", target.url)
        (folder / file.name).write_text(text)
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    page.goto(f"{origin}/{name}/")

    def sign_in(password):
        page.get_by_label("Login").fill(login)
        page.get_by_label("Password").fill(password)
        page.get_by_role("button", name="Sign in").click()

    sign_in("Wrong-Pass-1")
    expect(page.get_by_role("alert")).to_have_text("invalid username or password")
    sign_in(PASSWORD)
    for text in "", "cannot overwrite existing stuff":
        page.get_by_label("Name").fill(thing)
        page.get_by_label("Price").fill("5")
        page.get_by_role("button", name="Add").click()
        expect(page.get_by_role("listitem")).to_have_text([f"{thing}: 5"])
        expect(page.get_by_role("alert")).to_contain_text(text)
    assert page.context.cookies() == []
    assert page.evaluate("localStorage.length + sessionStorage.length") == 0
    page.reload()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    sign_in(PASSWORD)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert errors == []


def test_script_raises_prices_with_an_api_key(site):
    target, _, _ = site
    login, thing = target.person(new_name("u")), new_name()
    assert target.send_json("POST", "/stuff", {"stuff": thing, "price": 4}, login).status == 201
    new = {"name": "raise", "scope": "write", "current": PASSWORD}
    key = target.send_json("POST", f"/user/{login}/keys", new, login).json["key"]
    env = os.environ | {"ACME_KEY": key, "ACME_URL": target.url}
    done = node(EXAMPLES / "node/raise.js", "50", env=env)
    assert (done.stdout, done.stderr) == (f"{thing}: 4 -> 6\n", "")
