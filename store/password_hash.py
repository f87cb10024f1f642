"""Hashes of passwords that come from an export: what of argon2 and bcrypt an import takes."""

import base64
import re
from typing import Self

import FlaskSimpleAuth as fsa


class PasswordHash(str):
    """The hash of a password in an import: complete, and not too costly to verify.

    That is argon2 in the PHC string format, or bcrypt. Each verification of a hash at the limits
    takes about 0.4 seconds of CPU, and with argon2 128 MiB.
    """

    MAX_KIB = 128 * 1024
    MAX_KIB_PASSES = 256 * 1024  # memory times passes
    MAX_LANES = 16
    DIGESTS = (16, 24, 32, 64)  # bytes, as libraries make them: any other length is truncated
    ARGON2 = re.compile(
        r"\$argon2(?:id|i|d)(?:\$v=1[69])?"
        r"\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
        r"\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)"
    )
    # cost 4 to 13, salt of 128 bits, hash of 184 bits
    BCRYPT = re.compile(
        r"\$2[aby]\$(?:0[4-9]|1[0-3])\$"
        r"[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
    )

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, str) or not (cls.BCRYPT.fullmatch(value) or cls._is_argon2(value)):
            raise fsa.ErrorResponse(
                "password must be a whole hash, of argon2 (a memory of at most "
                f"{cls.MAX_KIB} KiB, at most {cls.MAX_KIB_PASSES} KiB times passes, "
                f"at most {cls.MAX_LANES} lanes) or bcrypt (a cost from 4 to 13)",
                400,
            )
        return super().__new__(cls, value)

    @classmethod
    def _is_argon2(cls, value: str) -> bool:
        parts = cls.ARGON2.fullmatch(value)
        if not parts:
            return False
        memory, passes, lanes = map(int, parts.group(1, 2, 3))  # memory in KiB
        salt, digest = map(_decoded_size, parts.group(4, 5))
        return (
            8 * lanes <= memory <= cls.MAX_KIB
            and memory * passes <= cls.MAX_KIB_PASSES
            and lanes <= cls.MAX_LANES
            and 8 <= salt <= 64  # bytes
            and digest in cls.DIGESTS
        )


def _decoded_size(text: str) -> int:
    """How many bytes a text in base64 without padding is, 0 if it is not base64."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return 0
    return len(data) if base64.b64encode(data).rstrip(b"=") == text.encode() else 0
