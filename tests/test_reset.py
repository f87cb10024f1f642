"""A new password for a forgotten one, by a link in a mail."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pyotp
import pytest

from database import db
from test import app, basic_auth
from tests import links
from tests.accounts import CHEAP, CURRENT, IN_PROCESS, NEW_PASSWORD, call, new_user, token_of
from tests.conftest import PASSWORD, configured, new_name
from tests.mails import address_of, mails, server

__all__ = ["mails", "server"]  # fixtures

HOUR = 3600.0


def set_password(token, password=NEW_PASSWORD):
    return call("PUT", "/reset", {"token": token, "password": password})


@IN_PROCESS
def test_link_sets_a_new_password_once_and_ends_all_sessions_and_keys(target, mails, audit_trail):
    """What is wrong with the password leaves it good, and opening its page does not use it."""
    login = mails.confirmed_user()
    session = token_of(login)
    body = {"name": "script", "scope": "read", **CURRENT}
    key = call("POST", f"/user/{login}/keys", body, session)
    assert key.status_code == 201
    token = mails.reset(login)
    assert call("GET", f"/#reset={token}").status_code == 200
    assert call("GET", "/hello-me", headers=session).status_code == 200
    assert set_password(token, "weak").status_code == 400
    assert set_password(token).status_code == 204
    assert call("GET", "/hello-me", headers=session).status_code == 401
    bearer = {"Authorization": f"Bearer {key.json['key']}"}
    assert call("GET", "/stuff", headers=bearer).status_code == 401
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 401
    assert call("GET", "/token", headers=basic_auth(login, NEW_PASSWORD)).status_code == 200
    assert set_password(token).status_code == 403
    (told,) = mails.send()
    assert (told["Subject"], told["To"]) == ("Your password has been changed", address_of(login))
    assert ("password reset", login) in [(line["event"], line["whom"]) for line in audit_trail()]
    assert token not in str(audit_trail())


@IN_PROCESS
def test_second_factor_stays_on(target, mails):
    login, secret = mails.confirmed_user(), pyotp.random_base32()
    db.set_otp(login, secret)
    assert db.use_otp(login, secret, 1, on=True)
    assert set_password(mails.reset(login)).status_code == 204
    res = call("POST", "/token", {"username": login, "password": NEW_PASSWORD})
    assert (res.status_code, [*res.json]) == (202, ["otp"])


ENDS = {
    "password": lambda login: db.set_user_pass(login, CHEAP),
    "address": lambda login: db.change_user(login, email="other@acme.org"),
    "disabled": lambda login: db.change_user(login, active=False),
    "enabled again": lambda login: [db.change_user(login, active=on) for on in (False, True)],
    "deleted": lambda login: db.delete_user(login),
    "another user": lambda login: [
        db.delete_user(login),
        db.add_user(login, CHEAP, address_of(login), False),
    ],
}


@IN_PROCESS
@pytest.mark.parametrize("end", ENDS)
def test_link_ends_with_what_it_is_for(target, mails, end):
    """Also one that has not been sent, and so cannot be sent any more."""
    login = mails.confirmed_user()
    token = mails.reset(login)
    mails.ask("/reset", {"login": login})
    ENDS[end](login)
    assert set_password(token).status_code == 403
    assert mails.send() == []


@IN_PROCESS
def test_link_is_good_for_an_hour_from_its_sending(target, mails, clock):
    login = mails.confirmed_user()
    mails.ask("/reset", {"login": login})
    clock.now += 5 * HOUR
    _, token = mails.link()
    clock.now += HOUR - 1
    assert set_password(token, "weak").status_code == 400
    clock.now += 1
    assert set_password(token).status_code == 403


@IN_PROCESS
def test_of_simultaneous_uses_of_a_link_one_wins(target, mails):
    login = mails.confirmed_user()
    token = mails.reset(login)
    passwords = [f"Other-Pass-{n}" for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        statuses = [
            res.status_code for res in pool.map(lambda p: set_password(token, p), passwords)
        ]
    assert sorted(statuses) == [204, 403, 403, 403]
    winner = passwords[statuses.index(204)]
    assert call("GET", "/token", headers=basic_auth(login, winner)).status_code == 200


@IN_PROCESS
def test_link_of_one_kind_is_no_other(target, mails):
    """And a token of another kind is none at all."""
    accepted = {
        "reset": ["/reset"],
        "invitation": ["/reset"],
        "registration": ["/registration"],
        "confirmation": ["/confirmation"],
    }
    for kind, paths in accepted.items():
        for path in "/reset", "/registration", "/confirmation":
            login = new_user()
            token = links.new_link(kind, "" if kind == "registration" else login)
            body = {"token": token}
            if path != "/confirmation":
                body["password"] = NEW_PASSWORD
            if path == "/registration":
                body["login"] = new_name("u")
            assert (call("PUT", path, body).status_code < 300) == (path in paths), (kind, path)
    session = token_of(new_user())["Authorization"].split()[1]
    for wrong in session, "x" * 42, "x" * 44, "", None, 5, "x" * 42 + "/":
        assert set_password(wrong).status_code == 400
    assert set_password("x" * 43).status_code == 403
    token = links.new_link("reset", new_user())
    res = call("PUT", f"/reset?token={token}", {"password": NEW_PASSWORD})
    assert res.status_code == 400 and token not in res.text


@IN_PROCESS
def test_reset_is_mailed_to_a_confirmed_address_only(target, mails):
    """Another one may have a typing error, and be a stranger's."""
    changed, disabled, unconfirmed = mails.confirmed_user(), mails.confirmed_user(), new_user()
    db.change_user(disabled, active=False)
    db.change_user(changed, email="other@acme.org")
    for login in changed, disabled, unconfirmed, "acme", "nobody":
        mails.ask("/reset", {"login": login})
    assert mails.send() == []


