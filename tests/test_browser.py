"""The front end in a real browser, against a real server: each page, and how it behaves."""

import re
import time

import pyotp
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.conftest import PASSWORD, ROOT, Target, granian, new_name, until

SCREENSHOTS = ROOT / "screenshots"
expect.set_options(timeout=15_000)  # milliseconds: other tests run beside


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A server, on which three failed attempts are too many for a few seconds."""
    place = tmp_path_factory.mktemp("browser")
    limit = "3/6 seconds, 9999/second"
    with granian(
        ACME_DATABASE=f"sqlite:///{place}/acme.db", WORKERS="1", ACME_RATE_LIMIT=limit
    ) as url:
        yield Target(url)


@pytest.fixture
def context(context):
    """A browser's profile, in which no page may complain, or lack a file of its own."""
    complaints = []

    def console(message):
        # whatever a test makes the API refuse
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    def response(response):
        if response.status >= 400 and re.search(r"/$|/www/", response.url):
            complaints.append(f"{response.status} {response.url}")

    context.on("console", console)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("response", response)
    context.set_default_timeout(15_000)
    yield context
    assert complaints == []


def person(site):
    """A new user."""
    return site.person(new_name("u"))


def new_secret(site, login, password=PASSWORD):
    """A secret for one-time passwords, not yet on."""
    value = {"current": password}
    return site.send_json("POST", f"/user/{login}/otp", value, login).json["secret"]


def come(page, site, login, place="stuff", password=PASSWORD):
    """Show a page to somebody whose cookie is there from before."""
    body = {"username": login, "password": password}
    assert page.context.request.post(f"{site.url}/token", data=body).status == 201
    page.goto("about:blank")  # lest only the hash changes
    page.goto(f"{site.url}/#{place}")
    expect(page.locator("#who")).to_contain_text(login)
    return page


def sign_in(page, login, password=PASSWORD):
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def heading(page, text):
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def says(page, text):
    """That there is such a message at the edge of the screen."""
    expect(page.locator("#messages")).to_contain_text(text)


def add(site, login, *names, price=5):
    for name in names:
        body = {"stuff": name, "price": price}
        assert site.send_json("POST", "/stuff", body, login).status == 201


def row(page, name):
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


# --- sign in and out


def test_sign_in(page, site):
    """A wrong password is said where it was typed; the right one leads to where one wanted to go.

    A reload does not sign out, and no storage of the browser has a token.
    """
    login = person(site)
    page.goto(f"{site.url}/#account")
    heading(page, "Sign in")
    expect(page.get_by_label("Login", exact=True)).to_be_focused()
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("form")).to_contain_text("Login is missing")
    expect(page.get_by_label("Login", exact=True)).to_have_attribute("aria-invalid", "true")
    sign_in(page, login, "Wrong-1")
    expect(page.locator("form")).to_contain_text("Login or password is wrong")
    sign_in(page, login)
    heading(page, "Account")
    assert page.url.endswith("/#account")
    assert page.title() == "Account – Acme"
    page.reload()
    heading(page, "Account")
    stored = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert stored == '[{},{},""]'
    page.get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in")
    page.reload()
    heading(page, "Sign in")
    assert page.context.cookies() == []


