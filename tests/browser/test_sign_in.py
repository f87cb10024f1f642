"""Sign-in in a real browser: the second factor, refresh, the end of a session, several tabs."""

import re
import time

import pyotp
from playwright.sync_api import expect

from tests.browser.steps import add, come, fill_in, heading, new_secret, person, says, sign_in
from tests.conftest import PASSWORD, new_name, until


def test_sign_in_shows_errors_and_survives_a_reload(page, site):
    """A wrong password gives an error at the form; the right one opens the requested view.

    A reload does not sign out, and no storage of the browser has a token.
    """
    login = person(site)
    refused = []
    page.on("response", lambda r: refused.append(r.url) if r.status >= 400 else None)
    page.goto(f"{site.url}/#account")
    heading(page, "Sign in")
    assert refused == []  # the first visit
    expect(page.get_by_label("Login", exact=True)).to_be_focused()
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("form")).to_contain_text("Login is missing")
    expect(page.get_by_label("Login", exact=True)).to_have_attribute("aria-invalid", "true")
    sign_in(page, login, "Wrong-1")
    expect(page.locator("form")).to_contain_text("Login or password is wrong")
    sign_in(page, login.upper())
    expect(page.locator("form")).to_contain_text("Logins are in lower case")
    sign_in(page, login)
    heading(page, "Account")
    assert page.url.endswith("/#account")
    assert page.title() == "Account – Acme"
    page.reload()
    heading(page, "Account")
    stored = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert stored == '[{"session":"on"},{},""]'
    page.get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in")
    page.reload()
    heading(page, "Sign in")
    assert page.context.cookies() == []


def test_second_factor_is_set_up_and_asked_for(page, site):
    """It is set up by QR code or key, then each sign-in needs a code; a wrong code is an error."""
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
    codes = page.locator(".codes li").all_inner_texts()
    assert len(codes) == 10
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_text().split() == codes
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Switch it off")).to_be_visible()

    page.get_by_role("button", name="Sign out", exact=True).click()
    sign_in(page, login)
    expect(page.get_by_label("Code", exact=True)).to_be_focused()
    page.get_by_label("Code", exact=True).fill(totp.at(now))
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("form")).to_contain_text("wrong, or was used before")
    page.get_by_label("Code", exact=True).fill(codes[0])
    page.get_by_role("button", name="Continue").click()
    heading(page, "My stuff")


def test_second_factor_is_switched_off_with_a_code(page, site):
    """It is switched off with a code."""
    login = person(site)
    secret = new_secret(site, login)
    totp, now = pyotp.TOTP(secret), time.time()
    come(page, site, login, "account")
    # in the session of the browser, which is kept
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


def test_refused_requests_refresh_once_together(page, site):
    """Concurrent requests with a refused token share one refresh, and are repeated."""
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


def test_view_and_input_return_after_a_new_sign_in(page, site):
    """After a new sign-in the user is back at the same view, with the text typed before."""
    login = person(site)
    come(page, site, login)
    fill_in(page, "unsaved", "5")
    # by another client
    assert site.send("DELETE", "/token?all=true", who=login).status == 204
    del site.people[login]
    page.get_by_role("button", name="Add", exact=True).click()
    heading(page, "Sign in")
    expect(page.locator("main")).to_contain_text("Your session has ended")
    assert page.url.endswith("/#stuff")
    sign_in(page, login)
    heading(page, "My stuff")
    expect(page.get_by_label("Name", exact=True)).to_have_value("unsaved")
    page.get_by_role("button", name="Add", exact=True).click()
    says(page, "unsaved is added")


def test_button_counts_the_seconds_of_the_rate_limit(page, site):
    """After too many failures the button counts the seconds, then is enabled again."""
    login = person(site)
    body = {"username": login, "password": "Wrong-1"}
    page.goto(site.url)
    heading(page, "Sign in")

    def throttled():
        response = site.send_json("POST", "/token", body)
        return response.status == 429 and int(response.headers["Retry-After"]) > 4

    until(throttled)
    sign_in(page, login)
    expect(page.locator("form")).to_contain_text("Too many failed attempts")
    button = page.locator("button.main")
    expect(button).to_be_disabled()
    expect(button).to_have_text(re.compile(r"Wait \d s"))
    expect(button).to_have_text("Sign in")
    button.click()
    heading(page, "My stuff")


def test_tabs_agree_on_the_authenticated_user(page, site):
    """A sign-in or sign-out in one tab changes the others."""
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
        expect(page.get_by_role("button", name="Undo")).to_be_visible()
        other.get_by_role("button", name="Sign out", exact=True).click()
        for tab in page, other:
            heading(tab, "Sign in")
        expect(page.get_by_role("button", name="Undo")).to_have_count(0)


def test_cookie_of_another_user_changes_nothing_unnoticed(page, site):
    """If another user's cookie replaced it, no request is sent in that user's name."""
    susie, calvin = person(site), person(site)
    come(page, site, susie)
    body = {"username": calvin, "password": PASSWORD}
    assert page.context.request.post(f"{site.url}/token", data=body).status == 201
    assert site.send("DELETE", "/token?all=true", who=susie).status == 204
    name = new_name()
    fill_in(page, name, "5")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#who")).to_contain_text(calvin)
    assert site.send("GET", f"/stuff/{name}", who=calvin).status == 404
