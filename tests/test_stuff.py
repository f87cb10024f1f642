"""Stuff: permissions, pages, and simultaneous requests."""

import re
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import pytest

from openapi import returns
from test import app
from tests.conftest import PASSWORD, STORES, new_name

CALLS = [("GET", {}), ("PATCH", {"price": 2}), ("DELETE", {})]


# who calls (None: anonymous), method, on susie's stuff, status, what the response contains
@pytest.mark.parametrize(
    ("who", "method", "value", "status", "word"),
    [
        ("susie", "GET", {}, 200, '"owner":"susie"'),
        ("susie", "PATCH", {"price": 2}, 200, '"price":2.0'),
        ("susie", "DELETE", {}, 204, ""),
        ("calvin", "GET", {}, 403, "somebody else"),
        ("calvin", "PATCH", {"price": 2}, 403, "somebody else"),
        ("calvin", "DELETE", {}, 403, "somebody else"),
        ("acme", "GET", {}, 403, "somebody else"),
        ("acme", "PATCH", {"price": 2}, 403, "somebody else"),
        ("acme", "DELETE", {}, 403, "somebody else"),
        (None, "GET", {}, 401, "missing"),
        (None, "PATCH", {"price": 2}, 401, "missing"),
        (None, "DELETE", {}, 401, "missing"),
        ("susie", "PATCH", {}, 400, "missing"),
        ("susie", "PATCH", {"price": -2}, 400, "finite"),
        ("susie", "PATCH", {"price": 2, "owner": "calvin"}, 400, "unexpected"),
        ("susie", "GET", {"sid": "x"}, 400, "sid"),
        # the body is looked at first, so that nothing is learnt about others' stuff from its errors
        ("calvin", "PATCH", {"price": -2}, 400, "finite"),
    ],
)
def test_only_the_owner_reaches_stuff(target, thing, who, method, value, status, word):
    """Only the owner gets in; and a request that is refused has changed nothing."""
    path = f"/stuff/{thing('susie', 1)}"
    res = target.send_json(method, path, value, who=who)
    assert res.status == status, res
    assert word in (res.error if status >= 400 else res.body.decode())
    if status >= 400:
        assert target.send("GET", path, who="susie").json["price"] == 1.0
    if status == 204:
        assert target.send("GET", path, who="susie").status == 404


@pytest.mark.parametrize(
    ("method", "value"), [("GET", {}), ("PATCH", {"price": 2}), ("DELETE", {})]
)
def test_missing_stuff_is_404_or_401(target, method, value):
    """404 with a token, 401 without."""
    path = f"/stuff/{new_name()}"
    assert target.send_json(method, path, value, who="susie").status == 404
    assert target.send_json(method, path, value).status == 401


@pytest.mark.parametrize("name", ["a b", "100%", "é?&=#+;", "<b>", "🍺", "\\", "'\"--"])
def test_created_stuff_has_a_location(target, name):
    """For any name (RFC 9110)."""
    name = f"{name}-{new_name()}"
    res = target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, who="susie")
    assert (res.status, res.json) == (201, {"msg": f"stuff added: {name}"})
    location = res.headers["Location"]
    assert location.startswith("/stuff/")
    assert target.send("GET", location, who="susie").json["stuff"] == name


def test_permissions_are_not_cached(api, thing):
    """A new owner is admitted, and a former owner refused, at the next request."""
    name = thing("susie")
    api.get(f"/stuff/{name}", 403, login="calvin")
    api.delete(f"/stuff/{name}", 204, login="susie")
    api.get(f"/stuff/{name}", 404, login="calvin")
    api.post("/stuff", 201, login="calvin", json={"stuff": name, "price": 1})
    api.get(f"/stuff/{name}", 200, login="calvin")
    api.get(f"/stuff/{name}", 403, login="susie")
    api.patch(f"/stuff/{name}", 403, login="susie", json={"price": 2})
    api.delete(f"/stuff/{name}", 403, login="susie")