def test_second_factor(page, site):
    """It is set up with a picture and a key, and asked for from then on; a wrong code is said."""
    login = person(site)
    come(page, site, login, "account")
    page.get_by_role("button", name="Set it up").click()
    part = page.locator(".card", has_text="Second factor")
    part.get_by_label("Current password").fill("Wrong-Pass-1")
    part.get_by_role("button", name="Continue").click()
    expect(part).to_contain_text("This is not the current password")
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_role("button", name="Continue").click()
    picture = page.get_by_role("img", name="QR code")
    expect(picture).to_be_visible()
    assert picture.evaluate("(img) => img.decode().then(() => img.naturalWidth)") > 100
    totp = pyotp.TOTP(page.locator(".key").inner_text().replace(" ", ""))
    page.get_by_label("Code", exact=True).fill("12345")
    page.get_by_role("button", name="Switch it on").click()
    expect(page.locator(".card", has_text="Second factor")).to_contain_text("six digits")
    now = time.time()
    page.get_by_label("Code", exact=True).fill(totp.at(now)[:3] + " " + totp.at(now)[3:])
    page.get_by_role("button", name="Switch it on").click()
    says(page, "The second factor is on")
    expect(page.get_by_role("button", name="Switch it off")).to_be_visible()

    page.get_by_role("button", name="Sign out", exact=True).click()
    sign_in(page, login)
    expect(page.get_by_label("Code", exact=True)).to_be_focused()
    page.get_by_label("Code", exact=True).fill(totp.at(now))
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("form")).to_contain_text("wrong, or was used before")
    page.get_by_label("Code", exact=True).fill(totp.at(now + 30))
    page.get_by_role("button", name="Continue").click()
    heading(page, "My stuff")


def test_second_factor_off(page, site):
    """It is switched off with a code."""
    login = person(site)
    secret = new_secret(site, login)
    totp, now = pyotp.TOTP(secret), time.time()
    come(page, site, login, "account")
    # in the page's own session, which goes on
    page.evaluate(
        """([login, code]) => import("/www/session.js")
             .then(({ acme }) => acme.switchOtp(login, code, true))""",
        [login, totp.at(now)],
    )
    page.reload()
    page.get_by_label("Code", exact=True).fill(totp.at(now + 30))
    page.get_by_role("button", name="Switch it off").click()
    says(page, "The second factor is off")
    expect(page.get_by_role("button", name="Set it up")).to_be_focused()


def test_refresh(page, site):
    """Requests whose token is refused refresh it once, all together, and are sent once more."""
    come(page, site, person(site))
    sent = []
    page.on("request", lambda request: sent.append(f"{request.method} {request.url}"))
    # another one than now, which would be the same in the same second
    second = int(time.time())
    until(lambda: int(time.time()) > second)
    # the first token is spoilt on its way to the server, which refuses it
    tokens = []

    def spoil(route):
        tokens.append(route.request.headers["authorization"])
        change = {"authorization": "Bearer x"} if tokens[-1] == tokens[0] else {}
        route.continue_(headers=route.request.headers | change)

    page.route("**/hello-me", spoil)
    names = page.evaluate(
        """() => import("/www/session.js").then(({ acme }) =>
             Promise.all([1, 2, 3, 4].map(() => acme.helloMe().then((me) => me.user))))"""
    )
    assert names == [page.locator("#who span").inner_text()] * 4
    assert sent.count(f"POST {site.url}/token/refresh") == 1
    assert [tokens.count(token) for token in dict.fromkeys(tokens)] == [4, 4]


def test_session_ends(page, site):
    """Whose session has ended signs in again, and is back at the place, with what was typed."""
    login = person(site)
    come(page, site, login)
    page.get_by_label("Name", exact=True).fill("unsaved")
    page.get_by_label("Price", exact=True).fill("5")
    # elsewhere
    assert site.send("DELETE", "/token?all=true", who=login).status == 204
    del site.people[login]
    page.get_by_role("button", name="Add").click()
    heading(page, "Sign in")
    expect(page.locator("main")).to_contain_text("Your session has ended")
    assert page.url.endswith("/#stuff")
    sign_in(page, login)
    heading(page, "My stuff")
    expect(page.get_by_label("Name", exact=True)).to_have_value("unsaved")
    page.get_by_role("button", name="Add").click()
    says(page, "unsaved is added")


