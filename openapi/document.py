"""The OpenAPI 3.1 document, made from the declarations of the routes."""

import dataclasses
import inspect
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated, Any, Literal, get_args, get_origin

import FlaskSimpleAuth as fsa
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

import acme
import values
from openapi.returns import Error, JsonResponse
from openapi.routes import BODIES, Route, kind_of, routes
from security.declarations import WRITES, permission_of
from values import Schema
from web.files import File
from web.kinds import item_of, members
from web.strict_json import MAX_DEPTH

SCHEMAS = "#/components/schemas/"
DESCRIPTION = """\
Users own stuff at a price. Responses are JSON, and every error is `{"error": "what to do"}`.

Authenticate with a bearer token, with HTTP Basic, or with `username` and `password` in the body;
never in a URL. A method that a path does not support gets 405.
"""
ERRORS = {
    400: "A parameter is missing, unknown or wrong: the message says which and why.",
    401: "Credentials are missing or wrong, or the session has ended.",
    403: "Forbidden for this user, from other origins (CSRF), or for plain HTTP from "
    "another machine.",
    404: "Not found.",
    409: "Conflict with existing data: the message says with what. With `Retry-After`: the first "
    "request with this `Idempotency-Key` is in progress.",
    411: "A form in chunked encoding: send its `Content-Length`.",
    412: "`If-Match` does not match: get it again.",
    413: "The body is too large.",
    422: "The `Idempotency-Key` was sent with another request.",
    429: "Too many failed attempts, or keys: wait for `Retry-After` seconds.",
    503: "The server is overloaded, or the database is unavailable: try again.",
}
HEADERS = {401: ["WWW-Authenticate"], **{code: ["Retry-After"] for code in (409, 429, 503)}}
REQUEST_HEADERS: dict[str, tuple[str, Schema, str]] = {
    "Idempotency-Key": (
        "Repeats with the same key, within 24 hours, get the first answer, and change nothing.",
        {"minLength": 1, "maxLength": 64, "pattern": r"^[!#-+\--~]+$"},
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
    ),
    "If-Match": (
        "The `ETag` that was read: if there is another one now, nothing is changed.",
        {"pattern": r'^(\*|"[!#-~]*")$'},
        "*",
    ),
}
SECURITY = {
    "token": {
        **{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "description": "Bearer token from `GET /token`; `POST /token/otp` takes another one.",
    },
    "key": {
        **{"type": "http", "scheme": "bearer", "bearerFormat": "acme_…"},
        "description": "API key from `POST /user/{login}/keys`, for scripts. "
        "One with the scope `read` opens GET only.",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Login and password."},
}


def _who(app: fsa.Flask, route: Route) -> str:
    """Who may call and how, in words; a permission is described by its hook's docstring."""
    if route.is_open:
        if not route.cookie:
            return "Open: no authentication."
        other = " or the parameter" if route.cookie in route.parameters else ""
        return f"Takes the cookie{other} `{route.cookie}`."
    words, rules = [], []
    for who in route.authz:
        if isinstance(who, tuple):
            words.append(f"users with the permission `{' '.join(who)}`")
            rules.append(inspect.getdoc(permission_of(app, who[0])) or "")
        else:
            known = {"AUTH": "authenticated users", "CLOSE": "nobody"}
            words.append(known.get(who, f"users in the group `{who}`"))
    realm = f" of the realm `{route.realm}`" if route.realm else ""
    who = f"For {' who are also '.join(words)}, by {' or '.join(route.schemes)}{realm}."
    return "\n\n".join([who, *rules])


def _tag(path: str) -> str:
    """The resource of a path, its first part: a section of /docs."""
    return path.split("/")[1]


class Document:
    """Builds the OpenAPI document of an application."""

    def __init__(self, app: fsa.Flask) -> None:
        self.app = app
        self.config = app.config
        # FlaskSimpleAuth by itself does not enforce the metadata of Annotated
        self.enforces = "parameters" in app.extensions
        self.schemas: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self.security: dict[str, Any] = {}
        self.paths: dict[str, dict[str, Any]] = {}
        for route in routes(app):
            if inspect.signature(route.function).return_annotation is not File:
                self.paths.setdefault(route.path, {})[route.method.lower()] = self.operation(route)

    def document(self) -> dict[str, Any]:
        """The whole document."""
        return {
            "openapi": "3.1.0",
            "info": {"title": "Acme", "version": acme.__version__, "description": DESCRIPTION},
            "tags": [{"name": name} for name in sorted({_tag(path) for path in self.paths})],
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "responses": self.errors,
                # the usual ones last: Swagger UI's dialog starts with the last
                "securitySchemes": dict(sorted(self.security.items(), key=_is_usual)),
            },
        }

    def operation(self, route: Route) -> dict[str, Any]:
        summary, _, more = (inspect.getdoc(route.function) or route.name).partition("\n\n")
        found: dict[str, Any] = {
            "operationId": route.name,
            "tags": [_tag(route.path)],
            "summary": summary.replace("\n", " ").replace("`", ""),
            "description": f"{more}\n\n{_who(self.app, route)}".strip(),
            "security": self.requirements(route),
            "x-authz": route.authz,
            "x-authn": route.schemes,
        }
        if parameters := self.parameters(route):
            found["parameters"] = parameters
        if body := self.body(route):
            found["requestBody"] = body
        return found | {"responses": self.responses(route, bool(body))}

    def requirements(self, route: Route) -> list[dict[str, list[str]]]:
        """The security requirements; any one is enough. OpenAPI cannot express `param`."""
        if route.cookie:
            words = "Refresh cookie, which browsers store and send by themselves."
            place = {"type": "apiKey", "in": "cookie", "name": route.cookie}
            self.security[route.cookie] = place | {"description": words}
            schemes: list[dict[str, list[str]]] = [{route.cookie: []}]
            return [*schemes, {}] if route.cookie in route.parameters else schemes
        names = []
        for scheme in route.schemes:
            if scheme in SECURITY:
                name = route.realm or scheme
                self.security[name] = SECURITY[scheme]
                names.append(name)
        return [{name: []} for name in names]

    def schema(self, kind: Any) -> dict[str, Any]:
        """The JSON Schema of a type; an object is a reference into `components`."""
        if kind in (fsa.JsonData, Any):
            words = f"Any JSON value with at most {MAX_DEPTH} levels."
            return {"description": words, "examples": [["one", "two"]]}
        if kind is Decimal:  # pydantic accepts texts as well
            return {"type": "number"}
        if hasattr(kind, "SCHEMA"):
            words = (inspect.getdoc(kind) or "").replace("\n", " ")
            strength = self.strength() if kind is values.NewPassword else {}
            return {"description": words, **kind.SCHEMA, **strength}
        if (item := item_of(kind)) is not None:
            return {"type": "array", "items": self.schema(item)}
        if get_origin(kind) is Annotated and not self.enforces:
            return self.schema(get_args(kind)[0])
        try:
            found = TypeAdapter(kind).json_schema(ref_template=SCHEMAS + "{model}")
        except PydanticUserError:
            return self.schema_of_base(kind)
        for part in (found, *found.get("$defs", {}).values()):
            if "properties" in part:
                part.setdefault("additionalProperties", False)
        self.schemas |= found.pop("$defs", {})
        title = found.get("title")
        if not title or "properties" not in found or self.schemas.setdefault(title, found) != found:
            return found
        return {"$ref": f"{SCHEMAS}{title}"}

    def schema_of_base(self, kind: Any) -> dict[str, Any]:
        """The JSON Schema of a type that has none: that of its base type."""
        if dataclasses.is_dataclass(kind):
            return {"type": "object"}
        known = {str: "string", int: "integer", float: "number", Decimal: "number", dict: "object"}
        bases = [base for base in getattr(kind, "__mro__", ()) if base in known]
        return {"type": known[bases[0]]} if bases else {}

    def strength(self) -> dict[str, Any]:
        """FlaskSimpleAuth's rules for a new password."""
        patterns = [{"pattern": pattern} for pattern in self.config["FSA_PASSWORD_RE"]]
        return {"minLength": self.config["FSA_PASSWORD_LENGTH"], "allOf": patterns}

    def parameters(self, route: Route) -> list[dict[str, Any]]:
        """The parameters in the path and, for methods without a body, in the query."""
        found = []
        for name, hint in route.parameters.items():
            schema = self.schema(kind_of(hint))
            if f"{{{name}}}" in route.path:
                place = {"in": "path", "required": True, "schema": schema}
            elif route.method in BODIES:
                continue
            else:
                place = {"in": "query", "required": _is_required(hint)}
                example = {"example": self.example(schema)} if _is_required(hint) else {}
                if _is_text(schema):
                    place |= {"schema": _in_text(schema), **example}
                else:
                    place |= {"content": {"application/json": {"schema": schema, **example}}}
            found.append({"name": name} | place)
        return found + self.request_headers(route)

    def request_headers(self, route: Route) -> list[dict[str, Any]]:
        """The headers that a write may have."""
        takes = {
            "Idempotency-Key": route.is_repeatable,
            "If-Match": route.has_tag and route.method in WRITES,
        }
        found = []
        for name in (name for name, is_taken in takes.items() if is_taken):
            words, rules, example = REQUEST_HEADERS[name]
            schema = {"type": "string", "examples": [example], **rules}
            found.append({"name": name, "in": "header", "description": words, "schema": schema})
        return found

    def body(self, route: Route) -> dict[str, Any] | None:
        """The body: parameters as JSON, or as a form whose values are strings."""
        hints = {
            name: hint for name, hint in route.parameters.items() if f"{{{name}}}" not in route.path
        }
        if route.method not in BODIES or not (hints or "param" in route.schemes):
            return None
        in_json, in_form, encoding = {}, {}, {}
        required = [name for name, hint in hints.items() if _is_required(hint)]
        for name, hint in hints.items():
            schema = self.schema(kind_of(hint))
            null = type(None) in members(hint.annotation)
            in_json[name] = {"anyOf": [schema, {"type": "null"}]} if null else schema
            in_form[name] = _in_text(schema)
            if not _is_text(schema):
                encoding[name] = {"contentType": "application/json"}
        if "param" in route.schemes:
            for key, value in {"FSA_PARAM_USER": "acme", "FSA_PARAM_PASS": "Some-Pass-1"}.items():
                words = "credentials for `param` authentication, without a header"
                who: Schema = {"type": "string", "description": words}
                if route.schemes == ["param"]:
                    who |= {"examples": [value]}
                    required.append(self.config[key])
                in_json.setdefault(self.config[key], who)
                in_form.setdefault(self.config[key], who)
        example = {k: self.example(v) for k, v in in_json.items() if k in required or k in hints}
        takes = inspect.signature(route.function).parameters.values()
        others = any(hint.kind is hint.VAR_KEYWORD for hint in takes)
        rest = {"type": "object", "additionalProperties": others, "required": required}
        return {
            "required": bool(required),
            "content": {
                "application/json": {
                    "schema": {"properties": in_json} | rest,
                    "example": {k: v for k, v in example.items() if v is not None},
                },
                "application/x-www-form-urlencoded": {
                    "schema": {"properties": in_form} | rest,
                    "encoding": encoding,
                },
            },
        }

    def responses(self, route: Route, has_body: bool) -> dict[str, Any]:
        """The responses that are declared, and the errors that follow from the declaration."""
        found: dict[str, Any] = {}
        for status, (body, header) in route.responses.items():
            if status >= 400:
                found[str(status)] = self.error(status)
                continue
            found[str(status)] = {"description": HTTPStatus(status).phrase}
            if body != Literal[""]:
                body = get_args(body)[0] if get_origin(body) is JsonResponse else body
                found[str(status)]["content"] = {"application/json": {"schema": self.schema(body)}}
            headers = [header] if header else []
            if route.has_tag and status == 200:
                headers.append("ETag")
            if headers:
                found[str(status)]["headers"] = {
                    name: {"required": name == "Location", "schema": {"type": "string"}}
                    for name in headers
                }
        kinds = [kind_of(hint) for hint in route.parameters.values()]
        secrets = {"basic", "param"} & {*route.schemes}
        secrets |= {kind for kind in kinds if kind in (values.Code, values.Password)}
        signed_in = not route.is_open or route.cookie
        causes = {
            400: True,
            401: signed_in,
            403: True,
            404: "{" in route.path,
            409: route.is_repeatable,
            411: has_body,
            412: route.has_tag and route.method in WRITES,
            413: has_body,
            422: route.is_repeatable,
            429: secrets or route.is_repeatable,
            503: signed_in or has_body or route.is_queued,
        }
        found |= {str(status): self.error(status) for status, cause in causes.items() if cause}
        return dict(sorted(found.items()))

    def example(self, schema: dict[str, Any]) -> Any:
        """An example value of a schema; None if an optional parameter should be left out."""
        if "$ref" in schema:
            return self.example(self.schemas[schema["$ref"].removeprefix(SCHEMAS)])
        if "properties" in schema:  # without optional members, one of which may be of the same type
            required = schema.get("required", ())
            return {name: self.example(schema["properties"][name]) for name in required}
        if "anyOf" in schema:
            return self.example(schema["anyOf"][0])
        if schema.get("type") == "boolean":
            return True
        return schema.get("examples", schema.get("enum", [schema.get("const")]))[0]

    def error(self, status: int) -> dict[str, Any]:
        """The error response, as a reference into `components`."""
        name = HTTPStatus(status).phrase.title().replace(" ", "")
        content = {"application/json": {"schema": self.schema(Error)}}
        headers = {key: {"schema": {"type": "string"}} for key in HEADERS.get(status, ())}
        self.errors[name] = {"description": ERRORS[status], "headers": headers, "content": content}
        return {"$ref": f"#/components/responses/{name}"}


def _is_usual(security: tuple[str, Any]) -> bool:
    return security[0] in SECURITY


def _is_required(hint: inspect.Parameter) -> bool:
    return hint.default is inspect.Parameter.empty


def _is_text(schema: dict[str, Any]) -> bool:
    """Whether a query or a form holds a value as plain text, rather than as JSON text."""
    return schema.get("type") in ("string", "number", "integer", "boolean", "array")


def _in_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in a query or a form, where an empty list cannot be told from a missing one."""
    return schema | {"minItems": 1} if schema.get("type") == "array" else schema
