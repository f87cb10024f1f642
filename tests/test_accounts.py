"""Users and their passwords: permissions, sign-in, and rate limits."""

import threading
from concurrent.futures import ThreadPoolExecutor

import argon2
import bcrypt
import FlaskSimpleAuth as fsa
import pytest

from database import db
from security.passwords import check_password, hash_queue
from test import ACME_BASIC, app, basic_auth
from tests.accounts import BCRYPT, CHEAP, HASH, IN_PROCESS, NEW_PASSWORD, call, new_user, token_of
from tests.conftest import PASSWORD, STORES, configured, new_name, until


@IN_PROCESS
def test_profiles_are_paged_and_never_show_a_hash(target):
    """Pages by login; a profile shows what it may, and never a hash."""
    logins = sorted(new_user() for _ in range(5))
    found, path = [], "/user?limit=2"
    headers = token_of(new_user(admin=True))
    while path:
        res = call("GET", path, headers=headers)
        assert b"argon2" not in res.data
        found += [user["login"] for user in res.json]
        link = res.headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0]
    assert found == sorted(set(found))  # none twice
    assert set(logins) <= set(found)
    assert call("GET", f"/user/{logins[0]}", headers=headers).json == {
        **{"login": logins[0], "email": f"{logins[0]}@acme.org"},
        **{"admin": False, "active": True, "otp": False, "recovery": 0},
    }
    changed = call("PATCH", f"/user/{logins[0]}", {"admin": True, "email": "x@a.org"}, headers)
    assert (changed.json["admin"], changed.json["email"]) == (True, "x@a.org")
    assert call("GET", "/user", {"limit": 1}, token_of(logins[0])).status_code == 200


@IN_PROCESS
def test_user_with_stuff_is_deleted_with_stuff_delete_only(target):
    """409 while the user owns stuff; stuff=delete deletes both."""
    login, thing = new_user(), new_name()
    db.add_stuff(thing, login, 1)
    headers = token_of(new_user(admin=True))
    assert call("DELETE", f"/user/{login}", headers=headers).status_code == 409
    assert call("DELETE", f"/user/{login}?stuff=yes", headers=headers).status_code == 400
    assert call("DELETE", f"/user/{login}?stuff=delete", headers=headers).status_code == 204
    assert not db.user_exists(login)
    db.add_user(login, HASH, "again@acme.org", False)
    assert db.get_user_stuff(login) == []


@pytest.mark.parametrize("kind", STORES)
def test_last_administrator_stays_however_many_race(kind, new_database):
    """However many race to remove the last two administrators, one stays."""
    with configured(new_database(kind)):
        other = new_user(admin=True)
        ways = [
            lambda login: db.change_user(login, admin=False),
            lambda login: db.change_user(login, active=False),
            lambda login: db.delete_user(login),
        ]
        for n in range(30):
            way = ways[n % 3]

            def remove(login, way=way):
                try:
                    way(login)
                except fsa.ErrorResponse as e:
                    return e.status
                return 200

            with ThreadPoolExecutor(2) as pool:
                assert sorted(pool.map(remove, ["acme", other])) == [200, 409]
            for login in "acme", other:
                if db.user_exists(login):
                    db.change_user(login, admin=True, active=True)
                else:
                    db.add_user(login, HASH, "some@acme.org", True)
        db.delete_user(other)
        headers = token_of("acme")
        for value in {"admin": False}, {"active": False}:
            assert call("PATCH", "/user/acme", value, headers).status_code == 409
        assert call("DELETE", "/user/acme", None, headers).status_code == 409


# --- passwords


@IN_PROCESS
@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("Password123", "common"),
        ("Aa0Aa0Aa0Aa0Aa0Aa0Aa0Aa0Aa0", "epeat"),
        ("Qwertyuiop12", ""),
        ("LOGIN-A0", ""),
        ("PLACE-A0", ""),
        ("4@8({[<3369&#!1/|0$5+7%2" * 10 + "aA", None),  # as costly as any
        ("Uncommon-Trumpet-0", None),
    ],
)
def test_guessable_password_is_refused_with_advice(target, monkeypatch, password, said):
    """As `make run` does, by what is known of the user as well."""
    monkeypatch.setitem(app.config, "ACME_PASSWORD_SCORE", 3)
    login, place = new_name("u"), new_name("mail")
    password = password.replace("LOGIN", login).replace("PLACE", place)
    body = {"login": login, "password": password, "email": f"some@{place}.org"}
    admin = token_of(new_user(admin=True))
    added = call("POST", "/user", body, admin)
    if said is None:
        assert added.status_code == 201
        return
    db.add_user(login, CHEAP, body["email"], False)
    changed = call("PUT", f"/user/{login}/password", {"password": password}, admin)
    for res in added, changed:
        assert res.status_code == 400
        assert res.json["error"].startswith("password is too easy to guess")
        assert said in res.json["error"] and password not in res.text


