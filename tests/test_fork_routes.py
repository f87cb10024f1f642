"""What a fork adds is protected as Acme's own: new routes with new types, on the real application.

Nothing but the signatures below says what these routes take. Each gets good and bad values in every
way that parameters come: JSON, urlencoded form, multipart form, query.
"""

import dataclasses
import datetime
import decimal
import enum
import importlib.util
import json
import os
import urllib.parse
import uuid
from typing import Annotated, Any, Literal, NamedTuple, NewType

import FlaskSimpleAuth as fsa
import jsonschema_rs
import openapi_spec_validator
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict
from werkzeug.datastructures import FileStorage

import values
from tests.conftest import ROOT, configured
from tests.test_values import ANYTHING

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
MULTIPART = "multipart/form-data; boundary=x"


class Quantity(int):
    """A rule that takes whatever `int` does: it is only called with an integer."""

    def __new__(cls, value):
        if not 1 <= int(value) <= 99:
            raise fsa.ErrorResponse("quantity must be from 1 to 99", 400)
        return super().__new__(cls, value)


ONE = Quantity(1)


class Weight(float):
    """A rule that raises a plain exception."""

    def __new__(cls, value):
        if float(value) < 0:
            raise ValueError("a weight is not negative")
        return super().__new__(cls, value)


class Cents(decimal.Decimal):
    """A class of one's own without a rule."""


class Tags(list[str]):
    """A list of one's own with a rule."""

    def __init__(self, tags):
        if len(tags) > 2:
            raise fsa.ErrorResponse("tags must be two at most", 400)
        super().__init__(tags)


class Options(dict):
    """An object of one's own."""


class Odd:
    """A class that derives from nothing, and raises what it likes."""

    def __init__(self, value):
        self.value = {"a": 1}[value]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


@dataclasses.dataclass
class Point:
    """A plain dataclass, with members that have rules of their own."""

    x: float
    y: float
    count: Quantity = ONE
    next: "Point | None" = None


@pydantic.dataclasses.dataclass
class Person:
    """A dataclass of pydantic's."""

    name: Annotated[str, pydantic.Field(max_length=5)]
    age: int
    mail: str | None = None


class Order(pydantic.BaseModel):
    """A model of pydantic's."""

    lines: list[Person]
    colour: Colour = Colour.RED


class Open(pydantic.BaseModel):
    """A model that takes any other members as well, and says so."""

    model_config = pydantic.ConfigDict(extra="allow")
    name: str


class Place(TypedDict):
    city: str


class Pair(NamedTuple):
    left: int
    right: int


UserId = NewType("UserId", int)
DAY = datetime.date(2020, 7, 29)
HALF_PAST = "2020-07-29T12:30:00"
ID = "00000000-0000-0000-0000-000000000005"

