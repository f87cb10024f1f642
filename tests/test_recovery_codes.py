"""Recovery codes of the second factor: each good once, where it may stand in for the device."""

import re
from concurrent.futures import ThreadPoolExecutor

import FlaskSimpleAuth as fsa
import pyotp
import pytest

from database import db
from security import rate_limit
from security.totp import AnyCode
from test import app, basic_auth
from tests.accounts import IN_PROCESS, bearer, call, new_user, token_of
from tests.conftest import PASSWORD, STORES, configured, wrong_code
from tests.mails import address_of, mails, server
from tests.trail import names

__all__ = ["mails", "server"]  # fixtures

JAVASCRIPT = [
    ('acme.newRecovery("acme", "123456").catch((e) => e.status)', 403),
]


class Owner:
    """A user whose second factor is on."""

    def __init__(self, clock):
        self.clock, self.login, self.secret = clock, new_user(), pyotp.random_base32()
        db.set_otp(self.login, self.secret)
        self.token = token_of(self.login)
        res = self.switch(self.code(), True)
        assert res.status_code == 200, res.text
        self.codes = res.json["recovery"]

    def code(self):
        self.clock.now += 30
        return pyotp.TOTP(self.secret).at(self.clock.now)

    def switch(self, code, on):
        return call("PUT", f"/user/{self.login}/otp", {"code": code, "on": on}, self.token)

    def renew(self, code):
        return call("POST", f"/user/{self.login}/otp/recovery", {"code": code}, self.token)

    def begin(self):
        res = call("GET", "/token", headers=basic_auth(self.login, PASSWORD))
        return {"Authorization": f"Bearer {res.json['otp']}"}

    def sign_in(self, code, begun=None):
        return call("POST", "/token/otp", {"code": code}, begun or self.begin())

    def left(self):
        return db.get_user(self.login).recovery


@pytest.fixture(scope="module", params=STORES)
def on(request, new_database):
    with configured(new_database(request.param)):
        yield request.param


@pytest.fixture
def owner(on, clock):
    return Owner(clock)


def test_switching_on_returns_ten_codes_which_the_profile_counts(owner):
    assert len({*owner.codes}) == 10
    for code in owner.codes:
        assert re.fullmatch("(?:[0-9a-hjkmnp-tv-z]{4}-){3}[0-9a-hjkmnp-tv-z]{4}", code)
    profile = call("GET", f"/user/{owner.login}", headers=owner.token).json
    assert profile["recovery"] == 10
    assert [user.recovery for user in db.get_users(1000) if user.login == owner.login] == [10]
    change = {"email": "new@acme.org"}
    assert call("PATCH", f"/user/{owner.login}", change, owner.token).json["recovery"] == 10


def test_code_completes_a_sign_in_once(owner):
    begun, code = owner.begin(), owner.codes[3]
    res = owner.sign_in(code, begun)
    assert res.status_code == 201
    assert call("GET", "/hello-me", headers=bearer(res)).status_code == 200
    assert owner.sign_in(code, begun).status_code == 401
    assert (owner.left(), owner.sign_in(owner.codes[4], begun).status_code) == (9, 201)
    assert names(owner.login).count("recovery code used") == 2
    # the second factor is still on, and its device works
    assert owner.sign_in(owner.code()).status_code == 201


@pytest.mark.parametrize(
    "typed", [str.upper, lambda c: c.replace("-", ""), lambda c: f" {c.replace('-', ' ')} "]
)
def test_code_is_taken_as_people_type_it(owner, typed):
    assert owner.sign_in(typed(owner.codes[0])).status_code == 201


def test_letters_that_look_like_digits_are_taken_for_them():
    assert AnyCode("OILo-1010-abcd-efgh") == "01101010abcdefgh"
    assert (AnyCode("123 456"), AnyCode("123-456").is_recovery_code()) == ("123456", False)
    for wrong in (
        "",
        "12345",
        "1234567",
        "u" * 16,
        "a" * 15,
        "é" * 16,
        "\n123456",
        "-" * 65,
        1,
        None,
    ):
        with pytest.raises(fsa.ErrorResponse):
            AnyCode(wrong)


def test_simultaneous_uses_of_one_code_give_one_session(owner):
    begun, code = owner.begin(), owner.codes[0]
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda _: owner.sign_in(code, begun).status_code, range(8))]
    assert sorted(found) == [201] + [401] * 7
    assert owner.left() == 9


