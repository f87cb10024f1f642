"""The API's description of itself: OpenAPI 3.1 at /openapi.json, and Swagger UI at /docs.

All is read off the routes as they are declared, so that it cannot drift: paths, parameters and
answers from the type hints, words from the docstrings, and who may enter from `authz` and `authn`.
"""

import functools
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterator
from http import HTTPStatus
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar, cast, get_args, get_origin

import flask
import FlaskSimpleAuth as fsa
from flask.typing import ResponseReturnValue
from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError
from typing_extensions import TypedDict  # of Python's own, pydantic takes only that of 3.12

import acme
import auth
from acme import Schema
from web.files import File, send
from web.requests import Json
from web.strict_json import MAX_DEPTH

# --- what a route answers, as its return annotation says: body, status, headers

T = TypeVar("T")


class Error(TypedDict):
    """What every status from 400 up has for a body."""

    error: str


class Message(TypedDict):
    """What has been done."""

    msg: str


class Answer(flask.Response, Generic[T]):
    """A response whose body is a `T` that Flask would not make JSON of by itself."""


def jsonify(value: T) -> Answer[T]:
    """The response with a value of any type."""
    return cast(Answer[T], fsa.jsonify(value))


Ok = tuple[T, Literal[200]]
Page = tuple[list[T], Literal[200], Annotated[dict[str, str], "Link"]]
Created = tuple[T, Literal[201], Annotated[dict[str, str], "Location"]]
Accepted = tuple[T, Literal[202]]
Done = tuple[Literal[""], Literal[204]] | tuple[Literal[""], Literal[204], dict[str, str]]
# what only a route itself knows to refuse; all other errors follow from its declaration
Conflict = tuple[Error, Literal[409]]

# --- the routes, as they are declared

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
SCHEMES = ["token", "basic", "param"]  # where neither a route nor the configuration names any
BODIES = ("POST", "PUT", "PATCH")  # methods whose parameters are in a body
SPECIAL = (fsa.CurrentUser, fsa.CurrentApp, fsa.Environ, fsa.Globals, fsa.Session, fsa.Header)


class Route(NamedTuple):
    """A path with a method, the function behind it, who may enter, and how."""

    name: str
    method: str
    path: str
    function: Callable[..., Any]
    authz: list[Any]  # "OPEN", "AUTH", a group, or a permission with the parameter that it is on
    schemes: list[str]
    realm: str | None

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""
        return self.authz == ["OPEN"]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """What it takes from a request, by the names in there."""
        found = inspect.signature(self.function).parameters.items()
        named = [(k, v) for k, v in found if v.kind is not v.VAR_KEYWORD]
        return {re.sub("^_(?=.)", "", k): v for k, v in named if _kind(v) not in SPECIAL}

    @property
    def cookie(self) -> str | None:
        """The name of the cookie that it takes, if any."""
        return next((k for k, v in self.parameters.items() if _kind(v) is fsa.Cookie), None)

    @property
    def answers(self) -> dict[int, tuple[Any, str | None]]:
        """The statuses that it gives, each with the type of the body, and the name of a header."""
        hint = inspect.signature(self.function).return_annotation
        if hint in (inspect.Signature.empty, ResponseReturnValue):
            return {200: (Any, None)}
        found: dict[int, tuple[Any, str | None]] = {}
        for answer in _members(hint):
            parts = get_args(answer) if get_origin(answer) is tuple else (answer, Literal[200])
            (status,) = get_args(parts[1])
            found[status] = parts[0], getattr(parts[-1], "__metadata__", (None,))[0]
        return found


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the only one."""
    return get_args(hint) if get_origin(hint) in (UnionType, typing.Union) else (hint,)


def _kind(hint: inspect.Parameter) -> Any:
    """The type of a parameter without its being optional; text, where nothing is said."""
    if hint.annotation is inspect.Parameter.empty:
        return str
    kinds = [kind for kind in _members(hint.annotation) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else hint.annotation
    # FlaskSimpleAuth enforces nothing of what Annotated says
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def routes(app: fsa.Flask) -> Iterator[Route]:
    """All routes of an application, each with one method."""
    usual = app.config["FSA_AUTH_DEFAULT"] or SCHEMES
    for rule in app.url_map.iter_rules():
        # what FlaskSimpleAuth has not seen is open
        authz, authn, realm = app.extensions["openapi"].get(rule.endpoint, ("OPEN", None, None))
        function = inspect.unwrap(app.view_functions[rule.endpoint])
        authz = authz if isinstance(authz, list) else ["CLOSE" if authz is None else authz]
        authn = [authn] if isinstance(authn, str) else authn or usual
        methods = [method for method in METHODS if method in (rule.methods or ())]
        for method in methods:
            yield Route(
                name=function.__name__ + ("" if method == methods[0] else f"_{method.lower()}"),
                method=method,
                path=re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule),
                function=function,
                authz=authz,
                schemes=[scheme for scheme in authn if scheme != "none" and authz != ["OPEN"]],
                realm=realm,
            )


# --- the document

SCHEMAS = "#/components/schemas/"
DESCRIPTION = """\
Users own stuff at a price. Every answer is JSON, and every error is `{"error": "what to do"}`.