# type, what is right in JSON with what comes of it, what is right as text, what is wrong in each
TYPES: dict[str, tuple[Any, list[tuple[Any, Any]], list[tuple[str, Any]], list[Any], list[str]]] = {
    "integer": (
        int,
        [(5, 5), (-1, -1), (10**300, 10**300)],
        [("5", 5), ("-1", -1), ("007", 7)],
        ["5", 5.0, 1.5, True, None, [5], {"integer": 5}],
        ["", "5.0", "x", "0x10", "1_0", "٣", " 5", "9" * 5000, "true", "null"],
    ),
    "number": (
        float,
        [(5, 5.0), (5.5, 5.5), (-0.5, -0.5)],
        [("5", 5.0), (".5", 0.5), ("1e3", 1000.0)],
        ["5", True, None, [5.0], 10**400],
        ["", "nan", "inf", "-Infinity", "1e999", "1_0.0", "٣", "9" * 400, "1e-9999"],
    ),
    "flag": (
        bool,
        [(True, True), (False, False)],
        [("true", True), ("False", False)],
        [1, 0, "true", None, []],
        ["", "1", "yes", "null"],
    ),
    "text": (
        str,
        [("5", "5"), ("", "")],
        [("null", "null"), ("é", "é")],
        [5, True, None, ["x"]],
        [],
    ),
    "money": (
        decimal.Decimal,
        [(5, decimal.Decimal(5)), (0.1, decimal.Decimal("0.1"))],
        [("0.1", decimal.Decimal("0.1"))],
        ["5", True, None, [1]],
        ["nan", "1e999999999", "x", ""],
    ),
    "cents": (Cents, [(5, Cents(5))], [("5", Cents(5))], ["5", True], ["sNaN", "Infinity"]),
    "quantity": (
        Quantity,
        [(5, 5)],
        [("5", 5)],
        ["5", 5.0, True, 0, 100, None, [5], {}],
        ["0", "5.0", "x", "", "1_0"],
    ),
    "weight": (
        Weight,
        [(5, 5.0), (5.5, 5.5), (0, 0.0)],
        [("5", 5.0), ("1e3", 1000.0)],
        ["5", True, -1, None, [5]],
        ["nan", "inf", "-1", "x", ""],
    ),
    "ids": (
        list[int],
        [([1, 2], [1, 2]), ([], [])],
        [("ids=1&ids=2", [1, 2]), ("ids=7", [7])],
        [["1"], [1.0], [True], [None], 1, "1", {"1": 1}, [[1]], None],
        ["ids=x", "ids=1&ids=x", "ids=", "ids=1,2", "ids=[1]"],
    ),
    "amounts": (
        list[Quantity],
        [([1, 2], [1, 2])],
        [("amounts=1&amounts=2", [1, 2])],
        [[0], ["1"], [True]],
        ["amounts=0"],
    ),
    "tags": (
        Tags,
        [(["a", "b"], ["a", "b"])],
        [("tags=a&tags=b", ["a", "b"])],
        [["a", "b", "c"], [1], "a", {"a": 1}],
        ["tags=a&tags=b&tags=c"],
    ),
    "unique": (
        set[int],
        [([1, 1, 2], {1, 2})],
        [("unique=1&unique=1", {1})],
        [["1"], 1, None],
        ["unique=x"],
    ),
    "matrix": (
        list[list[int]],
        [([[1], []], [[1], []])],
        [("matrix=[1,2]&matrix=[]", [[1, 2], []])],
        [[1], [["1"]], "x"],
        ["matrix=1", "matrix=[1", 'matrix=["1"]', "matrix=NaN"],
    ),
    "any": (
        fsa.JsonData,
        [({"a": [1]}, {"a": [1]}), (None, None), ("x", "x")],
        [('{"a":1}', {"a": 1}), ("null", None), ('"x"', "x")],
        [],
        ["", "x", "NaN", "[1e999]", '{"a":1,"a":2}', "[" * 101 + "]" * 101, r'"\ud800"'],
    ),
    "point": (
        Point,
        [
            ({"x": 1, "y": 2.5}, Point(1.0, 2.5)),
            ({"x": 1, "y": 2, "next": {"x": 3, "y": 4}}, Point(1, 2, next=Point(3, 4))),
        ],
        [('{"x":1,"y":2,"count":3}', Point(1, 2, 3))],
        [
            *({}, {"x": 1}, {"x": "1", "y": 2}, {"x": True, "y": 2}, {"x": 1, "y": 2, "z": 3}),
            *({"x": 1, "y": 2, "count": 0}, {"x": 1, "y": 2, "count": "3"}, [1, 2], 5, "x", None),
            *(
                {"x": 1, "y": 2, "next": {"x": 1}},
                {"x": 1, "y": 2, "self": 3},
                {"x": 10**400, "y": 1},
            ),
        ],
        ["x", '{"x":1,"x":1,"y":2}', '{"x":NaN,"y":1}', "[1,2]", ""],
    ),
    "person": (
        Person,
        [({"name": "Susie", "age": 5}, Person("Susie", 5))],
        [('{"name":"Susie","age":5,"mail":null}', Person("Susie", 5))],
        [
            *({}, {"name": "Susie"}, {"name": "Susanne", "age": 5}, {"name": "Susie", "age": "5"}),
            *({"name": "Susie", "age": True}, {"name": "Susie", "age": 5, "x": 1}, ["Susie", 5]),
            *({"name": "Susie", "age": 2**70}, {f"x{n}": 1 for n in range(999)}, 5, "x", None),
        ],
        ["x", '{"name":"Susie","age":5,"age":6}', "[]"],
    ),
    "order": (
        Order,
        [({"lines": [{"name": "Susie", "age": 5}]}, Order(lines=[Person("Susie", 5)]))],
        [('{"lines":[],"colour":"blue"}', Order(lines=[], colour=Colour.BLUE))],
        [
            *({}, {"lines": [{}]}, {"lines": [{}] * 2000}, {"lines": [], "colour": "x"}),
            *({"lines": [], "more": 1}, {"lines": [{"name": "a", "age": 1, "b": 2}]}, [], 1),
        ],
        ["{}", "x"],
    ),
    "opened": (
        Open,
        [({"name": "a", "more": 1}, Open(name="a", more=1))],
        [('{"name":"a"}', Open(name="a"))],
        [{}, {"name": 1}],
        ["{}"],
    ),
    "place": (
        Place,
        [({"city": "Nice"}, {"city": "Nice"})],
        [('{"city":"Nice"}', {"city": "Nice"})],
        [{}, {"city": 1}, {"city": "Nice", "x": 1}],
        ["Nice"],
    ),
    "pair": (Pair, [([1, 2], Pair(1, 2))], [("[1,2]", Pair(1, 2))], [[1], ["1", 2], 1], ["1", "x"]),
    "options": (
        Options,
        [({"a": 1}, {"a": 1})],
        [('{"a":1}', {"a": 1})],
        [[], [["a", 1]], 1, "a", None],
        ["a", "[]"],
    ),
    "counts": (
        dict[str, int],
        [({"a": 1}, {"a": 1})],
        [('{"a":1}', {"a": 1})],
        [{"a": "1"}, {"a": True}, [], 1],
        ["x", '{"a":1.5}'],
    ),
    "both": (
        int | str,
        [(5, 5), ("5", "5")],
        [("5", 5), ('"5"', "5")],
        [1.5, None, []],
        ["x", "1.5"],
    ),
    "day": (
        datetime.date,
        [("2020-07-29", DAY)],
        [("2020-07-29", DAY)],
        ["20200729", "2020-W31-3", "6739200", 6739200, "2020-02-30", HALF_PAST, None, True, ["x"]],
        ["", "5", "2020-7-29", "today"],
    ),
    "moment": (
        datetime.datetime,
        [(HALF_PAST, datetime.datetime.fromisoformat(HALF_PAST))],
        [(HALF_PAST + "Z", datetime.datetime.fromisoformat(HALF_PAST + "+00:00"))],
        ["2020-07-29", "5", 5, None, "2020-07-29T25:00:00", HALF_PAST + "+99:99", []],
        ["", "now"],
    ),
    "hour": (
        datetime.time,
        [("12:30", datetime.time(12, 30))],
        [("12:30:00", datetime.time(12, 30))],
        ["25:00", 5, None, "12"],
        ["", "noon"],
    ),
    "key": (
        uuid.UUID,
        [(ID, uuid.UUID(ID))],
        [(ID, uuid.UUID(ID))],
        ["x", 5, None, f"{{{ID}}}", ID.replace("-", "")],
        ["", "x"],
    ),
    "colour": (
        Colour,
        [("red", Colour.RED)],
        [("blue", Colour.BLUE)],
        ["RED", "", 1, None, []],
        ["x"],
    ),
    "size": (
        Size,
        [(1, Size.SMALL)],
        [("2", Size.LARGE)],
        [True, "1", 1.0, 3, None, {}],
        ["x", "3", "1.0"],
    ),
    "word": (Literal["a", "b"], [("a", "a")], [("b", "b")], ["c", 1, None, ["a"]], ["c", ""]),
    "digit": (Literal[1, 2], [(1, 1)], [("2", 2)], [True, "1", 1.0, 3, None], ["3", "x"]),
    "bounded": (
        Annotated[int, pydantic.Field(ge=1, le=9)],
        [(5, 5)],
        [("5", 5)],
        [0, 10, "5", True, 5.0, None],
        ["0", "10", "x"],
    ),
    "uid": (UserId, [(5, 5)], [("5", 5)], ["5", True, 5.0], ["x"]),
    "own": (values.Price, [(5, 5.0)], [("5", 5.0)], ["5", -1, True], ["nan"]),
    "odd": (Odd, [("a", 1)], [("a", 1)], ["b", 5, None, ["a"], {"a": 1}], ["b", ""]),
    "called": (len, [("abc", 3), ([1], 1)], [("abc", 3)], [5, None], []),
}
OPTIONAL = ["integer", "number", "flag", "quantity", "ids", "point", "person", "day", "key"]
OPTIONAL += ["colour", "word", "bounded", "odd", "any"]
found: list[Any] = []


