"""Registration with an address that a link in a mail confirms, and changes of addresses."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from database import db
from security import outbox
from test import basic_auth
from tests import links
from tests.accounts import CURRENT, HASH, IN_PROCESS, NEW_PASSWORD, call, new_user, token_of
from tests.conftest import PASSWORD, new_name
from tests.mails import address_of, link_in, mails, server

__all__ = ["mails", "server"]  # fixtures

HOUR = 3600.0


def register(token, login, password=PASSWORD):
    return call("PUT", "/registration", {"token": token, "login": login, "password": password})


def confirm(token):
    return call("PUT", "/confirmation", {"token": token}).status_code


@IN_PROCESS
def test_link_registers_a_user_once(target, mails, audit_trail):
    """A login that is taken, or a weak password, leaves it good; other links for it end."""
    (token, address), login = mails.register(), new_name("u")
    mails.ask("/registration", {"email": address})
    _, second = mails.link()
    assert register(token, new_user()).status_code == 409
    assert register(token, login, "weak").status_code == 400
    res = register(token, login)
    assert (res.status_code, res.headers["Location"]) == (201, f"/user/{login}")
    assert db.get_user(login).email == address == db.get_confirmed_address(login)
    assert not db.get_user(login).admin
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    for used in token, second:
        assert register(used, new_name("u")).status_code == 403
    assert ("registered", login) in [(line["event"], line["whom"]) for line in audit_trail()]


@IN_PROCESS
def test_address_with_an_account_gets_a_mail_that_says_so(target, mails):
    login = mails.confirmed_user()
    mails.ask("/registration", {"email": address_of(login)})
    (message,) = mails.send()
    assert message["Subject"] == "You have an account"
    text = message.get_body(["plain"]).get_content()
    assert login in text and "/#" not in text


@IN_PROCESS
def test_address_is_confirmed_by_one_user_only(target, mails):
    """Also if it has become another user's since the link was mailed."""
    token, address = mails.register()
    other = new_user()
    db.change_user(other, email=address)
    assert db.confirm_address(other, address)
    login = new_name("u")
    res = register(token, login)
    assert (res.status_code, "confirmed this address" in res.text) == (409, True)
    assert not db.user_exists(login)
    assert not db.confirm_address(new_user(), address)
    # until the other one has a new address
    db.change_user(other, email="new@acme.org")
    assert register(token, login).status_code == 201


@IN_PROCESS
@pytest.mark.parametrize("same", ["link", "address", "login"])
def test_of_simultaneous_registrations_one_wins(target, mails, same):
    login, address = new_name("u"), f"{new_name('mail')}@acme.org"
    tries = []
    token = links.new_link("registration", email=address)
    for _ in range(4):
        if same != "link":
            email = address if same == "address" else None
            token = links.new_link("registration", email=email)
        tries.append((token, login if same == "login" else new_name("u")))
    with ThreadPoolExecutor(4) as pool:
        statuses = [res.status_code for res in pool.map(lambda one: register(*one), tries)]
    assert statuses.count(201) == 1, statuses
    assert {*statuses} <= {201, 403, 409}
    if same != "login":
        assert sum(db.user_exists(login) for _, login in tries) == 1


@IN_PROCESS
def test_link_is_good_for_a_day(target, mails, clock):
    token, _ = mails.register()
    clock.now += 24 * HOUR - 1
    assert register(token, new_user()).status_code == 409
    clock.now += 1
    assert register(token, new_name("u")).status_code == 403


@IN_PROCESS
def test_link_does_not_tell_all_logins_that_there_are(target, mails, strict):
    token, _ = mails.register()
    taken = new_user()
    for expected in 409, 409, 409, 429:
        assert register(token, taken).status_code == expected
    assert register(token, new_name("u")).status_code == 429


# changes of addresses


def change(login, headers=None, **changes):
    return call("PATCH", f"/user/{login}", changes, headers or token_of(login))