Who signs in does so with a token, with HTTP Basic, or, where there is a body, with `username` and
`password` in it; never in a URL. A method that a path does not have gets 405.
"""
ERRORS = {
    400: "A parameter is missing, unknown or wrong: the message says which and why.",
    401: "Credentials are missing or wrong, or the session has ended.",
    403: "Not for this user; or plain HTTP from another machine.",
    404: "There is none.",
    409: "It is in conflict with what is there: the message says with what.",
    411: "A chunked form does not tell where it ends: send its length.",
    413: "The body is too large.",
    429: "Too many failed attempts: wait as long as `Retry-After` says, in seconds.",
    503: "Too much to do, or the database is away: try again.",
}
HEADERS = {401: ["WWW-Authenticate"], 429: ["Retry-After"], 503: ["Retry-After"]}
SECURITY = {
    "token": {
        **{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "description": "A token, from `GET /token` (its second step has one of its own).",
    },
    "basic": {"type": "http", "scheme": "basic", "description": "Login and password."},
}


def _who(route: Route) -> str:
    """Who may enter and how, in words; those of a permission are its hook's."""
    if route.is_open:
        return f"For who has the cookie `{route.cookie}`." if route.cookie else "Open to everybody."
    words, rules = [], []
    for who in route.authz:
        if isinstance(who, tuple):
            words.append(f"who has the permission `{' '.join(who)}`")
            rules.append(inspect.getdoc(auth.PERMISSIONS[who[0]]) or "")
        else:
            known = {"AUTH": "whoever is signed in", "CLOSE": "nobody"}
            words.append(known.get(who, f"the group `{who}`"))
    realm = f" of the realm `{route.realm}`" if route.realm else ""
    who = f"For {' and '.join(words)}, by {' or '.join(route.schemes)}{realm}."
    return "\n\n".join([who, *rules])


