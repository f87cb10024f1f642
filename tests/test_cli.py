"""The commands `flask --app app user …`, for the day when nobody can sign in."""

import getpass
import json
import os
import sys
from pathlib import Path

import pytest

from database import db
from test import ACME_BASIC, app, basic_auth
from tests.accounts import NEW_PASSWORD, call
from tests.conftest import PASSWORD, ROOT, configured, run

USER = (sys.executable, "-m", "flask", "--app", "./app.py", "user")


@pytest.fixture
def user(new_database, audit_trail):
    """Runs a command, which succeeds with an event in the audit trail, or fails without."""
    with configured(new_database("sqlite")):

        def command(*arguments, event=None, stdin="", ok=True):
            before = audit_trail()
            res = app.test_cli_runner().invoke(args=["user", *arguments], input=stdin)
            assert (res.exit_code == 0) == ok, res.output
            assert ok or isinstance(res.exception, SystemExit)
            events = [(line["event"], line["whom"]) for line in audit_trail()[len(before) :]]
            assert events == ([(event, arguments[1])] if event else [])
            for line in audit_trail():
                assert (line["who"], line["from"]) == (getpass.getuser(), "command line")
            return res.output

        yield command


def test_command_of_an_account_without_a_name_is_audited(new_database, audit_trail, monkeypatch):
    """As in a container that runs with any user id: the command succeeds."""
    url = new_database("sqlite")  # before: pytest's temporary folder belongs to the account
    for name in "LOGNAME", "USER", "LNAME", "USERNAME":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 987654)
    with configured(url):
        res = app.test_cli_runner().invoke(
            args=["user", "add", "susie", "susie@acme.org"], input=f"{PASSWORD}\n"
        )
    assert (res.exit_code, audit_trail()[-1]["who"]) == (0, "uid 987654")


def test_each_command_does_what_it_says_and_is_audited(user):
    """And leaves the last administrator."""
    user("add", "susie", "susie@acme.org", event="user added", stdin=f"{PASSWORD}\n")
    assert call("GET", "/hello-me", headers=basic_auth("susie", PASSWORD)).status_code == 200
    user("promote", "susie", event="promoted")
    assert user("list").splitlines() == [
        f"{'acme':32} acme@acme.org admin",
        f"{'susie':32} susie@acme.org admin",
    ]
    user("demote", "susie", event="demoted")
    user("disable", "susie", event="disabled")
    assert user("list").splitlines()[1] == f"{'susie':32} susie@acme.org disabled"
    user("enable", "susie", event="enabled")
    db.set_otp("susie", "ABC")
    assert db.use_otp("susie", "ABC", 1, on=True)
    user("otp-reset", "susie", event="one-time passwords reset")
    assert not db.get_user("susie").otp
    user("password", "susie", event="password changed", stdin=f"{NEW_PASSWORD}\n")
    assert call("GET", "/hello-me", headers=basic_auth("susie", NEW_PASSWORD)).status_code == 200
    db.add_stuff("pinte", "susie", 6.5)
    user("delete", "susie", ok=False)
    user("delete", "susie", "--stuff", event="user deleted")
    assert user("list").splitlines() == [f"{'acme':32} acme@acme.org admin"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "word"),
    [
        (["add", "acme", "acme@acme.org"], f"{PASSWORD}\n", "existing user"),
        (["add", "calvin", "calvin@acme.org"], "weak\n", "password"),
        (["add", "calvin", "calvin"], f"{PASSWORD}\n", "email"),
        (["add", "Calvin", "calvin@acme.org"], f"{PASSWORD}\n", "login"),
        (["password", "nobody"], f"{PASSWORD}\n", "no such user"),
        (["promote", "nobody"], "", "no such user"),
        (["demote", "nobody"], "", "no such user"),
        (["enable", "nobody"], "", "no such user"),
        (["disable", "nobody"], "", "no such user"),
        (["disable", "\udcff"], "", "UTF-8"),
        (["delete", "nobody"], "", "no such user"),
        (["otp-reset", "nobody"], "", "no such user"),
        (["demote", "acme"], "", "last active administrator"),
        (["disable", "acme"], "", "last active administrator"),
        (["delete", "acme"], "", "last active administrator"),
    ],
)
def test_command_that_fails_says_why(user, arguments, stdin, word):
    """With status 1, without a traceback, and nothing in the audit trail."""
    assert word in user(*arguments, stdin=stdin, ok=False)
    assert call("GET", "/hello-me", headers=ACME_BASIC).status_code == 200


def test_commands_read_passwords_from_standard_input(new_database):
    """Passwords come from standard input; a login may be the name of a group of commands."""
    url = new_database("sqlite")
    res = run(*USER, "add", "db", "db@acme.org", stdin=f"{PASSWORD}\r\n", ACME_DATABASE=url)
    assert (res.returncode, res.stdout) == (0, "db: user added\n"), res.stderr
    assert json.loads(res.stderr)["event"] == "user added"
    assert run(*USER, "disable", "db", ACME_DATABASE=url).returncode == 0
    res = run(*USER, "password", "acme", stdin=f"{PASSWORD}\n", ACME_DATABASE="memory:")
    assert (res.returncode, "set ACME_DATABASE" in res.stderr) == (1, True)


@pytest.mark.parametrize(("env", "name"), [("ACME_DATABASE", "one.db"), (None, "acme.db")])
def test_make_uses_the_database_of_the_env_file(tmp_path, env, name):
    """As `make run` does, and by default the same."""
    (tmp_path / "app.py").symlink_to(ROOT / "app.py")
    (tmp_path / ".env").write_text(f"{env}=sqlite:///{name}\n" if env else "")
    make = ["make", "-f", str(ROOT / "Makefile"), "-o", ".venv/run"]
    command = [*make, f"BIN={Path(sys.executable).parent}", "db-upgrade"]
    done = run(*command, cwd=tmp_path, ACME_DATABASE=None)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.glob("*.db")] == [name]