@IN_PROCESS
def test_new_password_ends_all_sessions(target):
    """A new password ends all sessions; it must be strong, and another one."""
    login = new_user()
    path, first = f"/user/{login}/password", token_of(login)
    for password, status in [("weak", 400), (PASSWORD, 400), ("Aa0" * 100, 400)]:
        res = call("PUT", path, {"password": password, "current": PASSWORD}, first)
        assert res.status_code == status
        assert password not in res.text
    res = call("PUT", path, {"password": NEW_PASSWORD, "current": PASSWORD}, first)
    assert res.status_code == 204
    assert call("GET", "/hello-me", headers=first).status_code == 401
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 401
    # at once, within the same second, a new session begins
    res = call("GET", "/token", headers=basic_auth(login, NEW_PASSWORD))
    headers = {"Authorization": f"Bearer {res.json['token']}"}
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    # an administrator for others, without the current one
    admin = token_of(new_user(admin=True))
    assert call("PUT", path, {"password": PASSWORD}, admin).status_code == 204
    assert call("GET", "/hello-me", headers=headers).status_code == 401


@IN_PROCESS
def test_password_is_not_set_if_the_old_one_has_changed(target):
    """403 if the checked password has been changed, or the user disabled."""
    login = new_user()
    old = db.get_user_pass(login)
    db.set_user_pass(login, CHEAP)
    for changed in False, True:
        if changed:
            db.change_user(login, active=False)
        with pytest.raises(fsa.ErrorResponse) as error:
            db.set_user_pass(login, BCRYPT, CHEAP if changed else old)
        assert error.value.status == 403
        assert db.get_user_pass(login) == CHEAP


@IN_PROCESS
def test_malformed_hash_is_a_wrong_password(target):
    """A user whose hash is broken gets 401 like any other."""
    login = new_name("u")
    db.add_user(login, "plain", "some@acme.org", False)
    assert call("GET", "/token", headers=basic_auth(login, "plain")).status_code == 401
    path, admin = f"/user/{login}/password", token_of(new_user(admin=True))
    assert call("PUT", path, {"password": NEW_PASSWORD}, admin).status_code == 204


def test_disabled_user_cannot_be_told_from_an_unknown_one(target):
    """Unknown, disabled, or with a wrong password: the same response."""
    login = target.person(new_name("u"))
    admin = target.person("acme")
    path = f"/user/{login}"
    assert target.send_json("PATCH", path, {"active": False}, admin).status == 200
    responses = {
        target.send("GET", where, headers=basic_auth(name, password)).body
        for name, password in [(login, PASSWORD), (login, "wrong"), ("nobody", PASSWORD)]
        for where in ("/token", "/hello-me")  # with and without a session
    }
    assert len(responses) == 1
    # and its sessions have ended
    assert target.send("GET", "/hello-me", who=login).status == 401
    assert target.send_json("PATCH", path, {"active": True}, admin).status == 200
    assert target.send("GET", "/hello-me", who=login).status == 401


@IN_PROCESS
@pytest.mark.parametrize("old", [BCRYPT, CHEAP], ids=["bcrypt", "cheap"])
def test_outdated_hash_is_replaced_at_the_next_sign_in(target, old):
    """A hash of another scheme or other parameters verifies, and is renewed at the next sign-in."""
    login = new_name("u")
    db.add_user(login, old, "some@acme.org", False)
    assert call("GET", "/token", headers=basic_auth(login, "wrong")).status_code == 401
    assert db.get_user_pass(login) == old
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    new = db.get_user_pass(login)
    assert new.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert call("GET", "/token", headers=basic_auth(login, PASSWORD)).status_code == 200
    assert db.get_user_pass(login) == new


@IN_PROCESS
def test_outdated_hash_of_a_password_that_is_too_weak_today_is_replaced(target):
    """The rules are for new passwords."""
    login = new_name("u")
    weak = bcrypt.hashpw(b"weak", bcrypt.gensalt(4)).decode()
    db.add_user(login, weak, "some@acme.org", False)
    assert call("GET", "/hello-me", headers=basic_auth(login, "weak")).status_code == 200
    assert db.get_user_pass(login).startswith("$argon2id$")


