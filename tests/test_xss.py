"""Stored and reflected cross-site scripting, in a real browser: what users write is never HTML."""

import json
import re
import urllib.parse

import pytest
from playwright.sync_api import expect

from tests.browser.steps import remember_session
from tests.conftest import PASSWORD, Target, granian, new_name

SCRIPT = "globalThis.attacked=1"
HTML = f"<img src=x: onerror={SCRIPT}>"
# each is a name of stuff; a name has no slash
NAMES = [
    HTML,
    f"<svg onload={SCRIPT}>",
    f"<script>{SCRIPT}",
    f"'\"><details open ontoggle={SCRIPT}>",
    f"javascript:{SCRIPT}",
    f"${{{SCRIPT}}} {{{{{SCRIPT}}}}}",
    "&lt;img src=x onerror=1&gt; &#60;b&#62;",
    f"<iframe srcdoc='<script>{SCRIPT}<\\script>'>",
]
EMAIL = f"'onfocus={SCRIPT}'autofocus@acme.org"
# elements of each view itself: no element of the texts
FOREIGN = "img[src='x:'], svg[onload], iframe, details[ontoggle], script:not([src])"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    place = tmp_path_factory.mktemp("xss")
    with granian(ACME_DATABASE=f"sqlite:///{place}/acme.db", WORKERS="1") as url:
        yield Target(url)


@pytest.fixture
def victim(page, site):
    """An administrator whose stuff and e-mail address are hostile, with a cookie in place."""
    login = site.person(new_name("u"))
    for name in NAMES:
        value = {"stuff": name + login, "price": 1}  # names are unique
        assert site.send_json("POST", "/stuff", value, login).status == 201
    change = {"email": EMAIL, "admin": True}
    assert site.send_json("PATCH", f"/user/{login}", change, "acme").status == 200
    body = {"username": login, "password": PASSWORD}
    assert page.context.request.post(f"{site.url}/token", data=body).status == 201
    remember_session(page)
    return login


@pytest.fixture
def page(page):
    """A page that is not attacked while a test runs, and breaks no rule of its policy."""
    complaints = []
    page.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
    page.on("console", lambda message: complaints.append(message.text))
    yield page
    assert page.evaluate("globalThis.attacked") is None
    assert page.locator(FOREIGN).count() == 0
    assert [text for text in complaints if "Content Security Policy" in text] == []


def test_name_of_stuff_is_shown_as_text(page, site, victim):
    """In the list, and in each message and question about one."""
    page.goto(f"{site.url}/#stuff")
    expect(page.locator(".name")).to_have_text(sorted(name + victim for name in NAMES))
    row = page.locator(".rows > *").filter(has=page.locator(".name", has_text=HTML))
    row.get_by_role("button", name=re.compile("the price of")).click()
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Delete").click()
    expect(page.locator("#messages")).to_contain_text(HTML)
    expect(page.locator(".name")).to_have_count(len(NAMES) - 1)


def test_email_address_is_shown_as_text(page, site, victim):
    page.goto(f"{site.url}/#account")
    expect(page.locator("main")).to_contain_text(victim)
    page.goto(f"{site.url}/#users")
    expect(page.locator("main")).to_contain_text(victim)
    expect(page.locator("main")).to_contain_text(EMAIL)


@pytest.mark.parametrize(
    "address", ["#" + HTML, f"#javascript:{SCRIPT}", "#stuff?" + HTML, "#__proto__", "#constructor"]
)
def test_url_is_never_run_as_a_script(page, site, victim, address):
    page.goto(f"{site.url}/{address}")
    expect(page.locator("main")).not_to_be_empty()


@pytest.mark.parametrize("path", ["/www/{}", "/docs/{}", "/?{}=1", "/hello?{}=1", "/docs?{}=1"])
def test_error_in_the_browser_is_json(page, site, path):
    """An error repeats what was wrong, in JSON."""
    response = page.goto(site.url + path.format(urllib.parse.quote(HTML)))
    assert response.status in (400, 404)
    assert response.headers["content-type"] == "application/json"


def test_mistyped_address_is_a_page_without_the_address(page, site):
    """In a browser; for other clients it is JSON as ever."""
    address = f"{site.url}/{urllib.parse.quote(HTML)}"
    response = page.goto(address)
    assert (response.status, "Content-Security-Policy".lower() in response.headers) == (404, True)
    assert "onerror" not in response.text()
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    for accept in "*/*", "application/json":
        response = page.context.request.get(address, headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"


def test_swagger_ui_ignores_its_query(page, site):
    """Older versions took a document from there, and HTML from that."""
    page.goto(f"{site.url}/docs#/{HTML}")
    expect(page.locator(".opblock").first).to_be_visible()
    document = {"openapi": "3.1.0", "info": {"title": HTML, "version": "1", "description": HTML}}
    address = "data:application/json," + urllib.parse.quote(json.dumps(document))
    for name in "url", "configUrl", "urls.primaryName":
        query = urllib.parse.urlencode({name: address})
        assert page.goto(f"{site.url}/docs?{query}").status == 400


def test_swagger_ui_shows_responses_as_text(page, site):
    """What has been tried out is shown as text, and no request goes to another server."""
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(f"{site.url}/docs")
    block = page.locator("#operations-open-get_days, [id*=get_days]").first
    block.locator("button").first.click()
    block.locator("textarea, input").first.fill(json.dumps({"name": HTML, "born": "2000-01-01"}))
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table")).to_contain_text("onerror")
    assert all(url.startswith((site.url, "data:", "blob:")) for url in requests)