def test_too_many(page, site):
    """After too many failures the button says how long to wait, and is there again then."""
    login = person(site)
    body = {"username": login, "password": "Wrong-1"}
    page.goto(site.url)
    heading(page, "Sign in")

    def throttled():
        answer = site.send_json("POST", "/token", body)
        return answer.status == 429 and int(answer.headers["Retry-After"]) > 4

    until(throttled)
    sign_in(page, login)
    expect(page.locator("form")).to_contain_text("Too many failed attempts")
    button = page.locator("button.main")
    expect(button).to_be_disabled()
    expect(button).to_have_text(re.compile(r"Wait \d s"))
    expect(button).to_have_text("Sign in")
    button.click()
    heading(page, "My stuff")


def test_two_tabs(page, site):
    """Tabs agree on who is signed in."""
    susie, calvin = person(site), person(site)
    for login in susie, calvin:
        add(site, login, new_name())
    other = page.context.new_page()
    for tab in page, other:
        tab.goto(f"{site.url}/#stuff")
        heading(tab, "Sign in")
    for login in susie, calvin:
        sign_in(page, login)
        for tab in page, other:
            heading(tab, "My stuff")
            expect(tab.locator("#who")).to_contain_text(login)
        page.get_by_role("button", name="Delete").click()
        other.get_by_role("button", name="Sign out", exact=True).click()
        for tab in page, other:
            heading(tab, "Sign in")
        expect(page.get_by_role("dialog")).to_have_count(0)


def test_cookie_of_another(page, site):
    """If the cookie is another user's unnoticed, nothing is done in that user's name."""
    susie, calvin = person(site), person(site)
    come(page, site, susie)
    body = {"username": calvin, "password": PASSWORD}
    assert page.context.request.post(f"{site.url}/token", data=body).status == 201
    assert site.send("DELETE", "/token?all=true", who=susie).status == 204
    name = new_name()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Price", exact=True).fill("5")
    page.get_by_role("button", name="Add").click()
    expect(page.locator("#who")).to_contain_text(calvin)
    assert site.send("GET", f"/stuff/{name}", who=calvin).status == 404


# --- my stuff


def test_stuff(page, site):
    """Add, change in place, delete; errors stand where they belong, and the focus stays near."""
    login = person(site)
    name, taken = new_name(), new_name()
    add(site, "acme", taken)
    come(page, site, login)
    expect(page.locator(".empty")).to_be_visible()
    fields = page.get_by_label("Name", exact=True), page.get_by_label("Price", exact=True)
    for values, fault in [
        ((name, "free"), "Price must be a number"),
        ((name, "2000000000000"), "Price must be a finite number"),
        (("a/b", "5"), "Name must be 1 to 100"),
        ((taken, "5"), "This name is taken"),
    ]:
        for field, value in zip(fields, values, strict=True):
            field.fill(value)
        page.get_by_role("button", name="Add").click()
        expect(page.locator(".add .fault").filter(has_text=fault)).to_be_visible()
        wrong = fields["Price" in fault]
        expect(wrong).to_be_focused()
        expect(wrong).to_have_attribute("aria-invalid", "true")
    fields[0].fill(name)
    fields[1].fill("1234.5")
    page.keyboard.press("Enter")
    says(page, f"{name} is added")
    expect(fields[0]).to_be_focused()
    expect(fields[0]).to_have_value("")
    expect(page.locator(".empty")).to_be_hidden()

    price = row(page, name).get_by_role("button", name="change it")
    expect(price).to_have_text("1,234.50")
    price.click()
    field = page.get_by_label(f"Price of {name}")
    expect(field).to_have_value("1234.5")
    field.fill("7")
    field.press("Escape")
    expect(price).to_have_text("1,234.50")
    expect(price).to_be_focused()
    page.keyboard.press("Enter")
    expect(field).to_be_focused()
    field.fill("0.1234567890123")
    field.press("Enter")
    says(page, f"{name} is now 0.1234567890123")
    expect(price).to_be_focused()
    assert site.send("GET", f"/stuff/{name}", who=login).json["price"] == 0.1234567890123

    add(site, login, *(others := [new_name() for _ in range(2)]))
    page.reload()
    for i, gone in enumerate([others[0], name, others[1]]):
        bin_ = page.get_by_role("button", name=f"Delete {gone}")
        bin_.click()
        dialog = page.get_by_role("dialog", name=f"Delete {gone}?")
        dialog.get_by_role("button", name="Cancel").click()
        expect(bin_).to_be_focused()
        bin_.click()
        dialog.get_by_role("button", name="Delete").click()
        says(page, f"{gone} is deleted")
        expect(fields[0] if i == 2 else page.locator(".bin:focus")).to_be_focused()
    expect(page.locator(".empty")).to_be_visible()
    assert site.send("GET", "/stuff", who=login).json == []


