"""The second factor (MFA): time-based one-time passwords (TOTP, RFC 6238)."""

import functools
import hmac
import threading
import time
from collections.abc import Callable

import FlaskSimpleAuth as fsa
import pyotp

from database import db
from security.rate_limit import count_failure, limiter

totp_lock = threading.Lock()  # one check at a time, so that concurrent guesses are all counted

wrong_code = functools.partial(fsa.ErrorResponse, "invalid code, or used before")


def check_code(
    login: str,
    secret: str | None,
    code: str,
    on: bool | None = None,
    session: str = "",
    then: Callable[[], None] = lambda: None,
) -> bool:
    """Whether a one-time password is right and not used before (RFC 6238, 5.2).

    The clock of the user's device may be 30 seconds off. `on` switches one-time passwords on or off
    in the same transaction, in which `then` is called; on ends all sessions of the user but
    `session`. Raises 429 after too many failures from all addresses together.
    """
    now = int(time.time())
    totp = pyotp.TOTP(secret or pyotp.random_base32())
    around = range(now // totp.interval - 1, now // totp.interval + 2)
    with totp_lock:  # not during a call of the store, which may be unavailable
        limiter().check(login, everywhere=True)
        right = [step for step in around if hmac.compare_digest(totp.generate_otp(step), code)]
        if not right:
            count_failure(login, everywhere=True)
    with db.atomic():
        if secret and any(db.use_otp(login, secret, step, on, session) for step in right):
            then()
            return True
    if right:  # and used before
        count_failure(login, everywhere=True)
    return False
