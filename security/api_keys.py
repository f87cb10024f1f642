"""API keys: long-lived credentials of scripts, for what their users own, and never for accounts.

A key is `acme_`, 32 random bytes and their CRC-32, all in hexadecimal: scanners of leaked secrets
recognize it, and a mistyped one costs no call of the store, which has only a hash.
"""

import secrets
import time
import zlib

import FlaskSimpleAuth as fsa

from database import db
from security.caller import caller
from security.sessions import sha256
from store.base import ApiKey

PREFIX = "acme_"
RANDOM_BYTES = 32
DAY_SECONDS = 24 * 3600


def generate() -> str:
    """A new key."""
    secret = secrets.token_hex(RANDOM_BYTES)
    return f"{PREFIX}{secret}{_checksum(secret)}"


def _checksum(secret: str) -> str:
    return f"{zlib.crc32(secret.encode()):08x}"


def _is_well_formed(key: str) -> bool:
    secret, checksum = key.removeprefix(PREFIX)[:-8], key[-8:]
    return len(secret) == 2 * RANDOM_BYTES and checksum == _checksum(secret)


def wrong_key() -> fsa.ErrorResponse:
    """The 401 for every invalid key, and its challenge (RFC 6750)."""
    caller().challenge = 'Bearer realm="acme", error="invalid_token"'
    return fsa.ErrorResponse("invalid API key: it is unknown, expired or deleted", 401)


def check_key(key: str) -> ApiKey:
    """The record of a key that is valid now, else 401. Notes the day of its use."""
    now = time.time()
    digest = sha256(key)
    found = db.get_api_key(digest, now) if _is_well_formed(key) else None
    if not found:
        raise wrong_key()
    today = now - now % DAY_SECONDS
    if found.used < today:  # at most one write a day
        db.use_api_key(digest, today)
    return found
