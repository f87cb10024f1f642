"""The list of stuff in a real browser."""

from playwright.sync_api import expect

from tests.browser.steps import add, come, fill_in, person, row, says
from tests.conftest import new_name, until


def test_stuff_is_added_changed_and_deleted(page, site):
    """Add, change in place, delete; each error is at its field, and the focus stays near."""
    login = person(site)
    name, taken = new_name(), new_name()
    add(site, "acme", taken)
    come(page, site, login)
    expect(page.locator(".empty").first).to_be_visible()
    page.get_by_role("button", name="Add stuff").click()
    fields = page.get_by_label("Name", exact=True), page.get_by_label("Price", exact=True)
    for values, fault in [
        ((name, "free"), "Price must be a number"),
        ((name, "2000000000000"), "Price must be a finite number"),
        (("a/b", "5"), "Name must be 1 to 100"),
        ((taken, "5"), "This name is taken"),
    ]:
        for field, value in zip(fields, values, strict=True):
            field.fill(value)
        page.get_by_role("button", name="Add", exact=True).click()
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
    expect(page.locator(".empty").first).to_be_hidden()

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
        says(page, f"{gone} is deleted")
        add_button = page.get_by_role("button", name="Add stuff")
        expect(add_button if i == 2 else page.locator(".bin:focus")).to_be_focused()
    expect(page.locator(".empty").first).to_be_visible()
    assert site.send("GET", "/stuff", who=login).json == []


def test_deletion_is_undone(page, site):
    """With its price; unless somebody else has taken the name meanwhile."""
    login = person(site)
    add(site, login, *(names := [new_name(), new_name()]))
    come(page, site, login)
    for name in names:
        page.get_by_role("button", name=f"Delete {name}").click()
        says(page, f"{name} is deleted")
    assert site.send("GET", "/stuff", who=login).json == []
    add(site, "acme", names[1])
    for name, said in [(names[1], "somebody else has taken"), (names[0], "is restored")]:
        message = page.locator("#messages p", has_text=name)
        message.get_by_role("button", name="Undo").click()
        says(page, said)
    assert site.send("GET", "/stuff", who=login).json == [[names[0], 5.0]]


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
    says(page, f"{name} is deleted")


def test_long_list_is_counted_searched_and_keeps_its_place(page, site):
    """All rows are counted, shown as the user scrolls, and found; Back and a reload keep the place.

    An item that is added beyond what is shown comes once, in its order.
    """
    login = person(site)
    prefix = new_name()
    names = [f"{prefix}-{n:03}" for n in range(120)]
    add(site, login, *names)
    come(page, site, login)
    expect(page.locator(".name")).to_have_count(50)
    expect(page.locator(".count")).to_have_text("120 items")
    fill_in(page, f"{prefix}-090x", "5")
    page.keyboard.press("Enter")
    says(page, "is added")
    expect(page.locator(".count")).to_have_text("121 items")

    def all_there():
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        return page.locator(".name").count() == 121

    until(all_there)
    expect(page.get_by_role("button", name="Show more")).to_be_hidden()
    assert page.locator(".name").all_text_contents() == sorted([*names, f"{prefix}-090x"])

    row(page, f"{prefix}-100").scroll_into_view_if_needed()
    top = page.evaluate("scrollY")
    assert top > 3000
    page.evaluate("document.querySelector('nav a[href=\"#account\"]').click()")
    expect(page.get_by_text("this one")).to_be_visible()
    for move in page.go_back, page.reload:
        move()
        expect(row(page, f"{prefix}-100")).to_be_in_viewport()
        until(lambda: abs(page.evaluate("scrollY") - top) < 200)

    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("searchbox").fill(f" {prefix}-09".upper())
    expect(page.locator(".count")).to_have_text("11 items")
    expect(page.locator(".name")).to_have_count(11)
    page.get_by_role("searchbox").fill("<nothing>")
    expect(page.locator("main")).to_contain_text("No item has “<nothing>” in it.")


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