@IN_PROCESS
def test_change_of_a_password_is_told(target, mails):
    login = mails.confirmed_user()
    body = {"password": NEW_PASSWORD, **CURRENT}
    assert call("PUT", f"/user/{login}/password", body, token_of(login)).status_code == 204
    (told,) = mails.send()
    assert (told["Subject"], told["To"]) == ("Your password has been changed", address_of(login))


# invitations


def invite(*arguments, ok=True):
    res = app.test_cli_runner().invoke(args=["user", "invite", *arguments])
    assert (res.exit_code == 0) == ok, res.output
    return res.output


@pytest.fixture
def invited(mails, new_database):
    with contextlib.ExitStack() as stack:
        stack.enter_context(configured(new_database("sqlite")))
        yield mails


def test_invitation_sets_the_first_password(invited, clock):
    """Within 24 hours; it confirms the address, and nobody knows a password before."""
    assert "susie: invited" in invite("susie", "susie@acme.org")
    kind, token = invited.link()
    assert kind == "reset" and db.get_confirmed_address("susie") is None
    assert "susie: invited" in invite("susie", "susie@acme.org")  # it has got lost
    _, second = invited.link()
    assert "another address" in invite("susie", "other@acme.org", ok=False)
    assert "login must be" in invite("Susie", "susie@acme.org", ok=False)
    assert "email must be" in invite("calvin", "calvin", ok=False)
    assert invited.send() == [] and not db.user_exists("calvin")
    clock.now += 24 * HOUR - 1
    assert set_password(second).status_code == 204
    assert db.get_confirmed_address("susie") == "susie@acme.org"
    assert set_password(token).status_code == 403
    assert call("GET", "/token", headers=basic_auth("susie", NEW_PASSWORD)).status_code == 200


def test_invitation_needs_a_mail_server(new_database):
    with configured(new_database("sqlite")):
        assert "no mails are sent here" in invite("susie", "susie@acme.org", ok=False)
        assert not db.user_exists("susie")
