"""Responses: JSON whatever happens, the headers of each, and no HTML of a user's text."""

import datetime
import json
import logging

import flask
import FlaskSimpleAuth as fsa
import pytest
import werkzeug

import values
from monitoring.request_id import request_id
from store import base
from test import app
from tests.conftest import LIVE, new_name
from web import errors, responses, slow_clients
from web.responses import Response


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
        base.Profile("susie", "susie@acme.org", True, True, False, 0),
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


def test_json_is_written_by_orjson():
    """As UTF-8, which Flask escapes; dates and prices do not need Flask's either."""
    value = {"é": [values.Price(6.5), datetime.date(2020, 7, 29)]}
    with app.test_request_context():
        expected = '{"é":[6.5,"2020-07-29"]}\n'
        assert app.json.response(value).get_data(as_text=True) == expected


def test_json_of_several_values_and_of_names_is_that_of_flask():
    """`jsonify` takes them too."""
    with app.test_request_context():
        for args, kwargs, expected in [
            ((1, 2), {}, [1, 2]),
            ((), {"a": 1}, {"a": 1}),
            ((), {}, None),
        ]:
            response = app.json.response(*args, **kwargs)
            assert (response.json, response.content_type) == (expected, "application/json")
        assert type(app.json.response(1)) is app.response_class


# --- what is written


def written(response, method="GET", **environ):
    """The body, the status and the headers that a server gets, without the id of the request."""
    environ = flask.testing.EnvironBuilder(app=app, method=method).get_environ() | environ
    body, status, headers = response.get_wsgi_response(environ)
    assert [value for name, value in headers if name == "X-Request-ID"] == [request_id(environ)]
    return body, status, [header for header in headers if header[0] != "X-Request-ID"]


NO_STORE = ("Cache-Control", "no-store")
COMMON = [NO_STORE, ("Referrer-Policy", "no-referrer"), ("X-Content-Type-Options", "nosniff")]
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
OF_PAGES = [("Content-Security-Policy", CSP), ("X-Frame-Options", "DENY")]
LENGTH = ("Content-Length", "1")


@pytest.mark.parametrize("status", [200, 201, 400])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("application/json", COMMON),
        ("text/plain", COMMON),
        ("text/html", COMMON + OF_PAGES),
        ("text/html; charset=utf-8", COMMON + OF_PAGES),
    ],
)
def test_security_headers_of_each_response(status, kind, expected):
    """Each once; those against scripts and frames where a browser shows a page."""
    response = Response("x", status, content_type=kind)
    _, line, headers = written(response)
    assert line.startswith(f"{status} ")
    assert headers == [("Content-Type", kind), LENGTH, *expected]


def test_response_without_a_type_gets_the_common_headers():
    response = Response("x")
    del response.headers["Content-Type"]
    assert written(response)[2] == [LENGTH, *COMMON]


@pytest.mark.parametrize("name", ["Cache-Control", "cache-control"])
def test_header_that_a_route_sets_is_kept(name):
    response = Response("x", headers={name: "max-age=60"}, content_type="text/html")
    headers = written(response)[2]
    found = [header for header in headers if header[0].lower() == "cache-control"]
    assert found == [(name, "max-age=60")]
    assert headers[-4:] == COMMON[1:] + OF_PAGES


# scheme, Host, whether browsers are told to use TLS
@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [
        ("https", "acme.org", True),
        ("https", "acme.org:8443", True),
        ("https", "localhost:8443", False),
        ("http", "acme.org", False),
    ],
)
def test_strict_transport_security_lasts_a_year(scheme, host, expected):
    headers = written(Response("x"), **{"wsgi.url_scheme": scheme, "HTTP_HOST": host})[2]
    found = [value for name, value in headers if name == "Strict-Transport-Security"]
    assert found == ["max-age=31536000"] * expected


