"""Keyboard, contrast, sizes: the front end for all users, with screenshots."""

import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.browser.steps import add, choose, come, fill_in, heading, person, row, says, set_up_otp
from tests.conftest import ROOT, new_name

SCREENSHOTS = ROOT / "screenshots"


def test_keyboard_reaches_everything(page, site):
    """The keyboard suffices: past the menu, from view to view, through a dialog."""
    login = person(site)
    add(site, login, name := new_name())
    come(page, site, login)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("/#stuff")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Add stuff")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Add stuff")).to_be_focused()
    page.get_by_role("link", name="Try it").press("Enter")
    heading(page, "Try it")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    page.go_back()
    page.get_by_role("button", name=f"Delete {name}").press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(row(page, name).get_by_role("button", name="change it")).to_be_focused()
    page.get_by_role("link", name="Account").press("Enter")
    page.get_by_role("button", name="Sign out everywhere").press("Enter")
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out everywhere")).to_be_focused()
    page.get_by_role("button", name="Theme").press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Theme")).to_be_focused()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    for place in "nowhere", "constructor":
        page.goto(f"{site.url}/#{place}")
        heading(page, "Not found")


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
    """The login of a user with data for the screenshots."""
    login = site.person("susie")
    for name, price in STUFF.items():
        add(site, login, name, price=price)
    site.send_json("PATCH", f"/user/{login}", {"admin": True}, "acme")
    for other in "calvin", "hobbes":
        site.person(other)
    site.send_json("PATCH", "/user/calvin", {"active": False}, "acme")
    return login


def offline(page, look):
    page.context.set_offline(True)
    expect(page.locator("#bar")).not_to_be_empty()
    page.get_by_role("button", name="Save").click()
    look("offline")
    page.context.set_offline(False)


# scheme, width, and whether colours are forced; the last is a wide screen at 200 %
VIEWPORTS = [
    ("light", 1280, False),
    ("dark", 1280, False),
    ("light", 320, False),
    ("dark", 640, True),
]
if os.environ.get("SCREENSHOTS"):
    VIEWPORTS += [(scheme, width, False) for scheme in ("light", "dark") for width in (360, 768)]


@pytest.mark.parametrize(("scheme", "width", "forced"), VIEWPORTS)
def test_views_have_no_accessibility_fault_and_fit_the_screen(
    new_context, site, shown, scheme, width, forced
):
    """Axe finds no fault in a view, and each fits its screen; `screenshots/` shows it."""
    page = new_context(
        color_scheme=scheme,
        forced_colors="active" if forced else "none",
        device_scale_factor=2 if forced else 1,
        viewport={"width": width, "height": 760 if width > 500 else 568},
        reduced_motion="reduce",
    ).new_page()

    def look(name):
        """Take a screenshot, and look for faults."""
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}-{width}.png", full_page=True)
        page.evaluate("scrollTo(9999, scrollY)")
        assert page.evaluate("scrollX") == 0, f"{name} does not fit"
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        rules = {"color-contrast": {"enabled": not forced}}  # forced colours are the system's
        found = Axe().run(page, options={"runOnly": tags, "rules": rules})
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
    come(page, site, shown, "users")
    row(page, "hobbes").get_by_role("button", name="Change").click()
    look("users")
    row(page, "hobbes").get_by_role("button", name="Disable").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    look("disable")
    page.keyboard.press("Escape")
    choose(row(page, shown), "Demote")
    look("demote")
    page.keyboard.press("Escape")
    page.goto(f"{site.url}/#account")
    expect(page.get_by_text("this one")).to_be_visible()
    set_up_otp(page)
    look("account")
    offline(page, look)
    page.goto(f"{site.url}/#nowhere")
    look("nowhere")
    come(page, site, person(site))
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    look("empty")
    fill_in(page, long := f"{new_name()}{'W' * 100}"[:100], "1000000000000")
    page.keyboard.press("Enter")
    says(page, f"{long} is added")
    look("long")


def test_front_end_has_at_most_100_kb():
    """The front end is small: 100 kB in all, unminified."""
    files = [file for file in (ROOT / "www").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 100_000