def test_locale(new_context, site):
    """A price reads and is written as where its reader lives."""
    login = person(site)
    add(site, login, name := new_name(), price=1234.5)
    page = come(new_context(locale="de-DE").new_page(), site, login)
    price = row(page, name).get_by_role("button", name="change it")
    expect(price).to_have_text("1.234,50")
    price.click()
    field = page.get_by_label(f"Price of {name}")
    expect(field).to_have_value("1234,5")
    field.fill("0,1")
    field.press("Enter")
    says(page, f"{name} is now 0,10")
    assert site.send("GET", f"/stuff/{name}", who=login).json["price"] == 0.1
    price.click()
    field.fill("1.000")  # a thousand to some, one to others
    field.press("Enter")
    expect(page.locator(".edited")).to_contain_text("Write 1000")
    assert site.send("GET", f"/stuff/{name}", who=login).json["price"] == 0.1


def test_text_is_text(page, site):
    """What users write is never HTML."""
    login = person(site)
    name = f"<img src=x onerror=alert(1)> &amp; {new_name()}".replace("/", "")
    add(site, login, name)
    come(page, site, login)
    expect(page.locator(".name")).to_have_text(name)
    assert page.locator(".rows img").count() == 0
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text(name)


def test_paging(page, site):
    """A long list comes page by page, as one scrolls, each thing once and in order."""
    login = person(site)
    prefix = new_name()
    names = [f"{prefix}-{n:03}" for n in range(120)]
    add(site, login, *names)
    asked = []
    page.on("request", lambda r: asked.append(r.url) if "/stuff?" in r.url else None)
    come(page, site, login)
    expect(page.locator(".name")).to_have_count(50)
    # beyond what is loaded
    page.get_by_label("Name", exact=True).fill(f"{prefix}-090x")
    page.get_by_label("Price", exact=True).fill("5")
    page.keyboard.press("Enter")
    says(page, "is added")

    def all_there():
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        return page.locator(".name").count() == 121

    until(all_there)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    assert page.locator(".name").all_inner_texts() == sorted([*names, f"{prefix}-090x"])
    assert len(asked) == 3


# --- without a network, or with a server in trouble


def test_roll_back(page, site):
    """What is refused looks again as it was, and a message says why."""
    login = person(site)
    name, gone = new_name(), new_name()
    add(site, login, name, gone)
    come(page, site, login)
    price = row(page, name).get_by_role("button", name="change it")
    price.click()
    page.get_by_label(f"Price of {name}").fill("2e12")
    page.keyboard.press("Enter")
    says(page, f"The price of {name} has not changed: Price must be")
    expect(price).to_have_text("5.00")
    page.get_by_role("button", name="Dismiss").click()
    # it has gone meanwhile, elsewhere
    assert site.send("DELETE", f"/stuff/{gone}", who=login).status == 204
    row(page, gone).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {gone}").fill("6")
    page.keyboard.press("Enter")
    says(page, "No such stuff")
    expect(row(page, gone)).to_have_count(0)


