"""The caller: what authentication has found out about the request at hand, for later steps."""

import dataclasses

import flask
import FlaskSimpleAuth as fsa

from store.base import Credentials


@dataclasses.dataclass
class Caller:
    """What is known of who sends a request; empty where nothing has been checked."""

    login: str = ""
    credentials: Credentials | None = None  # that the password, or the first step, was checked with
    session: str = ""  # the id of the session that the token names
    refusal: fsa.ErrorResponse | None = None  # of wrong credentials, which others do not make good
    challenge: str | None = None  # WWW-Authenticate of the refusal, where it is a certain one

    def checked(self, login: str) -> Credentials | None:
        """The credentials that have been checked for a user, None if they are another user's."""
        return self.credentials if login == self.login else None


def caller() -> Caller:
    """The caller of the request at hand."""
    environ = flask.request.environ
    found: Caller | None = environ.get("acme.caller")
    if found is None:
        found = environ["acme.caller"] = Caller()
    return found