def make_route(name: str, hint: Any) -> Any:
    """A route's function with one parameter."""
    # as if it were written out: FlaskSimpleAuth looks at the code of a function
    namespace: dict[str, Any] = {"hint": hint, "found": found}
    exec(f"def route(_{name}: hint):\n    found.append(_{name})\n    return '', 204", namespace)
    namespace["route"].__name__ = f"route_{name}"
    return namespace["route"]


@pytest.fixture(scope="module")
def fork():
    """A client of the application as app.py makes it, with more routes."""
    spec = importlib.util.spec_from_file_location("fork", ROOT / "app.py")
    module = importlib.util.module_from_spec(spec)
    with configured("memory:"):
        spec.loader.exec_module(module)
        app = module.app
        methods = ["GET", "POST"]
        for name, (hint, *_) in TYPES.items():
            function = make_route(name, hint)
            app.add_url_rule(f"/{name}", name, function, authz="OPEN", methods=methods)
        for name in OPTIONAL:
            function = make_route(name, TYPES[name][0] | None)
            path = f"/optional/{name}"
            function.__name__ += "_optional"
            app.add_url_rule(path, f"optional {name}", function, authz="OPEN", methods=methods)
        add_routes(app)
        yield app.test_client()


def add_routes(app: Any) -> None:
    """Routes with more than a parameter, or with odd ones."""

    @app.get("/country", authz="OPEN")
    def get_country(code: str, username: str = "") -> tuple[Any, int]:
        return [code, username], 200

    @app.post("/country", authz="OPEN")
    def post_country(code: str) -> tuple[Any, int]:
        return [code], 200

    @app.get("/vault", authz="OPEN")
    def get_vault(pin: values.Code, password: values.Password | None = None) -> tuple[Any, int]:
        return "", 204

    @app.get("/thing/<number>", authz="OPEN")
    def get_thing(number: int) -> tuple[Any, int]:
        return [number], 200

    @app.get("/weight/<weight>", authz="OPEN")
    def get_weight(weight: float) -> tuple[Any, int]:
        return [weight], 200

    @app.get("/pack/<quantity>/<colour>", authz="OPEN")
    def get_pack(quantity: Quantity, colour: Colour) -> tuple[Any, int]:
        return [quantity, colour.value], 200

    @app.post("/file", authz="OPEN")
    def post_file(file: FileStorage, names: list[str], title: str = "") -> tuple[Any, int]:
        return [file.read().decode(), file.filename, names, title], 200

    @app.post("/rest", authz="OPEN")
    def post_rest(name: str, size: int = 5, **others: Any) -> tuple[Any, int]:
        return [name, size, others], 200

    @app.get("/inferred", authz="OPEN")
    def get_inferred(name, size=5) -> tuple[Any, int]:
        return [name, size], 200