class Document:
    """An OpenAPI document that is being made of the routes of an application."""

    def __init__(self, app: fsa.Flask) -> None:
        self.config = app.config
        self.schemas: dict[str, Any] = {}
        self.errors: dict[str, Any] = {}
        self.security: dict[str, Any] = {}
        self.tags: dict[str, str] = {}
        self.paths: dict[str, dict[str, Any]] = {}
        for route in routes(app):
            if inspect.signature(route.function).return_annotation is not File:
                self.paths.setdefault(route.path, {})[route.method.lower()] = self.operation(route)

    def document(self) -> dict[str, Any]:
        """What has been made."""
        return {
            "openapi": "3.1.0",
            "info": {"title": "Acme", "version": "1", "description": DESCRIPTION},
            # blueprints have been before the application's own
            "tags": [{"name": k, "description": v} for k, v in reversed(self.tags.items())],
            "paths": self.paths,
            "components": {
                "schemas": self.schemas,
                "responses": self.errors,
                # the usual ones last, where Swagger UI's dialog begins
                "securitySchemes": dict(sorted(self.security.items(), key=_is_usual)),
            },
        }

    def operation(self, route: Route) -> dict[str, Any]:
        module = route.function.__module__
        about = inspect.getdoc(sys.modules[module]) or module
        self.tags.setdefault(module, about.partition("\n\n")[0].replace("\n", " "))
        summary, _, more = (inspect.getdoc(route.function) or route.name).partition("\n\n")
        found: dict[str, Any] = {
            "operationId": route.name,
            "tags": [module],
            "summary": summary.replace("\n", " ").replace("`", ""),
            "description": f"{more}\n\n{_who(route)}".strip(),
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
        """Any one of these; `param` has no place in OpenAPI but among the parameters."""
        if route.cookie:
            words = "A cookie, which browsers keep and send by themselves."
            place = {"type": "apiKey", "in": "cookie", "name": route.cookie}
            self.security[route.cookie] = place | {"description": words}
            return [{route.cookie: []}]
        names = []
        for scheme in route.schemes:
            if scheme in SECURITY:
                name = route.realm or scheme
                self.security[name] = SECURITY[scheme]
                names.append(name)
        return [{name: []} for name in names]

    def schema(self, kind: Any) -> dict[str, Any]:
        """The JSON Schema of a type; that of an object by reference."""
        if kind in (Json, Any):
            words = f"Any JSON value, of at most {MAX_DEPTH} levels."
            return {"description": words, "examples": [["one", "two"]]}
        if hasattr(kind, "SCHEMA"):
            words = (inspect.getdoc(kind) or "").replace("\n", " ")
            strength = self.strength() if kind is acme.NewPassword else {}
            return {"description": words, **kind.SCHEMA, **strength}
        try:
            found = TypeAdapter(kind).json_schema(ref_template=SCHEMAS + "{model}")
        except (
            PydanticUserError
        ):  # a type that says nothing of itself is any, or what it is made of
            bases = [base for base in getattr(kind, "__mro__", ()) if base in (str, int, float)]
            return self.schema(bases[0]) if bases else {}
        self.schemas |= found.pop("$defs", {})
        title = found.get("title", "")
        if found.get("type") != "object" or self.schemas.setdefault(title, found) != found:
            return found
        return {"$ref": f"{SCHEMAS}{title}"}

    def strength(self) -> dict[str, Any]:
        """What FlaskSimpleAuth asks of a new password."""
        patterns = [{"pattern": pattern} for pattern in self.config["FSA_PASSWORD_RE"]]
        return {"minLength": self.config["FSA_PASSWORD_LENGTH"], "allOf": patterns}

    def parameters(self, route: Route) -> list[dict[str, Any]]:
        """The parameters in the path and, if there is no body, in the query."""
        found = []
        for name, hint in route.parameters.items():
            schema = self.schema(_kind(hint)) if _kind(hint) is not fsa.Cookie else {}
            if f"{{{name}}}" in route.path:
                place = {"in": "path", "required": True, "schema": schema}
            elif route.method in BODIES or not schema:
                continue
            else:
                place = {"in": "query", "required": _is_required(hint)}
                example = {"example": self.example(schema)} if _is_required(hint) else {}
                if _is_text(schema):
                    place |= {"schema": _in_text(schema), **example}
                else:
                    place |= {"content": {"application/json": {"schema": schema, **example}}}
            found.append({"name": name} | place)
        return found

    def body(self, route: Route) -> dict[str, Any] | None:
        """The parameters in a body: JSON, or a form in which values are texts."""
        hints = {
            name: hint
            for name, hint in route.parameters.items()
            if f"{{{name}}}" not in route.path and _kind(hint) is not fsa.Cookie
        }
        if route.method not in BODIES or not (hints or "param" in route.schemes):
            return None
        in_json, in_form, encoding = {}, {}, {}
        required = [name for name, hint in hints.items() if _is_required(hint)]
        for name, hint in hints.items():
            schema = self.schema(_kind(hint))
            null = type(None) in _members(hint.annotation)
            in_json[name] = {"anyOf": [schema, {"type": "null"}]} if null else schema
            in_form[name] = _in_text(schema)
            if not _is_text(schema):
                encoding[name] = {"contentType": "application/json"}
        if "param" in route.schemes:
            for key, value in {"FSA_PARAM_USER": "acme", "FSA_PARAM_PASS": "Some-Pass-1"}.items():
                words = "for who signs in without a header"
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
        """The answers that are declared, and the errors that follow from the declaration."""
        found: dict[str, Any] = {}
        for status, (body, header) in route.answers.items():
            if status >= 400:
                found[str(status)] = self.error(status)
                continue
            found[str(status)] = {"description": HTTPStatus(status).phrase}
            if body != Literal[""]:
                body = get_args(body)[0] if get_origin(body) is Answer else body
                found[str(status)]["content"] = {"application/json": {"schema": self.schema(body)}}
            if header:
                place = {"required": header == "Location", "schema": {"type": "string"}}
                found[str(status)]["headers"] = {header: place}
        kinds = [_kind(hint) for hint in route.parameters.values()]
        secrets = {"basic", "param"} & {*route.schemes}
        secrets |= {kind for kind in kinds if kind in (acme.Code, acme.Password)}
        signed_in = not route.is_open or route.cookie
        causes = {
            400: True,
            401: signed_in,
            403: True,
            404: "{" in route.path,
            411: has_body,
            413: has_body,
            429: secrets,
            503: signed_in or has_body,
        }
        found |= {str(status): self.error(status) for status, cause in causes.items() if cause}
        return dict(sorted(found.items()))

    def example(self, schema: dict[str, Any]) -> Any:
        """A value of a schema to begin with; None, where one had better say nothing."""
        if "$ref" in schema:
            found = self.schemas[schema["$ref"].removeprefix(SCHEMAS)]["properties"]
            return {name: self.example(inside) for name, inside in found.items()}
        if "anyOf" in schema:
            return self.example(schema["anyOf"][0])
        if schema.get("type") == "boolean":
            return True
        return schema.get("examples", [schema.get("const")])[0]

    def error(self, status: int) -> dict[str, Any]:
        """The answer with an error, by reference."""
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
    """Whether a value has a form of its own in a query or a form, or else is JSON there."""
    return schema.get("type") in ("string", "number", "integer", "boolean", "array")


def _in_text(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema in a query or a form, where a list that is empty is not there."""
    return schema | {"minItems": 1} if schema.get("type") == "array" else schema


# --- the routes of this module

UI = "flask_swagger_ui"
UI_FILES = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Acme: the API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon-32x32.png">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
"""
START = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  validatorUrl: null,  // nothing goes elsewhere
  tryItOutEnabled: true,
  deepLinking: true,
  displayRequestDuration: true,
  requestInterceptor: (request) => {
    request.headers["X-Requested-With"] = "fetch"  // or the browser itself asks for a password
    return request
  },
})
"""


def _ui_folder() -> Path:
    """Where Swagger UI has been installed; ValueError if it has not."""
    spec = find_spec(UI)
    folder = Path(spec.origin if spec and spec.origin else UI).with_name("dist")
    missing = [name for name in UI_FILES if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"Swagger UI lacks {', '.join(missing)}: pip install -r requirements.txt")
    return folder


@functools.cache
def _text(app: fsa.Flask) -> str:
    return json.dumps(Document(app).document())


docs = flask.Blueprint("docs", __name__)


@docs.get("/openapi.json", authz="OPEN")
def get_openapi() -> File:
    """The API's description of itself (OpenAPI 3.1)."""
    app = flask.current_app._get_current_object()  # type: ignore[attr-defined]
    return File(flask.Response(_text(app), mimetype="application/json"))


