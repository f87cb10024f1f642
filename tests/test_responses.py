"""Responses: JSON whatever happens, the headers of each, and no HTML of a user's text."""

import datetime
import json

import FlaskSimpleAuth as fsa
import pytest

import values
from store import base
from test import app
from tests.conftest import LIVE, new_name
from web import errors


def test_405_lists_the_allowed_methods(target):
    """405 says what is allowed (RFC 9110)."""
    allowed = target.send("PUT", "/stuff").headers["Allow"].split(", ")
    assert sorted(allowed) == ["GET", "HEAD", "OPTIONS", "POST"]


def test_options_and_head_are_validated_and_served(target):
    """Responses of Flask itself pass request validation as well."""
    res = target.send("OPTIONS", "/stuff")
    assert (res.status, res.body) == (200, b"")
    assert "PATCH" in target.send("OPTIONS", "/stuff/x").headers["Allow"]
    assert target.send("HEAD", "/hello").status == 200


@pytest.mark.parametrize(
    ("method", "path", "value", "status"),
    [
        ("GET", "/hello", {}, 200),
        ("GET", "/hello-me", {}, 200),
        ("GET", "/stuff", {}, 200),
        ("POST", "/stuff", {"stuff": "</script><b>", "price": 1}, 400),
        ("GET", "/days", {"who": {"name": "<b>", "born": "2000-01-01"}}, 200),
        ("GET", "/primes", {"li": [2, 4]}, 200),
        ("GET", "/len", {"p": "<b>"}, 200),
    ],
)
def test_every_response_of_the_api_is_json(target, method, path, value, status):
    """Never `text/html`, also with HTML in the user's text."""
    res = target.send_json(method, path, value, who="susie")
    assert res.status == status
    assert res.headers["Content-Type"] == "application/json"
    assert res.headers["Application"] == "Acme"
    assert res.headers["X-Content-Type-Options"] == "nosniff"
    assert res.headers["Cache-Control"] == "no-store"
    json.loads(res.body)


@pytest.mark.parametrize("target", LIVE, indirect=True)
def test_headers_tell_no_version(target):
    """In production no header tells a version, or what FlaskSimpleAuth did."""
    for path, status in ("/hello", 200), ("/stuff", 401), ("/", 200), ("/none", 404):
        res = target.send("GET", path)
        assert res.status == status
        assert not [name for name in res.headers if name.lower().startswith("fsa-")]
        assert res.headers["Server"] == "granian"


def test_text_of_a_route_is_not_html():
    """A fork whose route returns a text does not serve it as HTML."""
    with app.test_request_context():
        assert app.make_response("<script>").content_type == "text/plain"


@pytest.mark.parametrize(
    ("body", "shown"), [({"error": "no tea"}, "no tea"), ({"x": 1}, '{"x":1}')]
)
def test_error_of_a_fork_has_the_common_shape(body, shown):
    """An error that a route makes by itself has the same shape as all others."""
    with app.test_request_context():
        response = app.make_response((body, 418))
        assert errors.finish_error(response).json["error"].strip() == shown


def test_errors_do_not_repeat_long_input(target):
    """An error does not repeat a request of any length."""
    for value in {f"x{n}": 1 for n in range(50_000)}, {"who": ["x" * 100_000]}:
        res = target.send_json("POST", "/days", value)
        assert res.status == 400
        assert len(res.error) <= 501


def test_any_path_fits_the_headers_of_dev_mode(monkeypatch):
    """In `dev` mode a header has the path, which only a real server would refuse."""
    monkeypatch.setattr(app._fsa, "_mode", 2)
    with app.test_client() as client:
        for path in "/é", "/🍺", "/a\r\nb", "/%FF", "/%00":
            res = client.get(path)
            assert res.status_code == 404
            assert all(str(v).isascii() for v in res.headers.values())


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_response_has_its_length_and_head_no_body(target, method):
    """HEAD has the length of GET without its body; 204 has neither."""
    res = target.send(method, "/hello")
    body = (
        json.dumps({"msg": "hello", "version": fsa.__version__}, separators=",:").encode() + b"\n"
    )
    assert (res.status, res.headers["Content-Length"]) == (200, str(len(body)))
    assert res.body == (body if method == "GET" else b"")
    name = new_name()
    assert target.send_json("POST", "/stuff", {"stuff": name, "price": 1}, "susie").status == 201
    res = target.send("DELETE", f"/stuff/{name}", who="susie")
    assert (res.status, res.body, res.headers.get("Content-Length")) == (204, b"", None)


def test_ensure_sync_refuses_coroutines_each_time():
    """The result for other functions is cached."""

    async def route() -> None:
        pass

    assert app.ensure_sync(len) is len
    for _ in range(2):
        with pytest.raises(RuntimeError, match="async"):
            app.ensure_sync(route)


@pytest.mark.parametrize(
    "value",
    [
        {"b": 1, "a": [("x", 1.5), None, True]},
        [values.Price(6.5), 1e22, 5e-324, 2**63, 10**300, -1],
        {"é": '€ \x7f \u2028 " \\ \0', "": ""},
        ["\ud800"],
        {1: 2},
        base.Profile("susie", "susie@acme.org", True, True, False),
        datetime.date(2020, 7, 29),
        datetime.datetime(2020, 7, 29, 1, 2, 3),
        values.Login("susie"),
    ],
)
def test_json_agrees_with_that_of_flask(value):
    """JSON by orjson has the same members, in the same order, as by Flask."""
    with app.test_request_context():
        text = app.json.response(value).get_data(as_text=True)
    expected = json.loads(app.json.dumps(value))
    assert json.loads(text) == expected
    assert text.endswith("\n")
    assert not isinstance(expected, dict) or list(json.loads(text)) == list(expected)
