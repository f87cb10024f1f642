"""Idempotency-Key: a repeated write is made once, on each store, in process and over HTTP."""

import contextlib
import http.client
import os
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.accounts import IN_PROCESS
from tests.conftest import (
    PASSWORD,
    new_name,
)
from tests.test_auth import basic

FORM = "application/x-www-form-urlencoded"


def key(text=None):
    return {"Idempotency-Key": str(uuid.uuid4()) if text is None else text}


def post(target, name, price=1, who="acme", headers=None):
    return target.send_json("POST", "/stuff", {"stuff": name, "price": price}, who, headers)


def same(one, other):
    """Whether two responses have the same status, body and headers that a route sets."""
    names = "Content-Type", "Location", "Link", "ETag"
    headers = [[response.headers.get(name) for name in names] for response in (one, other)]
    return (one.status, one.body, headers[0]) == (other.status, other.body, headers[1])


def test_repeats_get_the_first_answer_and_the_change_is_made_once(target):
    name, keys = new_name(), [key() for _ in range(3)]
    added = [post(target, name, headers=keys[0]) for _ in range(3)]
    assert added[0].status == 201 and added[0].headers["Location"] == f"/stuff/{name}"
    assert same(added[0], added[1]) and same(added[0], added[2])
    assert post(target, name).status == 409

    path = f"/stuff/{name}"
    changed = target.send_json("PATCH", path, {"price": 2}, "acme", keys[1])
    assert target.send_json("PATCH", path, {"price": 3}, "acme").status == 200
    assert same(target.send_json("PATCH", path, {"price": 2}, "acme", keys[1]), changed)
    assert target.send("GET", path, who="acme").json["price"] == 3  # not changed again

    gone = target.send("DELETE", path, who="acme", headers=keys[2])
    assert gone.status == 204
    # there is nothing left that the caller would have a permission for
    assert same(target.send("DELETE", path, who="acme", headers=keys[2]), gone)
    assert target.send("DELETE", path, who="acme").status == 404


def test_each_kind_of_write_can_be_repeated(target):
    login, keys = new_name("u"), [key() for _ in range(4)]
    new = {"login": login, "password": PASSWORD, "email": f"{login}@acme.org"}
    assert same(*(target.send_json("POST", "/user", new, "acme", keys[0]) for _ in range(2)))
    target.person("acme")
    change = {"active": False}
    path = f"/user/{login}"
    changed = [target.send_json("PATCH", path, change, "acme", keys[1]) for _ in range(2)]
    assert same(*changed) and changed[0].status == 200
    gone = [target.send("DELETE", path, who="acme", headers=keys[2]) for _ in range(2)]
    assert same(*gone) and gone[0].status == 204
    # a form, and authentication by its parameters
    name = new_name()
    body = f"stuff={name}&price=1&username=acme&password={os.environ['ACME_PASS']}"
    forms = [target.send("POST", "/stuff", body, FORM, headers=keys[3]) for _ in range(2)]
    assert same(*forms) and forms[0].status == 201


# header, part of the error
BAD_KEYS = [
    ("", "1 to 64"),
    (" ", "1 to 64"),
    ("\t", "1 to 64"),
    ("x" * 65, "1 to 64"),
    ('"' + "x" * 65 + '"', "1 to 64"),
    ('""', "1 to 64"),
    ('"x', "1 to 64"),
    ("é", "1 to 64"),
    ("a\tb", "1 to 64"),
    ("one,two", "be sent once"),  # as servers join two headers
    ('"one","two"', "be sent once"),
]


def test_malformed_keys_are_refused_and_change_nothing(target):
    name = new_name()
    for header, word in BAD_KEYS:
        if target.url:
            header = header.encode("latin-1")
        response = post(target, name, headers={"Idempotency-Key": header})
        assert response.status == 400, header
        assert word in response.error
    assert post(target, name).status == 201


def test_two_keys_are_refused(target):
    target.person("acme")
    headers = [*target.bearer("acme").items(), *(("Idempotency-Key", text) for text in "ab")]
    path = f"/stuff/{new_name()}"
    if target.url:
        url = urllib.parse.urlsplit(target.url).netloc
        with contextlib.closing(http.client.HTTPConnection(url, timeout=20)) as connection:
            connection.putrequest("DELETE", path)
            for header in headers:
                connection.putheader(*header)
            connection.endheaders()
            status = connection.getresponse().status
    else:
        status = target.app.test_client().delete(path, headers=headers).status_code
    assert status == 400


