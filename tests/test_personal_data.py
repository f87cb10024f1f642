"""All that is stored about a user: exported, and gone when the user is deleted."""

import time

import pyotp
import pytest

import personal_data
from database import db
from security.sessions import sha256
from store.idempotency import Claim
from store.mails import Mail
from test import app
from tests.accounts import CURRENT, call, new_user, sign_in, token_of
from tests.conftest import STORES, configured, new_name

ROUTES = [
    ("GET", "/user/{login}/export", None, (401, 403, 200, 200, 401)),
    ("GET", "/user/{login}/export", {"after": "x"}, (401, 403, 404, 404, 401)),
    ("GET", "/user/nobody/export", None, (401, 403, 403, 404, 401)),
]
JAVASCRIPT = [
    ('acme.exportUser("acme").then((e) => e.data.user[0].email)', "acme@acme.org"),
    ('acme.exportUser("acme", { after: "stuff,b" }).then((e) => Object.keys(e.data).length)', 2),
]

# what a table has about a user that is not exported, and why; "*" is a whole table
NOT_EXPORTED = {
    "api_keys": {"hash": "secret"},
    "idempotency_keys": {"*": "answers that the user has got, kept for a day"},
    "mails": {
        "id": "of the row",
        "due": "None once it is sent",
        "hash": "secret",
        "origin": "the client may be somebody else's",
    },
    "recovery_codes": {"hash": "secret"},
    "sessions": {
        "secret": "secret",
        "previous": "secret",
        "traded": "when the secret was replaced",
    },
    "users": {"password": "secret", "otp_secret": "secret", "otp_step": "of the last one"},
}
NOT_PERSONAL = {"schema_version"}
# what is left of a user who has been deleted: the audit trail, for ACME_AUDIT_DAYS
KEPT = {"events"}


def user_with_everything():
    """A user with a row in each table, and as few empty columns as there can be."""
    login, secret = new_user(), pyotp.random_base32()
    email = db.get_user(login).email
    mine = token_of(login)
    db.add_stuff(new_name(), login, 12.5)
    db.confirm_address(login, email)
    now = time.time()
    names = new_name("id"), new_name("hash")
    db.add_mail(
        Mail(names[0], "reset", login, email, "n", now + 1, None, now + 99, 7, names[1]),
    )
    call("POST", f"/user/{login}/keys", {"name": "my key", "scope": "read", **CURRENT}, mine)
    with app.test_client() as client:
        sign_in(client, login)
        client.post("/token/refresh")
    db.set_otp(login, secret)
    db.use_otp(login, secret, 1, True, db.get_sessions(login, 0)[-1].id)
    db.set_recovery_codes(login, [sha256(login)])
    with db.once(Claim(login, "key", "print", now)) as keep:
        db.add_stuff(new_name(), login, 1)
        keep("answer")
    return login, email


def leaves(value):
    """All texts and numbers in a JSON value."""
    if isinstance(value, dict):
        return {leaf for member in value.values() for leaf in leaves(member)}
    if isinstance(value, list):
        return {leaf for member in value for leaf in leaves(member)}
    return {value}


def export(login, headers=None):
    """All parts of an export."""
    path, parts = f"/user/{login}/export", []
    while path:
        res = call("GET", path, headers=headers or token_of(login))
        assert res.status_code == 200, res.text
        parts.append(res.json)
        path = res.headers.get("Link", "").partition(">")[0].removeprefix("<")
    return parts


def rows_of(*about):
    """The rows of each table in which a column has one of these values, as dictionaries."""
    found = {}
    with db.connection() as connection:
        for table, columns in db.columns(connection).items():
            names = ", ".join(f'"{column}"' for column in columns)
            rows = connection.execute(f'SELECT {names} FROM "{table}"').fetchall()
            rows = [dict(zip(columns, row, strict=True)) for row in rows]
            found[table] = [row for row in rows if {*about} & {*row.values()}]
    return found


def forgotten(login, email):
    """What is stored about a user, and neither exported nor declared, with the remedy."""
    stored, exported, found = rows_of(login, email), leaves(export(login)), []
    for table, rows in stored.items():
        declared = NOT_EXPORTED.get(table, {})
        if table in NOT_PERSONAL or "*" in declared:
            continue
        if not rows:
            found.append(f"let user_with_everything fill {table}, or add it to NOT_PERSONAL")
            continue
        for column in rows[0].keys() - declared:
            values = {row[column] for row in rows} - {""}
            # not all values, because the export itself is an event
            if values and not values & exported:
                found.append(f"export {table}.{column} in personal_data.py, or declare it here")
    return found