def test_strict_transport_security_is_for_http_1_0_without_host_too():
    environ = flask.testing.EnvironBuilder(app=app, base_url="https://acme.org").get_environ()
    del environ["HTTP_HOST"]
    headers = Response("x").get_wsgi_response(environ)[2]
    assert ("Strict-Transport-Security", "max-age=31536000") in headers


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize("status", [201, 302])
def test_address_in_a_header_is_quoted(name, status):
    response = Response("x", status, headers={name: "/stuff/é x"})
    response.autocorrect_location_header = False
    assert (name, "/stuff/%C3%A9%20x") in written(response)[2]


@pytest.mark.parametrize("status", [200, 201])
def test_headers_of_a_complete_response_are_not_computed_again(monkeypatch, status):
    """Werkzeug's computation takes a tenth of a request."""
    monkeypatch.delattr(werkzeug.Response, "get_wsgi_headers")
    response = Response("x", status, headers={"Location": "/stuff/x"})
    assert ("Location", "/stuff/x") in written(response)[2]


def test_length_is_added_where_it_is_missing():
    response = Response(["x", "yz"])
    assert "Content-Length" not in response.headers
    assert ("Content-Length", "3") in written(response)[2]


@pytest.mark.parametrize("status", [204, 304])
def test_response_without_a_body_has_no_length(status):
    body, _, headers = written(Response("x", status))
    assert (list(body), "Content-Length" in dict(headers)) == ([], False)


# method, status, what is sent
@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("GET", 200, [b"x", b"yz"]),
        ("POST", 201, [b"x", b"yz"]),
        ("GET", 404, [b"x", b"yz"]),
        ("GET", 205, [b"x", b"yz"]),
        ("HEAD", 200, []),
        ("GET", 204, []),
        ("GET", 304, []),
    ],
)
def test_complete_body_is_a_list_and_closed_at_once(method, status, expected):
    """A server sends a list at once, and nothing is left to close."""
    closed = []
    response = Response(["x", "yz"], status)
    response.call_on_close(lambda: closed.append(True))
    body = written(response, method)[0]
    assert (body, type(body), closed) == (expected, list, [True])


@pytest.mark.parametrize("passed_through", [False, True])
def test_body_in_parts_is_closed_by_the_server(passed_through):
    """Parts are not read ahead, whether they come from an iterator or a file wrapper."""
    closed = []
    parts = [b"x", b"yz"]
    response = Response(parts if passed_through else iter(parts), direct_passthrough=passed_through)
    response.call_on_close(lambda: closed.append(True))
    body = written(response)[0]
    assert closed == []
    assert list(body) == parts
    if not passed_through:
        body.close()
        assert closed == [True]


def test_closing_connections_adds_a_header_to_each_response(monkeypatch):
    for name in "HEADERS", "HTML_HEADERS":
        monkeypatch.setattr(responses, name, list(getattr(responses, name)))
    assert "Connection" not in dict(written(Response("x"))[2])
    responses.close_connections()
    for kind in "application/json", "text/html":
        headers = written(Response("x", content_type=kind))[2]
        assert headers[-1] == ("Connection", "close")
        assert headers.count(("Connection", "close")) == 1


# --- what is logged


def test_access_log_of_werkzeug_hides_queries():
    """And nothing else; other arguments stay as they are."""
    logger = logging.getLogger("werkzeug")
    for args, expected in [
        (("GET /a?code=1 HTTP/1.1", 200, "-"), ("GET /a?… HTTP/1.1", 200, "-")),
        (("GET /a?b?c HTTP/1.1 x?y", None), ("GET /a?… HTTP/1.1 x?…", None)),
        ((), ()),
    ]:
        record = logger.makeRecord("werkzeug", logging.INFO, "", 0, "%s", args, None)
        assert logger.filter(record)
        assert record.args == expected
    record = logger.makeRecord("werkzeug", logging.INFO, "", 0, "%(a)s", ({"a": "?b"},), None)
    assert logger.filter(record)
    assert record.args == {"a": "?b"}


def test_init_app_limits_unread_responses_and_filters_the_access_log(monkeypatch):
    logger = logging.getLogger("werkzeug")
    monkeypatch.setattr(logger, "filters", [])
    other = flask.Flask("other")
    responses.init_app(other)
    assert logger.filters == [responses.hide_query]
    assert other.after_request_funcs == {None: [slow_clients.limit_unread]}
