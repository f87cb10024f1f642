"""What is private in Flask, and worth it; tests/test_internals.py pins it."""

import flask
from flask.globals import _cv_request


def current_request() -> flask.Request:
    """The request at hand: as `flask.request`, without its proxy; LookupError without a request.

    The proxy takes 5,000 instructions or more at each use, 1 % of a request (`make bench-check`).
    """
    return _cv_request.get().request


def has_request() -> bool:
    """Whether there is a request at hand."""
    return _cv_request.get(None) is not None
