"""What flask_internals.py takes from Flask is what Flask's public names give."""

import flask
import pytest

from flask_internals import current_request, has_request
from test import app


def test_current_request_is_that_of_flask():
    assert not has_request()
    with pytest.raises(LookupError):
        current_request()
    with app.test_request_context("/hello") as outer:
        assert has_request() and flask.has_request_context()
        assert current_request() is outer.request
        with app.test_request_context("/len"):
            assert current_request() == flask.request
            assert current_request().path == "/len"
        assert current_request() is outer.request
