"""Mails: TLS, what happens when the server refuses, delays or is gone, limits, and texts."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import database
from database import db
from security import mail, outbox, passwords
from security.mail import Mailer
from store import base
from test import app
from tests import links
from tests.accounts import HASH, IN_PROCESS, call, new_user
from tests.conftest import PASSWORD, ROOT, Target, configured, granian, new_name, until
from tests.mails import (
    SENDER,
    URL,
    address_of,
    link_in,
    mails,
    running,
    server,
)

__all__ = ["mails", "server"]  # fixtures

HOUR = 3600.0


def send(mails):
    """Send what is due, once; returns in how many seconds it would be tried again."""
    with app.app_context():
        return mails.outbox.send_due()


# the server


def test_message_is_plain_text_and_html_over_authenticated_tls(mails):
    login = mails.confirmed_user()
    mails.ask("/reset", {"login": login})
    send(mails)
    ((envelope, message),) = mails.server.got()
    assert (envelope.mail_from, envelope.rcpt_tos) == ("noreply@acme.org", [address_of(login)])
    assert (message["From"], message["To"]) == (SENDER, address_of(login))
    assert message["Subject"] == "Set a new password"
    assert message["Auto-Submitted"] == "auto-generated"
    assert link_in(message)[0] == "reset"
    headers = {name: value for name, value in message.items() if name != "To"}
    assert login not in str(headers)


def test_starttls_is_required_of_another_machine(mails, tmp_path, monkeypatch):
    """Without it neither the password nor a mail is sent."""
    monkeypatch.setattr(mail, "is_local", lambda _host: False)
    for folder, has_tls in ("with", True), ("without", False):
        (tmp_path / folder).mkdir()
        with running(tmp_path / folder, implicit_tls=False, has_tls=has_tls) as other:
            monkeypatch.setenv("SSL_CERT_FILE", other.authority)
            mails.outbox.mailer = Mailer(other.url, SENDER, URL)
            mails.ask("/registration", {"email": "susie@acme.org"})
            send(mails)
            assert len(other.got()) == has_tls
    assert db.count_waiting() == 1


@pytest.mark.parametrize("trouble", ["certificate", "password", "port"])
def test_mail_waits_for_a_server_that_cannot_be_used(mails, server, monkeypatch, caplog, trouble):
    mailer = mails.outbox.mailer
    bad = server.url
    if trouble == "certificate":
        monkeypatch.delenv("SSL_CERT_FILE")
    elif trouble == "password":
        bad = bad.replace("Some", "Wrong")
    else:
        bad = "smtp://127.0.0.1:1"
    mails.outbox.mailer = Mailer(bad, SENDER, URL)
    mails.ask("/registration", {"email": "susie@acme.org"})
    assert [send(mails) for _ in range(8)] == [2, 4, 8, 16, 32, 60, 60, 60]
    assert "mails wait for the mail server" in caplog.text and "Some" not in caplog.text
    assert db.count_waiting() == 1
    mails.outbox.mailer = mailer
    monkeypatch.setenv("SSL_CERT_FILE", server.authority)
    assert mails.link()[0] == "registration"


REFUSALS = [
    ("recipient", "451 later", False),
    ("recipient", "550 no such user", True),
    ("text", "452 full", False),
    ("text", "554 spam", True),
    ("text", "421 closing", False),
]


@pytest.mark.parametrize(("what", "answer", "is_final"), REFUSALS)
def test_refused_mail_is_tried_again_or_given_up(mails, clock, audit_trail, what, answer, is_final):
    """Others are not delayed by it."""
    login = mails.confirmed_user()
    mails.ask("/reset", {"login": login})
    if what == "recipient":
        mails.server.refused[address_of(login)] = answer
    else:
        mails.server.answers = [answer]
    assert send(mails) == 0
    other = mails.confirmed_user()
    assert mails.reset(other)
    lines = [(line["event"], line["whom"]) for line in audit_trail()]
    assert (("mail not sent: reset", login) in lines) == is_final
    assert db.count_waiting() == (not is_final)
    mails.server.refused = {}
    clock.now += 59
    assert mails.send() == []
    clock.now += 2
    assert len(mails.send()) == (not is_final)


def test_failing_mail_is_tried_ever_less_often_for_a_day(mails, clock, audit_trail):
    begin, times = clock.now, []
    mails.server.refused["susie@acme.org"] = "451 later"
    mails.ask("/registration", {"email": "susie@acme.org"})
    while (due := db.next_mail()) is not None:
        clock.now = due
        times.append((due - begin) / 60)
        send(mails)
    assert times[:8] == pytest.approx([0, 1, 3, 7, 15, 31, 63, 123])  # minutes
    assert 23 * 60 <= times[-2] <= 24 * 60 <= times[-1] < 25 * 60
    assert len(times) < 40
    assert audit_trail()[-1]["event"] == "mail not sent: registration"


def test_server_that_does_not_answer_delays_no_request(mails, monkeypatch, clock):
    """A response that takes too long is a failure, and the mail is sent later."""
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 0.2)
    go_on = threading.Event()
    mails.server.before_answer = lambda: go_on.wait(10)
    mails.ask("/registration", {"email": "susie@acme.org"})
    assert send(mails) == 0
    go_on.set()
    mails.ask("/registration", {"email": "susie@acme.org"})  # while the first one is late
    until(mails.server.got)
    monkeypatch.setattr(mail, "TIMEOUT_SECONDS", 10.0)
    clock.now += 61
    assert len(mails.send()) == 2


@IN_PROCESS
def test_each_mail_is_claimed_by_one_thread(target, mails, clock):
    for _ in range(20):
        mails.ask("/registration", {"email": "susie@acme.org"})
    clock.now += 1

    def claim(_number):
        found = db.claim_mail(clock.now, clock.now + 300)
        return found and found.id

    with ThreadPoolExecutor(4) as pool:
        claimed = [*pool.map(claim, range(30))]
    assert len({*claimed} - {None}) == 20 and claimed.count(None) == 10


KILLED = """
import os, signal
from app import app
found = app.extensions["outbox"]
found.mailer.message = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with app.app_context():
    found.send_due()
