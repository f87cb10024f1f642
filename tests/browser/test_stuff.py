"""The list of stuff in a real browser."""

from playwright.sync_api import expect

from tests.browser.steps import add, come, person, row, says
from tests.conftest import new_name, until


def test_stuff_is_added_changed_and_deleted(page, site):
    """Add, change in place, delete; each error is at its field, and the focus stays near."""
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


def test_price_follows_the_locale(new_context, site):
    """Prices are shown and typed with the decimal separator of the locale."""
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
    field.fill("1.000")  # a thousand in some locales, one in others
    field.press("Enter")
    expect(page.locator(".edited")).to_contain_text("Write 1000")
    assert site.send("GET", f"/stuff/{name}", who=login).json["price"] == 0.1


def test_name_is_never_html(page, site):
    """What users write is never HTML."""
    login = person(site)
    name = f"<img src=x onerror=alert(1)> &amp; {new_name()}".replace("/", "")
    add(site, login, name)
    come(page, site, login)
    expect(page.locator(".name")).to_have_text(name)
    assert page.locator(".rows img").count() == 0
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("dialog")).to_contain_text(name)


def test_long_list_loads_page_by_page_each_item_once_in_order(page, site):
    """Three requests as the user scrolls, with an item added beyond what is loaded."""
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


def test_next_page_loads_when_the_browser_reports_two_changes_at_once(page, site):
    """A busy browser reports out of view and in view in one call: the last one counts."""
    page.add_init_script("""
        window.IntersectionObserver = class extends IntersectionObserver {
            constructor(report, options) {
                super((changes) => report([{ isIntersecting: false }, ...changes]), options)
            }
        }
    """)
    login = person(site)
    add(site, login, *[f"{n:02}" for n in range(60)])
    come(page, site, login)
    expect(page.locator(".name")).to_have_count(50)
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    expect(page.locator(".name")).to_have_count(60)