@pytest.mark.parametrize("target", STORES, indirect=True)
@pytest.mark.parametrize(
    ("method", "value"), [("GET", {}), ("PATCH", {"price": 2}), ("DELETE", {})]
)
def test_former_owner_gets_403_from_the_store(target, thing, method, value, monkeypatch):
    """The store checks the owner again, after the hook."""
    path = f"/stuff/{thing('susie')}"
    monkeypatch.setitem(app._fsa._zm._object_perms, "stuff", lambda *_: True)
    assert target.send_json(method, path, value, who="calvin").status == 403
    assert target.send("GET", path, who="susie").json["price"] == 1.0


def test_pages_are_in_order_complete_and_linked(target):
    """Pages in the order of names, each with a link to the next one, none twice, none lost."""
    who = target.person(new_name("u"))
    # in an order that is neither theirs nor its reverse; "null" is a name like others
    prefix = new_name()
    names = [f"{prefix}{n}" for n in ("b", "a", "B", "null", "é", "a1", "10", "9", "🍺", " x")]
    for name in names:
        assert target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, who).status == 201
    everything = [[name, 1.0] for name in sorted(names)]
    res = target.send("GET", "/stuff", who=who)
    assert res.json == everything
    assert "Link" not in res.headers
    for limit in 1, 3, 5, 10, 11:
        path, found = f"/stuff?limit={limit}", []
        while path:
            res = target.send("GET", path, who=who)
            assert len(res.json) <= limit
            found += res.json
            link = re.fullmatch(r'<([^>]*)>; rel="next"', res.headers.get("Link", ""))
            assert bool(link) == (len(res.json) == limit)
            path = link[1] if link else ""
        assert found == everything


def search(target, path, who, q, limit=1000):
    """All that a search finds, and the number of its pages."""
    path, found, pages = f"{path}?{urllib.parse.urlencode({'q': q, 'limit': limit})}", [], 0
    while path:
        res = target.send("GET", path, who=who)
        assert (res.status, len(res.json) <= limit) == (200, True), res
        found, pages = found + res.json, pages + 1
        link = re.fullmatch(r'<([^>]*)>; rel="next"', res.headers.get("Link", ""))
        path = link[1] if link else ""
    return found, pages


def test_search_finds_part_of_a_name_whatever_the_case(target):
    """On each store the same, for all scripts; what is special in SQL or a URL is not special."""
    who, mark = target.person(new_name("u")), new_name()
    names = ["100%", "ab&c=d", "Äpfel", "STRASSE", "a_b", "axb", "b'c", "straße", "äPFEL", "ΣΊΣ"]
    for name in names:
        value = {"stuff": f"{name} {mark}", "price": 1}
        assert target.send_json("POST", "/stuff", value, who).status == 201
    for q, expected in [
        ("%", ["100%"]),
        ("&c=", ["ab&c=d"]),
        ("A_B", ["a_b"]),
        ("'", ["b'c"]),
        ("äpfel", ["Äpfel", "äPFEL"]),
        ("STRASSE", ["STRASSE", "straße"]),
        ("σίσ", ["ΣΊΣ"]),
        (mark.upper(), sorted(names)),
        ("100% ", ["100%"]),
        ("🍺", []),
    ]:
        rows = [[f"{name} {mark}", 1.0] for name in expected]
        assert search(target, "/stuff", who, q)[0] == rows, q
        assert search(target, "/stuff", who, q, limit=1) == (rows, len(rows) + 1), q
    for q in "", "a" * 101, "a\nb":
        query = urllib.parse.urlencode({"q": q})
        res = target.send("GET", f"/stuff?{query}", who=who)
        assert (res.status, "q must be" in res.error) == (400, True)


