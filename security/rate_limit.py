"""Rate limiting of failed logins, against brute force (OWASP Authentication Cheat Sheet).

Wrong passwords and one-time passwords are counted by address and login, and by address alone.
"""

import contextlib
import functools
import ipaddress
import logging
import math
import os
import time
from collections.abc import Callable
from typing import Any

import flask
import FlaskSimpleAuth as fsa
import limits

import values
from monitoring import metrics
from security.audit import audit_attempt

log = logging.getLogger("acme")

# settings of version 0.1 that are accepted under their old names, until version 0.3
RENAMED = {"ACME_LOGIN_LIMIT": "ACME_RATE_LIMIT", "ACME_LIMITS": "ACME_RATE_LIMIT_STORAGE"}
RETRY_SECONDS = 5.0  # until a storage that has failed is used again
# the storages of `limits` that respond in bounded time; a Redis Sentinel took 16 seconds
STORAGES = ("memory", "redis", "rediss", "redis+unix")
TIMEOUT_SECONDS = 0.5  # for each response of a Redis
MAX_CHECK_SECONDS = 0.25  # a Redis that takes longer for one check counts as failed


@functools.lru_cache(1000)
def network(address: str | None) -> str:
    """The network that counts as one client: an IPv4 address, or the /64 of an IPv6 address.

    A subscriber gets at least a /64 (RFC 6177), and could use another address for each attempt.
    """
    if address and ":" in address:
        with contextlib.suppress(ValueError):
            ip = ipaddress.IPv6Address(address)
            return str(ip.ipv4_mapped or ipaddress.ip_network((int(ip), 64), strict=False))
    return address or ""


class RateLimiter:
    """Counts in a storage of the `limits` library, such as `memory://` or `redis://host:6379`."""

    def __init__(self, rates: str, storage: str) -> None:
        """Two rates, for an address and login and for an address, as in `10/minute, 100/hour`.

        Raises ValueError if they are malformed, and if the storage cannot be used.
        """
        try:
            self._per_login, self._per_address = limits.parse_many(rates)
            if not (self._per_login.amount and self._per_address.amount):
                raise ValueError
        except ValueError:
            raise ValueError(
                f"ACME_RATE_LIMIT={rates} must be two rates, for a login and an address, "
                "like 10/5 minutes, 100/5 minutes"
            ) from None
        scheme = storage.partition(":")[0]
        if scheme not in STORAGES:
            raise ValueError(
                f"ACME_RATE_LIMIT_STORAGE={scheme}:… cannot be used: take memory://, "
                "redis://host:6379, rediss:// (with TLS) or redis+unix://"
            )
        options: Any = {}
        self._max_check_seconds = math.inf  # memory is slow where the processor is busy
        if scheme != "memory":
            self._max_check_seconds = MAX_CHECK_SECONDS
            options = {
                "socket_timeout": TIMEOUT_SECONDS,
                "socket_connect_timeout": TIMEOUT_SECONDS,
                "retry": None,
            }
        try:
            self._limiter = _limiter(storage, **options)
        except Exception as e:  # its message may contain a password
            raise ValueError(
                f"ACME_RATE_LIMIT_STORAGE={scheme}:… cannot be used: {type(e).__name__}"
            ) from None
        self._spare = _limiter("memory://")
        self._failed = -RETRY_SECONDS  # when the storage last failed, in monotonic seconds

    def _keys(self, login: str, everywhere: bool) -> list[tuple[limits.RateLimitItem, str, str]]:
        address = network(flask.request.remote_addr)
        keys = [(self._per_login, address, login[:64]), (self._per_address, address, "")]
        # a caller who guesses codes has the password, and may use many addresses
        return [*keys, (self._per_login, "everywhere", login[:64])] if everywhere else keys

    def _call(self, question: Callable[[limits.strategies.RateLimiter], None]) -> bool:
        """Call the storage, unless it has just failed; returns whether it has responded.

        A sign-in calls it up to six times while others wait, so a slow storage counts as failed.
        """
        start = time.monotonic()
        if start < self._failed + RETRY_SECONDS:
            return False
        try:
            question(self._limiter)
            responded, what = True, f"it takes more than {self._max_check_seconds} seconds"
            if time.monotonic() - start < self._max_check_seconds:
                return True
        except Exception as e:
            responded, what = False, f"{type(e).__name__}: {e}".partition("\n")[0]
        self._failed = time.monotonic()
        metrics.add("acme_rate_limit_errors")
        log.error("failed attempts are counted by each process for itself: %s", what)
        return responded

    def check(self, login: str, everywhere: bool = False) -> None:
        """Before an attempt: 429 with `Retry-After` (RFC 6585) after too many failures.

        `everywhere` limits the failures for the login from all addresses together as well.
        """

        def check(limiter: limits.strategies.RateLimiter) -> None:
            for rate, *key in self._keys(login, everywhere):
                if not limiter.test(rate, *key):
                    end = limiter.get_window_stats(rate, *key).reset_time
                    wait = max(1, math.ceil(end - time.time()))
                    metrics.add("acme_sign_ins", "limited")
                    message = f"too many failed attempts: try again in {wait} seconds"
                    raise fsa.ErrorResponse(message, 429, {"Retry-After": str(wait)})

        self._call(check)
        check(self._spare)  # failures that were counted in memory while the storage had failed

    def fail(self, login: str, everywhere: bool = False) -> None:
        """Count a failed attempt; the arguments are those of `check`."""

        def fail(limiter: limits.strategies.RateLimiter) -> None:
            for rate, *key in self._keys(login, everywhere):
                limiter.hit(rate, *key)

        if not self._call(fail):
            fail(self._spare)


def _limiter(storage: str, **options: Any) -> limits.strategies.RateLimiter:
    return limits.strategies.FixedWindowRateLimiter(
        limits.storage.storage_from_string(storage, **options)
    )


def limiter() -> RateLimiter:
    """The limiter of the current application."""
    found: RateLimiter = flask.current_app.extensions["rate_limit"]
    return found


def count_failure(login: str, everywhere: bool = False) -> None:
    """Count a failed attempt and audit it; a malformed login may be a password, and is left out."""
    limiter().fail(login, everywhere)
    metrics.add("acme_sign_ins", "wrong")
    try:
        audit_attempt("failed attempt", values.Login(login))
    except fsa.ErrorResponse:
        audit_attempt("failed attempt", None)


def init_app(app: fsa.Flask) -> None:
    """Set up the rate limiter as configured; ValueError if a setting is wrong."""
    for old, new in RENAMED.items():
        value = app.config.get(old, os.environ.get(old))
        if value is not None and new not in os.environ:
            log.warning("the setting %s has been renamed to %s: use the new name", old, new)
            app.config[new] = value
    app.extensions["rate_limit"] = RateLimiter(
        app.config["ACME_RATE_LIMIT"], app.config["ACME_RATE_LIMIT_STORAGE"]
    )