def test_offline(page, site):
    """Without a network a bar says so, changes are taken back, and all goes on when it is there."""
    login = person(site)
    name, other = new_name(), new_name()
    add(site, login, name, other)
    come(page, site, login)
    expect(page.locator(".name")).to_have_count(2)
    page.context.set_offline(True)
    bar = page.locator("#bar")
    expect(bar).to_contain_text("You are offline")
    page.get_by_role("button", name=f"Delete {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    says(page, f"The server cannot be reached: it is not known yet whether {name} has changed")
    expect(row(page, name)).to_be_visible()
    row(page, other).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {other}").fill("6")
    page.keyboard.press("Enter")
    says(page, f"whether {other} has changed")
    page.get_by_role("link", name="Account").click()
    page.get_by_role("link", name="My stuff").click()
    expect(page.locator(".more")).to_contain_text("The server cannot be reached")
    page.context.set_offline(False)
    expect(bar).to_be_empty()
    expect(page.locator(".name")).to_have_count(2)


def test_lost_answer(page, site):
    """Where a change was made but its answer was lost, the page finds out what has become of it."""
    login = person(site)
    name = new_name()
    add(site, login, name)
    come(page, site, login)

    def lose(route):
        route.fetch()
        route.abort()

    page.route(f"**/stuff/{name}", lose, times=1)
    row(page, name).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {name}").fill("6")
    page.keyboard.press("Enter")
    says(page, f"it is not known yet whether {name} has changed")
    expect(row(page, name).get_by_role("button", name="change it")).to_have_text("6.00")


def test_unavailable(page, site):
    """When the server says that it cannot answer at the moment, so does the page, and goes on."""
    login = person(site)
    name = new_name()
    add(site, login, name)
    answer = {"error": "the database is unavailable: try again"}
    away = {"status": 503, "json": answer, "headers": {"Retry-After": "1"}}
    page.route("**/stuff?*", lambda route: route.fulfill(**away))
    page.route("**/hello-me", lambda route: route.fulfill(**away))
    come(page, site, login)
    expect(page.locator("#bar")).to_contain_text("The database is unavailable")
    page.unroute_all()
    expect(page.locator(".name")).to_have_text(name)
    expect(page.locator("#bar")).to_be_empty()


def test_waiting(page, site):
    """A button that waits is disabled and says what it does, and nothing is sent twice."""
    login = person(site)
    come(page, site, login)
    waiting = []
    page.route("**/stuff", lambda route: waiting.append(route))
    page.get_by_label("Name", exact=True).fill(new_name())
    page.get_by_label("Price", exact=True).fill("5")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Adding…")
    expect(button).to_be_disabled()
    page.keyboard.press("Enter")
    assert len(waiting) == 1
    waiting[0].continue_()
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_enabled()
    says(page, "is added")


# --- account, users, try it


def test_account(page, site):
    """Address, password and sessions can be changed; faults stand beside their fields."""
    login = person(site)
    come(page, site, login, "account")
    email = page.get_by_label("E-mail address", exact=True)
    expect(email).to_have_value(f"{login}@acme.org")
    email.fill("nowhere")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".fault").filter(has_text="must be an address")).to_be_visible()
    email.fill("new@ACME.org")
    page.get_by_role("button", name="Save").click()
    says(page, "The address is saved")
    expect(email).to_have_value("new@acme.org")

    # the one of `person`, and this one
    sessions = page.locator(".card", has_text="Sessions").get_by_role("listitem")
    expect(sessions).to_have_count(2)
    page.get_by_role("button", name="End the session").click()
    says(page, "The session has ended")
    expect(sessions).to_have_count(1)
    assert site.send("GET", "/hello-me", who=login).status == 401

    for current, password, fault in [
        ("Wrong-1", "Other-Pass-1", "This is not the current password"),
        (PASSWORD, "weak", "New password is too short"),
        (PASSWORD, PASSWORD, "The new password must differ"),
    ]:
        page.get_by_label("Current password", exact=True).fill(current)
        page.get_by_label("New password", exact=True).fill(password)
        page.get_by_role("button", name="Change the password").click()
        expect(page.locator(".fault").filter(has_text=fault)).to_be_visible()
    page.get_by_label("New password", exact=True).fill("Other-Pass-1")
    page.get_by_role("button", name="Change the password").click()
    says(page, "The password is changed")
    expect(sessions).to_have_count(1)
    page.reload()
    heading(page, "Account")

    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in")
    sign_in(page, login, "Other-Pass-1")
    heading(page, "Account")