@IN_PROCESS
def test_own_new_address_counts_after_its_confirmation(target, mails):
    """It takes the password, because a stolen token must not get the mails; the old one is told."""
    login, new = mails.confirmed_user(), f"{new_name('mail')}@acme.org"
    assert change(login, email=new).status_code == 400
    assert change(login, email=new, current="Wrong-Pass-1").status_code == 403
    assert mails.send() == []
    res = change(login, email=new, **CURRENT)
    assert (res.status_code, res.json["email"]) == (202, address_of(login))
    (message,) = mails.send()
    assert message["To"] == new
    kind, token = link_in(message)
    assert kind == "confirm" and db.get_user(login).email == address_of(login)
    assert confirm(token) == 204
    assert db.get_user(login).email == new == db.get_confirmed_address(login)
    (told,) = mails.send()
    assert (told["Subject"], told["To"]) == ("Your address has been changed", address_of(login))
    assert confirm(token) == 403
    assert change(login, email=new, **CURRENT).status_code == 200  # it is confirmed
    assert mails.send() == []


@IN_PROCESS
def test_user_cannot_send_mails_to_any_number_of_strangers(target, mails, monkeypatch):
    """Nothing of a change that is one too many is made."""
    monkeypatch.setattr(outbox, "MAX_OF_CLIENT", 2)
    login, headers = mails.confirmed_user(), token_of(new_user(admin=True))
    found = [change(login, email=f"{new_name('m')}@acme.org", **CURRENT) for _ in range(3)]
    assert [res.status_code for res in found] == [202, 202, 429]
    assert found[-1].headers["Retry-After"] == "3600"
    assert len(mails.send()) == 2
    assert change(login, headers, email=f"{new_name('m')}@acme.org").status_code == 200


@IN_PROCESS
def test_present_address_is_confirmed(target, mails):
    login = new_user()
    assert change(login, email=address_of(login), **CURRENT).status_code == 202
    assert confirm(mails.link()[1]) == 204
    assert db.get_confirmed_address(login) == address_of(login)
    assert mails.send() == []


@IN_PROCESS
def test_change_of_the_password_voids_a_change_of_the_address(target, mails):
    """Of somebody who knew the old one; also one whose mail waits."""
    login = mails.confirmed_user()
    assert change(login, email="thief@acme.org", **CURRENT).status_code == 202
    _, token = mails.link()
    assert change(login, email="thief@acme.org", **CURRENT).status_code == 202
    body = {"password": NEW_PASSWORD, **CURRENT}
    assert call("PUT", f"/user/{login}/password", body, token_of(login)).status_code == 204
    assert confirm(token) == 403
    assert [message["To"] for message in mails.send()] == [address_of(login)]


@IN_PROCESS
def test_address_of_another_user_is_not_told(target, mails):
    """Who asks for it gets the same response, and its user a mail."""
    login, other = new_user(), mails.confirmed_user()
    res = change(login, email=address_of(other), **CURRENT)
    assert (res.status_code, res.json["email"]) == (202, address_of(login))
    (message,) = mails.send()
    assert (message["To"], message["Subject"]) == (address_of(other), "You have an account")


@IN_PROCESS
def test_address_that_an_administrator_sets_is_to_be_confirmed(target, mails):
    login, admin = mails.confirmed_user(), token_of(new_user(admin=True))
    new = f"{new_name('mail')}@acme.org"
    res = change(login, admin, email=new)
    assert (res.status_code, res.json["email"]) == (200, new)
    assert db.get_confirmed_address(login) is None
    sent = {message["To"]: message for message in mails.send()}
    assert sent[address_of(login)]["Subject"] == "Your address has been changed"
    assert confirm(link_in(sent[new])[1]) == 204
    assert db.get_confirmed_address(login) == new
    added = new_name("u")
    body = {"login": added, "password": PASSWORD, "email": address_of(added)}
    assert call("POST", "/user", body, admin).status_code == 201
    assert confirm(mails.link()[1]) == 204
    assert db.get_confirmed_address(added) == address_of(added)


@IN_PROCESS
def test_confirmed_address_ends_with_its_user(target, mails):
    login = mails.confirmed_user()
    db.delete_user(login)
    db.add_user(login, HASH, address_of(login), False)
    assert db.get_confirmed_address(login) is None
    assert db.get_address_user(address_of(login)) is None


@IN_PROCESS
def test_change_that_fails_mails_nothing(target, mails):
    admin = token_of(new_user(admin=True))
    body = {"login": new_user(), "password": PASSWORD, "email": "susie@acme.org"}
    assert call("POST", "/user", body, admin).status_code == 409
    assert change("nobody", admin, email="susie@acme.org").status_code == 404
    assert mails.send() == []