def send(fork, method, path, kind=None, body=b"", query=""):
    found.clear()
    body = body.encode() if isinstance(body, str) else body
    return fork.open(path, method=method, data=body, content_type=kind, query_string=query)


def as_query(name: str, text: str) -> str:
    """A query string of a text, or of several where it is one already."""
    if text.startswith(f"{name}="):
        return urllib.parse.quote(text, safe="=&")
    return f"{name}={urllib.parse.quote(text)}"


def as_multipart(query: str) -> str:
    """The same in multipart/form-data."""
    fields = urllib.parse.parse_qsl(query, keep_blank_values=True)
    part = '--x\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
    return "".join(part.format(*field) for field in fields) + "--x--\r\n"


def text_ways(fork, name, text, path=None):
    """The answers to a text in each way that parameters come as text."""
    query, path = as_query(name, text), path or f"/{name}"
    yield send(fork, "GET", path, query=query)
    yield send(fork, "POST", path, query=query)
    yield send(fork, "POST", path, FORM, query)
    yield send(fork, "POST", path, MULTIPART, as_multipart(query))


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
    """What is right in JSON arrives as the type."""
    value, expected = row
    res = send(fork, method, f"/{name}", JSON, json.dumps({name: value}))
    assert res.status_code == 204, res.data
    check_found(expected)
    if isinstance(TYPES[name][0], type) and name not in ("any", "odd", "own", "place"):
        assert isinstance(found[0], TYPES[name][0])


@pytest.mark.parametrize(("name", "row"), rows(2))
def test_good_text_reaches_the_route(fork, name, row):
    """What is right as text arrives as the type, from a query and from both kinds of forms."""
    text, expected = row
    for res in text_ways(fork, name, text):
        assert res.status_code == 204, res.data
        check_found(expected)