def test_users(page, site):
    """An administrator adds users, disables, promotes and resets them; others see no such page."""
    admin, login = person(site), new_name("u")
    site.send_json("PATCH", f"/user/{admin}", {"admin": True}, "acme")
    come(page, site, admin, "users")
    page.get_by_label("Login", exact=True).fill(admin)
    page.get_by_label("E-mail address").fill("x@acme.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".add")).to_contain_text("This login is taken")
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_role("button", name="Add").click()
    says(page, f"{login} is added")
    theirs = row(page, login)
    theirs.locator("summary").click()
    profile = {"email": "x@acme.org", "login": login, "otp": False}
    for button, badge, expected in [
        ("Disable", "disabled", {"admin": False, "active": False}),
        ("Enable", None, {"admin": False, "active": True}),
        ("Promote", "administrator", {"admin": True, "active": True}),
        ("Demote", None, {"admin": False, "active": True}),
    ]:
        theirs.get_by_role("button", name=button).click()
        expect(theirs.locator(".badge")).to_have_text([badge] if badge else [])
        until(lambda e=expected: site.send("GET", f"/user/{login}", who="acme").json == profile | e)

    theirs.get_by_role("button", name="New password").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("New password", exact=True).fill("weak")
    dialog.get_by_role("button", name="Set it").click()
    expect(dialog).to_contain_text("New password is too short")
    dialog.get_by_label("New password", exact=True).fill("Other-Pass-1")
    dialog.get_by_role("button", name="Set it").click()
    says(page, "has a new password")
    body = {"username": login, "password": "Other-Pass-1"}
    token = site.send_json("POST", "/token", body).json["token"]

    site.people[login] = token
    secret = new_secret(site, login, "Other-Pass-1")
    code = {"code": pyotp.TOTP(secret).now(), "on": True}
    assert site.send_json("PUT", f"/user/{login}/otp", code, login).status == 204
    page.reload()
    expect(theirs.locator(".badge")).to_have_text(["second factor"])
    theirs.locator("summary").click()
    theirs.get_by_role("button", name="Reset the second factor").click()
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    says(page, "is off")

    theirs.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    says(page, f"{login} is deleted")
    expect(theirs).to_have_count(0)

    # another administrator has ended this one's power meanwhile: refused, and taken back
    own = row(page, "acme")
    own.locator("summary").click()
    site.send_json("PATCH", f"/user/{admin}", {"admin": False}, "acme")
    own.get_by_role("button", name="Disable").click()
    says(page, "acme has not changed")
    expect(own.locator(".badge")).to_have_text(["administrator"])
    page.reload()
    expect(page.locator("main")).to_contain_text("This page is for administrators")
    expect(page.get_by_role("link", name="Users")).to_have_count(0)


def test_try(page, site):
    """What everybody may try is answered as one types, and says what is wrong with it."""
    page.goto(f"{site.url}/#try")
    outputs = page.get_by_role("status").and_(page.locator("output"))
    page.get_by_label("Name", exact=True).fill("Hobbes")
    page.get_by_label("Born on", exact=True).fill("1985-11-18")
    expect(outputs.nth(0)).to_have_text(re.compile(r"Hobbes is 1\d,\d{3} days old\."))
    page.get_by_label("Born on", exact=True).fill("2985-11-18")
    expect(outputs.nth(0)).to_contain_text("must not be in the future")
    page.get_by_label("Integers").fill(f"2, 4 97 {2**127 - 1}")
    expect(outputs.nth(1)).to_have_text(f"2, 97, {2**127 - 1}")
    page.get_by_label("Integers").fill("2 x")
    expect(outputs.nth(1)).to_have_text("X is not an integer")
    for text, found in [
        ("[1, [2]]", "2."),
        ("[1", "not JSON"),
        ("null", "no length"),
        ("{}", "0."),
    ]:
        page.get_by_label("Any JSON", exact=True).fill(text)
        expect(outputs.nth(2)).to_contain_text(found)


# --- for everybody


def test_keyboard(page, site):
    """The keyboard goes everywhere: past the menu, from page to page, through a dialog."""
    login = person(site)
    add(site, login, name := new_name())
    come(page, site, login)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("/#stuff")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.get_by_role("link", name="Try it").press("Enter")
    heading(page, "Try it")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    page.get_by_role("button", name=f"Delete {name}").press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name=f"Delete {name}")).to_be_focused()
    for place in "nowhere", "constructor":
        page.goto(f"{site.url}/#{place}")
        heading(page, "No such page")


