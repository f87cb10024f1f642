"""The JSON parser: what it refuses that Python's accepts, why, and its limits to the number."""

import re

import pytest

from web import strict_json


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 1}', "duplicate member of an object"),
        ('[{"b": {"a": 1, "c": 2, "a": 3}}]', "duplicate member of an object"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("1e999", "a number is too large"),
        ("-1e999", "a number is too large"),
        (r'"\ud800"', "lone surrogate"),
        (r'{"\uDFFF": 1}', "lone surrogate"),
        ("1" * 4301, "an integer has too many digits"),
        ("[" * 101 + "]" * 101, "more than 100 levels"),
        ('{"a":' * 101 + "1" + "}" * 101, "more than 100 levels"),
        ("[" * 50_000 + "]" * 50_000, "more than 100 levels"),
        ("[1,]", "Expecting value: line 1 column 4 (char 3)"),
    ],
)
def test_json_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        strict_json.loads(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "😀"),
        ('"é"', "é"),
        ("-1.5e3", -1500.0),
        ("1" * 4300, int("1" * 4300)),
        ('{"a": {"a": 1}, "b": [{}, {"a": null}]}', {"a": {"a": 1}, "b": [{}, {"a": None}]}),
    ],
)
def test_json_is_read(text, value):
    assert strict_json.loads(text) == value


def test_100_levels_are_accepted():
    """Of arrays and objects, with more brackets elsewhere."""
    text = '[{"a":' * 50 + "1" + "}]" * 50
    value = strict_json.loads(f'[{{}}, {{}}, "[[[", {text[1:-1]}]')
    assert value[:3] == [{}, {}, "[[["]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('[[],[],"[,{"]', 5),
        ('[{},{},{},"[,{"]', 7),
        ('{"a[": 1, "b": 2, "c\\"[": [3, 4]}', 5),
        ('["\\\\", [[]]]', 4),
    ],
)
def test_arrays_objects_and_commas_outside_of_texts_are_limited(monkeypatch, text, count):
    """Brackets and commas within texts do not count."""
    monkeypatch.setattr(strict_json, "MAX_VALUES", count)
    assert strict_json.loads(text)
    monkeypatch.setattr(strict_json, "MAX_VALUES", count - 1)
    with pytest.raises(ValueError, match=f"^more than {count - 1} arrays, objects and values"):
        strict_json.loads(text)
