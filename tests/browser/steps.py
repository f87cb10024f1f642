"""Steps that the tests of the front end share."""

from playwright.sync_api import expect

from tests.conftest import PASSWORD, new_name


def person(site):
    """A new user."""
    return site.person(new_name("u"))


def new_secret(site, login, password=PASSWORD):
    """A new secret for one-time passwords, which are not on yet."""
    value = {"current": password}
    return site.send_json("POST", f"/user/{login}/otp", value, login).json["secret"]


def come(page, site, login, place="stuff", password=PASSWORD):
    """Open a view as a user who has signed in before, so that the cookie is there."""
    body = {"username": login, "password": password}
    assert page.context.request.post(f"{site.url}/token", data=body).status == 201
    remember_session(page)
    page.goto("about:blank")  # else only the hash would change, without a load
    page.goto(f"{site.url}/#{place}")
    expect(page.locator("#who")).to_contain_text(login)
    return page


def remember_session(page):
    """As after a sign-in: without it, the front end does not ask for a new token."""
    page.add_init_script("location.protocol === 'about:' || (localStorage.session ??= 'on')")


def fill_in(page, name, price):
    """Open the form for new stuff, and fill it in."""
    if not page.get_by_label("Name", exact=True).is_visible():
        page.get_by_role("button", name="Add stuff").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Price", exact=True).fill(price)


def choose(row, action):
    """Choose an action in the menu of a user."""
    row.get_by_role("button", name="Change").click()
    row.get_by_role("button", name=action).click()


def sign_in(page, login, password=PASSWORD):
    page.get_by_label("Login", exact=True).fill(login)
    page.get_by_label("Password", exact=True).fill(password)
    page.get_by_role("button", name="Sign in").click()


def set_up_otp(page):
    """In the view of the account, show a new secret for one-time passwords."""
    page.get_by_role("button", name="Set it up").click()
    part = page.locator(".card", has_text="Second factor")
    part.get_by_label("Current password").fill(PASSWORD)
    part.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("img", name="QR")).to_be_visible()


def heading(page, text):
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def says(page, text):
    """Expect a message at the edge of the screen."""
    expect(page.locator("#messages")).to_contain_text(text)


def add(site, login, *names, price=5):
    for name in names:
        body = {"stuff": name, "price": price}
        assert site.send_json("POST", "/stuff", body, login).status == 201


def row(page, name):
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))