STUFF = {
    "Bicycle": 1290,
    "Desk lamp, brass": 84.5,
    "Espresso machine": 649,
    "Field notebook": 12.9,
    "Fountain pen": 48,
    "Kettle": 45,
    "Record player": 220.75,
}


@pytest.fixture(scope="module")
def shown(site):
    """Who is in the pictures."""
    login = site.person("susie")
    for name, price in STUFF.items():
        add(site, login, name, price=price)
    site.send_json("PATCH", f"/user/{login}", {"admin": True}, "acme")
    for other in "calvin", "hobbes":
        site.person(other)
    site.send_json("PATCH", "/user/calvin", {"active": False}, "acme")
    return login


@pytest.mark.parametrize("width", [1000, 320])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_appearance(new_context, site, shown, scheme, width):
    """Each page has no fault that axe finds, and fits its screen; `screenshots/` shows it."""
    page = new_context(
        color_scheme=scheme,
        viewport={"width": width, "height": 760 if width > 500 else 568},
        reduced_motion="reduce",
    ).new_page()

    def look(name):
        """Take a picture, and look for faults."""
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        page.evaluate("scrollTo(9999, scrollY)")
        assert page.evaluate("scrollX") == 0, f"{name} does not fit"
        if (scheme, width) == ("dark", 320):
            return  # the colours of the wide one, and the structure of the light one
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        found = Axe().run(page, options={"runOnly": tags})
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"

    page.goto(site.url)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("[aria-invalid]")).to_have_count(2)
    look("sign-in")
    page.goto(f"{site.url}/#try")
    page.get_by_label("Integers").fill("2 3 4 97 x")
    expect(page.locator("output.bad")).to_be_visible()
    page.get_by_label("Any JSON", exact=True).fill('["a", "b"]')
    expect(page.get_by_text("Its length is 2.")).to_be_visible()
    look("try")
    come(page, site, shown)
    expect(page.locator(".name")).to_have_count(len(STUFF))
    page.get_by_role("button", name="1,290.00").click()
    look("stuff")
    page.get_by_role("button", name="Delete Kettle").click()
    look("delete")
    page.keyboard.press("Escape")
    come(page, site, shown, "users")
    row(page, "hobbes").locator("summary").click()
    look("users")
    page.goto(f"{site.url}/#account")
    expect(page.get_by_text("this one")).to_be_visible()
    page.get_by_role("button", name="Set it up").click()
    expect(page.get_by_role("img", name="QR")).to_be_visible()
    look("account")
    page.context.set_offline(True)
    expect(page.locator("#bar")).not_to_be_empty()
    page.get_by_role("button", name="Save").click()
    look("offline")
    page.context.set_offline(False)
    page.goto(f"{site.url}/#nowhere")
    look("nowhere")
    come(page, site, person(site))
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    look("empty")
    page.get_by_label("Name", exact=True).fill(long := f"{new_name()}{'W' * 100}"[:100])
    page.get_by_label("Price", exact=True).fill("1000000000000")
    page.keyboard.press("Enter")
    says(page, f"{long} is added")
    look("long")


def test_size():
    """The front end is small: 64 kB in all."""
    files = [file for file in (ROOT / "www").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 64_000