"""


def test_mail_of_a_process_that_was_killed_is_sent_by_another(server, mails, new_database, clock):
    """Between the claim and the end of the sending."""
    url = new_database("sqlite")
    with configured(url):
        mails.ask("/registration", {"email": "susie@acme.org"})
        settings = {**links.SETTINGS, "ACME_MAIL": server.url, "ACME_DATABASE": url}
        done = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, env=os.environ | settings)
        assert done.returncode == -signal.SIGKILL
        assert mails.send() == []
        clock.now += outbox.LEASE_SECONDS + 60
        assert mails.link()[0] == "registration"


def test_thread_sends_at_once_and_stops(server, mails):
    """Started by the first mail; at the end of the process it begins no other one."""
    del mails.outbox.start
    mails.ask("/registration", {"email": "susie@acme.org"})
    until(server.got)
    mails.outbox.stop()
    mails.outbox.join()
    assert not mails.outbox._thread.is_alive()
    mails.ask("/registration", {"email": "susie@acme.org"})
    assert not mails.outbox._thread.is_alive() and db.count_waiting() == 1


def test_no_thread_without_a_mail_server():
    found = outbox.Outbox(app, None, False)
    found.start()
    assert found._thread is None


def test_workers_send_mails(server, new_database, monkeypatch):
    """As `make run` has them, and a mail that a command has written."""
    url = new_database("sqlite")
    monkeypatch.setenv("SSL_CERT_FILE", server.authority)
    settings = {**links.SETTINGS, "ACME_MAIL": server.url, "ACME_DATABASE": url}
    with granian(**settings, WORKERS="2") as address:
        target, got = Target(address), []
        body = {"email": "susie@acme.org"}
        assert target.send_json("POST", "/registration", body).status == 202
        until(lambda: got.extend(server.got()) or got)
        token = link_in(got.pop()[1])[1]
        body = {"token": token, "login": "susie", "password": "Uncommon-Trumpet-0"}
        assert target.send_json("PUT", "/registration", body).status == 201


# limits


@IN_PROCESS
def test_requests_for_mails_are_limited(target, mails, monkeypatch, clock):
    """From one address, and from all together; by rows, so for all processes together."""
    monkeypatch.setattr(outbox, "MAX_OF_CLIENT", 3)
    monkeypatch.setattr(outbox, "MAX_OF_ALL", 5)

    def ask(login, origin):
        environ = {"REMOTE_ADDR": origin, "wsgi.url_scheme": "https"}
        with app.test_client() as client:
            return client.post("/reset", json={"login": login}, environ_overrides=environ)

    known = mails.confirmed_user()
    for login, origin, expected in [
        *[(known, "10.0.0.1", 202), ("nobody", "10.0.0.1", 202), (known, "10.0.0.1", 202)],
        *[(known, "10.0.0.1", 429), ("nobody", "10.0.0.1", 429)],
        *[(known, "2001:db8::1", 202), (known, "2001:db8::2", 202), (known, "10.0.0.3", 429)],
    ]:
        res = ask(login, origin)
        assert res.status_code == expected, (login, origin)
        assert expected == 202 or res.headers["Retry-After"] == "3600"
    mails.send()
    assert ask(known, "10.0.0.1").status_code == 429  # also once they are sent
    clock.now += HOUR + 1
    assert ask(known, "10.0.0.1").status_code == 202


@IN_PROCESS
def test_mails_to_an_address_are_limited(target, mails, clock):
    """By any client, in any case; the others are dropped, and seem sent.

    A user gets the link of a reset also after others have registered with the user's address.
    """
    login, address = mails.confirmed_user(), f"{new_name('mail')}@acme.org"
    for variant in [address, address.capitalize(), address.replace("mail", "mAIL")] * 2:
        mails.ask("/registration", {"email": variant})
        mails.ask("/registration", {"email": address_of(login)})
    to = [message["To"].lower() for message in mails.send()]
    assert (to.count(address), to.count(address_of(login)), len(to)) == (3, 3, 6)
    for _ in range(6):
        mails.ask("/reset", {"login": login})
    assert [message["To"] for message in mails.send()] == [address_of(login)] * 3
    clock.now += HOUR + 1
    mails.ask("/reset", {"login": login})
    assert mails.link()[0] == "reset"


@IN_PROCESS
@pytest.mark.parametrize("void", ["password", "deletion", "registration"])
def test_void_links_count_for_the_limits(target, mails, monkeypatch, void):
    """Else users could send mails without end by changing their password between them.

    And who has asked for the resets of a login could see by them when that user is deleted.
    """
    monkeypatch.setattr(outbox, "MAX_OF_CLIENT", 2)
    login = new_user()
    for _ in range(2):
        if void != "registration":
            mails.ask("/reset", {"login": login})
        if void == "password":
            db.set_user_pass(login, HASH)
        elif void == "deletion":
            db.delete_user(login)
            db.add_user(login, HASH, address_of(login), False)
        else:
            body = {"token": mails.register()[0], "login": new_name("u"), "password": PASSWORD}
            assert call("PUT", "/registration", body).status_code == 201
    assert call("POST", "/reset", {"login": login}).status_code == 429
    assert db.count_waiting() == 0


@IN_PROCESS
def test_rows_end(target, mails, clock):
    mails.register()
    mails.ask("/reset", {"login": "nobody"})
    assert mails.send() == []
    db.clean_mails(clock.now + HOUR - 1, 0)
    assert not db.ask_mail(outbox._new_mail("reset", "x", "", "127.0.0.1"), 0, 2, 99)
    db.clean_mails(clock.now + HOUR + 1, 0)
    assert not db.ask_mail(outbox._new_mail("reset", "x", "", "127.0.0.1"), 0, 1, 99)
    db.clean_mails(clock.now + 24 * HOUR + 1, 0)
    assert db.ask_mail(outbox._new_mail("reset", "x", "", "127.0.0.1"), 0, 1, 99)


# nobody learns who has an account


def record_calls(store, monkeypatch):
    """The names of the calls of a store, from now on."""
    calls = []

    def recorded(name, method):
        def call(*args, **kwargs):
            calls.append(name)
            return method(*args, **kwargs)

        return call

    for name in base.Store.__abstractmethods__:
        monkeypatch.setattr(store, name, recorded(name, getattr(store, name)))
    return calls


@IN_PROCESS
def test_request_does_the_same_work_whatever_exists(target, mails, monkeypatch):
    """And gets the same response: for a user, a disabled or unconfirmed one, and for none."""
    known, disabled, unconfirmed = mails.confirmed_user(), mails.confirmed_user(), new_user()
    db.change_user(disabled, active=False)
    hashed = []
    monkeypatch.setattr(passwords, "_in_background", lambda *_: hashed.append(1))
    calls, seen = record_calls(database._current, monkeypatch), set()
    for login in known, disabled, unconfirmed, "nobody":
        both = {"/reset": {"login": login}, "/registration": {"email": address_of(login)}}
        for path, body in both.items():
            calls.clear()
            res = call("POST", path, body)
            varying = {"X-Request-ID", "FSA-Delay"}
            headers = {k: v for k, v in res.headers if k not in varying}
            seen.add((path, res.status_code, res.text, str(headers), *calls))
    assert len(seen) == 2 and not hashed
    assert {one[4] for one in seen} == {"ask_mail"}
    got = [(message["To"], message["Subject"]) for message in mails.send()]
    assert sorted(got) == sorted(
        [
            (address_of(known), "Set a new password"),
            (address_of(known), "You have an account"),
            (address_of(disabled), "You have an account"),
            (address_of(unconfirmed), "Confirm your address"),
            ("nobody@acme.org", "Confirm your address"),
        ]
    )


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["/reset", "/registration", "/confirmation"])
def test_there_is_no_route_without_a_mail_server(method, path):
    body = {"POST /reset": {"login": "susie"}, "POST /registration": {"email": "a@b.org"}}
    token = {"token": "x" * 43} | ({} if path == "/confirmation" else {"password": PASSWORD})
    token |= {"login": "susie"} if path == "/registration" else {}
    res = call(method, path, body.get(f"{method} {path}", token))
    assert res.status_code == (405 if (method, path) == ("POST", "/confirmation") else 404)


def test_registration_is_closed_unless_it_is_opened(mails):
    mails.outbox.registration = False
    assert call("POST", "/registration", {"email": "a@b.org"}).status_code == 404
    body = {"token": links.new_link("registration"), "login": "susie", "password": PASSWORD}
    assert call("PUT", "/registration", body).status_code == 404
    mails.ask("/reset", {"login": "susie"})


# addresses and texts


@pytest.mark.parametrize(
    ("address", "sent"),
    [
        ("o'brien+x=1!#$%&*/?^_`{|}~-@acme.org", None),
        ("-oQ/tmp/x@acme.org", None),
        ("Susie@ACME.org", "Susie@acme.org"),
        ("ü@acme.org", None),
        ("susie@bücher.de", "susie@xn--bcher-kva.de"),
        (f"{'x' * 64}@{'y' * 60}.{'z' * 60}.org", None),
    ],
)
def test_odd_address_gets_its_mail(mails, address, sent):
    mails.ask("/registration", {"email": address})
    send(mails)
    ((envelope, message),) = mails.server.got()
    assert envelope.rcpt_tos == [sent or address]
    (to,) = message["To"].addresses
    assert to.addr_spec.encode(errors="surrogateescape").decode() == (sent or address)


@pytest.mark.parametrize(
    "address",
    [
        "a@b.org\r\nBcc: c@d.org",
        "a@b.org\nBcc: c@d.org",
        "a@b.org, c@d.org",
        "a@b.org> SIZE=1",
        "<a@b.org>",
        "a\0@b.org",
        '"a\r\nRCPT TO:<c@d.org>"@b.org',
        "a@b.org\u2028",
    ],
)
def test_address_cannot_add_headers_or_recipients(mails, address):
    assert call("POST", "/registration", {"email": address}).status_code == 400
    assert db.next_mail() is None


def test_host_of_the_request_is_not_in_the_link(mails):
    headers = {"Host": "evil.example.net", "X-Forwarded-Host": "evil.example.net"}
    body = {"login": mails.confirmed_user()}
    assert call("POST", "/reset", body, headers).status_code == 202
    (message,) = mails.send()
    assert "evil" not in message.as_string() and link_in(message)