def test_keys_of_printable_characters_are_accepted(target):
    name = new_name()
    for header in "x" * 64, "0", '"with, comma"', "two words", "!#$~", "a=b; c":
        first = post(target, name, headers=key(header))
        assert first.status == 201, header
        assert same(post(target, name, headers=key(header)), first)
        name = new_name()


def test_quotes_are_no_part_of_a_key(target):
    """The draft writes keys as texts of RFC 9651; many clients leave the quotes out."""
    name, text = new_name(), str(uuid.uuid4())
    first = post(target, name, headers=key(text))
    assert same(post(target, name, headers=key(f'"{text}"')), first)


def test_another_request_with_the_same_key_is_422(target):
    name, used = new_name(), key()
    assert post(target, name, headers=used).status == 201
    others = [
        ("POST", "/stuff", {"stuff": name, "price": 2}),
        ("POST", "/stuff?price=1", {"stuff": name}),
        ("PATCH", f"/stuff/{name}", {"price": 1}),
        ("DELETE", f"/stuff/{name}", {}),
    ]
    for method, path, value in others:
        response = target.send_json(method, path, value, "acme", used)
        assert response.status == 422, (method, path)
        assert "another request" in response.error
    assert target.send("GET", f"/stuff/{name}", who="acme").json["price"] == 1
    # the order of members does not matter
    body = f'{{"price": 1, "stuff": "{name}"}}'
    again = target.send("POST", "/stuff", body, "application/json", "acme", used)
    assert again.status == 201


def test_keys_of_users_do_not_meet(target):
    used, names = key(), [new_name(), new_name()]
    users = [target.person(new_name("u")) for _ in names]
    for name, who in zip(names, users, strict=True):
        response = post(target, name, who=who, headers=used)
        assert (response.status, response.headers["Location"]) == (201, f"/stuff/{name}")


def test_errors_are_not_stored(target):
    """They have changed nothing: a repeat is made once the reason is gone."""
    name, used = new_name(), key()
    assert post(target, name, price=-1, headers=used).status == 400
    assert post(target, name).status == 201
    assert post(target, name, headers=used).status == 409
    assert target.send("DELETE", f"/stuff/{name}", who="acme").status == 204
    assert post(target, name, headers=used).status == 201


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/token", {"username": "acme", "password": "{pass}"}),
        ("POST", "/user/acme/otp", {"current": "{pass}"}),
        ("PUT", "/user/acme/password", {"password": "Other-1", "current": "{pass}"}),
    ],
)
def test_routes_with_secrets_refuse_keys(target, method, path, value):
    value = {k: v.format(**{"pass": os.environ["ACME_PASS"]}) for k, v in value.items()}
    who = None if path == "/token" else "acme"
    response = target.send_json(method, path, value, who, key())
    assert response.status == 400
    assert "send no Idempotency-Key" in response.error


def test_routes_without_authentication_and_reads_ignore_keys(target):
    for method, path, value in [("POST", "/len", {"p": [1]}), ("GET", "/hello", {})]:
        assert target.send_json(method, path, value, headers=key("x" * 99)).status == 200
    assert target.send("GET", "/stuff", who="acme", headers=key("x" * 99)).status == 200
    assert post(target, new_name(), who=None, headers=key("x" * 99)).status == 401


def test_concurrent_repeats_are_made_once(target):
    """Each gets the first answer, or 409 with the time to wait; on two processes over HTTP."""
    target.person("acme")
    for _ in range(3):
        name, used = new_name(), key()
        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(post, target, name, headers=used) for _ in range(6)]
            found = [future.result() for future in sent]
        done = [response for response in found if response.status == 201]
        assert done and all(same(response, done[0]) for response in done)
        for response in found:
            if response.status != 201:
                assert response.status == 409 and "in progress" in response.error
                assert response.headers["Retry-After"] == "1"
        assert same(post(target, name, headers=used), done[0])


@IN_PROCESS
def test_fingerprints_depend_on_the_secret_and_survive_its_rotation(target, monkeypatch):
    """A row that leaks does not let an attacker try passwords faster than argon2 does."""
    name, used = new_name(), key()
    first = post(target, name, headers=used)
    old = target.app.config["ACME_TOKEN_SECRETS"]
    new = "another-secret-of-32-bytes-or-more"
    monkeypatch.setitem(target.app.config, "ACME_TOKEN_SECRETS", [new, *old])
    assert same(post(target, name, headers=used), first)
    monkeypatch.setitem(target.app.config, "ACME_TOKEN_SECRETS", [new])
    headers = basic(f"acme:{os.environ['ACME_PASS']}") | used
    assert post(target, name, who=None, headers=headers).status == 422
