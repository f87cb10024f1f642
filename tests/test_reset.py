"""A new password for a forgotten one, by a link in a mail."""

from test import basic_auth
from tests.accounts import CURRENT, IN_PROCESS, NEW_PASSWORD, call, token_of
from tests.conftest import PASSWORD
from tests.mails import address_of, mails, server

__all__ = ["mails", "server"]  # fixtures

HOUR = 3600.0


def set_password(token, password=NEW_PASSWORD):
    return call("PUT", "/reset", {"token": token, "password": password})


@IN_PROCESS
def test_link_sets_a_new_password_once_and_ends_all_sessions_and_keys(target, mails, audit_trail):
    login = mails.confirmed_user()
    session = token_of(login)
    body = {"name": "script", "scope": "read", **CURRENT}
    key = call("POST", f"/user/{login}/keys", body, session)
    assert key.status_code == 201
    token = mails.reset(login)
    assert call("GET", "/hello-me", headers=session).status_code == 200
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
