"""Settings that are wrong: the application is not made, and one message says what to do.

tests/test_serve.py proves that a command prints it as one line, and ends.
"""

import os

import pytest

from security.rate_limit import MAX_CHECK_SECONDS, TIMEOUT_SECONDS, RateLimiter
from tests.application import new_application
from web.application import ConfigurationError

SECRETS = (
    "ACME_TOKEN_SECRET must have 32 bytes or more (each, if there are several): "
    "try openssl rand -base64 33"
)
RATES = "must be two rates, for a login and an address, like 10/5 minutes, 100/5 minutes"
STORAGES = "take memory://, redis://host:6379, rediss:// (with TLS) or redis+unix://"
ORIGINS = (
    "must be like https://www.example.org or http://localhost:8080: "
    "no path, no *, lower case, no default port"
)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ACME_TOKEN_SECRET", "", SECRETS),
        ("ACME_TOKEN_SECRET", "x" * 31, SECRETS),
        ("ACME_TOKEN_SECRET", f"{'x' * 32},{'x' * 31}", SECRETS),
        (
            "ACME_MODE",
            "fast",
            "ACME_MODE=fast is unknown: use prod, dev, debug, debug1, debug2, debug3, debug4",
        ),
        ("ACME_AUTH", "none", "ACME_AUTH=none is unknown: use any or token"),
        ("ACME_PROXIES", "one", "ACME_PROXIES=one must be a number from 0 to 9"),
        ("ACME_PROXIES", "10", "ACME_PROXIES=10 must be a number from 0 to 9"),
        ("ACME_RATE_LIMIT", "many", f"ACME_RATE_LIMIT=many {RATES}"),
        ("ACME_RATE_LIMIT", "5/minute", f"ACME_RATE_LIMIT=5/minute {RATES}"),
        ("ACME_RATE_LIMIT", "0/hour, 5/hour", f"ACME_RATE_LIMIT=0/hour, 5/hour {RATES}"),
        ("ACME_RATE_LIMIT", "5/hour, 0/hour", f"ACME_RATE_LIMIT=5/hour, 0/hour {RATES}"),
        (
            "ACME_RATE_LIMIT_STORAGE",
            "redis+sentinel://u:Secret@h/x",
            f"ACME_RATE_LIMIT_STORAGE=redis+sentinel:… cannot be used: {STORAGES}",
        ),
        (
            "ACME_RATE_LIMIT_STORAGE",
            "redis://u:Secret@h:port",
            "ACME_RATE_LIMIT_STORAGE=redis:… cannot be used: ValueError",
        ),
        ("ACME_ORIGINS", "*", f"ACME_ORIGINS: * {ORIGINS}"),
        (
            "ACME_ORIGINS",
            "https://a.org, https://b.org/",
            f"ACME_ORIGINS: https://b.org/ {ORIGINS}",
        ),
    ],
)
def test_wrong_setting_is_refused_with_its_remedy(name, value, message):
    with pytest.raises(ConfigurationError) as error, new_application(**{name: value}):
        pass
    assert error.value.message == message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACME_TOKEN_SECRET", "x" * 32),
        ("ACME_TOKEN_SECRET", "ü" * 16),  # bytes count
        ("ACME_AUTH", "token"),
        ("ACME_MODE", "debug4"),
        ("ACME_PROXIES", "9"),
        ("ACME_RATE_LIMIT_STORAGE", "redis://127.0.0.1:1"),  # connected to at the first sign-in
    ],
)
def test_right_setting_is_accepted(name, value):
    with new_application(**{name: value}) as app:
        assert app.test_client().get("/hello").status_code == 200


def test_mode_that_logs_passwords_warns(caplog):
    with new_application(ACME_MODE="debug3"):
        assert "passwords" not in caplog.text
    with new_application(ACME_MODE="debug4"):
        assert "ACME_MODE=debug4 writes passwords and tokens to the log" in caplog.text


OLD = {"ACME_LOGIN_LIMIT": "5/minute, 9/minute", "ACME_LIMITS": "redis://127.0.0.1:1"}


def test_settings_of_version_0_1_are_accepted_with_a_warning(monkeypatch, caplog):
    monkeypatch.delenv("ACME_RATE_LIMIT")
    with new_application(**OLD) as app:
        assert app.config["ACME_RATE_LIMIT"] == "5/minute, 9/minute"
        assert app.config["ACME_RATE_LIMIT_STORAGE"] == "redis://127.0.0.1:1"
    for old, new in (
        ("ACME_LOGIN_LIMIT", "ACME_RATE_LIMIT"),
        ("ACME_LIMITS", "ACME_RATE_LIMIT_STORAGE"),
    ):
        assert f"the setting {old} has been renamed to {new}: use the new name" in caplog.text


def test_settings_of_version_0_1_in_a_configuration_file_are_accepted(monkeypatch, tmp_path):
    """A file of one's own, which defines its names as acme.conf did."""
    monkeypatch.delenv("ACME_RATE_LIMIT")
    lines = [f"{name} = {value!r}\n" for name, value in OLD.items()]
    with open("acme.conf") as shipped:
        lines += shipped
    (tmp_path / "own.conf").write_text("".join(lines))
    with new_application(ACME_CONFIG=str(tmp_path / "own.conf")) as app:
        assert app.config["ACME_RATE_LIMIT"] == "5/minute, 9/minute"


def test_new_name_of_a_setting_wins(caplog):
    assert "ACME_RATE_LIMIT" in os.environ
    with new_application(ACME_LOGIN_LIMIT="many") as app:
        assert app.config["ACME_RATE_LIMIT"] == os.environ["ACME_RATE_LIMIT"]
    assert "renamed" not in caplog.text


def test_redis_responds_in_bounded_time_or_counts_as_failed():
    """In seconds, without a second attempt; counting in memory takes as long as it takes."""
    attempts = RateLimiter("1/hour, 2/hour", "redis://127.0.0.1:1")
    options = attempts._limiter.storage.storage.connection_pool.connection_kwargs
    assert options["socket_timeout"] == options["socket_connect_timeout"] == TIMEOUT_SECONDS
    assert options["retry"] is None
    assert attempts._max_check_seconds == MAX_CHECK_SECONDS
    assert RateLimiter("1/hour, 2/hour", "memory://")._max_check_seconds > 60
