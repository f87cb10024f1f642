"""The second factor (MFA): time-based one-time passwords (TOTP, RFC 6238), and recovery codes."""

import functools
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import ClassVar, Self

import FlaskSimpleAuth as fsa
import pyotp

from database import db
from security.audit import audit
from security.outbox import outbox
from security.rate_limit import count_failure, limiter
from values import Schema

RECOVERY_CODES = 10  # of a user
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32; a code has 16 of these

totp_lock = threading.Lock()  # one check at a time, so that concurrent guesses are all counted

wrong_code = functools.partial(fsa.ErrorResponse, "invalid code, or used before")


class AnyCode(str):
    """A one-time password of six digits, or a recovery code of 16 characters, as people type them.

    Its value has neither blanks nor hyphens, and no upper case; o is 0, i and l are 1, as in
    Crockford's base32, which leaves these letters out.
    """

    SECRET = True
    MAX_LENGTH = 64
    LIKE = str.maketrans("oil", "011", " -")
    PATTERN = "[ -]*(?:(?:[0-9][ -]*){6}|(?:[0-9A-TV-Za-tv-z][ -]*){16})"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "maxLength": MAX_LENGTH,
        "pattern": f"^{PATTERN}$",
        "examples": ["123456", "7k3m-9qrs-0abc-defg"],
    }

    def __new__(cls, value: object) -> Self:
        if (
            not isinstance(value, str)
            or len(value) > cls.MAX_LENGTH
            or not re.fullmatch(cls.PATTERN, value)
        ):
            message = "code must be a text of six digits, or a recovery code of 16 characters"
            raise fsa.ErrorResponse(message, 400)
        return super().__new__(cls, value.lower().translate(cls.LIKE))

    def is_recovery_code(self) -> bool:
        """Whether it is that, not a one-time password."""
        return len(self) != 6


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


def check_any_code(
    login: str,
    secret: str | None,
    code: AnyCode,
    off: bool = False,
    then: Callable[[], None] = lambda: None,
) -> bool:
    """Whether a one-time password or a recovery code is right and not used before.

    `off` switches one-time passwords off in the same transaction; see also `check_code`.
    """
    if not code.is_recovery_code():
        return check_code(login, secret, code, False if off else None, then=then)
    with totp_lock:
        limiter().check(login, everywhere=True)
    with db.atomic():
        if secret and db.use_recovery_code(login, _hash(secret, code)):
            audit("recovery code used", login)
            outbox().notify("recovery", login)
            if off:
                db.reset_otp(login)
            then()
            return True
    count_failure(login, everywhere=True)
    return False


def new_recovery_codes(login: str, secret: str) -> list[str]:
    """Replace the recovery codes of a user; 409 unless one-time passwords are on."""
    codes = [
        "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(4))
        for _ in range(RECOVERY_CODES)
    ]
    if not db.set_recovery_codes(login, [_hash(secret, AnyCode(code)) for code in codes]):
        raise fsa.ErrorResponse("one-time passwords are off: there are no recovery codes", 409)
    return codes


def _hash(secret: str, code: str) -> str:
    """What the store has of a recovery code: it is void with another secret.

    A code has 80 random bits, which nobody can guess even with a fast hash.
    """
    return hmac.new(secret.encode(), code.encode(), "sha256").hexdigest()
