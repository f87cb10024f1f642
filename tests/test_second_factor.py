"""The second factor: who may set it up, and that switching it on is one change."""

import pyotp
import pytest

from database import db
from tests.conftest import STORES
from tests.test_accounts import CHEAP, CURRENT, call, new_user, token_of

IN_PROCESS = pytest.mark.parametrize("target", STORES, indirect=True)
SQL = pytest.mark.parametrize("target", STORES[1:], indirect=True)
WRONG = {"current": "Wrong-Pass-1"}


def set_up(login, headers, now):
    """Set up and switch on a second factor; what makes its codes."""
    secret = call("POST", f"/user/{login}/otp", CURRENT, headers).json["secret"]
    value = {"code": pyotp.TOTP(secret).at(now), "on": True}
    assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 204
    return pyotp.TOTP(secret)


@IN_PROCESS
def test_stolen_token_cannot_set_up_a_second_factor(target, strict, audit_trail):
    """It takes the password; wrong ones are audited, and rate limited like those of a sign-in."""
    login = new_user()
    path, headers = f"/user/{login}/otp", token_of(login)
    db.set_otp(login, "ABC")
    assert call("POST", path, {}, headers).status_code == 400
    for _ in range(3):
        res = call("POST", path, WRONG, headers)
        assert (res.status_code, res.json) == (403, {"error": "current is not the password"})
    for value in WRONG, CURRENT:
        res = call("POST", path, value, headers)
        assert (res.status_code, int(res.headers["Retry-After"]) > 0) == (429, True)
    assert call("PUT", f"/user/{login}/password", WRONG, headers).status_code == 400
    assert db.get_otp(login) == "ABC"
    events = [(line["event"], line["who"]) for line in audit_trail()]
    assert events == [("sign-in", login)] + [("failed attempt", login)] * 3


@IN_PROCESS
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda login: db.set_user_pass(login, CHEAP), 403),
        (lambda login: db.change_user(login, active=False), 403),
        (lambda login: db.delete_user(login), 404),
        (lambda login: db.use_otp(login, "ABC", 1, on=True), 409),
    ],
    ids=["new password", "disabled", "deleted", "switched on"],
)
def test_user_changed_after_the_check_of_current_gets_no_secret(
    target, after_check, change, status
):
    login = new_user()
    headers = token_of(login)
    db.set_otp(login, "ABC")
    after_check(lambda: change(login))
    assert call("POST", f"/user/{login}/otp", CURRENT, headers).status_code == status
    assert db.get_otp(login) in ("ABC", None)


@SQL
def test_switching_on_ends_other_sessions_or_fails_as_a_whole(target, monkeypatch):
    """A database that fails in between leaves the second factor off."""
    login = new_user()
    headers = token_of(login)
    secret = call("POST", f"/user/{login}/otp", CURRENT, headers).json["secret"]
    with monkeypatch.context() as patch:
        patch.delattr(db.queries, "delete_sessions")
        value = {"code": pyotp.TOTP(secret).now(), "on": True}
        assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 500
    assert not db.get_user(login).otp
    assert call("PUT", f"/user/{login}/otp", value, headers).status_code == 204


@IN_PROCESS
def test_new_secret_works_after_a_clock_that_was_ahead(target, clock):
    """Steps used in the future do not count for another secret."""
    login = new_user()
    clock.now += 365 * 24 * 3600
    set_up(login, token_of(login), clock.now)
    clock.now -= 365 * 24 * 3600
    db.reset_otp(login)
    set_up(login, token_of(login), clock.now)
    assert db.get_user(login).otp
