"""The front end without a network, and with a server in trouble."""

from playwright.sync_api import expect

from tests.browser.steps import add, come, fill_in, person, row, says
from tests.conftest import new_name


def test_refused_change_is_undone_with_a_message(page, site):
    """A refused change is undone in the view, and a message says why."""
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
    # deleted meanwhile by another client
    assert site.send("DELETE", f"/stuff/{gone}", who=login).status == 204
    row(page, gone).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {gone}").fill("6")
    page.keyboard.press("Enter")
    says(page, "No such stuff")
    expect(row(page, gone)).to_have_count(0)


def test_without_network_changes_are_undone_until_it_is_back(page, site):
    """Without a network a bar says so and changes are undone, until the network is back."""
    login = person(site)
    name, other = new_name(), new_name()
    add(site, login, name, other)
    come(page, site, login)
    expect(page.locator(".name")).to_have_count(2)
    page.context.set_offline(True)
    bar = page.locator("#bar")
    expect(bar).to_contain_text("You are offline")
    page.get_by_role("button", name=f"Delete {name}").click()
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


def test_change_with_a_lost_response_is_verified(page, site):
    """After a lost response the view reads whether the change was made."""
    login = person(site)
    name = new_name()
    add(site, login, name)
    come(page, site, login)

    def lose(route):
        route.fetch()
        route.abort()

    # once: the repeat with the same key gets the first response
    page.route(f"**/stuff/{name}", lose, times=1)
    row(page, name).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {name}").fill("5.50")
    page.keyboard.press("Enter")
    says(page, f"{name} is now 5.50")
    page.route(f"**/stuff/{name}", lose, times=3)
    row(page, name).get_by_role("button", name="change it").click()
    page.get_by_label(f"Price of {name}").fill("6")
    page.keyboard.press("Enter")
    says(page, f"it is not known yet whether {name} has changed")
    expect(row(page, name).get_by_role("button", name="change it")).to_have_text("6.00")


def test_unavailable_server_is_shown_until_it_is_back(page, site):
    """A 503 of the server is shown in a bar until the server is available again."""
    login = person(site)
    name = new_name()
    add(site, login, name)
    response = {"error": "the database is unavailable: try again"}
    unavailable = {"status": 503, "json": response, "headers": {"Retry-After": "1"}}
    page.route("**/stuff?*", lambda route: route.fulfill(**unavailable))
    page.route("**/hello-me", lambda route: route.fulfill(**unavailable))
    come(page, site, login)
    expect(page.locator("#bar")).to_contain_text("The database is unavailable")
    page.unroute_all()
    expect(page.locator(".name")).to_have_text(name)
    expect(page.locator("#bar")).to_be_empty()


def test_busy_button_is_disabled_and_sends_once(page, site):
    """A button that waits is disabled and says what it does, and nothing is sent twice."""
    login = person(site)
    come(page, site, login)
    waiting = []
    page.route("**/stuff", lambda route: waiting.append(route))
    fill_in(page, new_name(), "5")
    page.keyboard.press("Enter")
    button = page.get_by_role("button", name="Adding…")
    expect(button).to_be_disabled()
    page.keyboard.press("Enter")
    assert len(waiting) == 1
    waiting[0].continue_()
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_enabled()
    says(page, "is added")
