"""Types of parameters that a fork may add, each with good and bad values."""

import dataclasses
import datetime
import decimal
import enum
import uuid
from typing import Annotated, Any, Literal, NamedTuple, NewType

import FlaskSimpleAuth as fsa
import pydantic
from typing_extensions import TypedDict

import values


class Quantity(int):
    """A rule that would take what `int` takes, but is only called with an integer."""

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
    """A derived class without a rule."""


class Tags(list[str]):
    """A derived list with a rule."""

    def __init__(self, tags):
        if len(tags) > 2:
            raise fsa.ErrorResponse("tags must be two at most", 400)
        super().__init__(tags)


class Options(dict):
    """A derived object."""


class Odd:
    """A class without a base class, which raises any exception."""

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


# type; valid in JSON, with its result; valid as text, with its result; invalid in each
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
