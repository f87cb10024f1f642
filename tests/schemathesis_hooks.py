"""Schemathesis for Acme: formats of values, and corrections of its requests."""

import datetime
import functools
import json

import FlaskSimpleAuth as fsa
import schemathesis
from hypothesis import strategies as st
from schemathesis.specs.openapi.adapter import responses

import values


def is_name(text):
    """Whether a text is the name of some stuff."""
    try:
        return bool(values.Name(text))
    except fsa.ErrorResponse:
        return False


# values that are right, where a schema alone does not say all
DIGITS_AND_LETTERS = st.characters(codec="ascii", categories=["Lu", "Ll", "Nd"])
schemathesis.openapi.format("password", st.text(DIGITS_AND_LETTERS, max_size=9).map("Aa0".__add__))
schemathesis.openapi.format("email", st.from_regex(r"[a-z]{1,9}@[a-z]{1,9}\.org", fullmatch=True))
schemathesis.openapi.format(
    "printable",
    st.text(min_size=1, max_size=values.Name.MAX_LENGTH).filter(is_name),
)
schemathesis.openapi.format(
    "date", st.dates(max_value=datetime.date(2026, 1, 1)).map(datetime.date.isoformat)
)

# of two items by their place it makes an invalid schema, in responses
responses.to_json_schema = functools.partial(responses.to_json_schema, convert_prefix_items=False)

FORM = "application/x-www-form-urlencoded"


@schemathesis.hook
def filter_case(context, case):
    """Leave out what means another thing once it is sent, or is right in JSON Schema alone.

    That takes 4.0 for an integer, and Acme does not.
    """
    body = case.body if isinstance(case.body, dict) else {}
    if not isinstance(body.get("li", []), list):
        return case.media_type != FORM  # where it would be a list of one thing
    return not any(map(_is_whole_float, _integers(case.operation.definition.raw, body)))


def _integers(operation, body):
    """The values in a body that must be integers, alone or in a list."""
    content = operation.get("requestBody", {}).get("content", {})
    properties = next(iter(content.values()), {}).get("schema", {}).get("properties", {})
    for name, value in body.items():
        # of a type, or of that or null
        for declared in (properties.get(name, {}), *properties.get(name, {}).get("anyOf", [])):
            if "integer" in declared.get("type", ""):
                yield value
            elif "integer" in declared.get("items", {}).get("type", ""):
                yield from value if isinstance(value, list) else []


def _is_whole_float(value):
    return isinstance(value, float) and value.is_integer()


@schemathesis.hook
def map_case(context, case):
    """Write JSON values in a form as JSON, as `encoding` says."""
    if case.media_type == FORM and isinstance(case.body, dict):
        values = {key: json.dumps(case.body[key]) for key in ("p", "who") if key in case.body}
        case.body = case.body | values
    return case
