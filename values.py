"""The types of values: each checks its rule, so that every value is a valid one.

A type takes a value of a request, or refuses it with an error 400 that says what is expected.
`SCHEMA` is the same rule as JSON Schema, for openapi/.
"""

import datetime
import math
import re
import unicodedata
from typing import Annotated, Any, ClassVar, Self

import FlaskSimpleAuth as fsa
from email_validator import EmailNotValidError, validate_email
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from canonical_names import canonical

Schema = dict[str, Any]

MAX_PRICE = 10**12
MAX_PAGE = 1_000


class _Patterned(str):
    """A text that matches a pattern as a whole; `RULE` is the message of the error 400."""

    PATTERN: ClassVar[str]
    RULE: ClassVar[str]

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if not isinstance(value, str) or not re.fullmatch(cls.PATTERN, value):
            raise fsa.ErrorResponse(cls.RULE, 400)
        return super().__new__(cls, value)


class Login(_Patterned):
    """The name of a user: 2 to 32 lower case letters and digits, a letter first."""

    PATTERN = r"[a-z][a-z0-9]{1,31}"
    RULE = "login must be 2 to 32 lower case letters and digits, a letter first"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": f"^{PATTERN}$", "examples": ["susie"]}


class Password(str):
    """A password in plain text, at most 256 characters; `acme.conf` says how strong it must be.

    It never appears in an error, in its own representation, or in a URL.
    """

    SECRET = True
    MAX_LENGTH = 256
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "maxLength": MAX_LENGTH,
        "format": "password",
        "examples": ["Some-Pass-1"],
    }

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, str) or len(value) > cls.MAX_LENGTH:
            raise fsa.ErrorResponse(
                f"password must be a text of at most {cls.MAX_LENGTH} characters", 400
            )
        return super().__new__(cls, value)

    def __repr__(self) -> str:
        return "Password(…)"


class NewPassword(Password):
    """A password to be set: at most 256 characters, as strong as the configuration says."""


class OtpSecret(_Patterned):
    """The secret of one-time passwords: 16 to 64 characters of base32 (RFC 4648)."""

    PATTERN = "(?:[A-Z2-7]{8}){2,8}"
    RULE = "otp_secret must be base32, of 16, 24, … or 64 characters"


class Email(str):
    """An e-mail address (RFC 5322, RFC 6531), normalized; whether it exists is not checked."""

    MAX_LENGTH = 254  # RFC 5321
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "format": "email",
        "maxLength": MAX_LENGTH,
        "examples": ["susie@acme.org"],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        try:
            if not isinstance(value, str) or len(value) > cls.MAX_LENGTH:
                raise EmailNotValidError(f"a text of at most {cls.MAX_LENGTH} characters")
            address = validate_email(value, check_deliverability=False, strict=True).normalized
        except EmailNotValidError as e:
            raise fsa.ErrorResponse(f"email must be an address: {e}", 400) from None
        return super().__new__(cls, address)


class Name(str):
    """The name of some stuff: 1 to 100 characters that are seen, no `/`, no blank at either end.

    It is in its canonical form (canonical_names.py). In a path `.` and `..` mean something else.
    """

    MAX_LENGTH = 100
    BLANKS = " \u2800"  # the second is of braille
    CONTROLS = r"\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069"  # and of the direction of text
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_LENGTH,
        "pattern": rf"^(?!\.{{1,2}}$)[^\s/{CONTROLS}]([^/{CONTROLS}]*[^\s/{CONTROLS}])?$",
        "format": "printable",  # no standard allows that
        "examples": ["pinte"],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and len(value) <= cls.MAX_LENGTH:
            try:
                value = canonical(value)
            except ValueError as e:
                raise fsa.ErrorResponse(f"a name {e}", 400) from None
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= cls.MAX_LENGTH
            or "/" in value
            or value != value.strip(cls.BLANKS)
            or value in (".", "..")
        ):
            raise fsa.ErrorResponse(
                f"a name must be 1 to {cls.MAX_LENGTH} printable characters, "
                "without a / or a blank at either end, and not . or ..",
                400,
            )
        return super().__new__(cls, value)


class Text(str):
    """A text of 1 to 10,000 characters: tabs and line breaks, but no other control characters."""

    # for routes that a fork adds, as in docs/add-a-resource.md: each database stores it as it is
    MAX_LENGTH = 10_000
    PATTERN = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"  # of a character: tab, CR and LF are text
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_LENGTH,
        "pattern": f"^{PATTERN}*$",
        "examples": ["two\nlines"],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= cls.MAX_LENGTH
            or not re.fullmatch(f"{cls.PATTERN}*", value)
            or re.search("[\ud800-\udfff]", value)  # lone surrogates
        ):
            raise fsa.ErrorResponse(
                f"a text must have 1 to {cls.MAX_LENGTH} characters, "
                "and no control characters but tabs and line breaks",
                400,
            )
        return super().__new__(cls, value)


class Price(float):
    """A price: a finite number from 0 to 10^12."""

    SCHEMA: ClassVar[Schema] = {
        "type": "number",
        "minimum": 0,
        "maximum": MAX_PRICE,
        "examples": [6.5],
    }

    def __new__(cls, value: object) -> Self:
        if isinstance(value, cls):
            return value
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not math.isfinite(value)
            or not 0 <= value <= MAX_PRICE
        ):
            raise fsa.ErrorResponse(f"price must be a finite number from 0 to {MAX_PRICE}", 400)
        return super().__new__(cls, value + 0.0)  # a sum, because -0.0 + 0.0 is 0.0