@pytest.mark.parametrize(("name", "value"), rows(3))
def test_bad_json_is_refused(fork, name, value):
    """What is wrong in JSON is 400, with the parameter's name, and never reaches the route."""
    res = send(fork, "POST", f"/{name}", JSON, json.dumps({name: value}))
    assert (res.status_code, found) == (400, []), res.data
    assert name in res.json["error"]
    assert "fork" not in res.json["error"]


@pytest.mark.parametrize(("name", "text"), rows(4))
def test_bad_text_is_refused(fork, name, text):
    """What is wrong as text is 400, however it comes."""
    for res in text_ways(fork, name, text):
        assert (res.status_code, found) == (400, []), res.data
        assert name in res.json["error"] or "is not JSON" in res.json["error"]


@pytest.mark.parametrize("name", OPTIONAL)
def test_optional_types(fork, name):
    """An optional type takes null in JSON, and beyond that what the type takes."""
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
def test_duplicates_are_refused(fork, name):
    """A parameter that is there twice is 400, unless it is a list outside JSON."""
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
            assert f'"{name}" is there twice' in res.json["error"]
        elif name != "tags":
            assert res.status_code == 204
    res = send(fork, "POST", f"/{name}", JSON, body, query)
    assert (res.status_code, found) == (400, [])
    res = send(fork, "POST", f"/{name}", JSON, f"{body[:-1]},{body[1:]}")
    assert (res.status_code, found) == (400, [])
    assert "twice" in res.json["error"]


@pytest.mark.parametrize("name", TYPES)
def test_files_are_no_texts(fork, name):
    """A file in the place of a value is 400."""
    body = as_multipart(f"{name}=5").replace(f'"{name}"', f'"{name}"; filename="f"')
    res = send(fork, "POST", f"/{name}", MULTIPART, body)
    assert (res.status_code, found) == (400, [])
    assert "file" in res.json["error"]


def test_text_beside_json(fork):
    """A parameter in the query is text, whatever the body is."""
    for query, status in ("size=7", 200), ("size=x", 400):
        res = send(fork, "POST", "/rest", JSON, '{"name":"a"}', query)
        assert res.status_code == status
        assert status == 400 or res.json == ["a", 7, {}]


def test_names_of_credentials_as_parameters(fork):
    """A name that is a credential elsewhere works where a GET route declares it: others do not."""
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
def test_types_in_paths(fork, path, status, value):
    """What is wrong in a path is 404 or 400."""
    res = send(fork, "GET", path)
    assert res.status_code == status
    assert status != 200 or res.json in (value, [value])


def test_uploads(fork):
    """A file arrives as it is, beside a list and a text; what is no file is refused."""
    part = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    file = part.format("file", '; filename="f.txt"', "\r\n--y\r\n")
    names = part.format("names", "", "a") + part.format("names", "", "b")
    res = send(fork, "POST", "/file", MULTIPART, file + names + "--x--\r\n")
    assert res.json == ["\r\n--y\r\n", "f.txt", ["a", "b"], ""]
    for body in names, names + part.format("file", "", "x"), file + file + names, file:
        assert send(fork, "POST", "/file", MULTIPART, body + "--x--\r\n").status_code == 400
    res = send(fork, "POST", "/file", JSON, '{"file":"x","names":["a"]}')
    assert res.status_code == 400


def test_other_parameters_and_defaults(fork):
    """`**others` gets the rest as it came; a type may follow from a default."""
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
    """Whoever writes such a type hears of it when the application starts, not from an attacker."""
    app = fork.application
    with pytest.raises(TypeError, match=r"parameter|constraints"):
        app.add_url_rule("/wrong", "wrong", make_route("wrong", hint), authz="OPEN")


def test_description(fork):
    """OpenAPI: what a type takes is valid in its schema, and has its place in a form or as JSON."""
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


# EXAMPLES=20000 for a long run
@settings(max_examples=int(os.environ.get("EXAMPLES", "300")))
@given(name=st.sampled_from([*TYPES]), value=ANYTHING, text=st.text(max_size=20))
def test_anything_is_answered(fork, name, value, text):
    """Whatever comes, a type takes it or it is 400."""
    body = json.dumps({name: value})
    assert send(fork, "POST", f"/{name}", JSON, body).status_code in (204, 400)
    text = text.encode(errors="replace").decode()
    for res in text_ways(fork, name, text):
        assert res.status_code in (204, 400)
