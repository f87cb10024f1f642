"""New routes of a fork: names of credentials, paths, uploads, defaults and the description."""

import dataclasses
from typing import Annotated

import jsonschema_rs
import openapi_spec_validator
import pydantic
import pytest

import values
from tests.fork import FORM, JSON, MULTIPART, forked, make_route, send
from tests.fork_types import TYPES


@pytest.fixture(scope="module")
def fork():
    with forked() as client:
        yield client


def test_query_parameter_beside_json_is_text(fork):
    """Also if the body is JSON."""
    for query, status in ("size=7", 200), ("size=x", 400):
        res = send(fork, "POST", "/rest", JSON, '{"name":"a"}', query)
        assert res.status_code == status
        assert status == 400 or res.json == ["a", 7, {}]


def test_credential_name_in_a_query_needs_a_declaration(fork):
    """A GET route may declare a name of a credential; in other queries it is 400."""
    assert send(fork, "GET", "/country", query="code=fr&username=susie").json == ["fr", "susie"]
    for method, path, query in [
        ("GET", "/country", "code=fr&password=x"),
        ("GET", "/text", "text=x&username=x"),
        ("GET", "/text", "text=x&code=x"),
        ("POST", "/country", "code=fr"),  # where there is a body for it
        ("GET", "/vault", "pin=123456"),  # a type that is secret, whatever its name
        ("GET", "/vault", "password=x"),
        ("GET", "/none", "password=x"),
    ]:
        res = send(fork, method, path, query=query)
        assert res.status_code == 400, (path, query)
        assert "URL" in res.json["error"]
    assert send(fork, "POST", "/country", JSON, '{"code":"fr"}').status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "value"),
    [
        ("/thing/7", 200, 7),
        ("/thing/" + "9" * 18, 200, 10**18 - 1),
        ("/thing/" + "9" * 19, 404, None),
        ("/thing/" + "9" * 5000, 404, None),
        ("/thing/-1", 404, None),
        ("/thing/x", 404, None),
        ("/thing/٣", 404, None),
        ("/weight/1.5", 200, 1.5),
        ("/weight/nan", 404, None),
        ("/weight/" + "9" * 400 + ".0", 404, None),
        ("/pack/5/red", 200, [5, "red"]),
        ("/pack/0/red", 400, None),
        ("/pack/x/red", 400, None),
        ("/pack/5/RED", 400, None),
    ],
)
def test_wrong_path_parameter_is_404_or_400(fork, path, status, value):
    """404 from the converter, 400 from the rule of the type."""
    res = send(fork, "GET", path)
    assert res.status_code == status
    assert status != 200 or res.json in (value, [value])


def test_upload_reaches_the_route(fork):
    """Unchanged, beside a list and a text; other values are refused."""
    part = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    file = part.format("file", '; filename="f.txt"', "\r\n--y\r\n")
    names = part.format("names", "", "a") + part.format("names", "", "b")
    res = send(fork, "POST", "/file", MULTIPART, file + names + "--x--\r\n")
    assert res.json == ["\r\n--y\r\n", "f.txt", ["a", "b"], ""]
    for body in names, names + part.format("file", "", "x"), file + file + names, file:
        assert send(fork, "POST", "/file", MULTIPART, body + "--x--\r\n").status_code == 400
    res = send(fork, "POST", "/file", JSON, '{"file":"x","names":["a"]}')
    assert res.status_code == 400


def test_keyword_parameters_and_defaults_work(fork):
    """`**others` gets the other parameters; a default may give the type."""
    res = send(fork, "POST", "/rest", JSON, '{"name":"a","x":[1],"size":6}')
    assert res.json == ["a", 6, {"x": [1]}]
    assert send(fork, "POST", "/rest", FORM, "name=a&x=1&x=2").status_code == 400
    assert send(fork, "GET", "/inferred", query="name=a&size=7").json == ["a", 7]
    assert send(fork, "GET", "/inferred", query="name=a&size=x").status_code == 400


@pytest.mark.parametrize(
    "hint",
    [
        dict[str, values.Price],
        values.Price | int,
        Annotated[values.Price, pydantic.Field(le=5)],
        5,
        dataclasses.make_dataclass("Wrong", [("prices", dict[str, values.Price])]),
    ],
)
def test_types_that_cannot_be_checked_are_refused_at_the_start(fork, hint):
    """The author of the route gets the error, not a user."""
    app = fork.application
    with pytest.raises(TypeError, match=r"parameter|constraints"):
        app.add_url_rule("/wrong", "wrong", make_route("wrong", hint), authz="OPEN")


def test_description_accepts_what_the_types_accept(fork):
    """OpenAPI: what a type takes is valid in its schema, in a form or as JSON."""
    document = send(fork, "GET", "/openapi.json").json
    assert "error" not in document
    openapi_spec_validator.validate(document)
    components = {"components": document["components"]}
    for name, (_, good, texts, bad, _) in TYPES.items():
        content = document["paths"][f"/{name}"]["post"]["requestBody"]["content"]
        schema = content[JSON]["schema"]["properties"][name]
        for value, _ in good:
            assert jsonschema_rs.is_valid(schema | components, value), (name, value, schema)
        if name not in ("any", "odd", "called"):
            wrong = [jsonschema_rs.is_valid(schema | components, value) for value in bad]
            assert not all(wrong), (name, schema)
        places = document["paths"][f"/{name}"]["get"].get("parameters", [])
        for place in places:
            assert ("content" in place) == (name in content[FORM]["encoding"]), name
            if any(text.startswith(f"{name}=") for text, _ in texts):
                assert place["schema"]["type"] == "array"
        assert places or name in ("odd", "called")
