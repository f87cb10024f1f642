"""The views of the account, of users and of open routes, in a real browser."""

import re

import pyotp
from playwright.sync_api import expect

from tests.browser.steps import choose, come, heading, new_secret, person, row, says, sign_in
from tests.conftest import PASSWORD, new_name, until


def test_account_changes_address_password_and_sessions(page, site):
    """Address, password and sessions can be changed; each error is at its field."""
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

    add_and_delete_key(page, site, "Other-Pass-1")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download my data").click()
    assert login in download.value.path().read_text()

    page.get_by_role("button", name="Sign out everywhere").click()
    page.get_by_role("dialog").get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in")
    sign_in(page, login, "Other-Pass-1")
    heading(page, "Account")


def add_and_delete_key(page, site, password):
    """Make an API key, use it, and delete it."""
    page.get_by_role("button", name="New key").click()
    part = page.locator(".card", has_text="API keys")
    part.get_by_label("Name", exact=True).fill("backup")
    part.get_by_label("Current password", exact=True).fill(password)
    part.get_by_role("button", name="Make the key").click()
    key = part.locator(".key").inner_text()
    bearer = {"Authorization": f"Bearer {key}"}
    assert page.context.request.get(f"{site.url}/stuff", headers=bearer).status == 200
    part.get_by_role("button", name="Done").click()
    part.get_by_role("button", name="Delete the API key backup").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    says(page, "The API key backup is deleted")
    expect(page.locator(".card", has_text="Activity")).to_contain_text("Sign-in")


def test_administrator_manages_users(page, site):
    """An administrator adds, disables, promotes and resets users, sets passwords and deletes."""
    admin, login = person(site), new_name("u")
    site.send_json("PATCH", f"/user/{admin}", {"admin": True}, "acme")
    come(page, site, admin, "users")
    page.get_by_role("button", name="Add a user").click()
    page.get_by_label("Login", exact=True).fill(admin)
    page.get_by_label("E-mail address").fill("x@acme.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".add")).to_contain_text("This login is taken")
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_role("button", name="Add", exact=True).click()
    says(page, f"{login} is added")
    theirs = row(page, login)
    profile = {"email": "x@acme.org", "login": login, "otp": False}

    def show(login):
        return site.send("GET", f"/user/{login}", who="acme").json

    for button, badge, expected in [
        ("Disable", "disabled", {"admin": False, "active": False}),
        ("Enable", None, {"admin": False, "active": True}),
        ("Promote", "administrator", {"admin": True, "active": True}),
        ("Demote", None, {"admin": False, "active": True}),
    ]:
        choose(theirs, button)
        if button != "Enable":
            page.get_by_role("dialog").get_by_role("button", name=button).click()
        expect(theirs.locator(".badge")).to_have_text([badge] if badge else [])
        until(lambda e=expected: (profile | e).items() <= show(login).items())

    choose(theirs, "New password")
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
    assert site.send_json("PUT", f"/user/{login}/otp", code, login).status == 200
    page.reload()
    expect(theirs.locator(".badge")).to_have_text(["second factor"])
    choose(theirs, "Reset the second factor")
    page.get_by_role("dialog").get_by_role("button", name="Reset").click()
    says(page, "is off")
    delete_user(page, theirs, login)
    page.get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in")
    assert site.send("GET", f"/user/{login}", who="acme").status == 404


def delete_user(page, theirs, login):
    """Delete a user, undo it, and delete the user again, which a sign-out does not wait for."""
    for undone in True, False:
        choose(theirs, "Delete")
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        says(page, f"{login} will be deleted")
        if undone:
            page.get_by_role("button", name="Undo").click()
            says(page, f"{login} is not deleted")


def test_own_role_changes_only_after_typing_the_login(page, site):
    """A click and Enter are not enough to demote oneself."""
    admin = person(site)
    site.send_json("PATCH", f"/user/{admin}", {"admin": True}, "acme")
    come(page, site, admin, "users")
    choose(row(page, admin), "Demote")
    page.get_by_label(f"Type {admin} to confirm").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("is missing")
    page.get_by_label(f"Type {admin} to confirm").fill(admin)
    page.keyboard.press("Enter")
    says(page, "is an ordinary user")
    assert site.send("GET", f"/user/{admin}", who="acme").json["admin"] is False


def test_users_view_of_an_administrator_who_is_demoted_meanwhile(page, site):
    """A change that is refused is undone, and the view is closed after a reload."""
    admin = person(site)
    site.send_json("PATCH", f"/user/{admin}", {"admin": True}, "acme")
    come(page, site, admin, "users")
    own = row(page, "acme")
    site.send_json("PATCH", f"/user/{admin}", {"admin": False}, "acme")
    choose(own, "Disable")
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    says(page, "acme has not changed")
    expect(own.locator(".badge")).to_have_text(["administrator"])
    page.reload()
    expect(page.locator("main")).to_contain_text("Only administrators have access")
    expect(page.get_by_role("link", name="Users")).to_have_count(0)


def test_open_routes_respond_while_the_user_types(page, site):
    """The open routes are called as the user types, with their results and errors."""
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


def test_links_of_mails_open_their_forms(page, site):
    """Sign-up and reset ask for a mail, and its link leads to a form that uses its token."""
    login, sent = person(site), []

    def answer(route):
        request = route.request
        sent.append((request.method, request.url.removeprefix(site.url), request.post_data_json))
        route.fulfill(status=202 if request.method == "POST" else 204, body="")

    page.route(re.compile("/(registration|reset|confirmation)$"), answer)
    page.goto(site.url)
    page.get_by_role("link", name="Sign up").click()
    page.get_by_label("E-mail address").fill("x@acme.org")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("A mail is on its way to x@acme.org")
    page.get_by_role("link", name="Back to the start").click()
    page.get_by_role("link", name="Forgotten password?").click()
    page.get_by_label("Login", exact=True).fill(login)
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_contain_text("If there is such an account")
    page.goto(f"{site.url}/#reset=token-1")
    page.get_by_label("New password", exact=True).fill("short")
    expect(page.locator("form")).to_contain_text(
        "Still missing: 5 more characters, A to Z, a digit"
    )
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    says(page, "The password is changed")
    page.goto(f"{site.url}/#confirm=token-2")
    page.get_by_role("button", name="Confirm").click()
    expect(page.locator("main")).to_contain_text("Your address is confirmed")
    page.goto(f"{site.url}/#registration=token-3")
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    heading(page, "My stuff")
    assert sent == [
        ("POST", "/registration", {"email": "x@acme.org"}),
        ("POST", "/reset", {"login": login}),
        ("PUT", "/reset", {"token": "token-1", "password": PASSWORD}),
        ("PUT", "/confirmation", {"token": "token-2"}),
        ("PUT", "/registration", {"token": "token-3", "login": login, "password": PASSWORD}),
    ]