@pytest.mark.parametrize("target", STORES, indirect=True)
def test_search_looks_at_a_bounded_number_of_rows_and_links_to_the_rest(target, monkeypatch):
    """Six names, of which a request looks at four: the second page begins with the fifth."""
    monkeypatch.setattr(returns, "MAX_PAGE", 2)
    monkeypatch.setattr(returns, "MAX_SEARCHED", 4)
    who, mark = target.person(new_name("u")), new_name()
    for n in range(6):
        value = {"stuff": f"{mark}{n}", "price": 1}
        assert target.send_json("POST", "/stuff", value, who).status == 201
    assert search(target, "/stuff", who, f"{mark}5") == ([[f"{mark}5", 1.0]], 2)
    assert search(target, "/stuff", who, f"{mark}0") == ([[f"{mark}0", 1.0]], 2)
    assert search(target, "/stuff", who, "x" * 9) == ([], 2)


def test_search_finds_users_by_login_and_address(target):
    login = target.person(new_name("u"))
    for q in login[1:].upper(), f"{login}@ACME":
        found, _ = search(target, "/user", "acme", q)
        assert [user["login"] for user in found] == [login]


def test_after_excludes_the_name_and_may_name_none(target):
    """`after` may name what is not there, and excludes what it names."""
    who = target.person(new_name("u"))
    prefix = new_name()
    for n in "bd":
        target.send_json("POST", "/stuff", {"stuff": prefix + n, "price": 1}, who)
    for after, found in [("a", "bd"), ("b", "d"), ("c", "d"), ("d", ""), ("e", "")]:
        query = urllib.parse.urlencode({"after": prefix + after})
        res = target.send("GET", f"/stuff?{query}", who=who)
        assert [name for name, _ in res.json] == [prefix + n for n in found]


def test_page_has_at_most_1000_items(target):
    """Without `limit`, a page is full at 1,000."""
    who = target.person(new_name("u"))
    prefix = new_name()

    def add(n):
        return target.send_json("POST", "/stuff", {"stuff": f"{prefix}-{n:04}", "price": n}, who)

    with ThreadPoolExecutor(8) as pool:
        assert {res.status for res in pool.map(add, range(1001))} == {201}
    res = target.send("GET", "/stuff", who=who)
    assert len(res.json) == 1000
    assert f"after={prefix}-0999" in res.headers["Link"]
    assert target.send("GET", f"/stuff?after={prefix}-0999", who=who).json == [
        [f"{prefix}-1000", 1000.0]
    ]


def test_simultaneous_posts_of_one_name_create_it_once(target):
    """Of eight simultaneous POST of one name exactly one gets 201, on every round."""
    owners = [target.person(login) for login in ("susie", "calvin")] * 4

    def add(who):
        return target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, who).status

    with ThreadPoolExecutor(len(owners)) as pool:
        for _ in range(20):
            name = new_name()
            assert sorted(pool.map(add, owners)) == [201] + [409] * 7


def test_only_administrators_add_users(target, api):
    """POST /user: for administrators only, under every scheme; taken names are 409."""
    login, email = new_name("u"), "some@acme.org"
    new = {"login": login, "password": PASSWORD, "email": email}
    api.post("/user", 401, json=dict(new))
    api.post("/user", 403, login="susie", json=dict(new))
    res = api.post("/user", 201, login="acme", auth="bearer", json=dict(new))
    assert res.headers["Location"] == f"/user/{login}"
    assert res.json == {"msg": f"user added: {login}"}
    api.post("/user", 409, login="acme", auth="bearer", json=dict(new))
    api.setPass(login, PASSWORD)
    api.get("/hello-me", 200, login=login, auth="basic")
    # basic, as a form
    res = api.post("/user", 201, login="acme", auth="basic", data=new | {"login": new_name("u")})
    # param, where the password is the caller's and the new user's as well
    login = new_name("u")
    api.setToken("acme", None)
    admin = target.client()._auth._passes["acme"]
    new = {"login": login, "email": email, "username": "acme", "password": admin}
    api.post("/user", 201, json=new)
    api.setPass(login, admin)
    api.get("/hello-me", 200, login=login, auth="basic")
