"""What a fork adds is protected as Acme's own: new types of parameters, on the real application.

Nothing but the signatures in `fork.py` says what these routes take. Each gets good and bad values
in every way that parameters come: JSON, urlencoded form, multipart form, query.
"""

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fork import FORM, JSON, MULTIPART, as_multipart, as_query, forked, found, send, text_ways
from tests.fork_types import OPTIONAL, TYPES, Odd
from tests.test_values import ANYTHING


@pytest.fixture(scope="module")
def fork():
    with forked() as client:
        yield client


def rows(place: int) -> list[Any]:
    return [(name, row) for name, columns in TYPES.items() for row in columns[place]]


def check_found(expected: Any) -> None:
    (value,) = found
    value = value.value if isinstance(value, Odd) else value
    assert value == expected
    assert isinstance(value, type(expected) | int | float | list | dict)


@pytest.mark.parametrize(("name", "row"), rows(1))
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_good_json_reaches_the_route(fork, method, name, row):
    """A valid value in JSON arrives as the type."""
    value, expected = row
    res = send(fork, method, f"/{name}", JSON, json.dumps({name: value}))
    assert res.status_code == 204, res.data
    check_found(expected)
    if isinstance(TYPES[name][0], type) and name not in ("any", "odd", "own", "place"):
        assert isinstance(found[0], TYPES[name][0])


@pytest.mark.parametrize(("name", "row"), rows(2))
def test_good_text_reaches_the_route(fork, name, row):
    """A valid text arrives as the type, from a query and from both kinds of forms."""
    text, expected = row
    for res in text_ways(fork, name, text):
        assert res.status_code == 204, res.data
        check_found(expected)


@pytest.mark.parametrize(("name", "value"), rows(3))
def test_bad_json_is_refused(fork, name, value):
    """An invalid value in JSON is 400, with the parameter's name, and never reaches the route."""
    res = send(fork, "POST", f"/{name}", JSON, json.dumps({name: value}))
    assert (res.status_code, found) == (400, []), res.data
    assert name in res.json["error"]
    assert "fork" not in res.json["error"]


@pytest.mark.parametrize(("name", "text"), rows(4))
def test_bad_text_is_refused(fork, name, text):
    """An invalid text is 400, in a query and in both kinds of forms."""
    for res in text_ways(fork, name, text):
        assert (res.status_code, found) == (400, []), res.data
        assert name in res.json["error"] or "is not JSON" in res.json["error"]


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_type_also_takes_null(fork, name):
    """And otherwise what the type takes."""
    path = f"/optional/{name}"
    assert send(fork, "POST", path, JSON, json.dumps({name: None})).status_code == 204
    assert found == [None]
    for value, expected in TYPES[name][1]:
        assert send(fork, "POST", path, JSON, json.dumps({name: value})).status_code == 204
        check_found(expected)
    for value in TYPES[name][3]:
        if value is not None:
            res = send(fork, "POST", path, JSON, json.dumps({name: value}))
            assert (res.status_code, found) == (400, [])
    for text, expected in TYPES[name][2]:
        for res in text_ways(fork, name, text, path):
            assert res.status_code == 204, res.data
            check_found(expected)


@pytest.mark.parametrize("name", TYPES)
def test_duplicate_parameters_are_refused(fork, name):
    """A duplicate parameter is 400, unless it is a list outside JSON."""
    is_list = any(text.startswith(f"{name}=") for text, _ in TYPES[name][2])
    (value, _), *_ = TYPES[name][1]
    (text, _), *_ = TYPES[name][2]
    query, body = as_query(name, text), json.dumps({name: value})
    for method, kind, sent, url in [
        ("GET", None, "", f"{query}&{query}"),
        ("POST", FORM, f"{query}&{query}", ""),
        ("POST", FORM, query, query),
        ("POST", MULTIPART, as_multipart(f"{query}&{query}"), ""),
    ]:
        res = send(fork, method, f"/{name}", kind, sent, url)
        if not is_list:
            assert (res.status_code, found) == (400, [])
            assert f'duplicate parameter "{name}"' in res.json["error"]
        elif name != "tags":
            assert res.status_code == 204
    res = send(fork, "POST", f"/{name}", JSON, body, query)
    assert (res.status_code, found) == (400, [])
    res = send(fork, "POST", f"/{name}", JSON, f"{body[:-1]},{body[1:]}")
    assert (res.status_code, found) == (400, [])
    assert "duplicate" in res.json["error"]


@pytest.mark.parametrize("name", TYPES)
def test_file_is_refused_as_a_value(fork, name):
    """A file in the place of a value is 400."""
    body = as_multipart(f"{name}=5").replace(f'"{name}"', f'"{name}"; filename="f"')
    res = send(fork, "POST", f"/{name}", MULTIPART, body)
    assert (res.status_code, found) == (400, [])
    assert "file" in res.json["error"]


# EXAMPLES=20000 for a long run
@settings(max_examples=int(os.environ.get("EXAMPLES", "300")))
@given(name=st.sampled_from([*TYPES]), value=ANYTHING, text=st.text(max_size=20))
def test_any_value_is_taken_or_400(fork, name, value, text):
    """Also for random values."""
    body = json.dumps({name: value})
    assert send(fork, "POST", f"/{name}", JSON, body).status_code in (204, 400)
    text = text.encode(errors="replace").decode()
    for res in text_ways(fork, name, text):
        assert res.status_code in (204, 400)