@docs.get("/docs", authz="OPEN")
def get_docs() -> File:
    """The description as a page, from which each route can be tried."""
    return File(flask.Response(PAGE, mimetype="text/html"))


@docs.get("/docs/<name>", authz="OPEN")
def get_docs_file(name: str) -> File:
    """A file of that page."""
    if name == "start.js":
        return File(flask.Response(START, mimetype="text/javascript"))
    return send(_ui_folder(), name if name in UI_FILES else "")


def init_app(app: fsa.Flask) -> None:
    """Record each route that is declared from now on, and serve the description of all.

    ValueError if Swagger UI is not installed.
    """
    _ui_folder()
    declared = app.extensions["openapi"] = {}
    add_url_rule = app._fsa.add_url_rule

    def record(rule: str, endpoint: str | None = None, view_func: Any = None, **how: Any) -> None:
        who = how.get("authz"), how.get("authn"), how.get("realm")
        declared[endpoint or view_func.__name__] = who
        add_url_rule(rule, endpoint, view_func, **how)

    # FlaskSimpleAuth keeps none of these, and decorators and blueprints all pass here
    setattr(app._fsa, "add_url_rule", record)  # noqa: B010
    setattr(app, "add_url_rule", record)  # noqa: B010
    app.register_blueprint(docs)