@IN_PROCESS
def test_imported_bcrypt_hash_is_of_72_bytes(target):
    """As in other systems: bcrypt itself refuses or cuts off more."""
    login, long = new_name("u"), PASSWORD + "x" * 80
    hashed = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()
    db.add_user(login, hashed, "some@acme.org", False)
    assert call("GET", "/token", headers=basic_auth(login, long[:71])).status_code == 401
    assert call("GET", "/token", headers=basic_auth(login, long)).status_code == 200


@pytest.mark.parametrize(("login", "password"), [("acme", 5), (5, PASSWORD), ("acme", None)])
def test_credentials_that_are_no_texts_are_400(login, password):
    """Request validation has refused them already; a fork may check others."""
    with app.app_context(), pytest.raises(fsa.ErrorResponse) as error:
        check_password(login, password)
    assert (error.value.status, error.value.message) == (400, "username and password must be texts")


@IN_PROCESS
@pytest.mark.parametrize("renewed", [True, False])
def test_hash_replaced_after_the_check_is_checked_again(target, after_check, renewed):
    """By another sign-in with the same password: both succeed. Otherwise the password is wrong."""
    login, other = new_name("u"), HASH if renewed else app.hash_password(NEW_PASSWORD)
    db.add_user(login, CHEAP, "some@acme.org", False)
    after_check(lambda: db.renew_user_pass(login, CHEAP, other))
    value = {"username": login, "password": PASSWORD}
    assert call("POST", "/token", value).status_code == (201 if renewed else 401)
    assert db.get_user_pass(login) == other


def test_sign_ins_beyond_the_hash_queue_are_503_and_tokens_go_on(monkeypatch):
    """Requests with a token are still served."""
    started, finish = threading.Semaphore(0), threading.Event()

    def verify(_self, _reference, _password):
        started.release()
        assert finish.wait(20)
        return True

    headers = token_of("acme")
    monkeypatch.setattr(argon2.PasswordHasher, "verify", verify)
    with ThreadPoolExecutor(16) as pool:
        inside = range(hash_queue.size)
        first = [pool.submit(call, "GET", "/hello-me", None, ACME_BASIC) for _ in inside]
        until(lambda: hash_queue.is_full)
        for _ in range(hash_queue.running):
            started.acquire()
        res = call("GET", "/hello-me", None, ACME_BASIC)
        assert (res.status_code, res.headers["Retry-After"]) == (503, "1")
        assert call("GET", "/hello-me", headers=headers).status_code == 200
        assert not started.acquire(blocking=False)
        finish.set()
        assert {response.result().status_code for response in first} == {200}
    assert not hash_queue.is_full


# --- too many attempts


@IN_PROCESS
def test_failed_passwords_are_rate_limited(strict):
    """Then no password is checked, by basic, param or `current`; tokens still work."""
    login, other = new_user(), new_user()
    headers = token_of(login)
    for _ in range(3):
        assert call("GET", "/token", headers=basic_auth(login, "wrong")).status_code == 401
    for password in "wrong", PASSWORD:
        res = call("GET", "/token", headers=basic_auth(login, password))
        assert res.status_code == 429
        assert 1 <= int(res.headers["Retry-After"]) <= 60
        assert "seconds" in res.json["error"]
    params = {"username": login, "password": PASSWORD}
    assert call("POST", "/token", params).status_code == 429
    change = {"password": NEW_PASSWORD, "current": PASSWORD}
    assert call("PUT", f"/user/{login}/password", change, headers).status_code == 429
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    assert call("GET", "/token", headers=basic_auth(other, PASSWORD)).status_code == 200
    # and all logins from one address together
    for _ in range(2):
        call("GET", "/token", headers=basic_auth(new_user(), "wrong"))
    assert call("GET", "/token", headers=basic_auth(other, PASSWORD)).status_code == 429


@IN_PROCESS
def test_account_of_another_user_is_refused_known_or_not(target):
    """And an administrator is told which login there is not, also if it can be none."""
    login, headers = new_user(), token_of(new_user())
    for account in login, "nobody", "No-Login":
        res = call("GET", f"/user/{account}", headers=headers)
        assert (res.status_code, res.json["error"]) == (403, "that is somebody else's account")
    for account in "nobody", "No-Login":
        res = call("GET", f"/user/{account}", headers=token_of(new_user(admin=True)))
        assert (res.status_code, res.json["error"]) == (404, f"no such user: {account}")
