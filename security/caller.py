"""The caller: the results of authentication that later steps of the same request need."""

import dataclasses

import FlaskSimpleAuth as fsa

from flask_internals import current_request
from store.base import Credentials


@dataclasses.dataclass(slots=True)
class Caller:
    """The authenticated user, and how; empty until authentication has succeeded or failed."""

    login: str = ""
    credentials: Credentials | None = None  # as the store had them when the password was checked
    session: str = ""  # the id of the token's session
    key: str = ""  # the id of the API key
    refusal: fsa.ErrorResponse | None = None  # of invalid credentials; later schemes raise it again
    challenge: str | None = None  # WWW-Authenticate, if the 401 has one of its own

    def checked(self, login: str) -> Credentials | None:
        """The credentials, if they are those of a certain user."""
        return self.credentials if login == self.login else None


def caller() -> Caller:
    """The caller of the request at hand."""
    environ = current_request().environ
    found: Caller | None = environ.get("acme.caller")
    if found is None:
        found = environ["acme.caller"] = Caller()
    return found
