"""The types of TypeScript for an OpenAPI document, as Acme makes it."""

import json

SENT, RECEIVED = "number | bigint", "number"  # integers: JavaScript sends large ones as bigint


def operations(document):
    """A type with a member for each operation: what it takes, and what it gives."""
    schemas = document["components"]["schemas"]
    lines = (
        f'"{method.upper()} {path}": '
        f"{{ takes: {_taken(found, schemas)}, gives: {_given(found, schemas)} }}"
        for path, methods in document["paths"].items()
        for method, found in methods.items()
    )
    return "type Operations = {\n" + "\n".join(lines) + "\n}\n"


def _taken(operation, schemas):
    """The parameters in the path, the query and the body."""
    members = [
        # as JSON in a text, in a query
        (p["name"], p["required"], _kind(p["schema"], SENT, schemas) if "schema" in p else "any")
        for p in operation.get("parameters", ())
        if p["in"] != "header"
    ]
    content = operation.get("requestBody", {"content": {}})["content"]
    if body := content.get("application/json"):
        members += _properties(body["schema"], SENT, schemas)
    return _object(members)


def _given(operation, schemas):
    """The body of a success."""
    bodies = [found for code, found in operation["responses"].items() if code.startswith("2")]
    contents = [found.get("content", {}).get("application/json") for found in bodies]
    kinds = [_kind(c["schema"], RECEIVED, schemas) if c else "void" for c in contents]
    return " | ".join(kinds)


def _kind(schema, integer, schemas):
    """The type of a JSON Schema."""
    if "$ref" in schema:
        return _kind(schemas[schema["$ref"].rpartition("/")[2]], integer, schemas)
    if "anyOf" in schema:
        return " | ".join(_kind(one, integer, schemas) for one in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(map(json.dumps, schema.get("enum", [schema.get("const")])))
    if "prefixItems" in schema:
        return f"[{', '.join(_kind(one, integer, schemas) for one in schema['prefixItems'])}]"
    if schema.get("type") == "array":
        return f"({_kind(schema['items'], integer, schemas)})[]"
    if "properties" in schema:
        return _object(_properties(schema, integer, schemas))
    kind = schema.get("type", "unknown")
    return integer if kind == "integer" else kind


def _properties(schema, integer, schemas):
    required = schema.get("required", ())
    for name, value in schema["properties"].items():
        yield name, name in required, _kind(value, integer, schemas)


def _object(members):
    parts = (f"{json.dumps(name)}{'' if must else '?'}: {kind}" for name, must, kind in members)
    return f"{{ {', '.join(parts)} }}"