def test_code_of_another_user_is_refused(owner, clock):
    other = Owner(clock)
    assert owner.sign_in(other.codes[0]).status_code == 401
    assert (owner.left(), other.left()) == (10, 10)


def test_renewed_codes_are_good_and_the_former_are_not(owner):
    assert owner.renew(wrong_code(owner.secret, owner.clock.now)).status_code == 403
    res = owner.renew(owner.code())
    assert res.status_code == 200
    assert owner.sign_in(owner.codes[0]).status_code == 401
    assert owner.sign_in(res.json["recovery"][0]).status_code == 201
    assert names(owner.login).count("new recovery codes") == 1


def test_code_does_not_stand_for_the_device_where_that_must_be_at_hand(owner):
    """Neither to get more codes, nor to switch on with."""
    assert owner.renew(owner.codes[0]).status_code == 400
    assert owner.switch(owner.codes[0], True).status_code == 403
    assert owner.left() == 10


def test_code_switches_off_for_a_lost_device_and_ends_the_others(owner):
    assert owner.switch(owner.codes[0], False).status_code == 204
    profile = db.get_user(owner.login)
    assert (profile.otp, profile.recovery, db.get_otp(owner.login)) == (False, 0, None)
    assert names(owner.login)[-2:] == ["recovery code used", "one-time passwords off"]
    assert owner.switch(owner.codes[1], False).status_code == 403


@pytest.mark.parametrize("way", ["code", "administrator"])
def test_codes_end_with_the_second_factor(owner, way):
    if way == "code":
        assert owner.switch(owner.code(), False).status_code == 204
    else:
        path, by = f"/user/{owner.login}/otp", token_of(new_user(admin=True))
        assert call("DELETE", path, None, by).status_code == 204
    assert owner.left() == 0
    # neither is one good after another device has been set up
    owner.secret = pyotp.random_base32()
    db.set_otp(owner.login, owner.secret)
    assert owner.renew(owner.code()).status_code == 409  # not yet on
    assert owner.switch(owner.code(), True).status_code == 200
    assert owner.sign_in(owner.codes[0]).status_code == 401


def test_codes_end_with_their_user(owner):
    db.delete_user(owner.login)
    db.add_user(owner.login, "hash", "new@acme.org", False)
    assert owner.left() == 0


def test_wrong_codes_are_rate_limited_from_all_addresses_together(owner, monkeypatch):
    limiter = rate_limit.RateLimiter("3/minute, 50/minute", "memory://")
    monkeypatch.setitem(app.extensions, "rate_limit", limiter)
    begun = owner.begin()
    found = [owner.sign_in("0000-0000-0000-0000", begun).status_code for _ in range(4)]
    assert found == [401, 401, 401, 429]
    assert owner.sign_in(owner.codes[0], begun).status_code == 429
    assert owner.left() == 10


@IN_PROCESS
def test_use_of_a_code_is_mailed(target, clock, mails):
    owner = Owner(clock)
    assert db.confirm_address(owner.login, address_of(owner.login))
    assert owner.sign_in(owner.codes[0]).status_code == 201
    (told,) = mails.send()
    assert (told["Subject"], told["To"]) == (
        "A recovery code has been used",
        address_of(owner.login),
    )


@IN_PROCESS
def test_store_has_hashes_only(target, clock, audit_trail):
    owner = Owner(clock)
    code = owner.codes[0].replace("-", "")
    assert not db.use_recovery_code(owner.login, code)
    owner.sign_in(owner.codes[0])
    assert code not in str(audit_trail()) and owner.codes[0] not in str(audit_trail())


def test_failed_sign_in_with_two_threads_renewing_and_switching_off_ends(owner):
    """A consistent lock order: no deadlock between use, renewal and reset."""
    begun = owner.begin()
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(owner.sign_in, code, begun) for code in owner.codes]
        jobs += [pool.submit(db.set_recovery_codes, owner.login, ["0" * 64]) for _ in range(5)]
        jobs.append(pool.submit(db.reset_otp, owner.login))
        found = {getattr(job.result(), "status_code", 0) for job in jobs}
    assert found <= {0, 201, 401}
    assert owner.left() == 0