def left(login, email):
    """The tables that have something about a user."""
    return {table for table, rows in rows_of(login, email).items() if rows}


def test_each_column_about_a_user_is_exported_or_declared(new_database):
    """A table that a migration adds is exported by a section of personal_data.py, or stands above.

    `user_with_everything` has to fill it.
    """
    with configured(new_database("sqlite")):
        assert forgotten(*user_with_everything()) == []


def test_nothing_is_left_of_a_deleted_user_but_what_is_declared(new_database):
    with configured(new_database("sqlite")):
        login, email = user_with_everything()
        path = f"/user/{login}?stuff=delete"
        assert call("DELETE", path, None, token_of(login)).status_code == 204
        assert left(login, email) == KEPT, "let delete_user remove it, or add it to KEPT"


def test_table_that_a_fork_forgets_is_noticed(new_database):
    with configured(new_database("sqlite")):
        login, email = user_with_everything()
        with db.connection() as connection:
            connection.execute("CREATE TABLE diary (id TEXT, owner TEXT, text TEXT)")
            assert forgotten(login, email) == [
                "let user_with_everything fill diary, or add it to NOT_PERSONAL"
            ]
            connection.execute("INSERT INTO diary VALUES ('1', ?, 'dear diary')", (login,))
            connection.execute("ALTER TABLE stuff ADD COLUMN color TEXT DEFAULT 'mauve'")
        assert sorted(forgotten(login, email)) == [
            f"export {name} in personal_data.py, or declare it here"
            for name in ("diary.id", "diary.text", "stuff.color")
        ]
        db.delete_user(login, True)
        assert left(login, email) - KEPT == {"diary"}


@pytest.fixture(scope="module", params=STORES)
def on(request, new_database):
    with configured(new_database(request.param)):
        yield request.param


def test_export_is_a_file_with_all_sections(on, audit_trail):
    login, email = user_with_everything()
    res = call("GET", f"/user/{login}/export", headers=token_of(login))
    assert res.headers["Content-Disposition"] == f'attachment; filename="{login}.json"'
    data = res.json
    assert list(data) == sorted(personal_data.SECTIONS)
    (user,) = data["user"]
    assert (user["login"], user["email"], user["confirmed"]) == (login, email, email)
    assert {row["price"] for row in data["stuff"]} == {12.5, 1.0}
    assert [key["name"] for key in data["keys"]] == ["my key"]
    assert [(mail["kind"], mail["email"]) for mail in data["mails"]] == [("reset", email)]
    assert data["events"][0]["event"] == "data exported"
    assert audit_trail()[-1]["event"] == "data exported"
    for secret in "argon2", '"hash"', '"secret"', '"otp_secret"', sha256(login):
        assert secret not in res.text, secret


def test_large_export_is_in_parts_without_gap_or_repeat(on, monkeypatch):
    monkeypatch.setattr(personal_data, "MAX_ROWS", 7)
    login = new_user()
    names = sorted(new_name() for _ in range(20))
    for name in names:
        db.add_stuff(name, login, 1)
    parts = export(login)
    assert [row["name"] for part in parts for row in part.get("stuff", [])] == names
    assert max(sum(map(len, part.values())) for part in parts) <= 7
    assert sum("user" in part for part in parts) == 1
    ids = [row["id"] for part in parts for row in part.get("events", [])]
    assert ids and len(ids) == len({*ids})


def test_export_does_not_tell_users_who_administers(on):
    admin, login = new_user(admin=True), new_user()
    call("PATCH", f"/user/{login}", {"email": "new@acme.org"}, token_of(admin))
    assert admin not in str(export(login))
    assert admin in str(export(login, token_of(admin)))


def test_new_user_of_a_login_gets_nothing_of_the_former_one(on, clock):
    login, email = user_with_everything()
    db.delete_user(login, True)
    clock.now += 1
    db.add_user(login, "hash", "new@acme.org", False)
    (part,) = export(login)
    assert email not in str(part)
    assert {name for name, rows in part.items() if rows} == {"user", "sessions", "events"}
    assert {row["event"] for row in part["events"]} <= {"sign-in", "data exported"}