class Limit(int):
    """The maximum length of a page: an integer from 1 to 1,000."""

    SCHEMA: ClassVar[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PAGE:
            raise fsa.ErrorResponse(f"limit must be an integer from 1 to {MAX_PAGE}", 400)
        return super().__new__(cls, value)


class Search(_Patterned):
    """What a list is searched for: 1 to 100 characters, no control characters."""

    # what no name has cannot be found, but is no error while a user types
    PATTERN = "[^\x00-\x1f\x7f\ud800-\udfff]{1,100}"
    RULE = "q must be 1 to 100 characters, without control characters"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": r"^[^\x00-\x1f\x7f]{1,100}$",
        "examples": ["pin"],
    }

    def __new__(cls, value: object) -> Self:
        return str.__new__(cls, unicodedata.normalize("NFC", super().__new__(cls, value)))


class _PageKey(_Patterned):
    """Where a page begins."""

    RULE = "after must be taken from the Link to the next page"


class NameKey(_PageKey):
    """Where a page of names begins: the last one before, also one that `Name` refuses today."""

    PATTERN = Search.PATTERN
    SCHEMA: ClassVar[Schema] = Search.SCHEMA


class SessionKey(_PageKey):
    """Where a page of sessions begins: the creation time and id of the one before, `123.4,id`."""

    PATTERN = r"([0-9]{1,12}\.[0-9]{1,20}),([A-Za-z0-9_-]{1,64})"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": f"^{PATTERN}$",
        "examples": ["1763964000.25,abc"],
    }

    @property
    def created_and_id(self) -> tuple[float, str]:
        """The creation time in seconds since 1970, and the id."""
        created, _, name = self.partition(",")
        return float(created), name


class EventKey(_PageKey):
    """The id of an event of the audit trail: 22 hexadecimal digits."""

    PATTERN = "[0-9a-f]{22}"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": f"^{PATTERN}$",
        "examples": ["0643fa5b1d2c3401234567"],
    }


class Code(_Patterned):
    """A one-time password: six digits, as text, since it may begin with 0."""

    SECRET = True
    PATTERN = "[0-9]{6}"
    RULE = "code must be a text of six digits"
    SCHEMA: ClassVar[Schema] = {"type": "string", "pattern": f"^{PATTERN}$", "examples": ["123456"]}


class Hash(_Patterned):
    """A SHA-256 in hexadecimal."""

    PATTERN = "[0-9a-f]{64}"
    RULE = "a hash must be 64 hexadecimal digits"


class Scope(str):
    """What an API key may do: `read` or `write`, which includes reading."""

    SCHEMA: ClassVar[Schema] = {"type": "string", "enum": ["read", "write"]}

    def __new__(cls, value: object) -> Self:
        if value not in ("read", "write"):
            raise fsa.ErrorResponse("scope must be read or write", 400)
        return super().__new__(cls, value)


class KeyDays(int):
    """The life of an API key in days: an integer from 1 to 366."""

    MAX = 366
    SCHEMA: ClassVar[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX}

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= cls.MAX:
            raise fsa.ErrorResponse(f"days must be an integer from 1 to {cls.MAX}", 400)
        return super().__new__(cls, value)


class RefreshToken(_Patterned):
    """A refresh token, as `POST /token` has handed it out: `session.secret`."""

    SECRET = True
    PATTERN = r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}"
    RULE = "refresh must be a refresh token, as got from /token"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": f"^{PATTERN}$",
        "examples": ["abc.def"],
    }


class MailToken(_Patterned):
    """The token of a link in a mail: 32 random bytes in base64url."""

    SECRET = True
    PATTERN = "[A-Za-z0-9_-]{43}"
    RULE = "token must be the token of a link in a mail"
    SCHEMA: ClassVar[Schema] = {
        "type": "string",
        "pattern": f"^{PATTERN}$",
        "examples": ["jQ0Yz7bJ2m3N4pQ5rS6tU7vW8xY9zA0bC1dE2fG3hI4"],
    }


class Delete(str):
    """The word `delete`, which confirms a deletion."""

    SCHEMA: ClassVar[Schema] = {"type": "string", "const": "delete"}

    def __new__(cls, value: object) -> Self:
        if value != "delete":
            raise fsa.ErrorResponse("stuff may only be delete here", 400)
        return super().__new__(cls, value)


class Numbers(list[int]):
    """At most 50 integers of at most 300 digits each: so much `isprime` does in 0.2 s."""

    MAX_LENGTH = 50
    MAX_DIGITS = 300
    SCHEMA: ClassVar[Schema] = {
        "type": "array",
        "maxItems": MAX_LENGTH,
        "items": {
            "type": "integer",
            "exclusiveMinimum": -(10**MAX_DIGITS),
            "exclusiveMaximum": 10**MAX_DIGITS,
        },
        "examples": [[2, 3, 4, 5]],
    }

    def __init__(self, values: object):
        if (
            not isinstance(values, list)
            or len(values) > self.MAX_LENGTH
            or any(type(n) is not int or abs(n) >= 10**self.MAX_DIGITS for n in values)
        ):
            raise fsa.ErrorResponse(
                f"li must be a list of at most {self.MAX_LENGTH} integers "
                f"of at most {self.MAX_DIGITS} digits each",
                400,
            )
        super().__init__(values)


def _birthday(value: object) -> datetime.date:
    """A date from its text (RFC 3339 full-date), not after tomorrow in UTC.

    East of UTC tomorrow has begun; pydantic alone would take numbers and times for dates.
    """
    if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise ValueError("must be a date such as 2020-07-29")
    born = datetime.date.fromisoformat(value)
    if born > datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=1):
        raise fsa.ErrorResponse("who.born must not be in the future", 400)
    return born


@dataclass(config=ConfigDict(extra="forbid"))
class Someone:
    """A person with a name of 1 to 200 characters and a date of birth."""

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["Susie"])]
    born: Annotated[datetime.date, BeforeValidator(_birthday), Field(examples=["2020-07-29"])]
