"""Registration with an address that a link in a mail confirms."""

from database import db
from test import basic_auth
from tests.accounts import IN_PROCESS, call
from tests.conftest import PASSWORD, new_name
from tests.mails import mails, server

__all__ = ["mails", "server"]  # fixtures


@IN_PROCESS
def test_link_registers_a_user(target, mails):
    token, address = mails.register()
    login = new_name("u")
    body = {"token": token, "login": login, "password": PASSWORD}
    res = call("PUT", "/registration", body)
    assert (res.status_code, res.headers["Location"]) == (201, f"/user/{login}")
    assert db.get_user(login).email == address == db.get_confirmed_address(login)
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    assert call("PUT", "/registration", body | {"login": new_name("u")}).status_code == 403
