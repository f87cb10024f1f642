"""The sessions of a user: at most 100, listed in pages, and ended one by one."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from database import db
from store.base import Session
from test import app, basic_auth
from tests.accounts import IN_PROCESS, bearer, call, new_user, sign_in, token_of
from tests.conftest import PASSWORD, STORES, configured, new_name


@pytest.mark.parametrize("kind", STORES)
def test_sessions_are_listed_and_end_one_by_one(kind, new_database, monkeypatch):
    """One's sessions, to end one by one; those that have expired are removed."""
    with configured(new_database(kind)), app.test_client() as client:
        check_sessions(client, new_user(), monkeypatch)


def check_sessions(client, login, monkeypatch):
    res = sign_in(client, login)
    call("GET", "/token", headers=basic_auth(login, PASSWORD))
    sessions = call("GET", f"/user/{login}/sessions", headers=bearer(res)).json
    assert [set(s) for s in sessions] == [{"id", "created", "used", "expires", "from"}] * 2
    lasts = [round(s["expires"] - s["created"]) for s in sessions]
    assert lasts == [7 * 24 * 3600, 600]
    assert {s["from"] for s in sessions} == {"127.0.0.1"}
    path = f"/user/{login}/sessions/{sessions[0]['id']}"
    assert call("DELETE", path, headers=token_of(new_user())).status_code == 403
    other = new_user()
    path_of_other = path.replace(login, other)
    assert call("DELETE", path_of_other, headers=token_of(other)).status_code == 404
    assert call("DELETE", path, headers=bearer(res)).status_code == 204
    assert call("GET", "/hello-me", headers=bearer(res)).status_code == 401
    # a week later
    monkeypatch.setattr(time, "time", lambda now=time.time(): now + 8 * 24 * 3600)
    token_of(login)
    assert len(db.get_sessions(login, 0)) == 1


def begin_sessions(login, count, first=0.5):
    """Begin sessions of a user, a second apart from a first time; their ids."""
    checked, ids = db.get_credentials(login), []
    for n in range(count):
        ids.append(new_name("s"))
        created = first + n
        session = Session(ids[-1], login, created, created, 9e9, "192.0.2.1")
        assert db.add_session(session, checked) is not None
    return ids


def ids_of(login):
    return [session.id for session in db.get_sessions(login, 0)]


@IN_PROCESS
def test_101st_session_ends_the_oldest_of_the_user(client, audit_trail):
    """The audit trail tells; other users' sessions go on."""
    login = new_user()
    (other,) = begin_sessions(new_user(), 1)
    ids = begin_sessions(login, 100)
    assert ids_of(login) == ids
    headers = bearer(sign_in(client, login))
    assert ids_of(login)[:-1] == ids[1:]
    assert db.get_session_user(ids[0], 0) is None
    assert db.get_session_user(other, 0)
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    events = [(line["event"], line["whom"]) for line in audit_trail()]
    assert events == [("sign-in", login), ("oldest session ended", login)]


@IN_PROCESS
def test_session_begun_with_the_clock_set_back_is_kept(client):
    """By its time it is the oldest; the bound holds all the same."""
    login = new_user()
    begin_sessions(login, 100, time.time() + 5)  # more would end the sessions of other tests
    headers = bearer(sign_in(client, login))
    assert call("GET", "/hello-me", headers=headers).status_code == 200
    assert len(ids_of(login)) == 100


@IN_PROCESS
def test_expired_sessions_do_not_count(target):
    login = new_user()
    ids = begin_sessions(login, 99)
    expired = Session(new_name("s"), login, 200, 200, 201, "192.0.2.1")
    assert db.add_session(expired, db.get_credentials(login)) == 0
    ids += begin_sessions(login, 1, 202)
    assert [session.id for session in db.get_sessions(login, 202)] == ids


@IN_PROCESS
def test_session_is_over_at_the_moment_it_expires(target):
    login, name = new_user(), new_name("s")
    session = Session(name, login, 100, 100, 200, "192.0.2.1")
    assert db.add_session(session, db.get_credentials(login)) == 0
    assert (ids_of(login), db.get_session_user(name, 199.5)) == ([name], login)
    assert db.get_sessions(login, 0, after=(99.5, "z")) == db.get_sessions(login, 0)
    assert db.get_sessions(login, 0, after=(100, name)) == []
    assert (db.get_sessions(login, 200), db.get_session_user(name, 200)) == ([], None)


@IN_PROCESS
def test_simultaneous_sign_ins_keep_the_bound(target):
    """Of 140 sessions that begin at the same time the 100 newest are left, each in turn."""
    login = new_user()
    begin_sessions(login, 100)
    start = threading.Barrier(8)

    def begin(n):
        start.wait()
        return begin_sessions(login, 5, 1000.0 * (n + 1))

    with ThreadPoolExecutor(8) as pool:
        new = {name for ids in pool.map(begin, range(8)) for name in ids}
    found = ids_of(login)
    assert (len(found), new <= set(found)) == (100, True)


@IN_PROCESS
def test_pages_of_sessions_are_stable(target):
    """A page is linked to the next one, whichever sessions end or begin meanwhile."""
    login, headers = new_user(), token_of(new_user(admin=True))
    ids = begin_sessions(login, 3)
    ids += sorted(begin_sessions(login, 1, 3.5) + begin_sessions(login, 1, 3.5))
    path, found = f"/user/{login}/sessions?limit=2", []
    while path:
        res = call("GET", path, headers=headers)
        found += [session["id"] for session in res.json]
        path = res.headers.get("Link", "").partition("<")[2].partition(">")[0]
        db.delete_session(login, found[-1])  # which the link refers to
        begin_sessions(login, 1, 0.25)
    assert found == ids


@pytest.mark.parametrize("target", ["memory"], indirect=True)
@pytest.mark.parametrize(
    "after",
    ["", "x", "1", "1.5", ",x", "1.5,", "nan,x", "1e5,x", "-1.5,x", "1.5,x y", "1.5,x\n", 1],
)
def test_malformed_session_key_is_refused(target, after):
    login = new_user()
    res = call("GET", f"/user/{login}/sessions", {"after": after}, token_of(login))
    assert res.status_code == 400
    assert res.json["error"].endswith("after must be taken from the Link to the next page")
